"""Which months are closed: decided one after the other, oldest first, by a small aggregate in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from eventsourcing.domain import event

from ledger.errors import MistakeError
from ledger.operator import OperatorAggregate
from projections.periods.months import month_after

STREAM: Final = "periods"
CLOSED: Final = "ledger.period.closed"
REOPENED: Final = "ledger.period.reopened"
SEALED: Final = "ledger.period.sealed"


def chunk_stream(digest: str, number: int) -> str:
    """Name the stream of a seal's chunk, after what the seal holds."""
    return f"seal:{digest}:{number}"


class PeriodError(MistakeError):
    """A month cannot be closed or reopened as things stand; the message says which can."""


class Periods(OperatorAggregate):
    """The closed months of a book, and how many seals each month has had."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.seals: dict[str, int] = {}

    def check(self, month: str, oldest: str) -> None:
        """Raise ``PeriodError`` where it is not this month's turn to be closed."""
        if not self.closed and month < oldest:
            raise PeriodError(f"{month} has nothing to close: the first month of the book is {oldest}")
        following = month_after(self.closed[-1]) if self.closed else oldest
        if month in self.closed:
            raise PeriodError(f"{month} is closed already: reopen it first")
        if month != following:
            raise PeriodError(f"{month} cannot be closed before {following}: months are closed in order")

    def close(
        self,
        month: str,
        *,
        oldest: str,
        digest: str,
        chunks: int,
        position: int,
        by: str,
        reason: str,
        forced: bool,
        exceptions: Sequence[Mapping[str, Any]],
        policies: Mapping[str, Any],
        code: str,
    ) -> int:
        """Close a month with a seal, and return the seal's number. ``oldest`` is the book's first month.

        Raises ``PeriodError`` where it is closed already or another comes first.
        """
        self.check(month, oldest)
        number = self.seals.get(month, 0) + 1
        self._closed(
            month, number, digest, chunks, position, by, reason, forced, [*exceptions], {**policies}, code
        )  # fmt: skip
        return number

    def reopen(self, month: str, *, by: str, reason: str) -> None:
        """Open the latest closed month again. Raises ``PeriodError`` for any other."""
        if not self.closed or self.closed[-1] != month:
            latest = f"only {self.closed[-1]} can be" if self.closed else "no month is closed"
            raise PeriodError(f"{month} cannot be reopened: {latest}")
        self._reopened(month, self.seals[month], by, reason)

    @event("Closed", topic=CLOSED)
    def _closed(
        self,
        month: str,
        seal: int,
        digest: str,
        chunks: int,
        position: int,
        by: str,
        reason: str,
        forced: bool,
        exceptions: list[Any],
        policies: dict[str, Any],
        code: str,
    ) -> None:
        self.closed.append(month)
        self.seals[month] = seal

    @event("Reopened", topic=REOPENED)
    def _reopened(self, month: str, seal: int, by: str, reason: str) -> None:
        self.closed.remove(month)

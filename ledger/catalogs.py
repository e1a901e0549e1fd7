"""The catalogs that a book has published, one after another; none is ever changed.

What a catalog may contain is not the log's affair; here it is a text that applies from a moment on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

from eventsourcing.domain import event

from ledger.operator import OperatorAggregate

STREAM: Final = "catalog"
PUBLISHED: Final = "ledger.catalog.published"


class Publication(NamedTuple):
    """A catalog as it was published. ``effective_from`` is an RFC 3339 time; None: it holds from the beginning.

    ``revenue_from`` is where its revenue policies begin instead, since months before were closed.
    """

    number: int
    content: str
    effective_from: str | None
    by: str
    revenue_from: str | None = None


class Catalogs(OperatorAggregate):
    """A book's catalogs, oldest first."""

    ADDED: ClassVar[Mapping[str, Mapping[str, Any]]] = {PUBLISHED: {"revenue_from": None}}

    def __init__(self) -> None:
        self.published: list[Publication] = []

    def publish(
        self, content: str, effective_from: str | None, now: str, by: str, first_open: str | None = None
    ) -> None:
        """Publish a text from a time on, or from now; the first one says what always held.

        What it says of revenue begins no earlier than the first month that is open (None: all are).

        The text that was published last is published again only from another time on.
        """
        last = self.published[-1] if self.published else None
        if last is not None and last.content == content and effective_from in (None, last.effective_from):
            return
        since = None if last is None else effective_from or now
        revenue_from = first_open if first_open is not None and (since is None or since < first_open) else None
        self._published(len(self.published) + 1, content, since, by, revenue_from)

    @event("Published", topic=PUBLISHED)
    def _published(
        self, number: int, content: str, effective_from: str | None, by: str, revenue_from: str | None
    ) -> None:
        self.published.append(Publication(number, content, effective_from, by, revenue_from))

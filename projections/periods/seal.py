"""What a seal holds: a month's postings and movements, each of one customer; and how it is cut into events. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from ledger.times import parse_rfc3339, rfc3339

PRIOR_PERIOD: Final = "prior_period"
CHUNK_ROWS: Final = 2_000

_AT: Final = 4  # where a row has its time; what it rests on comes last


class SealedLine(NamedTuple):
    """One posting as it is reported, debit positive. ``original_month`` is the month that it is about.

    ``owner`` is the subject whose entry it is of, ``of`` the kind of the fact that a prior-period entry is of.
    """

    owner: str
    entry: str
    kind: str
    of: str
    at: datetime
    original_month: str
    currency: str
    account: str
    amount: int
    invoice: str | None
    line: str | None
    because: tuple[str, ...]


class SealedMovement(NamedTuple):
    """One movement of a customer's worth as it is reported; of a prior period where it is told too late."""

    owner: str
    policy: str
    currency: str
    kind: str
    at: datetime
    before: int
    after: int
    prior_period: bool
    paid: bool
    involuntary: bool
    reason: str | None
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seal:
    """Everything that a month reports, in its one order."""

    lines: tuple[SealedLine, ...]
    movements: tuple[SealedMovement, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over every row, in order."""
        hashed = hashlib.sha256()
        rows: list[SealedLine | SealedMovement] = [*self.lines, *self.movements]
        for row in rows:
            hashed.update(orjson.dumps(_plain(row)) + b"\n")
        return hashed.hexdigest()


def sealed(lines: Iterable[SealedLine], movements: Iterable[SealedMovement]) -> Seal:
    """Make the seal of these rows, in whatever order they come."""
    ordered = sorted(lines, key=lambda one: (one.owner, one.at, one.entry, one.account, one.line or "", one.currency))
    moved = sorted(movements, key=lambda one: (one.owner, one.at, one.policy, one.currency))
    return Seal(tuple(ordered), tuple(moved))


def chunks_of(seal: Seal, size: int = CHUNK_ROWS) -> list[dict[str, Any]]:
    """Cut a seal into the contents of events; an empty month has one that holds nothing."""
    digest = seal.digest
    lines = [(seal.lines[start : start + size], ()) for start in range(0, len(seal.lines), size)]
    moved = [((), seal.movements[start : start + size]) for start in range(0, len(seal.movements), size)]
    return [
        {"seal": digest, "number": number, "lines": list(map(_plain, some)), "movements": list(map(_plain, others))}
        for number, (some, others) in enumerate([*lines, *moved] or [((), ())], 1)
    ]


def rows_in(content: dict[str, Any]) -> tuple[list[SealedLine], list[SealedMovement]]:
    """Read a chunk's rows back."""
    lines = [SealedLine._make(_read(row)) for row in content["lines"]]
    return lines, [SealedMovement._make(_read(row)) for row in content["movements"]]


def joined(chunks: Sequence[dict[str, Any]]) -> Seal:
    """Put a seal together from all of its chunks, in whatever order they come."""
    parts = [rows_in(one) for one in sorted(chunks, key=lambda one: one["number"])]
    return Seal(tuple(row for lines, _ in parts for row in lines), tuple(row for _, moved in parts for row in moved))


def _plain(row: SealedLine | SealedMovement) -> list[Any]:
    return list(map(_value, row))


def _read(row: Sequence[Any]) -> list[Any]:
    return [*row[:_AT], parse_rfc3339(row[_AT]), *row[_AT + 1 : -1], tuple(row[-1])]


def _value(value: object) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    return list(value) if isinstance(value, tuple) else value


def accounts_of(lines: Iterable[SealedLine]) -> Iterator[tuple[tuple[str, str], int]]:
    """Give each currency's and account's sum."""
    totals: dict[tuple[str, str], int] = {}
    for one in lines:
        key = (one.currency, one.account)
        totals[key] = totals.get(key, 0) + one.amount
    yield from sorted(totals.items())

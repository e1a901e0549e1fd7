"""What a seal holds: a month's postings and movements, each of one customer; and how it is cut into events. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from ledger.times import parse_rfc3339

PRIOR_PERIOD: Final = "prior_period"
CHUNK_ROWS: Final = 2_000

_AT: Final = 4  # where a row has its time; what it rests on comes last
_ABOUT: Final = slice(11, 15)  # what a posting is about, which is not written where nothing is known of it
_NOTHING: Final = (None, None, None, None)


class SealedLine(NamedTuple):
    """One posting as it is reported, debit positive. ``original_month`` is the month that it is about.

    ``owner`` is the subject the entry belongs to; ``of`` is the kind of fact that a prior-period entry corrects.
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
    subscription: str | None
    product: str | None
    price: str | None
    tax_rate: str | None
    because: tuple[str, ...]


class SealedMovement(NamedTuple):
    """One movement of a customer's worth as reported; a prior-period one if it became known too late."""

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


class Sealing:
    """A seal in the making: everything a month reports, in a fixed order, in two files.

    A month of a large book may not fit in memory, and every event contains the digest of all rows, so the rows are
    written to files first. Postings come first, then movements; each by owner.
    """

    def __init__(self, lines: BinaryIO, moved: BinaryIO) -> None:
        self._lines, self._moved = lines, moved
        self._line_count = self._moved_count = 0

    def add(self, lines: Iterable[SealedLine], movements: Iterable[SealedMovement]) -> None:
        """Add all rows of one owner, in whatever order; owners come in the order of their names."""
        for one in sorted(lines, key=lambda one: (one.at, one.entry, one.account, one.line or "", one.currency)):
            self._lines.write(written(one))
            self._line_count += 1
        for moved in sorted(movements, key=lambda one: (one.at, one.policy, one.currency)):
            self._moved.write(written(moved))
            self._moved_count += 1

    def digest(self) -> str:
        """Return the SHA-256 over every row, in order."""
        hashed = hashlib.sha256()
        for file in (self._lines, self._moved):
            file.seek(0)
            for row in file:
                hashed.update(row)
        return hashed.hexdigest()

    def count(self, size: int = CHUNK_ROWS) -> int:
        """Return how many events it takes; a month without rows has one that holds nothing."""
        return -(-self._line_count // size) - (-self._moved_count // size) or 1

    def chunks(self, digest: str, size: int = CHUNK_ROWS) -> Iterator[dict[str, Any]]:
        """Cut it into the contents of events."""
        number = 0
        for file, name in ((self._lines, "lines"), (self._moved, "movements")):
            file.seek(0)
            while rows := [orjson.loads(row) for row in islice(file, size)]:
                number += 1
                yield {"seal": digest, "number": number, "lines": [], "movements": [], name: rows}
        if number == 0:
            yield {"seal": digest, "number": 1, "lines": [], "movements": []}


def rows_in(content: dict[str, Any]) -> tuple[list[SealedLine], list[SealedMovement]]:
    """Read a chunk's rows back."""
    lines = [SealedLine._make(_read(_whole(row))) for row in content["lines"]]
    return lines, [SealedMovement._make(_read(row)) for row in content["movements"]]


def written(row: SealedLine | SealedMovement) -> bytes:
    """Write a row as it is hashed, and read back."""
    values: tuple[Any, ...] = tuple(row)
    if isinstance(row, SealedLine) and values[_ABOUT] == _NOTHING:
        values = (*values[: _ABOUT.start], *values[_ABOUT.stop :])
    return orjson.dumps(values, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


def _whole(row: Sequence[Any]) -> Sequence[Any]:
    return row if len(row) == len(SealedLine._fields) else [*row[: _ABOUT.start], *_NOTHING, *row[_ABOUT.start :]]


def _read(row: Sequence[Any]) -> list[Any]:
    return [*row[:_AT], parse_rfc3339(row[_AT]), *row[_AT + 1 : -1], tuple(row[-1])]

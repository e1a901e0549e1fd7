"""The effective books and what was sealed, one owner after another: a whole book's journal may not fit in memory.

Each query returns its rows ordered by owner (by the bytes of the names) and is read piece by piece; this module puts
together what the queries have for one owner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import asyncpg

from projections.builds import enter_build
from projections.mrr.rows import MovementRow
from projections.periods import effective
from projections.periods.query import sealed_line_of, sealed_movement_of
from projections.periods.seal import SealedLine, SealedMovement
from projections.periods.tables import NAME

SEALED_LINES: Final = """
SELECT owner, entry, kind, of, at, original_month, currency, account, amount, invoice, line, subscription, product,
       price, tax_rate, because
FROM sealed_line
WHERE book = $1 AND digest = ANY ($2) AND ($3::text[] IS NULL OR customer = ANY ($3))
ORDER BY owner COLLATE "C", subject, place
"""

SEALED_MOVEMENTS: Final = """
SELECT owner, policy, currency, kind, at, before, after, prior_period, paid, involuntary, reason, because
FROM sealed_movement
WHERE book = $1 AND digest = ANY ($2)
ORDER BY owner COLLATE "C", subject, place
"""

_PIECE: Final = 1_000


class Stream:
    """A query's rows by owner, which is their first column and their order."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._rows: deque[asyncpg.Record] = deque()

    @classmethod
    async def open(cls, connection: asyncpg.Connection, query: str, *arguments: object) -> Self:
        """Begin to read; the names in the query mean what they mean now."""
        stream = cls(await connection.cursor(query, *arguments))
        await stream._fill()
        return stream

    async def _fill(self) -> None:
        self._rows.extend(await self._cursor.fetch(_PIECE))

    @property
    def owner(self) -> str | None:
        """Whose rows come next; None at the end."""
        return self._rows[0][0] if self._rows else None

    async def take(self, owner: str) -> list[asyncpg.Record]:
        """Take this owner's rows, which come next or not at all."""
        found = []
        while self._rows and self._rows[0][0] == owner:
            found.append(self._rows.popleft())
            if not self._rows:
                await self._fill()
        return found


@dataclass(frozen=True, slots=True)
class Owned:
    """One owner's effective books before a time, and everything that was sealed about it."""

    owner: str
    lines: list[SealedLine]
    moved: list[SealedMovement]
    sealed_lines: list[SealedLine]
    sealed_moved: list[SealedMovement]


@dataclass(frozen=True, slots=True)
class Scope:
    """What to read: the book, the customers (None: all), the time before which, and the seals."""

    book: str
    before: datetime
    digests: Sequence[str]
    customers: Sequence[str] | None = None


async def by_owner(
    connection: asyncpg.Connection, revenue: str, build: str | None, scope: Scope, *, with_movements: bool
) -> AsyncIterator[Owned]:
    """Yield the effective books and what was sealed, owner by owner, in one snapshot of the caller's transaction.

    The connection is in a build of revenue (None: the live one) when the first owner comes, and afterwards.
    """
    book, customers = scope.book, scope.customers
    subjects = None if customers is None else [f"{book}/{customer}" for customer in customers]
    streams: list[Stream] = []
    await enter_build(connection, NAME, book)
    streams.append(await Stream.open(connection, SEALED_LINES, book, list(scope.digests), customers))
    if with_movements:
        streams.append(await Stream.open(connection, SEALED_MOVEMENTS, book, list(scope.digests)))
    await enter_build(connection, revenue, book, build)
    until = int(scope.before.timestamp())
    streams.append(await Stream.open(connection, effective.ENTRIES, book, scope.before, subjects))
    streams.append(await Stream.open(connection, effective.EARNED, book, until, subjects))
    streams.append(await Stream.open(connection, effective.ABOUTS, book, subjects))
    if with_movements:
        streams.append(await Stream.open(connection, effective.MOVEMENTS, book, scope.before))
    while (owner := min((one.owner for one in streams if one.owner is not None), default=None)) is not None:
        rows = [await one.take(owner) for one in streams]
        if not with_movements:
            rows = [rows[0], [], *rows[1:], []]
        sealed_lines, sealed_moved, posted, earned, abouts, moved = rows
        yield Owned(
            owner,
            effective.lines_of(posted, earned, effective.abouts_of(abouts), until),
            [effective.movement_of(MovementRow(**dict(row))) for row in moved],
            [sealed_line_of(row) for row in sealed_lines],
            [sealed_movement_of(row) for row in sealed_moved],
        )

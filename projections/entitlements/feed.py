"""Following the change log: how far it and the live build are, whose rows were written, which answers changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from projections.builds import Freshness
from projections.entitlements.tables import NAME

CHANNEL: Final = "ledger_entitlements"

STATES: Final = """
SELECT h.book, b.build_id, coalesce(c.position, 0) AS position, h.position AS head,
       coalesce(f.seq, 0) AS seq, CASE WHEN f.build_id = b.build_id THEN f.touch END AS touch,
       (SELECT e.recorded_at
        FROM ledger.event AS e
        WHERE e.book = h.book AND e.position = coalesce(c.position, 0) + 1) AS waiting_since
FROM ledger.head AS h
LEFT JOIN ledger.build AS b ON b.projection = $1 AND b.phase = 'live'
LEFT JOIN ledger.checkpoint AS c ON c.build_id = b.build_id AND c.book = h.book
LEFT JOIN ledger.entitlement_feed AS f ON f.book = h.book
WHERE h.position > 0 AND h.book <> 'ledger:control'
"""

TOUCHED: Final = """
SELECT keys
FROM ledger.entitlement_touch
WHERE book = $1 AND number > $2 AND number <= $3
ORDER BY number
"""

CHANGES: Final = """
SELECT seq, customer, feature, granted, value, position, cause
FROM ledger.entitlement_change
WHERE book = $1 AND seq > $2 AND seq <= $3
ORDER BY seq
LIMIT $4
"""

SPAN: Final = """
SELECT (SELECT min(c.seq) FROM ledger.entitlement_change AS c WHERE c.book = $1) AS oldest,
       coalesce((SELECT f.seq FROM ledger.entitlement_feed AS f WHERE f.book = $1), 0) AS newest
"""


@dataclass(frozen=True, slots=True)
class BookState:
    """Where a book's live answers were at one snapshot: how fresh, the last change, how many commits wrote rows.

    ``touch`` is None while the live build has not spoken: whose rows it writes is then not known.
    """

    freshness: Freshness
    seq: int
    touch: int | None


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """One row of the change log; without a customer it is a marker. ``value`` is JSON text."""

    seq: int
    customer: str | None
    feature: str | None
    granted: bool | None
    value: str | None
    position: int
    cause: str


async def read_states(connection: asyncpg.Connection) -> dict[str, BookState]:
    """Return every book's state, in one snapshot."""
    states = {}
    for row in await connection.fetch(STATES, NAME):
        since: datetime | None = row["waiting_since"]
        freshness = Freshness(row["book"], row["build_id"], row["position"], row["head"], since)
        states[row["book"]] = BookState(freshness, row["seq"], row["touch"])
    return states


async def read_touched(connection: asyncpg.Connection, book: str, after: int, until: int) -> set[str] | None:
    """Return whose rows were written after one commit and up to another; None where it may be anybody's."""
    rows = await connection.fetch(TOUCHED, book, after, until)
    if len(rows) != until - after or any(row["keys"] is None for row in rows):
        return None
    return {key for row in rows for key in row["keys"]}


async def read_changes(
    connection: asyncpg.Connection, book: str, after: int, until: int, limit: int
) -> list[LoggedChange]:
    """Return up to ``limit`` changes after one number and up to another."""
    return [LoggedChange(**row) for row in await connection.fetch(CHANGES, book, after, until, limit)]


async def can_resume(connection: asyncpg.Connection, book: str, after: int) -> bool:
    """Tell whether ``after`` has been given out, and every change after it is still there."""
    span = await connection.fetchrow(SPAN, book)
    oldest, newest = span["oldest"], span["newest"]
    return after == newest or (after < newest and oldest is not None and oldest <= after + 1)

"""Writing the change log: a book's row of the feed, locked, the numbers it gives, and what was last told of whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg
import orjson

from projections.entitlements.tables import NAME
from projections.entitlements.telling import Cause, Change, Told

LOCK: Final = """
SELECT seq, touch, position, recheck_after, recheck_cause, catalog_at
FROM ledger.entitlement_feed
WHERE book = $1 AND build_id = $2
FOR UPDATE
"""

BEGIN: Final = """
INSERT INTO ledger.entitlement_feed (book, build_id, recheck_after, recheck_cause)
SELECT $1, build_id, '', 'promotion'
FROM ledger.build
WHERE projection = $2 AND phase = 'live'
ON CONFLICT DO NOTHING
"""

TOLD: Final = """
SELECT customer, answers, orgs, next_at
FROM ledger.entitlement_told
WHERE book = $1 AND customer = ANY ($2)
"""

TELL: Final = """
INSERT INTO ledger.entitlement_told (book, customer, answers, orgs, next_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (book, customer) DO UPDATE
SET answers = excluded.answers, orgs = excluded.orgs, next_at = excluded.next_at
"""

CHANGE: Final = """
INSERT INTO ledger.entitlement_change (book, seq, customer, feature, granted, value, position, cause)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

# The wake-up is delivered with the commit. It is a hint: whoever follows polls as well.
MOVE: Final = """
WITH moved AS (
    UPDATE ledger.entitlement_feed
    SET seq = $2, touch = $3, position = greatest(position, $4), recheck_after = $5, recheck_cause = $6,
        catalog_at = $9
    WHERE book = $1
    RETURNING book
), touched AS (
    INSERT INTO ledger.entitlement_touch (book, number, keys)
    SELECT $1, $3, $7::text[]
    WHERE $8
)
SELECT pg_notify('ledger_entitlements', '') FROM moved
"""


@dataclass(slots=True)
class Feed:
    """A book's row of the feed, locked, and what is to become of it in this transaction."""

    book: str
    seq: int
    touch: int
    position: int
    recheck_after: str | None
    recheck_cause: Cause | None
    catalog_at: datetime | None
    changed: list[tuple[str | None, str | None, bool | None, str | None, int, Cause]] = field(default_factory=list)
    marked: bool = False

    def say(self, found: Iterable[Change], cause: Cause) -> None:
        """Add changes to the log."""
        self.changed += [(one.customer, one.feature, one.granted, one.value, self.position, cause) for one in found]

    def mark(self, cause: Cause) -> None:
        """Say that everybody's answers are others, and have them looked at again."""
        self.changed.append((None, None, None, None, self.position, cause))
        self.recheck_after, self.recheck_cause = "", cause
        self.marked = True


async def lock(connection: asyncpg.Connection, build_id: str, book: str) -> Feed | None:
    """Lock a book's feed for a build; None where that is not the live one."""
    row = await connection.fetchrow(LOCK, book, build_id)
    if row is None:
        if await connection.execute(BEGIN, book, NAME) == "INSERT 0 0":
            return None
        row = await connection.fetchrow(LOCK, book, build_id)
    return None if row is None else Feed(book, **row)


async def move(connection: asyncpg.Connection, feed: Feed, touched: Sequence[str] | None) -> None:
    """Write the changes under the next numbers, and whom they and their like concern (None: everybody)."""
    if feed.changed:
        numbered = [(feed.book, seq, *one) for seq, one in enumerate(feed.changed, feed.seq + 1)]
        await connection.executemany(CHANGE, numbered)
        feed.seq += len(numbered)
    is_touch = touched is None or bool(touched)
    feed.touch += is_touch
    await connection.execute(
        MOVE,
        feed.book,
        feed.seq,
        feed.touch,
        feed.position,
        feed.recheck_after,
        feed.recheck_cause,
        touched,
        is_touch,
        feed.catalog_at,
    )


async def read_told(connection: asyncpg.Connection, book: str, customers: Sequence[str]) -> dict[str, Told]:
    """Return what was last told of each of these customers, products and organisations."""
    rows = await connection.fetch(TOLD, book, customers)
    return {row["customer"]: Told(orjson.loads(row["answers"]), frozenset(row["orgs"]), row["next_at"]) for row in rows}


async def write_told(connection: asyncpg.Connection, book: str, told: Mapping[str, Told]) -> None:
    """Note what is told of them now."""
    records = [
        (book, customer, orjson.dumps(one.answers).decode(), sorted(one.orgs), one.next_at)
        for customer, one in told.items()
    ]
    if records:
        await connection.executemany(TELL, records)

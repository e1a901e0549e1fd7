"""The coverage ledger: which hours of a book are proven complete, by what, and which are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

HOUR: Final = timedelta(hours=1)

LATE: Final = timedelta(minutes=15)
"""How long after its time an event may still come to be listed: an hour is proven by a look no earlier than this."""

OVERLAP: Final = timedelta(hours=3)
"""Proven hours as recent as this are looked at again by every sweep."""

KEPT: Final = timedelta(days=30)
"""How long Stripe lists an event."""

RECORD: Final = """
INSERT INTO ledger.coverage AS c (book, hour, until, proven, by, listed_at, listed, found, webhooks)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (book, hour) DO UPDATE
SET until = greatest(c.until, excluded.until),
    proven = c.proven OR excluded.proven,
    by = CASE WHEN c.proven THEN c.by ELSE excluded.by END,
    listed_at = excluded.listed_at,
    listed = greatest(c.listed, excluded.listed),
    found = c.found + excluded.found,
    webhooks = greatest(c.webhooks, excluded.webhooks)
"""

PROVEN: Final = "SELECT hour FROM ledger.coverage WHERE book = $1 AND hour >= $2 AND hour < $3 AND proven"

ROWS: Final = """
SELECT hour, until, proven, by, listed_at, listed, found, webhooks
FROM ledger.coverage
WHERE book = $1 AND hour >= $2 AND hour < $3
ORDER BY hour
"""

FIRST_HOUR: Final = """
SELECT least(
    (SELECT min(hour) FROM ledger.coverage WHERE book = $1),
    (SELECT date_trunc('hour', min(recorded_at), 'UTC') FROM ledger.event WHERE book = $1 AND position = 1)
)
"""

BOOKS: Final = """
SELECT book FROM ledger.coverage
UNION
SELECT book FROM ledger.head WHERE position > 0 AND book <> 'ledger:control'
ORDER BY book
"""


@dataclass(frozen=True, slots=True)
class Hour:
    """What is known of one hour of a book; all zeros and no times where Stripe was never asked about it."""

    hour: datetime
    until: datetime | None = None
    proven: bool = False
    by: str | None = None
    listed_at: datetime | None = None
    listed: int = 0
    found: int = 0
    webhooks: int = 0


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of the hour a moment is in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def spans(proven: Iterable[datetime], since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Return what is left of a span of time where some hours are proven; both ends of the span are hours."""
    done = set(proven)
    found: list[tuple[datetime, datetime]] = []
    hour = since
    while hour < until:
        end = min(hour + HOUR, until)
        if hour not in done:
            if found and found[-1][1] == hour:
                found[-1] = (found[-1][0], end)
            else:
                found.append((hour, end))
        hour += HOUR
    return found


async def unproven_spans(
    connection: asyncpg.Connection, book: str, since: datetime, until: datetime, *, again_from: datetime | None = None
) -> list[tuple[datetime, datetime]]:
    """Return the spans of time that Stripe has to be asked about; ``again_from`` on, proven or not."""
    rows = await connection.fetch(PROVEN, book, since, until)
    proven = (row["hour"] for row in rows)
    return spans([one for one in proven if again_from is None or one < again_from], since, until)


async def record(connection: asyncpg.Connection, book: str, by: str, hours: Sequence[Hour]) -> None:
    """Write down what a look at some hours has shown."""
    rows = [
        (book, one.hour, one.until, one.proven, by, one.listed_at, one.listed, one.found, one.webhooks) for one in hours
    ]
    await connection.executemany(RECORD, rows)


async def read_hours(connection: asyncpg.Connection, book: str, since: datetime, until: datetime) -> list[Hour]:
    """Return every hour of a span, asked about or not."""
    known = {row["hour"]: Hour(**row) for row in await connection.fetch(ROWS, book, since, until)}
    count = -((since - until) // HOUR)
    return [known.get(hour, Hour(hour)) for hour in (since + number * HOUR for number in range(count))]


async def first_hour(connection: asyncpg.Connection, book: str) -> datetime | None:
    """Return the first hour that counts: the first asked about, or the one in which the log began."""
    found: datetime | None = await connection.fetchval(FIRST_HOUR, book)
    return found


async def covered_books(connection: asyncpg.Connection) -> list[str]:
    """Return every book whose hours count."""
    return [row["book"] for row in await connection.fetch(BOOKS)]


async def covered_accounts(connection: asyncpg.Connection, platform_account: str, *, livemode: bool) -> list[str]:
    """Return every other account than the platform's own that has a book in a mode."""
    mode = "live" if livemode else "test"
    parted = (book.rpartition(":") for book in await covered_books(connection))
    return [account for account, _, of in parted if of == mode and account != platform_account]

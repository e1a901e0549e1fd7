"""The durable list of requests for what events leave out: found by reading the log, kept until they are answered.

The list is processed in order of the time it describes. A request that fails waits longer each time, and is finally
given up, visibly: in ``GET /v1/observations``, a metric, and ``ledger observe``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from ledger.observation import observation_id
from ledger.reader import read_books, read_tail_headings
from projections.facts import Fact
from projections.reading import read_positions
from projections.wanted import UNLESS_KNOWN, WATCHED, names_for, wanted_by

TRIES: Final = 10
"""A request that Stripe refused so often is given up."""

_SCAN_EVENTS: Final = 1_000
_WAIT: Final = timedelta(seconds=5)
_WAIT_MAX: Final = timedelta(hours=6)

POSITION: Final = "SELECT position FROM ledger.observer WHERE book = $1"

MOVE: Final = """
INSERT INTO ledger.observer AS o (book, position)
VALUES ($1, $2)
ON CONFLICT (book) DO UPDATE SET position = greatest(o.position, excluded.position)
"""

WANT: Final = """
INSERT INTO ledger.wanted AS w (event_id, book, kind, of, because, created, names, next_try_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (event_id, book) DO UPDATE
SET created = excluded.created, because = excluded.because
WHERE w.state = 'open' AND excluded.created < w.created
"""

KNOWN: Final = "SELECT DISTINCT stream_id FROM ledger.event WHERE stream_id = ANY ($1)"

DUE: Final = """
SELECT event_id, book, kind, of, because, created, names, state, tries, next_try_at, error
FROM ledger.wanted
WHERE state = 'open' AND next_try_at <= $1 AND book LIKE '%:' || $3
ORDER BY created, event_id
LIMIT $2
"""

ANSWERED: Final = """
UPDATE ledger.wanted
SET state = 'answered', error = NULL, changed_at = now()
WHERE event_id = $1 AND book = $2
"""

FAILED: Final = """
UPDATE ledger.wanted
SET state = CASE WHEN $5 THEN 'given_up' ELSE 'open' END,
    tries = tries + 1, next_try_at = $3, error = $4, changed_at = now()
WHERE event_id = $1 AND book = $2
"""

TRY_AGAIN: Final = """
UPDATE ledger.wanted
SET state = 'open', tries = 0, next_try_at = $1, changed_at = now()
WHERE state = 'given_up'
"""

LISTED: Final = """
SELECT event_id, book, kind, of, because, created, names, state, tries, next_try_at, error
FROM ledger.wanted
WHERE book = $1 AND ($2::text IS NULL OR state = $2) AND ($4::timestamptz IS NULL OR created <= $4)
  AND ($5::timestamptz IS NULL OR (created, event_id) > ($5, $6))
ORDER BY created, event_id
LIMIT $3
"""

COUNTS: Final = "SELECT book, state, count(*) AS count FROM ledger.wanted GROUP BY book, state"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request on the list; ``event_id`` is that of the observation which will answer it."""

    event_id: str
    book: str
    kind: str
    of: str
    because: str
    created: datetime
    names: dict[str, str]
    state: str
    tries: int
    next_try_at: datetime
    error: str | None


async def look(connection: asyncpg.Connection, now: datetime) -> int:
    """Look at the next events of every book for what they leave to be asked; return how many were looked at."""
    passed = 0
    for head in await read_books(connection):
        if head.is_stripe:
            passed += await _look_into(connection, head.book, now)
    return passed


async def _look_into(connection: asyncpg.Connection, book: str, now: datetime) -> int:
    position = int(await connection.fetchval(POSITION, book) or 0)
    news = await read_tail_headings(connection, book, position, _SCAN_EVENTS)
    if not news:
        return 0
    watched = [event.position for event in news if event.type.startswith(WATCHED)]
    rows = [row for fact in await read_positions(connection, book, watched) for row in _rows(book, fact)]
    known = await _known(connection, book, rows)
    async with connection.transaction():
        await connection.executemany(WANT, [(*row, now) for row in rows if f"{book}/{row[3]}" not in known])
        await connection.execute(MOVE, book, news[-1].position)
    return len(news)


def _rows(book: str, fact: Fact) -> list[tuple[Any, ...]]:
    return [
        (
            observation_id(book, want.kind, want.of, want.reason),
            book,
            want.kind,
            want.of,
            fact.event_id,
            fact.created,
            orjson.dumps(names_for(want, fact)).decode(),
        )
        for want in wanted_by(fact)
    ]


async def _known(connection: asyncpg.Connection, book: str, rows: Sequence[tuple[Any, ...]]) -> set[str]:
    streams = [f"{book}/{row[3]}" for row in rows if row[2] in UNLESS_KNOWN]
    return {row["stream_id"] for row in await connection.fetch(KNOWN, streams)} if streams else set()


async def due(connection: asyncpg.Connection, now: datetime, limit: int, *, livemode: bool) -> list[Wanted]:
    """Return the requests of one mode whose time has come, by the time of what they describe."""
    return [_wanted(row) for row in await connection.fetch(DUE, now, limit, "live" if livemode else "test")]


async def answered(connection: asyncpg.Connection, wanted: Wanted) -> None:
    """Take a request off the list: its observation stands in the log."""
    await connection.execute(ANSWERED, wanted.event_id, wanted.book)


async def failed(connection: asyncpg.Connection, wanted: Wanted, error: str, now: datetime, *, hopeless: bool) -> bool:
    """Let a request wait, or give it up where asking again is no use; return whether it was given up."""
    over = hopeless or wanted.tries + 1 >= TRIES
    wait = min(_WAIT_MAX, _WAIT * 4**wanted.tries)
    await connection.execute(FAILED, wanted.event_id, wanted.book, now + wait, error, over)
    return over


async def try_again(connection: asyncpg.Connection, now: datetime) -> int:
    """Put what was given up back on the list; return how many."""
    return int(str(await connection.execute(TRY_AGAIN, now)).rpartition(" ")[2])


async def list_wanted(
    connection: asyncpg.Connection,
    book: str,
    state: str | None,
    limit: int,
    as_of: datetime | None = None,
    after: tuple[datetime, str] | None = None,
) -> list[Wanted]:
    """Return the requests of a book, by the time of what they describe; up to a time, after one, where given."""
    rows = await connection.fetch(LISTED, book, state, limit, as_of, *(after or (None, None)))
    return [_wanted(row) for row in rows]


async def counts(connection: asyncpg.Connection) -> dict[tuple[str, str], int]:
    """Return how many requests there are, by book and state."""
    return {(row["book"], row["state"]): row["count"] for row in await connection.fetch(COUNTS)}


def _wanted(row: asyncpg.Record) -> Wanted:
    return Wanted(**{**row, "names": orjson.loads(row["names"])})

"""Reading the log: one event, pages of a book, the tail a follower folds, and where a head stands.

Position order is commit order and positions have no gap, so a follower of ``position > n`` misses nothing. On a
cluster a read across shards is no snapshot; the tail therefore stops at the first position it does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from ledger.books import CONTROL_BOOK
from ledger.dictionary import BodyReader
from ledger.errors import UndecodableBodyError, UnreadableEventError
from ledger.leaf import HEADER_COLUMNS, Header

_bodies = BodyReader()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One row of the log; ``body`` is the exact bytes that were received."""

    stream_id: str
    version: int
    book: str
    position: int
    event_id: str
    type: str
    created: datetime
    recorded_at: datetime
    received_at: datetime
    source: str
    api_version: str | None
    signature: str | None
    encoding: int
    dictionary_id: int | None
    salt: bytes
    body: bytes
    body_digest: bytes
    leaf: bytes

    @property
    def header(self) -> bytes:
        """The log's entry for this event: its canonical header, which the leaf is the hash of."""
        return Header(*(getattr(self, name) for name in HEADER_COLUMNS)).encode()


TAIL = """
SELECT stream_id, version, book, position, event_id, type, created, recorded_at, received_at, source,
       api_version, signature, encoding, dictionary_id, salt, body, body_digest, leaf
FROM ledger.event
WHERE book = $1 AND position > $2
ORDER BY position
LIMIT $3
"""

TAIL_HEADINGS = """
SELECT position, stream_id, type, event_id, created
FROM ledger.event
WHERE book = $1 AND position > $2
ORDER BY position
LIMIT $3
"""

PAGE = """
SELECT stream_id, version, book, position, event_id, type, created, recorded_at, received_at, source,
       api_version, signature, encoding, dictionary_id, salt, CASE WHEN $8 THEN body END AS body, body_digest, leaf
FROM ledger.event
WHERE book = $1 AND position > $2 AND position < $3
  AND ($4::text IS NULL OR type = $4)
  AND ($5::text IS NULL OR stream_id = $5)
  AND ($6::timestamptz IS NULL OR created <= $6)
ORDER BY position
LIMIT $7
"""

PAGE_NEWEST_FIRST = """
SELECT stream_id, version, book, position, event_id, type, created, recorded_at, received_at, source,
       api_version, signature, encoding, dictionary_id, salt, CASE WHEN $8 THEN body END AS body, body_digest, leaf
FROM ledger.event
WHERE book = $1 AND position > $2 AND position < $3
  AND ($4::text IS NULL OR type = $4)
  AND ($5::text IS NULL OR stream_id = $5)
  AND ($6::timestamptz IS NULL OR created <= $6)
ORDER BY position DESC
LIMIT $7
"""

EVENT = """
SELECT e.stream_id, e.version, e.book, e.position, e.event_id, e.type, e.created, e.recorded_at, e.received_at,
       e.source, e.api_version, e.signature, e.encoding, e.dictionary_id, e.salt, e.body, e.body_digest, e.leaf
FROM ledger.event_key AS k
JOIN ledger.event AS e ON e.stream_id = k.stream_id AND e.version = k.version
WHERE k.event_id = $1 AND k.book = $2
"""

RANGE = """
SELECT stream_id, version, book, position, event_id, type, created, recorded_at, received_at, source,
       api_version, signature, encoding, dictionary_id, salt, body, body_digest, leaf
FROM ledger.event
WHERE book = $1 AND position > $2 AND position <= $3
ORDER BY position
"""

HEAD = "SELECT position FROM ledger.head WHERE book = $1"

BOOKS = "SELECT book, position, recorded_at FROM ledger.head WHERE position > 0 ORDER BY book"

RECORDED_AT = "SELECT recorded_at FROM ledger.event WHERE book = $1 AND position = $2"


@dataclass(frozen=True, slots=True)
class Heading:
    """What a follower needs to know of an event to decide whom it concerns."""

    position: int
    stream_id: str
    type: str
    event_id: str
    created: datetime


@dataclass(frozen=True, slots=True)
class BookHead:
    """How far a book's log is, and when its newest event was recorded."""

    book: str
    position: int
    recorded_at: datetime

    @property
    def is_stripe(self) -> bool:
        """Whether the book holds a Stripe account's events, not our own housekeeping."""
        return self.book != CONTROL_BOOK


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events of a book a page shows: positions strictly between two bounds, a type, a stream, up to a time."""

    after: int = 0
    before: int = 2**63 - 1
    type: str | None = None
    stream_id: str | None = None
    as_of: datetime | None = None


async def read_tail(connection: asyncpg.Connection, book: str, after: int, limit: int) -> list[StoredEvent]:
    """Return up to ``limit`` events right after position ``after``, stopping at the first one missing."""
    return await _stored(connection, _unbroken(await connection.fetch(TAIL, book, after, limit), after))


async def read_tail_headings(connection: asyncpg.Connection, book: str, after: int, limit: int) -> list[Heading]:
    """Return the headings of up to ``limit`` events right after position ``after``, stopping at the first missing."""
    rows = await connection.fetch(TAIL_HEADINGS, book, after, limit)
    return [Heading(**row) for row in _unbroken(rows, after)]


async def read_stored(connection: asyncpg.Connection, book: str, after: int, until: int) -> list[StoredEvent]:
    """Return the events of the positions from after ``after`` up to ``until``, whatever is missing among them."""
    return await _stored(connection, await connection.fetch(RANGE, book, after, until))


async def read_page(
    connection: asyncpg.Connection,
    book: str,
    wanted: Filter,
    limit: int,
    *,
    newest_first: bool = False,
    with_bodies: bool = True,
    lenient: bool = False,
) -> list[StoredEvent]:
    """Return up to ``limit`` events of a book that ``wanted`` lets through, in order of position.

    Without bodies theirs are empty: what a page of large events costs is what is in them. So is, ``lenient``, one that
    cannot be read; else ``UnreadableEventError`` is raised.
    """
    statement = PAGE_NEWEST_FIRST if newest_first else PAGE
    rows = await connection.fetch(
        statement, book, wanted.after, wanted.before, wanted.type, wanted.stream_id, wanted.as_of, limit, with_bodies
    )
    if with_bodies:
        return await _stored(connection, rows, lenient=lenient)
    return [StoredEvent(**{**row, "body": b""}) for row in rows]


async def read_event(
    connection: asyncpg.Connection, book: str, event_id: str, *, lenient: bool = False
) -> StoredEvent | None:
    """Return one event of a book, or None.

    Raises ``UnreadableEventError`` where its body cannot be read; ``lenient``, it is returned with an empty one.
    """
    found = await _stored(connection, await connection.fetch(EVENT, event_id, book), lenient=lenient)
    return found[0] if found else None


async def read_head(connection: asyncpg.Connection, book: str) -> int:
    """Return the position of the book's newest event; 0 for a book without events."""
    return int(await connection.fetchval(HEAD, book) or 0)


async def read_books(connection: asyncpg.Connection) -> list[BookHead]:
    """Return every book that has events."""
    return [BookHead(**row) for row in await connection.fetch(BOOKS)]


async def position_at(connection: asyncpg.Connection, book: str, moment: datetime) -> int:
    """Return the last position recorded at or before ``moment``: what was known then.

    Times never fall as positions rise, so it is found by halving: twenty looks into a million events.
    """
    low, high = 0, await read_head(connection, book)
    while low < high:
        middle = (low + high + 1) // 2
        recorded_at = await connection.fetchval(RECORDED_AT, book, middle)
        if recorded_at is not None and recorded_at <= moment:
            low = middle
        else:
            high = middle - 1
    return low


def _unbroken(rows: Sequence[asyncpg.Record], after: int) -> list[asyncpg.Record]:
    return [row for expected, row in enumerate(rows, after + 1) if row["position"] == expected]


async def _stored(
    connection: asyncpg.Connection, rows: Sequence[asyncpg.Record], *, lenient: bool = False
) -> list[StoredEvent]:
    await _bodies.prepare(connection, rows)
    return [StoredEvent(**{**row, "body": _body(row, lenient=lenient)}) for row in rows]


def _body(row: asyncpg.Record, *, lenient: bool) -> bytes:
    try:
        return _bodies.decode(row)
    except UndecodableBodyError as error:
        if lenient:
            return b""
        raise UnreadableEventError(row["event_id"], error) from error

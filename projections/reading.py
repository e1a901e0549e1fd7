"""Reading facts from the log: the events of subjects' streams, decoded and parsed for folding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Final

import asyncpg
import orjson

from ledger.dictionary import BodyReader
from ledger.errors import UndecodableBodyError, UnreadableEventError
from projections.causal import object_key
from projections.contract import Projection
from projections.facts import Fact, fact_of
from projections.folding import Kept
from projections.links import is_customer

HISTORIES: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id = ANY ($1) AND position <= $2 AND type = ANY ($3)
ORDER BY stream_id, version
"""

AT_MOST: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id = ANY ($1) AND position <= $2 AND type = ANY ($3)
ORDER BY stream_id, version
LIMIT $4
"""

# Versions are positions in the streams of Stripe's events alone; a stream of our own decisions, whose versions are
# lower than its positions, is read whole.
SINCE: Final = """
SELECT e.stream_id, e.position, e.event_id, e.type, e.created, e.encoding, e.dictionary_id, e.salt, e.body
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS since (stream_id, version, first_after, at)
JOIN ledger.event AS e ON e.stream_id = since.stream_id AND e.version BETWEEN since.version AND $5
WHERE e.position BETWEEN since.first_after AND $5 AND e.type = ANY ($6)
  AND e.created > since.at AND ($7::timestamptz IS NULL OR e.created <= $7)
ORDER BY e.stream_id, e.version
"""

LATE: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE book = $1 AND position = ANY ($2) AND type = ANY ($3) AND created > $4 AND created <= $5
"""

POSITIONS: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE book = $1 AND position = ANY ($2)
"""

IN_ORDER: Final = """
SELECT position
FROM ledger.event
WHERE stream_id = ANY ($1) AND position <= $2 AND type = ANY ($3)
ORDER BY created, event_id COLLATE "C"
"""

KEPT: Final = """
SELECT subject, at, seen, first_after, last_within, late
FROM subject_state
WHERE subject = ANY ($1)
ORDER BY subject, at
"""

_bodies = BodyReader()

PIECE_EVENTS: Final = 1_000
"""How many events of a long subject are in memory at a time."""


async def facts_of(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> list[Fact]:
    """Decode and parse rows of the log."""
    await prepare(connection, rows)
    return parsed(rows)


async def prepare(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> None:
    """Learn what is needed to decode rows."""
    await _bodies.prepare(connection, rows)


def parsed(rows: Sequence[asyncpg.Record]) -> list[Fact]:
    """Decode and parse prepared rows; one that cannot be read gives a fact that says only so (``unread``)."""
    return [_fact(row) for row in rows]


def _fact(row: asyncpg.Record) -> Fact:
    heading = row["event_id"], row["type"], row["created"], row["position"]
    try:
        return fact_of(*heading, _bodies.decode(row))
    except (UndecodableBodyError, orjson.JSONDecodeError) as error:
        return Fact(*heading, {}, {}, {}, unread=UnreadableEventError(row["event_id"], error))


async def read_histories(
    connection: asyncpg.Connection, types: Iterable[str], streams: Sequence[str], until: int
) -> dict[str, list[Fact]]:
    """Return the facts of whole streams up to a position, by stream."""
    return await _by_stream(connection, await connection.fetch(HISTORIES, streams, until, list(types)))


async def read_rows(
    connection: asyncpg.Connection, types: Iterable[str], streams: Sequence[str], until: int, limit: int
) -> dict[str, list[asyncpg.Record]] | None:
    """Return rows of whole streams, by stream, ready to be parsed; None where there are more than ``limit``.

    Parsed they take thirty times the memory.
    """
    rows = await connection.fetch(AT_MOST, streams, until, list(types), limit + 1) if streams else []
    if len(rows) > limit:
        return None
    await prepare(connection, rows)
    return _rows_by_stream(rows)


def _rows_by_stream(rows: Iterable[asyncpg.Record]) -> dict[str, list[asyncpg.Record]]:
    found: dict[str, list[asyncpg.Record]] = {}
    for row in rows:
        found.setdefault(row["stream_id"], []).append(row)
    return found


async def read_in_pieces(
    connection: asyncpg.Connection, types: Iterable[str], book: str, streams: Sequence[str], until: int
) -> AsyncIterator[list[Fact]]:
    """Yield the facts of one subject in order of their time, piece by piece."""
    found = await connection.fetch(IN_ORDER, streams, until, list(types))
    positions = [row["position"] for row in found]
    for start in range(0, len(positions), PIECE_EVENTS):
        yield await read_positions(connection, book, positions[start : start + PIECE_EVENTS])


async def read_since(
    connection: asyncpg.Connection,
    projection: Projection,
    since: Sequence[tuple[Sequence[str], Kept]],
    last: int,
    until: datetime | None = None,
) -> dict[str, list[Fact]]:
    """Return, by stream, the facts that subjects' states do not include, up to a position and a moment."""
    starts = [
        (stream, kept.first_after if is_customer(stream) else 0, kept.first_after, kept.at)
        for streams, kept in since
        for stream in streams
    ]
    columns = [list(column) for column in zip(*starts, strict=True)]
    rows = await connection.fetch(SINCE, *columns, last, list(projection.types), until)
    return {stream: [] for streams, _ in since for stream in streams} | await _by_stream(connection, rows)


async def read_late(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    positions: Sequence[int],
    after: datetime,
    until: datetime,
) -> list[Fact]:
    """Return the facts at some positions whose time lies in a span."""
    types = list(projection.types)
    return await facts_of(connection, await connection.fetch(LATE, book, positions, types, after, until))


async def _by_stream(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = {}
    for row, fact in zip(rows, await facts_of(connection, rows), strict=True):
        found.setdefault(row["stream_id"], []).append(fact)
    return found


async def read_positions(connection: asyncpg.Connection, book: str, positions: Sequence[int]) -> list[Fact]:
    """Return the facts at some positions of a book."""
    if not positions:
        return []
    return await facts_of(connection, await connection.fetch(POSITIONS, book, positions))


async def read_each(connection: asyncpg.Connection, book: str, positions: Sequence[int]) -> AsyncIterator[Fact]:
    """Yield the facts at some positions of a book, in any order, one in memory at a time."""
    for start in range(0, len(positions), PIECE_EVENTS):
        rows = await connection.fetch(POSITIONS, book, positions[start : start + PIECE_EVENTS])
        await prepare(connection, rows)
        for row in rows:
            [fact] = parsed([row])
            yield fact


async def read_kept(connection: asyncpg.Connection, subjects: Sequence[str]) -> dict[str, list[Kept]]:
    """Return the states kept of some subjects, in order of their time, without what they hold."""
    kept: dict[str, list[Kept]] = {}
    for row in await connection.fetch(KEPT, subjects) if subjects else ():
        place = (row["at"], row["seen"], row["first_after"], row["last_within"])
        one = Kept(*place, b"", (), late=tuple(row["late"]))
        kept.setdefault(row["subject"], []).append(one)
    return kept


async def read_anchors(
    connection: asyncpg.Connection, book: str, seen_again: Iterable[tuple[Kept, Iterable[Fact]]]
) -> dict[int, Fact]:
    """Return, by position, the facts that states' anchors name for objects that occur again in some facts."""
    wanted: set[int] = set()
    for kept, facts in seen_again:
        known = dict(kept.anchors)
        wanted |= {known[key] for key in map(object_key, facts) if key in known}
    return {fact.position: fact for fact in await read_positions(connection, book, sorted(wanted))}

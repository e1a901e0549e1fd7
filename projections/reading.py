"""Facts out of the log: the events of subjects' streams, decoded and parsed for folding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from ledger.dictionary import BodyReader
from projections.causal import object_key
from projections.contract import Projection
from projections.facts import Fact, fact_of
from projections.folding import Kept

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

SINCE: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id = ANY ($1) AND version >= $2 AND position BETWEEN $2 AND $3 AND type = ANY ($4)
  AND created > $5 AND ($6::timestamptz IS NULL OR created <= $6)
ORDER BY stream_id, version
"""

SINCE_LATE: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id = ANY ($1) AND version = ANY ($2) AND position = ANY ($2) AND type = ANY ($3)
  AND created > $4 AND ($5::timestamptz IS NULL OR created <= $5)
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
ORDER BY created, event_id
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
    """Decode and parse rows that were prepared for."""
    decode = _bodies.decode
    return [fact_of(row["event_id"], row["type"], row["created"], row["position"], decode(row)) for row in rows]


async def read_histories(
    connection: asyncpg.Connection, types: Iterable[str], streams: Sequence[str], until: int
) -> dict[str, list[Fact]]:
    """Return the facts of whole streams up to a position, by stream."""
    rows = await connection.fetch(HISTORIES, streams, until, list(types))
    found: dict[str, list[Fact]] = {}
    for row, fact in zip(rows, await facts_of(connection, rows), strict=True):
        found.setdefault(row["stream_id"], []).append(fact)
    return found


async def read_rows(
    connection: asyncpg.Connection, types: Iterable[str], streams: Sequence[str], until: int, limit: int
) -> dict[str, list[asyncpg.Record]] | None:
    """Return rows of whole streams, by stream, ready to be parsed; None where there are more than ``limit``."""
    rows = await connection.fetch(AT_MOST, streams, until, list(types), limit + 1) if streams else []
    if len(rows) > limit:
        return None
    await prepare(connection, rows)
    found: dict[str, list[asyncpg.Record]] = {}
    for row in rows:
        found.setdefault(row["stream_id"], []).append(row)
    return found


async def read_in_pieces(
    connection: asyncpg.Connection, types: Iterable[str], book: str, streams: Sequence[str], until: int
) -> AsyncIterator[list[Fact]]:
    """Give the facts of one subject in order of their time, a piece at a time."""
    found = await connection.fetch(IN_ORDER, streams, until, list(types))
    positions = [row["position"] for row in found]
    for start in range(0, len(positions), PIECE_EVENTS):
        yield await read_positions(connection, book, positions[start : start + PIECE_EVENTS])


async def read_since(
    connection: asyncpg.Connection,
    projection: Projection,
    streams: Sequence[str],
    kept: Kept,
    last: int,
    until: datetime | None = None,
    late: Sequence[int] = (),
) -> list[Fact]:
    """Return the facts after a kept state, up to a position and, where given, a moment; ``late`` ones beyond it too."""
    types = list(projection.types)
    rows = await connection.fetch(SINCE, streams, kept.first_after, last, types, kept.at, until)
    if late:
        beyond = await connection.fetch(SINCE_LATE, streams, list(late), types, kept.at, until)
        rows = [*rows, *(row for row in beyond if not kept.first_after <= row["position"] <= last)]
    return await facts_of(connection, rows)


async def read_positions(connection: asyncpg.Connection, book: str, positions: Sequence[int]) -> list[Fact]:
    """Return the facts at some positions of a book."""
    if not positions:
        return []
    return await facts_of(connection, await connection.fetch(POSITIONS, book, positions))


async def read_anchors(connection: asyncpg.Connection, book: str, kept: Kept) -> Mapping[str, Fact]:
    """Return the facts that a kept state's anchors name, by object."""
    facts = await read_positions(connection, book, [position for _, position in kept.anchors])
    return {object_key(fact): fact for fact in facts}

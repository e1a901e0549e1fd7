"""Copies of an event that came later with another body: the first copy stands, the later one is kept beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import orjson

from ledger.append_call import Place
from ledger.batch import Prepared
from ledger.dictionary import BodyReader
from ledger.errors import UndecodableBodyError

FIRST_COPIES = """
SELECT e.stream_id, e.version, e.encoding, e.dictionary_id, e.salt, e.body
FROM unnest($1::text[], $2::bigint[]) AS wanted (stream_id, version)
JOIN ledger.event AS e ON e.stream_id = wanted.stream_id AND e.version = wanted.version
"""

RECORD = """
INSERT INTO ledger.event_conflict
    (event_id, book, body_sha256, received_at, source, api_version, signature, encoding, dictionary_id, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING
"""

CONFLICTS = """
SELECT received_at, source, api_version, body_sha256
FROM ledger.event_conflict
WHERE event_id = $1 AND book = $2
ORDER BY received_at, body_sha256
"""

NEWEST = """
SELECT event_id, received_at, source, api_version, body_sha256
FROM ledger.event_conflict
WHERE book = $1
  AND ($6::timestamptz IS NULL OR received_at <= $6)
  AND ($3::timestamptz IS NULL OR received_at < $3 OR (received_at = $3 AND (event_id, body_sha256) > ($4, $5)))
ORDER BY received_at DESC, event_id, body_sha256
LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A later copy with another body: when and how it arrived, and the SHA-256 of its bytes."""

    received_at: datetime
    source: str
    api_version: str | None
    body_sha256: bytes


def same_event(first: bytes, copy: bytes) -> bool:
    """Return whether two bodies say the same, ignoring ``pending_webhooks``, a counter of deliveries."""
    return first == copy or _settled(first) == _settled(copy)


async def record_conflicts(
    connection: asyncpg.Connection, bodies: BodyReader, copies: Sequence[tuple[Prepared, Place]]
) -> list[Prepared]:
    """Keep and return those of ``copies`` that say something else than the first copy of their event.

    Beside a first copy that cannot be read, every later one is kept: it may be the only one that can.
    """
    if not copies:
        return []
    streams = [place.stream_id for _, place in copies]
    versions = [place.version for _, place in copies]
    rows = await connection.fetch(FIRST_COPIES, streams, versions)
    await bodies.prepare(connection, rows)
    # Keep no copy of an erased event: it would bring back what had to go.
    firsts = {(row["stream_id"], row["version"]): _readable(bodies, row) for row in rows if row["salt"]}
    known = [(copy, firsts.get((place.stream_id, place.version))) for copy, place in copies]
    different = [copy for copy, first in known if first is not None and not same_event(first, copy.event.body)]
    if different:
        await connection.executemany(RECORD, [_columns(copy) for copy in different])
    return different


def _readable(bodies: BodyReader, row: asyncpg.Record) -> bytes:
    try:
        return bodies.decode(row)
    except UndecodableBodyError:
        return b""


async def conflicts_of(connection: asyncpg.Connection, book: str, event_id: str) -> Sequence[Conflict]:
    """Return the later copies of one event, oldest first."""
    return [Conflict(**record) for record in await connection.fetch(CONFLICTS, event_id, book)]


async def newest_conflicts(
    connection: asyncpg.Connection,
    book: str,
    limit: int,
    after: tuple[datetime, str, bytes] | None = None,
    as_of: datetime | None = None,
) -> list[tuple[str, Conflict]]:
    """Return the later copies of a book's events, newest first (or from one on), each with the id of its event.

    As of a moment, those that had come by then.
    """
    rows = await connection.fetch(NEWEST, book, limit, *(after or (None, None, None)), as_of)
    return [(row["event_id"], Conflict(*tuple(row)[1:])) for row in rows]


def _columns(copy: Prepared) -> tuple[object, ...]:
    event = copy.event
    return (
        event.event_id,
        event.book,
        hashlib.sha256(event.body).digest(),
        event.received_at,
        event.source,
        event.api_version,
        event.signature,
        copy.encoding,
        copy.dictionary_id,
        copy.stored_body,
    )


def _settled(body: bytes) -> object:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if isinstance(parsed, dict):
        parsed.pop("pending_webhooks", None)
    return parsed

"""The one call that writes a batch: ``ledger.append_batch`` of schema.sql, its arguments and its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg

from ledger.batch import Head, Key, Numbered

APPEND_BATCH = """
SELECT outcome, of_book, at_position, at_recorded_at, at_frontier, at_envelope, of_event_id, of_stream_id, of_version
FROM ledger.append_batch(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24
)
"""

LOCK_HEADS = """
SELECT book, position, recorded_at, frontier, envelope
FROM ledger.head
WHERE book = ANY ($1)
ORDER BY book
FOR UPDATE
"""


class Place(NamedTuple):
    """Where an event is in the log."""

    position: int
    stream_id: str
    version: int


@dataclass(slots=True)
class Answer:
    """The call's result: written, or what the caller did not know."""

    appended: bool = False
    heads: dict[str, Head] = field(default_factory=dict)
    duplicates: dict[Key, Place] = field(default_factory=dict)
    taken: set[tuple[str, int]] = field(default_factory=set)


async def append_batch(
    connection: asyncpg.Connection,
    believed: Mapping[str, Head],
    advanced: Mapping[str, Head],
    rows: Sequence[Numbered],
) -> Answer:
    """Write ``rows``, numbered on top of the heads ``believed`` and leading to ``advanced``, or learn why not."""
    answer = Answer()
    for record in await connection.fetch(APPEND_BATCH, *_head_columns(believed, advanced), *_event_columns(rows)):
        _read(answer, record)
    return answer


async def lock_heads(connection: asyncpg.Connection, books: Sequence[str]) -> dict[str, Head]:
    """Lock the heads of ``books`` until the transaction ends, in book order, and return them."""
    return {record["book"]: _head(record) for record in await connection.fetch(LOCK_HEADS, sorted(books))}


def _head(record: Mapping[str, Any]) -> Head:
    return Head(record["position"], record["recorded_at"], record["frontier"], record["envelope"])


def _read(answer: Answer, record: Mapping[str, Any]) -> None:
    outcome, book = record["outcome"], record["of_book"]
    if outcome == "appended":
        answer.appended = True
    elif outcome == "head":
        answer.heads[book] = Head(
            record["at_position"], record["at_recorded_at"], record["at_frontier"], record["at_envelope"]
        )
    elif outcome == "duplicate":
        place = Place(record["at_position"], record["of_stream_id"], record["of_version"])
        answer.duplicates[book, record["of_event_id"]] = place
    else:
        answer.taken.add((record["of_stream_id"], record["of_version"]))


def _head_columns(believed: Mapping[str, Head], advanced: Mapping[str, Head]) -> list[list[Any]]:
    books = sorted(advanced)
    return [
        books,
        [believed[book].position for book in books],
        [advanced[book].position for book in books],
        [advanced[book].recorded_at for book in books],
        [advanced[book].frontier for book in books],
        [advanced[book].envelope for book in books],
    ]


def _event_columns(rows: Sequence[Numbered]) -> list[list[Any]]:
    events = [row.prepared.event for row in rows]
    return [
        [event.stream_id for event in events],
        [row.version for row in rows],
        [event.book for event in events],
        [row.position for row in rows],
        [event.event_id for event in events],
        [event.type for event in events],
        [event.created for event in events],
        [row.recorded_at for row in rows],
        [event.received_at for event in events],
        [event.source for event in events],
        [event.api_version for event in events],
        [event.signature for event in events],
        [row.prepared.encoding for row in rows],
        [row.prepared.dictionary_id for row in rows],
        [row.prepared.salt for row in rows],
        [row.prepared.stored_body for row in rows],
        [row.prepared.body_digest for row in rows],
        [row.leaf for row in rows],
    ]

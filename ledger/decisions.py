"""Deciding: an aggregate is restored from its stream, decides, and its new events are appended together or not at all.

Several processes may decide at once. The one that comes second restores the aggregate again, sees what the first
decided, and decides again; the result may be nothing, or a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

import asyncpg

from ledger.appender import Appender
from ledger.dictionary import BodyReader
from ledger.errors import VersionConflictError
from ledger.event import NewEvent
from ledger.flush import Appended
from ledger.operator import OperatorAggregate, Recorded

A = TypeVar("A", bound=OperatorAggregate)

_TRIES: Final = 20

OWN_STREAM: Final = """
SELECT version, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id = $1
ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class Decided(Generic[A]):
    """The aggregate after a decision, and the places of its new events: none if there was nothing to decide."""

    aggregate: A
    places: list[Appended]


async def restore(connection: asyncpg.Connection, kind: type[A], book: str, name: str) -> A:
    """Restore the aggregate of the stream ``name`` in a book; it is empty if there is no such stream.

    Raises ``UnknownDecisionError`` if a later release has written to the stream.
    """
    rows = await connection.fetch(OWN_STREAM, f"{book}/{name}")
    bodies = BodyReader()
    await bodies.prepare(connection, rows)
    stored = [Recorded(row["version"], row["type"], row["created"], bodies.decode(row)) for row in rows]
    return kind.restore(name, stored)


async def save(
    appender: Appender, book: str, aggregate: OperatorAggregate, *, now: datetime, beside: Sequence[NewEvent] = ()
) -> list[Appended]:
    """Append what an aggregate decided and the events ``beside`` it, all or none; return the places of the former.

    Raises ``VersionConflictError`` if its stream has grown since it was restored.
    """
    decided = aggregate.new_events(book, now)
    return (await appender.append([*decided, *beside]))[: len(decided)]


async def decide(
    connection: asyncpg.Connection,
    appender: Appender,
    kind: type[A],
    book: str,
    name: str,
    decision: Callable[[A], None],
    *,
    now: datetime,
    beside: Callable[[], Sequence[NewEvent]] = lambda: (),
) -> Decided[A]:
    """Restore the aggregate in the stream ``name``, let it decide, and save it; again where somebody was faster.

    ``beside`` gives what is appended with it, once it has decided.

    What ``decision`` raises, refuses it. Raises ``VersionConflictError`` where somebody was faster every time.
    """
    tries = 0
    while True:
        aggregate = await restore(connection, kind, book, name)
        decision(aggregate)
        tries += 1
        try:
            return Decided(aggregate, await save(appender, book, aggregate, now=now, beside=beside()))
        except VersionConflictError:
            if tries == _TRIES:
                raise

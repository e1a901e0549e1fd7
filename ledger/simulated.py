"""Filling empty books with simulated events, recorded when they would have been: for demonstrations and tests.

Each such book says so itself: its first event is ``ledger.simulation.started``, its last
``ledger.simulation.finished``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import asyncpg
from eventsourcing.domain import event

from ledger.appender import Appender
from ledger.decisions import restore
from ledger.errors import MistakeError
from ledger.event import NewEvent, Source, parse_envelope, received_event
from ledger.operator import OperatorAggregate
from ledger.postgres import Database
from ledger.reader import read_books
from ledger.times import from_unix

STREAM: Final = "simulation"
_BATCH_EVENTS: Final = 1_000


class Simulation(OperatorAggregate):
    """What a book's simulated events were made from, and whether all of them are there."""

    def __init__(self) -> None:
        self.about: Mapping[str, Any] | None = None
        self.finished = False

    @event("Started", topic="ledger.simulation.started")
    def start(self, about: Mapping[str, Any]) -> None:
        """Begin a book with what is simulated in it."""
        self.about = about

    @event("Finished", topic="ledger.simulation.finished")
    def finish(self) -> None:
        """End it: nothing is missing."""
        self.finished = True


async def append_simulated(
    database: Database,
    deliveries: Iterable[tuple[int, bytes]],
    about: Mapping[str, Any],
    *,
    platform_account: str,
    clock: Callable[[], datetime],
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Append simulated deliveries (unix seconds and body) as if received, and recorded, at their own time.

    ``about`` says what they were made from. Begun and interrupted, the same call goes on; done before, it does
    nothing. Returns how many events the log had not. Raises ``MistakeError`` where the log holds other events.
    """
    if await _done(database, about):
        return 0
    written = 0
    last: dict[str, datetime] = {}
    simulations: dict[str, Simulation] = {}
    async with Appender(database, clock=clock, simulated=True) as appender:
        for batch in _batches(deliveries, platform_account):
            begun: list[NewEvent] = []
            for one in batch:
                if one.book not in simulations:
                    # Appended again after an interruption, it must be the same event.
                    simulations[one.book] = Simulation.restore(STREAM)
                    simulations[one.book].start(about)
                    begun += simulations[one.book].new_events(one.book, one.received_at)
                last[one.book] = one.received_at
            places = await appender.append([*begun, *batch])
            written += sum(not place.duplicate for place in places)
            progress(len(batch))
        for book, simulation in simulations.items():
            simulation.finish()
            await appender.append(simulation.new_events(book, last[book]))
    return written


async def _done(database: Database, about: Mapping[str, Any]) -> bool:
    connection = await database.as_role("ledger_app").connect()
    try:
        books = [one.book for one in await read_books(connection) if one.is_stripe]
        return bool(books) and all([await _is_finished(connection, book, about) for book in books])
    finally:
        await connection.close()


async def _is_finished(connection: asyncpg.Connection, book: str, about: Mapping[str, Any]) -> bool:
    found = await restore(connection, Simulation, book, STREAM)
    if found.about is None:
        raise MistakeError(f"{book} holds events already: a simulation is only appended to an empty book")
    if found.about != about:
        raise MistakeError(f"{book} holds another simulation; give this one a folder of its own")
    return found.finished


def _batches(deliveries: Iterable[tuple[int, bytes]], platform_account: str) -> Iterator[list[NewEvent]]:
    events = (_received(at, body, platform_account) for at, body in deliveries)
    while batch := list(itertools.islice(events, _BATCH_EVENTS)):
        yield batch


def _received(at: int, body: bytes, platform_account: str) -> NewEvent:
    return received_event(
        parse_envelope(body),
        body,
        platform_account=platform_account,
        source=Source.IMPORT,
        received_at=from_unix(at),
        signature=None,
    )

"""The group-committing appender: one flusher per process turns the waiting events of all callers into one commit.

A caller waits until its events are durable. While one commit runs, the next callers queue up; their events are
numbered, hashed and written together with one call. The heads are remembered between batches, so a batch normally
takes one round trip. If another process wrote first, or an event is a duplicate, the database says so and the batch is
computed again, the third time under the heads' locks. While other processes keep winning, the flusher takes the locks
first and fills the batch once it holds them.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import asyncpg
import structlog

from ledger.append_call import lock_heads
from ledger.batch import Head, Prepared, prepare
from ledger.books import CONTROL_BOOK
from ledger.codec import BodyCodec, shipped_dictionary
from ledger.conflicts import record_conflicts
from ledger.dictionary import BodyReader, read_dictionaries
from ledger.errors import LedgerError, LogUnavailableError, UndecodableBodyError
from ledger.event import NewEvent
from ledger.flush import Appended, Flush, Waiting
from ledger.postgres import AWAY, Database
from ledger.tasks import end

_log = structlog.get_logger()

_SALT_BYTES: Final = 16
_LOCKED_FIRST: Final = 16
"""How many batches take the heads' locks first after another process won: a lost race costs more than the locks."""

_RECONNECT_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the queue and of one commit. A full queue refuses at once: senders retry, and memory does not grow."""

    waiting_events: int = 20_000
    waiting_bytes: int = 128 * 1024 * 1024
    batch_events: int = 1_000
    batch_bytes: int = 16 * 1024 * 1024
    commit_seconds: float = 15.0


class Appender:
    """Appends events to the log from many concurrent callers of one event loop.

    Use as an async context manager. ``clock`` gives the recording time; ``on_commit`` is called after each commit that
    wrote something (it must not block). With ``simulated``, for demonstrations and tests, an event's recording time is
    its ``received_at``.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], datetime],
        on_commit: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
        simulated: bool = False,
    ) -> None:
        self._database = database.as_role("ledger_app")
        self._clock = clock
        self._simulated = simulated
        self._on_commit = on_commit
        self._limits = limits or Limits()
        self._codec = BodyCodec()
        self._bodies = BodyReader()
        self._dictionary = shipped_dictionary()
        self._queue: deque[Waiting] = deque()
        self._queued_events = 0
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._heads: dict[str, Head] = {}
        self._locked_first = 0
        self._connection: asyncpg.Connection | None = None
        self._away: str | None = None
        self._flusher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._flusher = asyncio.create_task(self._flush_forever(), name="ledger-appender")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._flusher is not None:
            await end(self._flusher)
        self._refuse(self._take_everything(), "the service is stopping")
        await self._disconnect()

    async def append(self, events: Sequence[NewEvent]) -> list[Appended]:
        """Write ``events`` in this order, all or none, and return their places once the commit is durable.

        Raises ``LogUnavailableError`` when the queue is full or the database is away (whether the events were
        written is then unknown; appending them again is harmless) and ``VersionConflictError`` when a version that
        one of them names is taken.
        """
        size = sum(len(event.body) for event in events)
        if self._away is not None:
            raise LogUnavailableError(self._away)
        if (
            self._queued_events + len(events) > self._limits.waiting_events
            or self._queued_bytes + size > self._limits.waiting_bytes
        ):
            raise LogUnavailableError("too many events are waiting to be written")
        prepared = [self._prepare(event) for event in events]
        if not prepared:
            return []
        waiting = Waiting(prepared, size, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._queued_events += len(events)
        self._queued_bytes += size
        self._arrived.set()
        return await waiting.answer

    @property
    def waiting(self) -> int:
        """The number of events now waiting to be written."""
        return self._queued_events

    def _prepare(self, event: NewEvent) -> Prepared:
        encoded = self._codec.encode(event.body)
        return prepare(
            event,
            salt=os.urandom(_SALT_BYTES),
            encoding=encoded.encoding,
            stored_body=encoded.stored,
            dictionary_id=encoded.dictionary_id,
        )

    async def _flush_forever(self) -> None:
        while True:
            # While the database is away the queue takes nobody, so do not wait for a caller: try to reconnect.
            if self._away is None:
                await self._arrived.wait()
            try:
                connection = await self._connected()
            except (*AWAY, asyncpg.PostgresError, LedgerError) as error:
                self._stay_away(error)
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            if self._queue:
                await self._flush(connection, [] if self._locked_first else self._take_batch())

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._heads.clear()
            connection = await self._database.connect_by_key(self._limits.commit_seconds)
            try:
                await self._use_dictionary(connection)
            except BaseException:
                connection.terminate()  # nobody else could close it
                raise
            self._connection = connection
            if self._away is not None:
                _log.info("log_back")
            self._away = None
        return self._connection

    async def _use_dictionary(self, connection: asyncpg.Connection) -> None:
        """Encode with the shipped dictionary from now on, after registering it if the log does not have it."""
        try:
            while self._dictionary not in (registered := await read_dictionaries(connection)).contents:
                registered.add(self._dictionary)
                events = [self._prepare(event) for event in registered.new_events(CONTROL_BOOK, self._clock())]
                caller = Waiting(events, 0, asyncio.get_running_loop().create_future())
                await self._write(connection, [caller])
                caller.answer.exception()  # another process may have registered one first: look again
        except UndecodableBodyError as error:
            _log.error("dictionaries_unreadable", error=error)  # bodies can be encoded without a dictionary
            return
        self._codec.use(self._dictionary)

    async def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _stay_away(self, error: BaseException) -> None:
        if self._away is None:
            _log.warning("log_away", error=error)
        self._away = "the database cannot be reached"
        self._refuse(self._take_everything(), self._away)

    def _take_batch(self, books: AbstractSet[str] | None = None) -> list[Waiting]:
        """Take waiting callers while the commit has room and, with ``books`` locked, while they write to no others."""
        callers: list[Waiting] = []
        events = size = 0
        while self._queue:
            caller = self._queue[0]
            events += len(caller.events)
            size += caller.size
            if callers and (events > self._limits.batch_events or size > self._limits.batch_bytes):
                break
            if books is not None and not caller.books <= books:
                break
            callers.append(self._take_first())
        if not self._queue:
            self._arrived.clear()
        # The events of a caller that has gone away (its client hung up) are written all the same: whoever sends them
        # again is told that they are in the log.
        return callers

    def _take_first(self) -> Waiting:
        caller = self._queue.popleft()
        self._queued_events -= len(caller.events)
        self._queued_bytes -= caller.size
        return caller

    def _take_everything(self) -> list[Waiting]:
        self._arrived.clear()
        return [self._take_first() for _ in range(len(self._queue))]

    async def _flush(self, connection: asyncpg.Connection, callers: list[Waiting]) -> None:
        """Write the events of ``callers``; an empty list is filled with waiting callers once the heads are locked."""
        try:
            await self._write(connection, callers)
        except AWAY as error:
            await self._disconnect()
            self._refuse(callers, "the database did not confirm the commit")
            self._stay_away(error)
        except asyncio.CancelledError:
            await self._disconnect()
            self._refuse(callers, "the service is stopping")
            raise
        except Exception as error:  # noqa: BLE001 - a flusher that died would leave every caller waiting for ever
            self._heads.clear()
            if len(callers) > 1:
                # Something in the batch cannot be written: halve it, so that only its own caller fails.
                middle = len(callers) // 2
                await self._flush(connection, callers[:middle])
                await self._flush(connection, callers[middle:])
            elif callers:
                _log.error("append_failed", event_id=callers[0].events[0].event.event_id, error=error)
                self._refuse(callers, "the database refused the event")
            else:
                await self._disconnect()
                self._stay_away(error)

    async def _write(self, connection: asyncpg.Connection, callers: list[Waiting]) -> None:
        flush = Flush(callers, self._heads, self._recorded_at) if callers else None
        if flush is None or self._locked_first or not await flush.is_written_at_once(connection):
            flush = await self._write_under_locks(connection, callers, flush)
        if flush.wrote:
            self._on_commit()
        for copy in await record_conflicts(connection, self._bodies, flush.copies):
            _log.warning("event_conflict", book=copy.event.book, event_id=copy.event.event_id)
        flush.answer()

    async def _write_under_locks(
        self, connection: asyncpg.Connection, callers: list[Waiting], flush: Flush | None
    ) -> Flush:
        """Write while other processes write too: an empty ``callers`` is filled after waiting for the locks."""
        books = {book for caller in callers or self._queue for book in caller.books}
        async with connection.transaction():
            heads = await lock_heads(connection, list(books))
            if flush is None:
                callers += self._take_batch(books)
                flush = Flush(callers, self._heads, self._recorded_at)
            overtaken = await flush.write_on(connection, heads) or not self._locked_first
        self._locked_first = _LOCKED_FIRST if overtaken else self._locked_first - 1
        return flush

    def _recorded_at(self) -> Callable[[NewEvent], datetime]:
        if self._simulated:
            return lambda event: event.received_at
        now = self._clock()
        return lambda _: now

    @staticmethod
    def _refuse(callers: Sequence[Waiting], why: str) -> None:
        for caller in callers:
            if not caller.answer.done():
                caller.answer.set_exception(LogUnavailableError(why))

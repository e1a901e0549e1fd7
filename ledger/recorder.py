"""Our log behind the ``eventsourcing`` library's recorder interface, so that its aggregates and runners work on it.

The library is synchronous, the log is not: a recorder has an event loop in a thread of its own, and from async code it
is used only through ``asyncio.to_thread``. One recorder is about one book. Aggregates' events become operator events;
a notification's id is a position; Stripe's events are seen too, as ``StripeEvent``.

    originator id ─ stream (behind the book's name)    topic ─ type
    originator version ─ version                       state ─ body
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import asyncpg
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    ListenNotifySubscription,
    Mapper,
    Notification,
    OperationalError,
    StoredEvent,
)

from ledger.appender import Appender
from ledger.errors import LogUnavailableError, VersionConflictError
from ledger.event import OWN_TYPES, NewEvent, Source
from ledger.postgres import Database
from ledger.reader import Filter, read_head, read_page, read_tail
from ledger.reader import StoredEvent as LogEvent
from ledger.tasks import end
from ledger.wakeup import Listener, Notifier

T = TypeVar("T")

_POLL_SECONDS: Final = 0.5
_STREAM_EVENTS_MAX: Final = 1_000_000
_PAGE_EVENTS: Final = 1_000


class StripeEvent:
    """An event in Stripe's form (operator events have it too), as the library's projections see it."""

    def __init__(self, originator_id: UUID | str, originator_version: int, type_: str, body: bytes) -> None:
        self.originator_id = originator_id
        self.originator_version = originator_version
        self.type = type_
        self.body = body


class LedgerMapper(Mapper[Any]):
    """Maps events of an application of ours to their classes and everything else in a book to ``StripeEvent``."""

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[Any]:
        """Turn a stored event into a domain event without importing what an outside string names."""
        if stored_event.topic.startswith(OWN_TYPES) and ":" in stored_event.topic:  # module:class
            return super().to_domain_event(stored_event)
        return StripeEvent(
            stored_event.originator_id, stored_event.originator_version, stored_event.topic, stored_event.state
        )


class LedgerRecorder(ApplicationRecorder):
    """The recorder of one book. Use as a context manager, or call ``open`` and ``close``.

    ``originator_id`` turns the text of a stream's key into what the application calls its ids (``UUID`` or ``str``).
    """

    def __init__(
        self,
        database: Database,
        book: str,
        *,
        originator_id: Callable[[str], UUID | str] = str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._book = book
        self._originator_id = originator_id
        self._clock = clock
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ledger-recorder", daemon=True)
        self._resources = contextlib.AsyncExitStack()
        self._subscriptions: list[LedgerSubscription] = []

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Start the loop's thread and connect."""
        self._thread.start()
        self._run(self._open())

    def close(self) -> None:
        """Stop the subscriptions, disconnect and end the thread. Closing twice does no harm."""
        if not self._thread.is_alive():
            return
        for subscription in list(self._subscriptions):
            subscription.stop()
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Append all or none. Raises ``IntegrityError`` where a version is taken, ``OperationalError`` when away."""
        now = self._clock()
        events = [self._new_event(event, now) for event in stored_events]
        try:
            return [place.position for place in self._run(self._appender.append(events))]
        except VersionConflictError as error:
            raise IntegrityError(str(error)) from error
        except LogUnavailableError as error:
            raise OperationalError(str(error)) from error

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Read one aggregate's events, in order of version."""
        found = self._run(self._read_stream(f"{self._book}/{originator_id}"))
        chosen = [
            event for event in found if (gt is None or event.version > gt) and (lte is None or event.version <= lte)
        ]
        ordered = chosen[::-1] if desc else chosen
        return [_stored(event, originator_id) for event in ordered[:limit]]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Read up to ``limit`` events by position."""
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        events = self._run(self._read_positions(max(after, 0), stop, limit, frozenset(topics)))
        return [self._notification(event) for event in events]

    def max_notification_id(self) -> int | None:
        """Return the newest position, or None for an empty book."""
        return self._run(self._head()) or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> LedgerSubscription:
        """Follow the book from a position on, for as long as the subscription lives."""
        return LedgerSubscription(self, gt, topics)

    def follow(self, subscription: LedgerSubscription) -> None:
        """Wake a subscription when something is appended."""
        self._subscriptions.append(subscription)

    def unfollow(self, subscription: LedgerSubscription) -> None:
        """Stop waking a subscription."""
        with contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        enter = self._resources.enter_async_context
        self._pool: asyncpg.Pool = await enter(self._database.as_role("ledger_app").pool(max_size=8))
        notifier = await enter(Notifier(self._database))
        self._appender = await enter(Appender(self._database, clock=self._clock, on_commit=notifier.appended))
        listener = await enter(Listener(self._database.as_role("ledger_app")))
        self._waking = asyncio.create_task(self._wake_forever(listener))

    async def _close(self) -> None:
        await end(self._waking)
        await self._resources.aclose()

    async def _wake_forever(self, listener: Listener) -> None:
        while True:
            await listener.wait(_POLL_SECONDS)
            for subscription in list(self._subscriptions):
                subscription.wake()

    def _new_event(self, stored: StoredEvent, now: datetime) -> NewEvent:
        return NewEvent(
            book=self._book,
            # Never the same twice: what must not happen twice is a version, and that is checked.
            event_id=uuid.uuid4().hex,
            type=stored.topic,
            created=now.replace(microsecond=0),
            stream_id=f"{self._book}/{stored.originator_id}",
            body=stored.state,
            source=Source.OPERATOR,
            received_at=now,
            version=stored.originator_version,
        )

    async def _read_stream(self, stream_id: str) -> list[LogEvent]:
        async with self._pool.acquire() as connection:
            found = await read_page(connection, self._book, Filter(stream_id=stream_id), _STREAM_EVENTS_MAX)
        return sorted(found, key=lambda event: event.version)

    async def _read_positions(self, after: int, stop: int | None, limit: int, topics: frozenset[str]) -> list[LogEvent]:
        found: list[LogEvent] = []
        async with self._pool.acquire() as connection:
            while len(found) < limit:
                page = await read_tail(connection, self._book, after, _PAGE_EVENTS if topics else limit)
                found += [
                    event
                    for event in page
                    if (stop is None or event.position <= stop) and (not topics or event.type in topics)
                ]
                if not page or (stop is not None and page[-1].position >= stop):
                    break
                after = page[-1].position
        return found[:limit]

    async def _head(self) -> int:
        async with self._pool.acquire() as connection:
            return await read_head(connection, self._book)

    def _notification(self, event: LogEvent) -> Notification:
        key = event.stream_id.removeprefix(f"{self._book}/")
        try:
            originator_id = self._originator_id(key)
        except ValueError:
            originator_id = key  # one of Stripe's, in an application whose own ids are UUIDs
        return Notification(
            originator_id=originator_id,
            originator_version=event.version,
            topic=event.type,
            state=event.body,
            id=event.position,
        )


class LedgerSubscription(ListenNotifySubscription[LedgerRecorder]):
    """Catches up by position and goes on when woken; polling covers wake-ups that were lost."""

    def __init__(self, recorder: LedgerRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        recorder.follow(self)

    def wake(self) -> None:
        """Look for news now."""
        self._has_been_notified.set()

    def stop(self) -> None:
        """End the subscription and its thread's waiting."""
        self._recorder.unfollow(self)
        super().stop()


def _stored(event: LogEvent, originator_id: UUID | str) -> StoredEvent:
    return StoredEvent(
        originator_id=originator_id, originator_version=event.version, topic=event.type, state=event.body
    )

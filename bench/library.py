"""The peer of a rebuild: the eventsourcing library's ``ProjectionRunner`` over the same log.

Its view is durable as the library's own PostgreSQL view is: each event's row and its tracking in one transaction.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import orjson
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import get_topic

from bench.events import EventSource
from bench.log import new_event, now
from ledger.appender import Appender
from ledger.postgres import Database
from ledger.recorder import LedgerMapper, LedgerRecorder, StripeEvent

TABLES = """
CREATE SCHEMA IF NOT EXISTS build_peer;
CREATE TABLE IF NOT EXISTS build_peer.status (object text PRIMARY KEY, status text);
CREATE TABLE IF NOT EXISTS build_peer.tracking (position bigint PRIMARY KEY);
"""

ROW = "INSERT INTO build_peer.status VALUES ($1, $2) ON CONFLICT (object) DO UPDATE SET status = excluded.status"

TRACKING = "INSERT INTO build_peer.tracking VALUES ($1)"

_EVENTS = 3_000


class _Factory(InfrastructureFactory[Any]):
    recorder: LedgerRecorder

    def application_recorder(self) -> ApplicationRecorder:
        return self.recorder

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        raise NotImplementedError(purpose)

    def tracking_recorder(self, tracking_recorder_class: Any = None) -> TrackingRecorder:
        found: TrackingRecorder = tracking_recorder_class()
        return found

    def process_recorder(self) -> ProcessRecorder:
        raise NotImplementedError


class _Application(Application[UUID]):
    env: ClassVar[dict[str, str]] = {"PERSISTENCE_MODULE": __name__}


class _View(POPOTrackingRecorder):
    """Keeps the newest status of every object as a row, each event in a transaction with its tracking."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._connection = self._wait(self._connect())

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connect(self) -> asyncpg.Connection:
        connection = await self.database.as_role("ledger_builder").connect()
        await connection.execute(TABLES)
        return connection

    def saw(self, key: str, status: Any, tracking: Tracking) -> None:
        self._wait(self._write(key, status, tracking.notification_id))
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)

    async def _write(self, key: str, status: Any, position: int) -> None:
        async with self._connection.transaction():
            await self._connection.execute(ROW, key, str(status))
            await self._connection.execute(TRACKING, position)


class _Statuses(Projection[_View]):
    name = "statuses"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        if isinstance(domain_event, StripeEvent):
            subject = orjson.loads(domain_event.body)["data"]["object"]
            self.view.saw(str(subject.get("id")), subject.get("status"), tracking)


async def library_runner_rate(database: Database) -> float:
    """Return how many events of about 4 kB a second the library's runner projects."""
    source = EventSource(4)
    async with Appender(database, clock=now) as appender:
        for _ in range(_EVENTS // 500):
            await appender.append([new_event(source.body()) for _ in range(500)])
    return await asyncio.to_thread(_run, database)


def _run(database: Database) -> float:
    with LedgerRecorder(database, "self:live") as recorder:
        _Factory.recorder = recorder
        _View.database = database
        env = {"PERSISTENCE_MODULE": __name__, "MAPPER_TOPIC": get_topic(LedgerMapper)}
        began = time.perf_counter()
        with ProjectionRunner(
            application_class=_Application, projection_class=_Statuses, view_class=_View, env=env
        ) as runner:
            runner.wait(_EVENTS, 120)
            return _EVENTS / (time.perf_counter() - began)

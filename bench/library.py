"""The peer of a rebuild: the eventsourcing library's ``ProjectionRunner`` over the same log, into memory."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar
from uuid import UUID

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
    """Keeps the newest status of every object, in memory: less work than rows in a database."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, Any] = {}

    def saw(self, key: str, status: Any, tracking: Tracking) -> None:
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)
            self.statuses[key] = status


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
        env = {"PERSISTENCE_MODULE": __name__, "MAPPER_TOPIC": get_topic(LedgerMapper)}
        began = time.perf_counter()
        with ProjectionRunner(
            application_class=_Application, projection_class=_Statuses, view_class=_View, env=env
        ) as runner:
            runner.wait(_EVENTS, 120)
            return _EVENTS / (time.perf_counter() - began)

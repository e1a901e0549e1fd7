"""The library's aggregates decide on our log, and its ``ProjectionRunner`` follows it while webhooks arrive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    IntegrityError,
    ProcessRecorder,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import get_topic

from ledger.appender import Appender
from ledger.postgres import Database
from ledger.recorder import LedgerMapper, LedgerRecorder, StripeEvent
from tests.conftest import ManualClock
from tests.stripe_events import event as stripe_event
from tests.stripe_events import new_event

BOOK = "self:live"
EVENTS = 300


class Grant(Aggregate):
    @event("Granted")
    def __init__(self, customer: str) -> None:
        self.customer = customer
        self.revoked = 0

    @event("Revoked")
    def revoke(self) -> None:
        self.revoked += 1


class OnOurLog(InfrastructureFactory[Any]):
    """Hands the library the recorder of one book."""

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


ENV = {"PERSISTENCE_MODULE": f"{__name__}", "MAPPER_TOPIC": get_topic(LedgerMapper)}


class Grants(Application[UUID]):
    env: ClassVar[dict[str, str]] = {"PERSISTENCE_MODULE": __name__}


class Seen(POPOTrackingRecorder):
    """What the projection saw, and up to where."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()

    def saw(self, event_id: str, tracking: Tracking) -> None:
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)
            self.ids[event_id] += 1


class Watch(Projection[Seen]):
    name = "watch"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        assert isinstance(domain_event, StripeEvent)
        self.view.saw(domain_event.body.decode().split('"evt_')[1].split('"')[0], tracking)


@pytest.fixture
def recorder(database: Database) -> Iterator[LedgerRecorder]:
    with LedgerRecorder(database, BOOK) as opened:
        OnOurLog.recorder = opened
        yield opened


def test_an_aggregate_is_saved_loaded_and_guarded(database: Database) -> None:
    with LedgerRecorder(database, BOOK, originator_id=UUID) as opened:
        OnOurLog.recorder = opened
        grants = Grants()
        grant = Grant("cus_1")
        grants.save(grant)
        one: Grant = grants.repository.get(grant.id)
        other: Grant = grants.repository.get(grant.id)
        one.revoke()
        other.revoke()
        grants.save(one)
        with pytest.raises(IntegrityError):
            grants.save(other)
        loaded: Grant = grants.repository.get(grant.id)
        assert (loaded.customer, loaded.revoked, loaded.version) == ("cus_1", 1, 2)
        assert [one.id for one in grants.recorder.select_notifications(1, 10)] == [1, 2]


async def test_the_librarys_runner_follows_our_log(
    recorder: LedgerRecorder, database: Database, clock: ManualClock
) -> None:
    with ProjectionRunner(application_class=Grants, projection_class=Watch, view_class=Seen, env=ENV) as runner:
        async with Appender(database, clock=clock) as appender:
            for number in range(EVENTS):
                content = stripe_event(f"evt_{number}", "customer.updated", {"id": f"cus_{number % 7}"})
                await appender.append([new_event(content)])
        await asyncio.to_thread(runner.wait, EVENTS, 20)
        assert runner.projection.view.ids == Counter({str(number): 1 for number in range(EVENTS)})


def test_what_a_type_from_outside_names_is_never_imported(recorder: LedgerRecorder) -> None:
    from eventsourcing.persistence import JSONTranscoder, StoredEvent

    mapper = LedgerMapper(JSONTranscoder())
    mapped = mapper.to_domain_event(StoredEvent(uuid4(), 1, "os:system", b"{}"))
    assert isinstance(mapped, StripeEvent)
    assert (mapped.type, mapped.body) == ("os:system", b"{}")

"""Our own facts are decided by aggregates, once, however many decide at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import orjson
import pytest
from eventsourcing.domain import event

from api.signing import signer_of
from ledger.appender import Appender
from ledger.books import CONTROL_BOOK
from ledger.decisions import Decided, decide, restore, save
from ledger.errors import MistakeError, VersionConflictError
from ledger.event import NewEvent
from ledger.identity import establish, read_identity
from ledger.operator import OperatorAggregate, Recorded, UnknownDecisionError
from ledger.postgres import Database
from tests.conftest import SIGNING_KEY, ManualClock
from tests.log.test_append import log_of
from tests.stripe_events import event as event_of
from tests.stripe_events import new_event

BOOK = "self:live"
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


class Seats(OperatorAggregate):
    """Three seats, taken one by one."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def take(self, by: str) -> None:
        if len(self.taken) == 3:
            raise MistakeError("all seats are taken")
        if by not in self.taken:
            self.sit(by)

    @event("Taken", topic="ledger.seat.taken")
    def sit(self, by: str) -> None:
        self.taken.append(by)


def test_an_aggregate_decides_without_clock_or_database() -> None:
    seats = Seats.restore("seats")
    seats.take("a")
    seats.take("a")
    seats.take("b")
    events = seats.new_events(BOOK, NOON)
    assert [(one.stream_id, one.version, one.type) for one in events] == [
        ("self:live/seats", 1, "ledger.seat.taken"),
        ("self:live/seats", 2, "ledger.seat.taken"),
    ]
    assert [orjson.loads(one.body)["data"]["object"] for one in events] == [{"id": "seats", "by": who} for who in "ab"]
    assert seats.new_events(BOOK, NOON) == []
    stored = [Recorded(one.version or 0, one.type, one.created, one.body) for one in events]
    assert Seats.restore("seats", stored).taken == ["a", "b"]


def test_the_same_decision_sent_twice_is_one_event_and_a_rivals_is_another() -> None:
    def decided(by: str) -> str:
        seats = Seats.restore("seats")
        seats.take(by)
        return seats.new_events(BOOK, NOON)[0].event_id

    assert decided("a") == decided("a")
    assert decided("a") != decided("b")


@pytest.mark.parametrize(("type_", "content"), [("ledger.seat.sold", {"by": "a"}), ("ledger.seat.taken", {"to": "a"})])
def test_what_a_later_release_decided_is_refused_and_not_misread(type_: str, content: dict[str, str]) -> None:
    body = orjson.dumps({"data": {"object": content}})
    with pytest.raises(UnknownDecisionError):
        Seats.restore("seats", [Recorded(1, type_, NOON, body)])


async def test_who_comes_second_is_refused_or_decides_anew(database: Database, clock: ManualClock) -> None:
    connection = await database.as_role("ledger_app").connect()
    async with Appender(database, clock=clock) as appender, Appender(database, clock=clock) as other:
        first, second = [await restore(connection, Seats, BOOK, "seats") for _ in range(2)]
        first.take("a")
        second.take("b")
        assert [one.position for one in await save(appender, BOOK, first, now=clock.now)] == [1]
        with pytest.raises(VersionConflictError):
            await save(other, BOOK, second, now=clock.now)
        again = await decide(connection, other, Seats, BOOK, "seats", lambda seats: seats.take("b"), now=clock.now)
        assert (again.aggregate.taken, [one.position for one in again.places]) == (["a", "b"], [2])
        nothing = await decide(connection, other, Seats, BOOK, "seats", lambda seats: seats.take("b"), now=clock.now)
        assert nothing.places == []
    await connection.close()


async def test_many_deciders_in_several_processes_take_three_seats(database: Database, clock: ManualClock) -> None:
    async def one(appender: Appender, by: str) -> Decided[Seats]:
        connection = await database.as_role("ledger_app").connect()
        try:
            return await decide(connection, appender, Seats, BOOK, "seats", lambda seats: seats.take(by), now=clock.now)
        finally:
            await connection.close()

    async with Appender(database, clock=clock) as appender, Appender(database, clock=clock) as other:
        deciding = [one(where, f"{n}") for n, where in enumerate([appender, other] * 6)]
        outcomes = await asyncio.gather(*deciding, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(outcome) for outcome in refused} == {MistakeError}
    assert len(refused) == 9
    log = await log_of(database)
    assert [(one.version, one.type) for one in log] == [(n, "ledger.seat.taken") for n in (1, 2, 3)]
    assert len({orjson.loads(one.body)["data"]["object"]["by"] for one in log}) == 3


async def test_a_product_named_like_a_stream_of_ours_is_passed_over(database: Database, clock: ManualClock) -> None:
    def sold(number: int) -> NewEvent:
        return new_event(event_of(f"evt_{number}", "product.updated", {"id": "seats", "object": "product"}))

    connection = await database.as_role("ledger_app").connect()
    async with Appender(database, clock=clock) as appender:

        async def take(by: str) -> Decided[Seats]:
            return await decide(connection, appender, Seats, BOOK, "seats", lambda seats: seats.take(by), now=clock.now)

        await appender.append([sold(1)])
        await take("a")
        await appender.append([sold(3), sold(4)])
        await take("b")
        assert (await take("c")).aggregate.taken == ["a", "b", "c"]
    assert [(one.version, one.type) for one in await log_of(database)] == [
        (1, "product.updated"),
        (2, "ledger.seat.taken"),
        (3, "product.updated"),
        (4, "product.updated"),
        (5, "ledger.seat.taken"),
        (6, "ledger.seat.taken"),
    ]
    await connection.close()


async def test_the_logs_own_identity_is_such_a_decision(database: Database, clock: ManualClock) -> None:
    key = signer_of(SIGNING_KEY).verifier
    connection = await database.as_role("ledger_app").connect()
    async with Appender(database, clock=clock) as appender, Appender(database, clock=clock) as other:
        for where in (appender, other, appender):
            identity = await establish(connection, where, key, now=clock.now)
            clock.forward(minutes=1)
            assert (identity.origins, identity.keys, identity.version) == ([key.name], [key], 2)
    assert (await read_identity(connection)).origin == key.name
    assert [one.type for one in await log_of(database, CONTROL_BOOK)] == [
        "ledger.dictionary.registered",
        "ledger.log.opened",
        "ledger.key.registered",
    ]
    await connection.close()

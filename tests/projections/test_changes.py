"""The change log: gapless, in the transaction that makes the change, told once, by time too, by one build only."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from api.operations import Operations
from ledger.appender import Appender
from ledger.catalogs import Catalogs
from ledger.event import NewEvent
from ledger.postgres import Database
from projections.builds import Build, ensure_live, read_build
from projections.contract import Projection, Terms
from projections.entitlements.answer import answer_all
from projections.entitlements.changes import Changes
from projections.entitlements.holdings import read_holdings
from projections.entitlements.query import Moment
from projections.entitlements.tables import entitlements
from projections.entitlements.telling import granted_values
from projections.facts import Fact
from projections.follower import follow, replay
from projections.leases import give_back, take
from projections.runner import Runner, connect_runner
from tests.conftest import ManualClock
from tests.projections.test_follower import append
from tests.stripe_events import event, new_event, product, subscription

LOG = "SELECT seq, customer, feature, granted, value, position, cause FROM ledger.entitlement_change ORDER BY book, seq"

EVERYBODY = """
SELECT customer FROM entitlement_source
UNION
SELECT 'org:' || org FROM entitlement_org WHERE org IS NOT NULL
"""


def consuming(clock: ManualClock) -> Projection:
    return replace(entitlements("org_id"), consumer=Changes(clock))


async def catch_up(database: Database, projection: Projection, build: Build | None = None) -> Build:
    """Fold everything and do whatever is due."""
    connection = await database.as_role("ledger_builder").connect()
    build = build or await ensure_live(connection, projection)
    consumer = projection.consumer
    assert isinstance(consumer, Changes)
    while await follow(connection, projection, build, term=99):
        pass
    consumer._looked.clear()
    while await consumer.turn(connection, build.build_id):
        pass
    await connection.close()
    return build


def sold(
    event_id: str, status: str = "active", quantity: int = 2, at: int = 0, product_id: str = "prod_1", **more: Any
) -> NewEvent:
    subject = subscription(items=f"si_1:{product_id}*{quantity}", status=status, **more)
    return new_event(event(event_id, "customer.subscription.updated", subject, created=1_768_478_000 + at))


async def said(owner: asyncpg.Connection) -> list[str]:
    """The log as text: ``1 cus_1 seats=8 event``."""
    lines = []
    for row in await owner.fetch(LOG):
        what = f"{row['customer']} {row['feature']}={row['value']}" if row["customer"] else "everybody"
        lines.append(f"{row['seq']} {what} {row['cause']}")
    return lines


async def test_each_change_is_said_once_and_numbered(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    projection = consuming(clock)
    await append(database, clock, [new_event(event("evt_p", "product.created", product()))])
    for number, one in enumerate(
        [
            sold("evt_1"),
            sold("evt_2", "past_due", at=1),
            sold("evt_3", "past_due", 5, 2),
            sold("evt_4", "canceled", 5, 3),
        ]
    ):
        await append(database, clock, [one])
        await catch_up(database, projection)
        assert await owner.fetchval("SELECT max(position) FROM ledger.entitlement_change") == number + 2 - (number == 1)
    assert await said(owner) == [
        "1 cus_1 prod_1=true event",
        "2 cus_1 seats=2 event",
        "3 cus_1 sso=true event",
        "4 cus_1 seats=5 event",
        "5 cus_1 prod_1=false event",
        "6 cus_1 seats=0 event",
        "7 cus_1 sso=false event",
    ]


async def test_organisations_hear_of_their_customers(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    projection = consuming(clock)
    await append(database, clock, [sold("evt_1", metadata={"org_id": "acme"})])
    await catch_up(database, projection)
    await append(database, clock, [sold("evt_2", at=5, metadata={"org_id": "umbra"})])
    await catch_up(database, projection)
    assert await said(owner) == [
        "1 cus_1 prod_1=true event",
        "2 org:acme prod_1=true event",
        "3 org:acme prod_1=false event",
        "4 org:umbra prod_1=true event",
    ]


async def test_what_the_log_says_leads_to_the_answers_whatever_the_batches(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    projection, dice = consuming(clock), random.Random(5)
    events: list[NewEvent] = []
    for number in range(60):
        customer = f"cus_{dice.randrange(6)}"
        status = dice.choice(["active", "past_due", "canceled", "unpaid", "trialing"])
        items, org = f"si_{customer}:prod_1*{number}", dice.choice(["acme", "umbra"])
        subject = subscription(
            f"sub_{customer}", customer=customer, status=status, items=items, metadata={"org_id": org}
        )
        events.append(new_event(event(f"evt_{number}", "customer.subscription.updated", subject,
                                      created=1_768_000_000 + dice.randrange(500))))  # fmt: skip
    await append(database, clock, [new_event(event("evt_p", "product.created", product()))])
    while events:
        some, events = events[: (size := dice.randrange(1, 9))], events[size:]
        await append(database, clock, some)
        build = await catch_up(database, projection)
    rows = await owner.fetch(LOG)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    state: dict[tuple[str, str], str] = {}
    for row in rows:
        key = (row["customer"], row["feature"])
        if row["granted"]:
            assert state.get(key) != row["value"], "said twice"
            state[key] = row["value"]
        else:
            assert state.pop(key, None) is not None, "taken away without having been given"
    assert state == await everything_granted(owner, build, clock)


async def everything_granted(owner: asyncpg.Connection, build: Build, clock: ManualClock) -> dict[tuple[str, str], str]:
    await owner.execute("SELECT set_config('search_path', $1, false)", build.schema_name)
    rows = await owner.fetch(EVERYBODY)
    holdings = await read_holdings(owner, "self:live", [row["customer"] for row in rows])
    return {
        (customer, feature): value
        for customer, one in holdings.items()
        for feature, value in granted_values(answer_all(one, (), Moment(clock.now).among(one))).items()
    }


async def test_nothing_is_said_where_the_transaction_fails(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    projection = consuming(clock)
    await append(database, clock, [sold("evt_1")])
    connection = await database.as_role("ledger_builder").connect()
    build = await ensure_live(connection, projection)

    class Failing(Changes):
        async def changed(self, *arguments: Any) -> None:
            await super().changed(*arguments)
            raise RuntimeError("after everything was written")

    with pytest.raises(RuntimeError):
        await follow(connection, replace(projection, consumer=Failing(clock)), build)
    await connection.close()
    assert await said(owner) == []
    await catch_up(database, projection)
    assert await said(owner) == ["1 cus_1 prod_1=true event"]


def forgetful(state: Any, fact: Fact, terms: Terms) -> None:
    """Fold with a bug: past due counts as canceled."""
    if fact.subject.get("status") == "past_due":
        fact = fact._replace(subject=fact.subject | {"status": "canceled"})
    entitlements("org_id").step(state, fact, terms)


async def test_only_the_live_build_speaks_and_a_promotion_says_what_it_changed(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    right = consuming(clock)
    wrong = replace(right, version=1, step=forgetful)
    async with Appender(database, clock=clock) as appender:
        await appender.append([sold("evt_1", "past_due")])
        live = await catch_up(database, wrong)
        operations = Operations(database, right, appender, clock)
        build = await operations.request_rebuild(by="cli:engineer", reason=None)
        await operations.fold(build.build_id)
        build = await operations.complete(build.build_id)
        assert await said(owner) == []
        other = subscription("sub_2", customer="cus_2", items="si_2:prod_2*1")
        await appender.append([new_event(event("evt_2", "customer.subscription.created", other))])
        await catch_up(database, right, build)
        assert await said(owner) == [], "a build beside the live one spoke"
        await catch_up(database, wrong, live)
        swapped = await operations.promote(
            build.build_id, by="cli:engineer", reason="past due is not canceled", force=True
        )
        assert swapped.previous == live.build_id
        assert await said(owner) == ["1 cus_2 prod_2=true event", "2 everybody promotion"]
        await catch_up(database, wrong, await read_build(owner, live.build_id))
        assert len(await said(owner)) == 2, "the retired build spoke"
        await catch_up(database, right, await read_build(owner, build.build_id))
    assert await said(owner) == [
        "1 cus_2 prod_2=true event",
        "2 everybody promotion",
        "3 cus_1 prod_1=true promotion",
    ]


async def test_a_build_of_a_release_that_is_gone_is_spoken_for(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    projection = consuming(clock)
    await append(database, clock, [sold("evt_1", status="past_due", trial_end=1_768_400_000)])
    build = await catch_up(database, projection)
    assert await said(owner) == ["1 cus_1 prod_1=true event"]
    clock.forward(days=4)  # nothing was ever paid: grace is over after three
    connection = await connect_runner(database)
    lease = await take(connection, build.build_id, "the release that folds it")
    assert lease is not None
    for gone, expected in ((False, 1), (True, 2)):
        if gone:
            await give_back(connection, lease)
        runner = Runner(connection, replace(consuming(clock), version=projection.version + 1), holder="a newer one")
        while await runner.turn():
            pass
        assert (await said(owner))[1:] == ["2 cus_1 prod_1=false time"][: expected - 1]
    await connection.close()
    assert await owner.fetchval("SELECT position FROM ledger.checkpoint") == 1


async def test_a_replay_speaks_too(database: Database, clock: ManualClock, owner: asyncpg.Connection) -> None:
    right = consuming(clock)

    def failing(state: Any, fact: Fact, terms: Terms) -> None:
        raise ValueError("cannot be folded")

    await append(database, clock, [sold("evt_1")])
    live = await catch_up(database, replace(right, step=failing))
    assert await said(owner) == []
    connection = await database.as_role("ledger_builder").connect()
    assert not (await replay(connection, right, live, "self:live", ["self:live/cus_1"])).failed
    await connection.close()
    assert await said(owner) == ["1 cus_1 prod_1=true event"]


async def test_old_changes_are_let_go(database: Database, clock: ManualClock, owner: asyncpg.Connection) -> None:
    projection = consuming(clock)
    await append(database, clock, [sold("evt_1")])
    await catch_up(database, projection)
    await owner.execute("UPDATE ledger.entitlement_change SET at = now() - interval '8 days'")
    await append(database, clock, [sold("evt_2", product_id="prod_2", at=9)])
    await catch_up(database, consuming(clock))
    assert await said(owner) == ["2 cus_1 prod_1=false event", "3 cus_1 prod_2=true event"]


async def test_a_product_is_told_of_under_a_catalog_of_policies_alone(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    projection = consuming(clock)
    catalogs = Catalogs.restore("catalog")
    catalogs.publish("[revenue]", None, "2026-01-15T12:00:00Z", "test")
    published = catalogs.new_events("self:live", clock.now)[0]
    given = new_event(event("evt_p", "product.created", product(features="sso")))
    await append(database, clock, [given, sold("evt_1"), published])
    await catch_up(database, projection)
    assert (await said(owner))[-1] == "3 cus_1 sso=true event"
    taken = new_event(event("evt_q", "product.updated", product(features=""), created=1_768_478_100))
    await append(database, clock, [taken])
    await catch_up(database, projection)
    assert (await said(owner))[-1] == "5 cus_1 sso=false catalog"

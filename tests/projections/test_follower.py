"""The follower keeps rows equal to a fold, in any order, across crashes, and parks what cannot be folded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from ledger.appender import Appender
from ledger.event import NewEvent
from ledger.postgres import AWAY, Database
from projections import folding, follower
from projections.builds import Build, ensure_live
from projections.contract import Projection, Rows, Subject, Terms
from projections.entitlements.rows import SourceRow
from projections.entitlements.tables import entitlements
from projections.facts import Fact
from projections.folding import fold
from projections.follower import CheckpointMovedError, follow, replay, step
from projections.reading import read_histories
from projections.refold import Refolding, Wanted, Work, fold_long, refold
from projections.runner import connect_runner
from projections.terms import KnownTerms
from projections.warm import Warm
from tests.conftest import ManualClock
from tests.stripe_events import event, new_event, product, subscription

PROJECTION = entitlements("org_id")


def history() -> list[NewEvent]:
    """A dozen customers with a life each, and their product."""
    events = [event("evt_p", "product.created", product())]
    for n in range(12):
        lives = ["incomplete", "active", "past_due", "active", "canceled"]
        for age, status in enumerate(lives[: 2 + n % 4]):
            kind = "created" if age == 0 else "updated"
            subject = subscription(f"sub_{n}", customer=f"cus_{n}", status=status, items=f"si_{n}:prod_1*{n + 1}")
            created = 1_768_000_000 + 10 * age
            events.append(event(f"evt_{n}_{age}", f"customer.subscription.{kind}", subject, created=created))
        events.append(event(f"evt_{n}_x", "invoice.finalized", {"id": f"in_{n}", "customer": f"cus_{n}"}))
    return [new_event(one) for one in events]


async def append(database: Database, clock: ManualClock, events: Sequence[NewEvent]) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append(events)


async def builder(database: Database) -> asyncpg.Connection:
    return await database.as_role("ledger_builder").connect()


async def catch_up(database: Database, projection: Projection = PROJECTION) -> Build:
    connection = await builder(database)
    build = await ensure_live(connection, projection)
    while await follow(connection, projection, build):
        pass
    await connection.close()
    return build


async def rows_of(owner: asyncpg.Connection, build: Build, table: str = "entitlement_source") -> list[Any]:
    return sorted((tuple(row) for row in await owner.fetch(f"SELECT * FROM {build.schema_name}.{table}")), key=str)


async def fresh_fold(owner: asyncpg.Connection) -> list[Any]:
    streams = [row["stream_id"] for row in await owner.fetch("SELECT DISTINCT stream_id FROM ledger.event")]
    rows: list[Any] = []
    for stream_id, facts in (await read_histories(owner, PROJECTION.types, streams, 10**9)).items():
        rows += fold(PROJECTION, Subject("self:live", stream_id), facts).rows["entitlement_source"]
    return sorted(((*row[:-1], list(row[-1])) for row in rows), key=str)


async def test_rows_equal_a_fresh_fold_whatever_the_order_of_arrival(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    events = history()
    random.Random(3).shuffle(events)
    for start in range(0, len(events), 7):
        await append(database, clock, events[start : start + 7])
        build = await catch_up(database)
    rows = await rows_of(owner, build)
    assert rows == await fresh_fold(owner)
    assert len(rows) > 12


async def test_a_step_is_one_transaction(database: Database, clock: ManualClock, owner: asyncpg.Connection) -> None:
    await append(database, clock, history())
    connection = await builder(database)
    build = await ensure_live(connection, PROJECTION)
    assert await step(connection, PROJECTION, build, "self:live", limit=5) == 5
    assert await owner.fetchval("SELECT position FROM ledger.checkpoint") == 5
    before = await rows_of(owner, build)

    def crash(state: Any) -> Rows:
        asyncio.get_running_loop().call_soon(connection.terminate)
        return PROJECTION.rows(state)

    with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresConnectionError, ConnectionError)):
        await step(connection, replace(PROJECTION, rows=crash), build, "self:live")
    assert await owner.fetchval("SELECT position FROM ledger.checkpoint") == 5
    assert await rows_of(owner, build) == before
    assert await rows_of(owner, await catch_up(database)) == await fresh_fold(owner)


async def test_two_followers_never_write_over_each_other(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    await append(database, clock, history())
    connections = [await builder(database) for _ in range(4)]
    build = await ensure_live(connections[0], PROJECTION)

    async def run(connection: asyncpg.Connection) -> None:
        while True:
            try:
                if await step(connection, PROJECTION, build, "self:live", limit=3) == 0:
                    return
            except CheckpointMovedError:
                continue

    await asyncio.gather(*(run(connection) for connection in connections))
    assert await rows_of(owner, build) == await fresh_fold(owner)
    for connection in connections:
        await connection.close()


async def test_a_step_that_was_overtaken_is_dropped(
    database: Database, clock: ManualClock, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(database, clock, history())
    slow, quick = await builder(database), await builder(database)
    build = await ensure_live(slow, PROJECTION)

    async def overtaken(*given: Any) -> Refolding:
        monkeypatch.setattr(follower, "refold", refold)
        while await follow(quick, PROJECTION, build):
            pass
        return await refold(*given)

    monkeypatch.setattr(follower, "refold", overtaken)
    with pytest.raises(CheckpointMovedError):
        await step(slow, PROJECTION, build, "self:live", 3)
    assert await owner.fetchval("SELECT position FROM ledger.checkpoint") == len(history())
    await slow.close()
    await quick.close()


async def test_there_is_one_live_build_however_many_ask(database: Database, owner: asyncpg.Connection) -> None:
    connections = [await builder(database) for _ in range(4)]
    builds = await asyncio.gather(*(ensure_live(connection, PROJECTION) for connection in connections))
    assert len({build.build_id for build in builds}) == 1
    for connection in connections:
        await connection.close()


@pytest.mark.parametrize("failure", ["fold", "nul", "check"])
async def test_what_fails_is_parked_alone(
    database: Database, clock: ManualClock, owner: asyncpg.Connection, failure: str
) -> None:
    await append(database, clock, history()[:-6])
    await catch_up(database)

    def failing(state: Any) -> Rows:
        rows = PROJECTION.rows(state)
        if state.subject.key != "cus_3":
            return rows
        if failure == "fold":
            raise RuntimeError("a mistake in the fold")
        first, *rest = (SourceRow(*row) for row in rows["entitlement_source"])
        ends_at_once = first._replace(valid_to=first.valid_from)  # an interval that ends where it begins
        broken = first._replace(status="act\x00ive") if failure == "nul" else ends_at_once
        return {"entitlement_source": [broken, *rest]}

    news = [
        event(f"evt_new_{n}", "customer.subscription.updated", subscription(f"sub_{n}", customer=f"cus_{n}"))
        for n in range(6)
    ]
    before = await owner.fetchval("SELECT count(*) FROM build_entitlements_1.entitlement_source")
    last_good = await owner.fetch("SELECT * FROM build_entitlements_1.entitlement_source WHERE customer = 'cus_3'")
    await append(database, clock, [new_event(one) for one in news])
    build = await catch_up(database, replace(PROJECTION, rows=failing))
    parked = await owner.fetchrow("SELECT * FROM ledger.parked")
    assert (parked["subject"], parked["event_id"]) == ("self:live/cus_3", "evt_new_3")
    head = await owner.fetchval("SELECT position FROM ledger.head WHERE book = 'self:live'")
    assert await owner.fetchval("SELECT position FROM ledger.checkpoint") == head
    kept = await owner.fetch("SELECT * FROM build_entitlements_1.entitlement_source WHERE customer = 'cus_3'")
    assert kept == last_good
    connection = await connect_runner(database)
    await replay(connection, replace(PROJECTION, rows=failing), build, "self:live", ["self:live/cus_3"])
    await connection.close()
    assert await owner.fetchval("SELECT event_id FROM ledger.parked") == "evt_new_3", "it still stands in the way"
    assert await owner.fetchval(f"SELECT count(*) FROM {build.schema_name}.entitlement_source") >= before
    # The next event of the subject, folded by the mended code, clears it.
    await append(
        database, clock, [new_event(event("evt_heal", "customer.updated", {"id": "cus_3", "object": "customer"}))]
    )
    assert await rows_of(owner, await catch_up(database)) == await fresh_fold(owner)
    assert await owner.fetchval("SELECT count(*) FROM ledger.parked") == 0


@pytest.mark.parametrize("remembering", [True, False])
@pytest.mark.parametrize("how", ["late", "replayed"])
async def test_a_long_life_stays_parked_until_it_can_be_folded(
    database: Database,
    clock: ManualClock,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    remembering: bool,
) -> None:
    """States kept before the failure lack what could not be folded: to go on from them would pass for a good fold."""
    monkeypatch.setattr(folding, "KEEP_FROM", 4)
    monkeypatch.setattr(folding, "KEEP_EVERY", 7)
    monkeypatch.setattr(folding, "_RECENT_EVERY", 2)

    def told(name: str, minute: int, quantity: int) -> NewEvent:
        subject = subscription("sub_1", customer="cus_1", status="active", items=f"si_1:prod_1*{quantity}")
        return new_event(event(name, "customer.subscription.updated", subject, created=1_768_000_000 + 60 * minute))

    def failing(state: Any, fact: Fact, terms: Terms) -> None:
        if fact.event_id == "evt_in_the_way":
            raise RuntimeError("a mistake in the fold")
        PROJECTION.step(state, fact, terms)

    broken, warm = replace(PROJECTION, step=failing), Warm() if remembering else None
    connection = await builder(database)
    build = await ensure_live(connection, PROJECTION)

    async def comes(projection: Projection, *some: NewEvent) -> int:
        await append(database, clock, some)
        while await follow(connection, projection, build, warm=warm):
            pass
        parked: int = await owner.fetchval("SELECT count(*) FROM ledger.parked")
        return parked

    life = [told(f"evt_{n}", n, 1 + n % 5) for n in range(60)]
    if how == "late":
        assert await comes(broken, *life) == 0
        assert await comes(broken, told("evt_in_the_way", 30, 99)) == 1
    else:
        assert await comes(PROJECTION, *life[:30], told("evt_in_the_way", 30, 99), *life[31:]) == 0
        await replay(connection, broken, build, "self:live", ["self:live/cus_1"])
    for n in range(60, 63):
        assert await comes(broken, told(f"evt_{n}", n, 7)) == 1
    assert await comes(broken, told("evt_late", 12, 6)) == 1, "it is folded up to a state, and the failure is behind"
    assert await comes(PROJECTION, told("evt_63", 63, 8)) == 0
    await connection.close()
    assert await rows_of(owner, build) == await fresh_fold(owner)


CURRENT = """
SELECT customer, source, quantity, status
FROM ledger.entitlement_sources
WHERE customer = $1 AND valid_to IS NULL
"""


async def test_a_database_that_goes_away_parks_nobody(database: Database) -> None:
    connection = await builder(database)
    await connection.close()
    work = Work(connection, PROJECTION, "self:live", 9, KnownTerms())
    with pytest.raises(AWAY):
        await fold_long(work, Wanted("self:live/cus_1", ("self:live/cus_1",)))
    assert not work.result.failed


async def test_the_public_view_shows_the_live_build(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    await append(database, clock, history())
    await catch_up(database)
    row = await owner.fetchrow(CURRENT, "cus_1")
    assert tuple(row) == ("cus_1", "sub_1", 2, "past_due")


async def test_a_projection_of_large_events_folds_few_at_once(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    events = history()
    await append(database, clock, events)
    few, connection = replace(PROJECTION, step_events=5), await builder(database)
    build = await ensure_live(connection, few)
    steps = []
    while passed := await step(connection, few, build, "self:live"):
        steps.append(passed)
    await connection.close()
    own = sum(one.type in few.types for one in events)
    assert (sum(steps), len(steps)) == (len(events), -(-own // 5))
    assert await rows_of(owner, build) == await fresh_fold(owner)

"""What the change log says of catalogs, grants and time: a marker at once, then each answer that is another one."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import httpx

from api.services import Services
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.entitlements.changes import Changes
from projections.follower import follow
from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.http.test_catalog import CATALOG, publish
from tests.http.test_entitlements import BASE, bought
from tests.http.test_present import SEATS, confirmed, kept
from tests.projections.test_changes import said
from tests.stripe_events import event, subscription


async def settle(database: Database, services: Services, clock: ManualClock) -> None:
    """Fold everything and look at whatever is due, as a follower does that has just been started."""
    projection = replace(services.entitlements, consumer=Changes(clock))
    connection = await database.as_role("ledger_builder").connect()
    build = await ensure_live(connection, projection)
    while await follow(connection, projection, build):
        pass
    while await projection.consumer.turn(connection, build.build_id):  # type: ignore[union-attr]
        pass
    await connection.close()


async def test_a_catalog_is_a_marker_and_what_it_changes(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, owner: asyncpg.Connection
) -> None:
    await bought(client, clock)
    await settle(database, services, clock)
    first = len(await said(owner))
    await confirmed(services, 2)
    assert (await client.get(SEATS)).json()["value"] == 8
    assert kept(services) == ["cus_1"]
    await publish(client, CATALOG)
    await settle(database, services, clock)
    await confirmed(services, 3)
    assert kept(services) == []
    assert (await client.get(SEATS)).json()["value"] == 80
    assert (await said(owner))[first:] == [
        f"{first + 1} everybody catalog",
        f"{first + 2} cus_1 prod_1=false catalog",
        f"{first + 3} cus_1 seats=80 catalog",
        f"{first + 4} cus_1 sso=false catalog",
        f'{first + 5} cus_1 support="mail" catalog',
        f"{first + 6} org:acme/eu prod_1=false catalog",
        f"{first + 7} org:acme/eu seats=80 catalog",
        f"{first + 8} org:acme/eu sso=false catalog",
        f'{first + 9} org:acme/eu support="mail" catalog',
    ]


async def test_a_catalog_that_holds_later_is_said_then(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, owner: asyncpg.Connection
) -> None:
    await bought(client, clock)
    await publish(client, CATALOG)
    await settle(database, services, clock)
    await publish(client, CATALOG.replace("*10", "*7"), effective_from="2026-01-15T13:00:00Z")
    await settle(database, services, clock)
    before = await said(owner)
    assert before[-1].endswith("everybody catalog"), "only that there is another one"
    clock.forward(minutes=59, seconds=59)
    await settle(database, services, clock)
    assert await said(owner) == before
    clock.forward(seconds=1)
    await settle(database, services, clock)
    after = [line.partition(" ")[2] for line in (await said(owner))[len(before) :]]
    assert after[0] == "everybody catalog"
    assert [line.rpartition(" ")[0] for line in after[1:]] == ["cus_1 seats=56", "org:acme/eu seats=56"]


async def test_time_alone_begins_and_ends_a_grant(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, owner: asyncpg.Connection
) -> None:
    await bought(client, clock)
    await settle(database, services, clock)
    begun = len(await said(owner))
    body = {
        "feature": "beta",
        "valid_from": "2026-01-15T13:00:00Z",
        "valid_until": "2026-01-15T14:00:00Z",
        "reason": "r",
    }
    for customer in ("cus_1", "org:acme/eu"):
        assert (await client.post("/v1/grants", json=body | {"customer": customer})).status_code == 201
    steps: list[list[str]] = []
    for forward in (0, 3_599, 1, 3_599, 1):
        clock.forward(seconds=forward)
        await settle(database, services, clock)
        lines = await said(owner)
        steps.append([line.partition(" ")[2] for line in lines[begun:]])
        begun = len(lines)
    begins = ["cus_1 beta=true time", "org:acme/eu beta=true time"]
    assert [sorted(one) for one in steps] == [
        [],
        [],
        begins,
        [],
        [line.replace("true", "false") for line in begins],
    ]


async def test_an_organisations_grant_is_said_of_its_customers(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, owner: asyncpg.Connection
) -> None:
    await bought(client, clock)
    await settle(database, services, clock)
    begun = len(await said(owner))
    await client.post("/v1/grants", json={"customer": "org:acme/eu", "feature": "beta", "reason": "r"})
    await settle(database, services, clock)
    said_ = [line.partition(" ")[2] for line in (await said(owner))[begun:]]
    assert sorted(said_) == ["cus_1 beta=true event", "org:acme/eu beta=true event"]


async def test_a_grace_that_ends_is_said(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, owner: asyncpg.Connection
) -> None:
    await bought(client, clock)
    more = {"trial_end": BASE + 20}
    subject = subscription("sub_2", customer="cus_2", status="past_due", items="si_2:prod_1*8") | more
    await post(client, clock, event("evt_3", "customer.subscription.updated", subject, created=BASE + 20))
    await settle(database, services, clock)
    begun = len(await said(owner))
    clock.forward(days=2)
    await settle(database, services, clock)
    assert len(await said(owner)) == begun
    clock.forward(days=1)  # it never paid: three days
    await settle(database, services, clock)
    assert [line.partition(" ")[2] for line in (await said(owner))[begun:]] == [
        "cus_2 prod_1=false time",
        "cus_2 seats=0 time",
        "cus_2 sso=false time",
    ]

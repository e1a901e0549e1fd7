"""Every list can be read to its end, whatever ``limit`` it is asked with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest

from api.reads import encode_key
from api.services import Services, projections_of
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.http.test_catalog import grant, publish
from tests.http.test_entitlements import BASE, bought, fold_everything
from tests.stripe_events import Json, event, subscription

MANY = 5
Make = Callable[[httpx.AsyncClient, ManualClock, Database, Services], Awaitable[None]]


async def granted(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    for number in range(MANY):
        clock.forward(seconds=number % 2)  # some of them at the same time
        await grant(client, customer=f"cus_{number}")
    await fold_everything(database, services)


async def copied(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    for number in range(MANY + 1):
        clock.forward(seconds=number % 2)
        await post(client, clock, event("evt_1", "customer.created", {"id": "cus_1", "name": f"name {number}"}))


async def wanted(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    async with services.pool.acquire() as connection:
        await connection.executemany(
            """
            INSERT INTO ledger.wanted (event_id, book, kind, of, because, created, names, next_try_at)
            VALUES ($1, 'self:live', 'coupon', 'co_1', 'evt_1', to_timestamp($2), '{}', now())
            """,
            [(f"obs_{number}", BASE + number // 2) for number in range(MANY)],
        )


async def unexplained(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    for number in range(MANY):
        stray: Json = {"object": "refund", "id": f"re_{number}", "charge": f"ch_{number}", "amount": 100,
                       "currency": "usd", "status": "succeeded", "created": BASE + number // 2}  # fmt: skip
        await post(client, clock, event(f"evt_{number}", "refund.created", stray, created=BASE + number // 2))
    async with database.as_role("ledger_builder").pool(max_size=1) as pool, pool.acquire() as connection:
        build = await ensure_live(connection, services.revenue)
        while await follow(connection, services.revenue, build):
            pass


async def published(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    for number in range(MANY):
        await publish(client, f'[features.f{number}]\nkind = "boolean"\n')


async def built(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    for number in range(1, MANY):  # beside the live one, each of another kind
        await post(client, clock, event(f"evt_{number}9", "x.y", {"id": "o_1"}))
        made = await client.post("/v1/projections/entitlements/rebuilds", json={"until_position": number})
        assert made.status_code == 202, made.text


async def parked(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    async with database.as_role("ledger_builder").pool(max_size=1) as pool, pool.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO ledger.parked (build_id, subject, book, event_id, error, since)
            SELECT 'entitlements-1', 'self:live/cus_' || n, 'self:live', 'evt_1', 'Wrong()',
                   timestamptz '2026-01-15T00:00:00Z' + n / 2 * interval '1 s'
            FROM generate_series(1, $1) AS n
            """,
            MANY,
        )


async def rested_on(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    items = " ".join(f"si_{number}:prod_{number}*1" for number in range(MANY - 2))
    content = subscription(items=items, metadata={"org_id": "acme"})
    await post(client, clock, event("evt_1", "customer.subscription.created", content))
    await fold_everything(database, services)


async def months(client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services) -> None:
    clock.now = datetime(2026, 5, 15, tzinfo=UTC)
    charge: Json = {
        "object": "charge",
        "id": "ch_1",
        "customer": "cus_9",
        "amount": 1000,
        "currency": "usd",
        "paid": True,
        "captured": True,
        "status": "succeeded",
        "created": BASE,
    }
    await post(client, clock, event("evt_1", "charge.succeeded", charge, created=BASE))
    connection = await connect_runner(database)
    for projection in projections_of(services.settings, clock):
        build = await ensure_live(connection, projection)
        while await follow(connection, projection, build):
            pass
    await connection.close()


@pytest.mark.parametrize(
    ("path", "make", "names"),
    [
        ("/v1/catalog", published, ("version",)),
        ("/v1/projections/entitlements/builds", built, ("build",)),
        ("/v1/parked", parked, ("subject",)),
        ("/v1/events/evt_1/rows", rested_on, ("table", "row")),
        ("/v1/periods", months, ("month",)),
        ("/v1/grants", granted, ("id",)),
        ("/v1/log/conflicts", copied, ("event", "body_sha256")),
        ("/v1/observations", wanted, ("event",)),
        ("/v1/revenue/problems", unexplained, ("kind", "key")),
    ],
)
async def test_a_list_is_read_to_its_end(
    client: httpx.AsyncClient,
    clock: ManualClock,
    database: Database,
    services: Services,
    path: str,
    make: Make,
    names: tuple[str, ...],
) -> None:
    await make(client, clock, database, services)
    whole = (await client.get(path)).json()
    assert (len(whole["data"]), whole["next_cursor"]) == (MANY, None)
    assert len({tuple(str(one[name]) for name in names) for one in whole["data"]}) == MANY
    for limit in (1, 2, MANY):
        read, cursor = [], None
        for _ in range(MANY):
            asked = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
            page = (await client.get(path, params=asked)).json()
            assert len(page["data"]) <= limit
            read += page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert (read, cursor) == (whole["data"], None)
    forged = await client.get(path, params={"cursor": encode_key("eur", 1, "in_1", "x", "y", "z")})
    assert forged.status_code == 400


async def test_no_row_that_rests_on_an_event_is_left_out(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    items = " ".join(f"si_{number}:prod_{number}*1" for number in range(150))
    await post(client, clock, event("evt_1", "customer.subscription.created", subscription(items=items)))
    await fold_everything(database, services)
    rows = (await client.get("/v1/events/evt_1/rows")).json()["data"]
    assert len({one["row"]["item"] for one in rows if one["table"] == "entitlement_source"}) == 150

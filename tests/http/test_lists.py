"""Every list can be read to its end, whatever ``limit`` it is asked with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from api.reads import encode_key
from api.services import Services
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.follower import follow
from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.http.test_catalog import grant
from tests.http.test_entitlements import BASE, fold_everything
from tests.stripe_events import Json, event

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


@pytest.mark.parametrize(
    ("path", "make", "names"),
    [
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
    assert len({tuple(one[name] for name in names) for one in whole["data"]}) == MANY
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

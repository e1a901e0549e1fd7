"""Checks that go to the database: one statement for all who wait, always of the build that is live, come what may."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import httpx
import pytest

from api import holders
from api.operations import Operations
from api.services import Services
from ledger.postgres import Database
from projections.builds import Freshness
from projections.entitlements.holdings import Found
from projections.entitlements.rows import Holdings
from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.http.test_entitlements import BASE, bought, fold_everything
from tests.stripe_events import event, product, subscription

CUSTOMERS = 20
PAUSE_SECONDS = 0.01
"""Between two questions of one who asks: builder and web process share this test's loop, and no builder may starve."""
BY = "cli:engineer"


@pytest.mark.parametrize("folded", ["from the database", "from memory"])
async def test_promoting_going_back_and_dropping_gives_no_error_and_no_wrong_answer(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, owner: asyncpg.Connection,
    folded: str,
) -> None:  # fmt: skip
    """The other build says other numbers, each time it is made under the same name: whose rows were read shows."""
    await post(client, clock, event("evt_p", "product.created", product(), created=BASE))
    for number in range(CUSTOMERS):
        subject = subscription(f"sub_{number}", customer=f"cus_{number}", items=f"si_{number}:prod_1*{number + 1}")
        await post(client, clock, event(f"evt_{number}", "customer.subscription.created", subject, created=BASE + 10))
    await fold_everything(database, services)
    more, seen, stop = {"entitlements-1": {0}}, Counter[str](), asyncio.Event()

    async def ask(first: int) -> None:
        number = first
        while not stop.is_set():
            number = (number + 1) % CUSTOMERS
            path = f"/v1/customers/cus_{number}/entitlements/seats"
            query = {} if folded == "from memory" else {"min_position": "1"}
            answer = await client.get(path, params=query)
            assert answer.status_code == 200, answer.text
            content = answer.json()
            build = content["freshness"]["build"]
            assert content["value"] - number - 1 in more[build], (build, content)
            assert content["freshness"]["position"] == CUSTOMERS + 1
            seen[build] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    asking = [asyncio.create_task(ask(number)) for number in range(8)]
    work = Operations(database, services.entitlements, services.appender, clock)
    for turn in (1, 2):
        build = await work.request_rebuild(by=BY, reason=None)
        await work.fold(build.build_id)
        await work.complete(build.build_id)
        more[build.build_id] = {100 * turn}  # it is not live yet, so nobody sees it change
        more_of_each = f"UPDATE {build.schema_name}.entitlement_source SET quantity = quantity + 100 * $1"
        await owner.execute(more_of_each, turn)
        for _ in range(2):
            await work.promote(build.build_id, by=BY, reason="to see", force=True)
            await asyncio.sleep(0.1)
            await work.roll_back(by=BY, reason="back", stale=True)
            await asyncio.sleep(0.05)
        await work.drop(build.build_id, by=BY)
    stop.set()
    await asyncio.gather(*asking)
    assert set(seen) == {"entitlements-1", "entitlements-2", "entitlements-3"}
    assert min(seen.values()) > 10


async def test_a_check_is_one_statement(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await bought(client, clock)
    await fold_everything(database, services)
    path = "/v1/customers/cus_1/entitlements/seats"
    await services.live.tail.first_read()
    asked: list[str] = []

    async def note(connection: asyncpg.Connection, query: str, *arguments: Any, **named: Any) -> Any:
        if not named.pop("tail", False) and "FROM ledger.head AS h\nLEFT JOIN ledger.build" not in query:
            asked.append(query)
        return await execute(connection, query, *arguments, **named)

    execute = asyncpg.Connection._execute
    await client.get(path, params={"min_position": "1"})  # opens a connection and enters the build
    monkeypatch.setattr(asyncpg.Connection, "_execute", note)
    for _ in range(3):
        assert (await client.get(path, params={"min_position": "1"})).json()["value"] == 8
    assert len(asked) == 3
    assert all("FROM entitlement_source" in query for query in asked)


class Slow(holders.HolderReader):
    """Reads that last as long as the test wants; some fail."""

    def __init__(self) -> None:
        super().__init__(None, None)  # type: ignore[arg-type]
        self.read: list[list[str]] = []
        self.go = asyncio.Event()

    async def many(self, book: str, holders: Any) -> Found:
        self.read.append(sorted(holders))
        await self.go.wait()
        if "cus_bad" in holders:
            raise asyncpg.InterfaceError("gone")
        freshness = Freshness(book, "entitlements-1", 1, 1, None)
        return Found({one: Holdings(one) for one in holders}, (), frozenset(), {}, frozenset(), freshness)


async def test_who_asks_meanwhile_goes_with_the_next() -> None:
    slow = Slow()
    asking = [asyncio.create_task(slow.one("b", f"cus_{number:03}")) for number in range(150)]
    asking.append(asyncio.create_task(slow.one("other", "cus_000")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [len(one) for one in slow.read] == [1, 1], "the first two leave at once"
    asking[5].cancel()
    slow.go.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [len(one) for one in slow.read] == [1, 1, 100, 48, 1]
    assert isinstance(answers[5], asyncio.CancelledError)
    for number, answer in enumerate(answers):
        assert number == 5 or (isinstance(answer, Found) and f"cus_{number % 150:03}" in answer.holdings)
    assert isinstance(answers[150], Found)
    assert answers[150].freshness.book == "other"


async def test_an_organisation_goes_alone_and_a_failure_is_told_to_all_who_wait() -> None:
    slow = Slow()
    first = [asyncio.create_task(slow.one("b", f"cus_{number}")) for number in range(2)]
    await asyncio.sleep(0)
    failing = [asyncio.create_task(slow.one("b", name)) for name in ("cus_bad", "cus_3", "org:acme")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ["org:acme"] in slow.read
    slow.go.set()
    await asyncio.gather(*first)
    told = await asyncio.gather(*failing, return_exceptions=True)
    assert [type(one) for one in told] == [asyncpg.InterfaceError, asyncpg.InterfaceError, Found]
    assert isinstance(await slow.one("b", "cus_4"), Found)


async def test_closing_lets_nobody_wait() -> None:
    slow = Slow()
    asking = [asyncio.create_task(slow.one("b", f"cus_{number}")) for number in range(9)]
    await asyncio.sleep(0.01)
    await slow.close()
    async with asyncio.timeout(5):
        told = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(one) for one in told} == {asyncio.CancelledError}


@pytest.mark.parametrize(
    "lacking",
    [
        "ALTER TABLE build_entitlements_1.entitlement_source DROP COLUMN note CASCADE",
        "DROP TABLE build_entitlements_1.entitlement_evidence",
    ],
)
async def test_a_live_build_that_cannot_be_read_says_so(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, owner: asyncpg.Connection,
    lacking: str,
) -> None:  # fmt: skip
    """It was made by a release whose tables were fewer, or narrower."""
    await bought(client, clock)
    await fold_everything(database, services)
    await owner.execute(lacking)
    for path in ("", "/seats"):
        answer = await client.get(f"/v1/customers/cus_1/entitlements{path}")
        assert answer.status_code == 503
        assert "whose tables this one cannot read: `ledger rebuild entitlements`" in answer.json()["detail"]

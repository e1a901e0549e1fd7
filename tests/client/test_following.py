"""The client beside a served ledger: answers kept right by the stream, and what holds when the service is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from api.services import Services
from ledger.client import ALLOW, Answer, AsyncClient, Client, last_known
from ledger.postgres import Database
from tests.conftest import KEY, ManualClock
from tests.http.serving import served
from tests.http.test_access import post
from tests.http.test_entitlements import BASE, bought, following
from tests.stripe_events import event, subscription

POLICIES = {"sso": last_known(60), "read": ALLOW}


@contextlib.asynccontextmanager
async def asking(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url, KEY, unreachable=POLICIES) as ledger:
        await until_kept(ledger)
        yield ledger


async def cancelled(client: httpx.AsyncClient, clock: ManualClock) -> None:
    subject = subscription(status="canceled", items="si_1:prod_1*8")
    await post(client, clock, event("evt_3", "customer.subscription.deleted", subject, created=BASE + 20))


async def until_kept(ledger: AsyncClient, customer: str = "cus_1", feature: str = "sso") -> None:
    """Ask until the answer is kept: not within the first second of the stream."""
    async with asyncio.timeout(10):
        while (await ledger.check(customer, feature)).origin != "cache":  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - it looks from outside
            await asyncio.sleep(0.01)


async def test_a_kept_answer_is_right_until_the_stream_says_otherwise(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    async with following(database, services), served(services) as url, asking(url) as ledger:
        assert (await ledger.check("cus_1", "sso")).freshness is not None
        await cancelled(client, clock)
        cache = ledger._core.cache
        assert cache is not None
        await eventually(lambda: cache.get(("cus_1", "sso"), None) is None)
        answer = await ledger.check("cus_1", "sso")
        assert (answer.granted, answer.reason, answer.origin) == (False, "canceled", "service")
        granted = await ledger.list("cus_1", denied=True)
        assert {one.feature for one in granted} >= {"sso", "seats"}


async def test_it_reads_its_own_write(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    async with following(database, services), served(services) as url, asking(url) as ledger:
        await cancelled(client, clock)
        answer = await ledger.check("cus_1", "sso", min_position=3)
        assert (answer.granted, answer.freshness is not None and answer.freshness.position) == (False, 3)


async def test_without_the_service_the_policies_hold_until_it_is_back(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(following(database, services))
        first = served(services)
        url = await first.__aenter__()
        ledger = await stack.enter_async_context(asking(url))
        await first.__aexit__(None, None, None)
        assert (await ledger.check("cus_1", "sso")).origin == "cache", "for some seconds it is as good as before"
        cache = ledger._core.cache
        assert cache is not None
        cache._stale_after = 0.1
        await eventually(lambda: cache.get(("cus_1", "sso"), None) is None)
        known, denied, allowed = await ledger.check_many([("cus_1", "sso"), ("cus_1", "seats"), ("cus_1", "read")])
        assert (known.granted, known.origin, known.stale) == (True, "last_known", True)
        assert known.age_seconds >= 0.1
        assert (denied.granted, denied.origin) == (False, "policy")
        assert (allowed.granted, allowed.reason) == (True, "unreachable")
        cache._stale_after = 5
        services.live.streams._closed = False
        await stack.enter_async_context(served(services, int(url.rpartition(":")[2])))
        await cancelled(client, clock)
        await eventually(lambda: cache.get(("cus_1", "sso"), None) is None)
        answer = await ledger.check("cus_1", "sso")
        assert (answer.granted, answer.origin) == (False, "service"), "nothing was missed meanwhile"


async def test_the_client_for_threads_does_the_same(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)

    def use(url: str, changed: Callable[[], None]) -> list[Answer]:
        with Client(url, KEY) as ledger:
            answers = []
            while (answer := ledger.check("cus_1", "sso")).origin != "cache":
                pass
            answers.append(answer)
            changed()
            while (answer := ledger.check("cus_1", "sso")).granted:
                pass
            return [*answers, answer]

    async with following(database, services), served(services) as url:
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            asyncio.run_coroutine_threadsafe(cancelled(client, clock), loop).result()

        kept, after = await asyncio.to_thread(use, url, cancel)
    assert (kept.granted, kept.origin) == (True, "cache")
    assert (after.granted, after.origin) == (False, "service")


@pytest.mark.parametrize("made", [Client, AsyncClient])
def test_without_being_entered_it_keeps_nothing(made: type[Client | AsyncClient]) -> None:
    ledger = made("http://127.0.0.1:9", KEY)
    assert ledger._core.kept("cus_1", "sso", None) is None

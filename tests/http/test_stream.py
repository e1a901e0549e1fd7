"""``/v1/entitlements/stream``: what changes, in order, once; resumed, reset, bounded and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from api import readers, stream
from api.credentials import Credentials
from api.services import Services
from ledger.client.events import Event, EventParser
from ledger.postgres import Database
from projections.entitlements.feed import LoggedChange
from tests.conftest import KEY, ManualClock, client_of
from tests.http.serving import served
from tests.http.test_access import keyed, post
from tests.http.test_entitlements import BASE, following
from tests.stripe_events import event, subscription

PATH = "/v1/entitlements/stream"


class Listening:
    """A connected reader: what it was sent."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._pieces = response.aiter_bytes()
        self._parser = EventParser()
        self._events: list[Event] = []

    async def next(self, *, seconds: float = 10) -> Event:
        async with asyncio.timeout(seconds):
            while not self._events:
                self._events += self._parser.feed(await anext(self._pieces))
        return self._events.pop(0)

    async def changes(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < count:
            one = await self.next()
            if one.data:
                assert one.name == "message"
                found.append(orjson.loads(one.data))
                assert one.event_id == str(found[-1]["seq"])
        return found


@contextlib.asynccontextmanager
async def listening(url: str, last: str | None = None, **asked: str) -> AsyncIterator[Listening]:
    headers = {"Authorization": f"Bearer {KEY}"} | ({} if last is None else {"Last-Event-ID": last})
    async with (
        httpx.AsyncClient(base_url=url, timeout=30) as client,
        client.stream("GET", PATH, headers=headers, params=asked) as response,
    ):
        yield Listening(response)


@pytest.fixture
async def url(services: Services) -> AsyncIterator[str]:
    async with served(services) as address:
        yield address


async def sell(client: httpx.AsyncClient, clock: ManualClock, number: int, **more: Any) -> None:
    subject = subscription(f"sub_{number}", customer=f"cus_{number}", items=f"si_{number}:prod_1*1", **more)
    content = event(f"evt_{number}_{more.get('status', '')}", "customer.subscription.updated", subject,
                    created=BASE + number + bool(more))  # fmt: skip
    await post(client, clock, content)


@pytest.fixture
async def five_told(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> AsyncIterator[None]:
    """Five changes of five customers, and a process that follows what comes."""
    async with following(database, services):
        for number in range(1, 6):
            await sell(client, clock, number)
        yield


async def test_changes_are_pushed_as_they_are_made(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, url: str
) -> None:
    await sell(client, clock, 1)
    async with following(database, services), listening(url) as reader:
        assert (reader.response.status_code, reader.response.headers["content-type"]) == (
            200,
            "text/event-stream; charset=utf-8",
        )
        first = await reader.next()
        assert (first.name, first.data) == ("message", "")
        assert first.event_id is not None
        await sell(client, clock, 2, metadata={"org_id": "acme"})
        changes = await reader.changes(2 + (first.event_id == "0"))
        assert changes[-2:] == [
            {
                "seq": 2,
                "customer": "cus_2",
                "feature": "prod_1",
                "granted": True,
                "value": True,
                "position": 2,
                "cause": "event",
            },
            {
                "seq": 3,
                "customer": "org:acme",
                "feature": "prod_1",
                "granted": True,
                "value": True,
                "position": 2,
                "cause": "event",
            },
        ]


@pytest.mark.usefixtures("five_told")
async def test_it_is_resumed_where_it_was_left(client: httpx.AsyncClient, clock: ManualClock, url: str) -> None:
    async with listening(url, "0") as reader:
        assert [one["seq"] for one in await reader.changes(5)] == [1, 2, 3, 4, 5]
        async with listening(url, "2") as again:
            told = [await again.next() for _ in range(4)]
    assert [(one.event_id, bool(one.data)) for one in told] == [("3", True), ("4", True), ("5", True), ("5", False)]
    for number in range(6, 9):
        await sell(client, clock, number)
    async with listening(url, "3") as reader:
        changes = await reader.changes(5)
        assert [one["customer"] for one in changes] == ["cus_4", "cus_5", "cus_6", "cus_7", "cus_8"]
        await sell(client, clock, 9)
        assert [one["seq"] for one in await reader.changes(1)] == [9]


@pytest.mark.usefixtures("five_told")
async def test_it_is_resumed_where_another_process_was_ahead(
    client: httpx.AsyncClient, clock: ManualClock, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(url, "0") as reader:
        await reader.changes(5)
        # As if this process had passed on three of them only, and the other two came now.
        monkeypatch.setattr(services.live.tail, "passed_on", lambda _: 3)
        async with listening(url, "5") as resumed:
            assert ((first := await resumed.next()).name, first.event_id) == ("message", "5")
            monkeypatch.undo()
            services.live.streams.publish("self:live", [change(4), change(5)])
            await sell(client, clock, 6)
            assert [one["seq"] for one in await resumed.changes(1)] == [6]


async def test_a_question_about_its_head_leaves_no_reader(services: Services, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        head = await client.head(PATH)
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (await client.head(PATH)).headers["x-request-id"] != head.headers["x-request-id"]
        assert (await client.head(PATH, params={"book": "x"})).status_code == 400
    assert services.live.streams.count == 0


@pytest.mark.usefixtures("five_told")
@pytest.mark.parametrize("last", ["99", "-1", "x", "1", "9" * 30])
async def test_where_it_cannot_be_resumed_it_is_reset_once(
    client: httpx.AsyncClient, clock: ManualClock, url: str, owner: asyncpg.Connection, last: str
) -> None:
    async with listening(url, "0") as reader:
        await reader.changes(5)
    await owner.execute("DELETE FROM ledger.entitlement_change WHERE seq <= 2")
    async with listening(url, last) as reader:
        reset = await reader.next()
        assert (reset.name, reset.event_id, orjson.loads(reset.data)) == ("reset", "5", {"seq": 5})
        await sell(client, clock, 6)
        assert [one["seq"] for one in await reader.changes(1)] == [6]


async def test_it_says_that_it_lives(
    database: Database, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_HEARTBEAT_SECONDS", 0.05)
    async with listening(url) as reader:
        pieces = [await anext(reader._pieces) for _ in range(3)]
    assert b":\n\n" in pieces[-1]


async def test_it_is_silent_while_it_cannot_know_what_has_changed(
    database: Database, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_HEARTBEAT_SECONDS", 0.05)
    async with listening(url) as reader:
        await reader.next()
        monkeypatch.setattr(services.live.tail, "age_seconds", lambda: 1.5)
        heard = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    heard += await anext(reader._pieces)
        assert heard.count(b":\n\n") <= 3


async def test_one_that_does_not_keep_up_is_dropped_and_may_come_back(
    database: Database, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_WAITING_MAX", 3)
    async with following(database, services), listening(url) as reader:
        await reader.next()
        (slow,) = services.live.streams._readers
        slow.offer([(number, b"x") for number in range(4)])
        assert slow._waiting == []
        with pytest.raises(StopAsyncIteration):
            await reader.next()
        assert not services.live.streams.listened_to()


async def test_one_that_reads_nothing_holds_nothing_up(
    services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_WAITING_MAX", 3)
    async with listening(url, book="self:test") as reader:  # so that the log is followed
        await reader.next()
        stuck = stream.EventStream(services.live.streams, services.live.tail, services.pool, "self:live", None)
        sent: list[bytes] = []

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if len(sent) > 1:
                await asyncio.Event().wait()

        async def receive() -> Any:
            await asyncio.Event().wait()

        answering = asyncio.create_task(stuck({"type": "http"}, receive, send))
        await asyncio.sleep(0.05)
        services.live.streams.publish("self:live", [change(number) for number in range(4)])
        async with asyncio.timeout(5):
            await answering
        assert len(services.live.streams._readers) == 1
        assert len(sent) == 2


def change(seq: int) -> LoggedChange:
    return LoggedChange(seq, "cus_1", "sso", True, "true", 1, "event")


async def test_there_are_only_so_many(services: Services, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_READERS_MAX", 1)
    async with listening(url) as reader, listening(url) as other:
        assert (reader.response.status_code, other.response.status_code) == (200, 503)
        assert other.response.headers["retry-after"] == "1"


async def test_it_ends_when_the_process_does(services: Services) -> None:
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(served(services))
        reader = await stack.enter_async_context(listening(address))
        await reader.next()
        began = asyncio.get_running_loop().time()
        services.live.end()
        with pytest.raises(StopAsyncIteration):
            await reader.next()
        assert asyncio.get_running_loop().time() - began < 1


async def test_scope_and_book(services: Services, credentials: Credentials) -> None:
    async with client_of(services, None) as client:
        assert (await client.get(PATH)).status_code == 401
    async with client_of(keyed(services, credentials, "k:events:read"), "lk_other") as client:
        assert (await client.get(PATH)).status_code == 403
    async with client_of(keyed(services, credentials, "k:entitlements:read@acct_1:test"), "lk_other") as client:
        assert (await client.get(PATH, params={"book": "self:live"})).status_code == 403
    async with client_of(services) as client:
        assert (await client.get(PATH, params={"book": "x"})).status_code == 400


async def test_a_reader_hears_of_its_book_alone(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, url: str
) -> None:
    await sell(client, clock, 1)
    async with following(database, services), listening(url, "0", book="self:test") as reader:
        await reader.next()
        await sell(client, clock, 2)
        subject = subscription("sub_t", customer="cus_t")
        await post(client, clock, event("evt_t", "customer.subscription.updated", subject, live=False))
        assert [(one["seq"], one["customer"]) for one in await reader.changes(1)] == [(1, "cus_t")]

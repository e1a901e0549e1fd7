"""Fifty clients follow the stream while the service is killed: each goes on where it was, with no change twice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from ledger.client.events import EventParser
from tests.stripe_events import event, subscription
from tests.system.running import Service

# A client whose server is killed in mid-request may leave its socket to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CLIENTS = 50
ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))

_numbers = itertools.count(1)


class Follower:
    """Follows the stream through any number of deaths, as a browser's EventSource would."""

    def __init__(self, url: str, key: str) -> None:
        self._url = f"{url}/v1/entitlements/stream"
        self._key = key
        self.last_id: str | None = None
        self.heard: list[dict[str, Any]] = []
        self.resets = 0

    async def follow(self) -> None:
        async with httpx.AsyncClient(timeout=httpx.Timeout(5, read=10)) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    await self._hear(client)
                await asyncio.sleep(0.1)

    async def _hear(self, client: httpx.AsyncClient) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        parser = EventParser()
        async with client.stream("GET", self._url, headers=headers) as response:
            response.raise_for_status()
            async for piece in response.aiter_bytes():
                for one in parser.feed(piece):
                    self.last_id = one.event_id or self.last_id
                    self.resets += one.name == "reset"
                    if one.data and one.name == "message":
                        self.heard.append(orjson.loads(one.data))


async def sell(service: Service, count: int) -> str:
    """Post some purchases, one after the other, whatever becomes of each; return the last customer."""
    customer = ""
    for number in itertools.islice(_numbers, count):
        customer = f"cus_{number}"
        subject = subscription(f"sub_{number}", customer=customer, items=f"si_{number}:prod_1*1")
        content = event(f"evt_{number}", "customer.subscription.created", subject, created=1_768_000_000 + number)
        with contextlib.suppress(httpx.TransportError):
            await asyncio.to_thread(service.post, content)
    return customer


async def until(holds: Any, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.05)


async def play(service: Service, followers: list[Follower]) -> None:
    tasks = [asyncio.create_task(one.follow()) for one in followers]
    try:
        await until(lambda: all(one.last_id is not None for one in followers), "everybody to be connected")
        for _ in range(ROUNDS):
            selling = asyncio.create_task(sell(service, 30))
            await asyncio.sleep(0.3)
            await asyncio.to_thread(service.kill)
            await selling
            await asyncio.to_thread(service.start)
        last = await sell(service, 5)
        await until(lambda: all(any(c["customer"] == last for c in one.heard) for one in followers), "the last change")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def watch_a_grant_end(service: Service, follower: Follower) -> tuple[float, float]:
    """Grant a feature for two seconds; return when its beginning and its end were heard, after they were due."""
    follow = asyncio.create_task(follower.follow())
    try:
        await until(lambda: follower.last_id is not None, "the stream to begin")
        begins = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
        ends = begins + timedelta(seconds=2)
        times = {"valid_from": begins.isoformat(), "valid_until": ends.isoformat()}
        body = {"customer": "cus_1", "feature": "beta", "reason": "a short one"} | times
        assert (await asyncio.to_thread(service.send, "POST", "/v1/grants", body)).status_code == 201
        heard: list[float] = []
        for due in (begins, ends):
            await until(lambda: len(follower.heard) > len(heard), "time to be told of", 10)
            heard.append((datetime.now(UTC) - due).total_seconds())
        assert [(one["granted"], one["cause"]) for one in follower.heard] == [(True, "time"), (False, "time")]
        return heard[0], heard[1]
    finally:
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)


def test_what_time_changes_is_pushed_when_it_is_due(service: Service) -> None:
    service.start()
    follower = Follower(service.url, service.credentials["api_key"])
    began, ended = asyncio.run(watch_a_grant_end(service, follower))
    assert 0 <= began < 2
    assert 0 <= ended < 2


def test_killed_while_fifty_clients_stream(service: Service) -> None:
    service.start()
    key = service.credentials["api_key"]
    followers = [Follower(service.url, key) for _ in range(CLIENTS)]
    asyncio.run(play(service, followers))
    first = [one["seq"] for one in followers[0].heard]
    assert first == list(range(1, len(first) + 1))
    assert len(first) > 5
    for one in followers:
        assert one.heard == followers[0].heard
        assert one.resets == 0
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < 10

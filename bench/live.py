"""Entitlements live: what the change log costs the follower, checks over HTTP and out of caches, and pushes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import httpx
import orjson
import psutil

from bench import http
from bench.engine import PROJECTION, subscription_events, update
from bench.ground import Ground
from bench.log import new_event, now
from bench.pump import pump
from bench.table import Row, percentiles_ms, rate
from ledger.appender import Appender
from ledger.client import Client
from ledger.client.events import EventParser
from projections.builds import ensure_live
from projections.contract import Projection
from projections.entitlements.changes import Changes
from projections.follower import step
from projections.runner import connect_runner

_STEP = 10
"""About as many events as a step folds while webhooks come in as fast as they can."""


async def change_log_row(ground: Ground, events: int = 4_000) -> Row:
    """Processor time of follower and PostgreSQL for an event, without and with the change log."""
    without, with_ = [], []
    for _ in range(2):
        without.append(await _folding_seconds(ground, PROJECTION, events))
        with_.append(await _folding_seconds(ground, replace(PROJECTION, consumer=Changes(now)), events))
    bare, ours = min(without) / events * 1e6, min(with_) / events * 1e6
    return Row("change log, CPU an event", f"{ours:.0f} µs", f"{bare:.0f} µs without", ours / bare, "≤ 2")


async def _folding_seconds(ground: Ground, projection: Projection, events: int) -> float:
    database = await ground.fresh()
    connection = await connect_runner(database)
    async with Appender(database, clock=now) as appender:
        bodies = list(subscription_events(random.Random(1), events))
        for start in range(0, events, 500):
            await appender.append([new_event(body) for body in bodies[start : start + 500]])
    live = await ensure_live(connection, projection)
    began = _seconds(connection)
    while await step(connection, projection, live, "self:live", limit=_STEP):
        pass
    took = _seconds(connection) - began
    await connection.close()
    return took


def _seconds(connection: asyncpg.Connection) -> float:
    """Processor time of this process and of the connection's server process."""
    server = psutil.Process(connection.get_server_pid()).cpu_times()
    return time.process_time() + server.user + server.system


@dataclass(frozen=True, slots=True)
class Served:
    """A running service with customers, and how to ask it."""

    folder: Path
    port: int
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asking(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60)

    def request(self, customer: int, query: str = "") -> bytes:
        path = f"/v1/customers/{name(customer)}/entitlements/prod_1{query}"
        return f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self.key}\r\n\r\n".encode()


def name(customer: int) -> str:
    return f"cus_{customer}"


def bought(customer: int, product: str = "prod_1") -> bytes:
    return update(f"evt_b_{customer}_{product}", customer, int(time.time()), 3, "active").replace(
        b'"prod_1"', f'"{product}"'.encode()
    )


@contextlib.asynccontextmanager
async def served(folder: Path, customers: int) -> AsyncIterator[Served]:
    """Serve with so many customers, all folded."""
    async with http.service(folder, "ledger") as port:
        file = folder / "customers.jsonl"
        file.write_bytes(b"".join(bought(10_000_000 + number) + b"\n" for number in range(customers)))
        await http.ledger(folder, port, "import", str(file))
        key = orjson.loads((folder / "credentials.json").read_bytes())["api_key"]
        serving = Served(folder, port, key)
        async with serving.asking() as client:
            asked = {"min_position": str(customers), "wait": "10"}
            path = f"/v1/customers/{name(10_000_000)}/entitlements/prod_1"
            while (await client.get(path, params=asked)).status_code != 200:
                pass
        yield serving


async def check_rows(folder: Path, customers: int = 500, seconds: float = 4) -> list[Row]:
    """Single checks over HTTP from memory and from the database, beside a bare route; and out of a client's cache."""
    async with served(folder / "checks", customers) as serving:
        requests = [serving.request(10_000_000 + number) for number in range(customers)]
        async with serving.asking() as client:
            for number in range(customers):  # until every answer is kept
                await client.get(f"/v1/customers/{name(10_000_000 + number)}/entitlements/prod_1")
        ours = await pump(serving.port, requests, seconds)
        uncached = await pump(
            serving.port, [one.replace(b" HTTP", b"?min_position=1 HTTP") for one in requests], seconds
        )
        async with serving.asking() as client:
            content = (await client.get(f"/v1/customers/{name(10_000_000)}/entitlements/prod_1")).text
        warm = await asyncio.to_thread(_warm_seconds, serving)
    async with http.service(folder / "checks", "bare", content) as port:
        bare = await pump(port, requests, seconds)
    rows = []
    for what, latencies, wanted in (("from memory", ours, "≥ 0.6"), ("from the database", uncached, "≥ 0.2")):
        p50, p99 = percentiles_ms(latencies)
        ratio = len(latencies) / len(bare)
        beside = f"{rate(len(bare), seconds)} bare route"
        rows.append(
            Row(f"check {what}, 64 connections", rate(len(latencies), seconds), beside, ratio, wanted, p50, p99)
        )
    p50, p99 = percentiles_ms(warm)
    rows.append(Row("check, client's warm cache", f"{p50 * 1000:.1f} µs", "20 µs allowed", p50 / 0.02, "≤ 1", p50, p99))
    return rows


def _warm_seconds(serving: Served) -> list[float]:
    with Client(serving.url, serving.key) as client:
        while client.check(name(10_000_000), "prod_1").origin != "cache":
            time.sleep(0.05)
        took = []
        for _ in range(20_000):
            began = time.perf_counter()
            client.check(name(10_000_000), "prod_1")
            took.append(time.perf_counter() - began)
        assert client.check(name(10_000_000), "prod_1").origin == "cache"
        return took


async def push_row(folder: Path, per_second: int = 100, seconds: int = 10) -> Row:
    """From sending a webhook to a connected reader having the change."""
    sent: dict[str, float] = {}
    heard: dict[str, float] = {}
    async with served(folder / "pushes", 100) as serving, serving.asking() as client:
        listening = asyncio.create_task(_listen(client, heard))
        await asyncio.sleep(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        began = time.perf_counter()
        for number in range(per_second * seconds):
            await asyncio.sleep(max(0.0, number / per_second - (time.perf_counter() - began)))
            request = http.webhook(bought(20_000_000 + number))
            sent[name(20_000_000 + number)] = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()
        while len(heard) < len(sent) and time.perf_counter() - began < seconds + 10:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        listening.cancel()
    p50, p99 = percentiles_ms([heard[customer] - at for customer, at in sent.items()])
    return Row(f"webhook to push, {per_second}/s", f"{p99:.0f} ms p99", "250 ms allowed", p99 / 250, "≤ 1", p50, p99)


async def _listen(client: httpx.AsyncClient, heard: dict[str, float]) -> None:
    parser = EventParser()
    async with client.stream("GET", "/v1/entitlements/stream") as response:
        async for piece in response.aiter_bytes():
            at = time.perf_counter()
            for one in parser.feed(piece):
                if one.data:
                    heard[orjson.loads(one.data)["customer"]] = at


async def live_rows(ground: Ground) -> list[Row]:
    """Everything of this module."""
    return [
        await change_log_row(ground),
        *await check_rows(ground.folder),
        await push_row(ground.folder),
    ]

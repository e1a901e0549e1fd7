"""``python -m bench.soak``: mixed load at half of what the service takes, for twenty minutes: is anything not flat?

A service is started in a folder of its own. It is given webhooks of a simulated company's whole life and most of the
next one's, one in ten of them twice, while others check access, read what engineers and accountants read, and follow
the stream of changes: as many as it takes while all projections stay two seconds behind at most. So many a second are
the peak. (Of a company's first days alone it would be more: its customers have no past yet.) Then the same load comes
at half of it, of one company after the other. Memory and lag are looked at every five seconds: the last third has to
be like the first. In the end every acknowledged event is where it was said to be.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import asyncpg
import orjson
import typer

from ledger.simulator.company import Arguments, Company
from tests.stripe_events import signature
from tests.system.running import Service

CONNECTIONS = 48
LOOK_SECONDS = 5.0
BEHIND_SECONDS = 2.0
READS = (
    ("/v1/customers/{customer}/entitlements", 60),
    ("/v1/customers/{customer}/dunning", 10),
    ("/v1/events?limit=20", 5),
    ("/v1/revenue/mrr", 2),
    ("/v1/revenue/trial-balance", 2),
    ("/v1/projections", 1),
)
"""What is read beside the webhooks, and how often each."""

CATALOG = ("product.", "price.", "coupon.", "promotion_code.", "tax_rate.")

PLACES = "SELECT event_id, position FROM ledger.event WHERE book = $1"


@dataclass(slots=True)
class Look:
    """What one look at the service showed: memory by process in MB, and how far projections are behind."""

    at: float
    memory: dict[str, float]
    lag_seconds: float


@dataclass(slots=True)
class Load:
    """Who sends and asks, and what was answered."""

    service: Service
    secret: str
    key: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    moved: list[str] = field(default_factory=list)
    customers: list[str] = field(default_factory=lambda: ["cus_nobody"])
    latencies: list[float] = field(default_factory=list)

    async def webhook(self, connection: Connection, content: dict[str, Any]) -> None:
        """Send one webhook, and remember where it stands."""
        body = orjson.dumps(content)
        headers = signature(body, datetime.now(UTC), self.secret)
        began = time.perf_counter()
        status, answer = await connection.ask("POST", "/webhooks/stripe", headers, body)
        self.latencies.append(time.perf_counter() - began)
        self.statuses[status] += 1
        if status == 200:
            position = orjson.loads(answer)["position"]
            if self.acknowledged.setdefault(content["id"], position) != position:
                self.moved.append(content["id"])
        customer = content["data"]["object"].get("customer")
        if isinstance(customer, str) and len(self.customers) < 5_000:
            self.customers.append(customer)

    async def event(self, connection: Connection, content: dict[str, Any], dice: random.Random) -> None:
        """Send an event, every tenth twice; with every third, read something."""
        for _ in range(2 if dice.random() < 0.1 else 1):
            await self.webhook(connection, content)
        if dice.random() < 0.33:
            await self.read(connection, dice)

    async def read(self, connection: Connection, dice: random.Random) -> None:
        """Read something that somebody would."""
        [path] = dice.choices([path for path, _ in READS], [often for _, often in READS])
        asked = path.format(customer=dice.choice(self.customers))
        status, _ = await connection.ask("GET", asked, {"Authorization": f"Bearer {self.key}"})
        self.statuses[status] += 1


class Connection:
    """One kept connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and return the answer's status and body."""
        lines = [f"{method} {path} HTTP/1.1", "Host: ledger.test", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        return int(head.split(" ", 2)[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield connection
    finally:
        connection.close()


def events() -> Iterator[dict[str, Any]]:
    """Give the events of one simulated company after the other, without an end; ids are told apart by company.

    They all sell what the first one sells: a price that is created once more has everybody folded anew who pays it.
    """
    for seed in itertools.count(1):
        for one in Company(Arguments(customers=200, months=24, seed=seed), keep_truth=False).events():
            if one["livemode"] and "account" not in one and (seed == 1 or not one["type"].startswith(CATALOG)):
                yield one | {"id": f"{one['id']}{seed}"}


async def _at_most(load: Load, coming: Iterator[dict[str, Any]], events: int) -> float:
    """Send so many events, as many at a time as are folded within ``BEHIND_SECONDS``; return how many a second.

    Only what can go on like that for ever is a peak. Sent all at once, one fold of a customer takes in dozens of
    events, and what was folded in the end would be more a second than can ever be followed.
    """
    before, began, dice = len(load.acknowledged), time.monotonic(), random.Random(2)
    some, close_behind = itertools.islice(coming, events), asyncio.Event()

    async def worker() -> None:
        async with connected(load.service.port) as connection:
            for content in some:
                await close_behind.wait()
                await load.event(connection, content, dice)

    async def watch() -> None:
        async with connected(load.service.port) as connection:
            while True:
                behind = await _lag_seconds(load, connection) > BEHIND_SECONDS
                close_behind.clear() if behind else close_behind.set()
                await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        watching.cancel()
    return (len(load.acknowledged) - before) / (time.monotonic() - began)


async def _lag_seconds(load: Load, connection: Connection) -> float:
    """Return how long the oldest event has waited that some projection has not folded."""
    _, answer = await connection.ask("GET", "/v1/projections", {"Authorization": f"Bearer {load.key}"})
    books = [book for one in orjson.loads(answer)["data"] for book in one["books"]]
    return max((float(book["lag_seconds"]) for book in books), default=0.0)


async def _at_rate(load: Load, coming: Iterator[dict[str, Any]], rate: float, seconds: float) -> list[str]:
    """Send at a rate, and read beside it."""
    before, began, dice = len(load.acknowledged), time.monotonic(), random.Random(1)
    sent = itertools.count()

    async def worker() -> None:
        async with connected(load.service.port) as connection:
            while max(due := began + next(sent) / rate, time.monotonic()) < began + seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await load.event(connection, next(coming), dice)

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    reached = (len(load.acknowledged) - before) / seconds
    return [] if reached > 0.95 * rate else [f"it took {reached:,.0f} webhooks a second of {rate:,.0f}"]


async def _follow(load: Load) -> None:
    """Follow the stream of changes, reading what comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", load.service.port)
    head = f"GET /v1/entitlements/stream HTTP/1.1\r\nHost: ledger.test\r\nAuthorization: Bearer {load.key}\r\n\r\n"
    writer.write(head.encode())
    try:
        while await reader.read(65_536):
            pass
    finally:
        writer.close()


async def _look(load: Load, looks: list[Look]) -> None:
    began = time.monotonic()
    async with connected(load.service.port) as connection:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            lag = await _lag_seconds(load, connection)
            memory = {" ".join(child.cmdline()[3:]): child.memory_info().rss / 1e6 for child in load.service.children()}
            looks.append(Look(time.monotonic() - began, memory, lag))
            shown = "  ".join(f"{name} {size:.0f} MB" for name, size in sorted(memory.items()))
            typer.echo(f"{looks[-1].at:6.0f} s  {len(load.acknowledged):>9,} events  lag {lag:5.2f} s  {shown}")


async def _soak(load: Load, minutes: float, probe_events: int) -> list[str]:
    coming, looks = events(), list[Look]()
    async with asyncio.TaskGroup() as group:
        following = group.create_task(_follow(load))
        peak = await _at_most(load, coming, probe_events)
        following.cancel()
    typer.echo(
        f"{peak:,.0f} webhooks a second are taken over {CONNECTIONS} connections and folded within "
        f"{BEHIND_SECONDS:g} s; now half of that, {minutes:g} minutes"
    )
    load.latencies.clear()
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(_follow(load)), group.create_task(_look(load, looks))]
        late = await _at_rate(load, coming, peak / 2, 60 * minutes)
        for task in beside:
            task.cancel()
    slowest = sorted(load.latencies)
    typer.echo(
        f"p50 {median(slowest) * 1e3:.1f} ms, p99 {slowest[len(slowest) * 99 // 100] * 1e3:.1f} ms; {load.statuses}"
    )
    return [*late, *_not_flat(looks), *await _lost(load)]


def _not_flat(looks: list[Look]) -> list[str]:
    """Hold the last third of the time against the first third of it."""
    third = len(looks) // 3
    first, last = looks[:third], looks[-third:]
    found = []
    for name in looks[-1].memory:
        before, after = (median(look.memory.get(name, 0.0) for look in some) for some in (first, last))
        typer.echo(f"{name}: {before:.0f} MB in the first third, {after:.0f} MB in the last")
        if after > 1.15 * before + 10:
            found.append(f"the memory of {name} grew from {before:.0f} to {after:.0f} MB")
    before, after = (median(look.lag_seconds for look in some) for some in (first, last))
    typer.echo(
        f"lag: {before:.2f} s in the first third, {after:.2f} s in the last, {looks[-1].lag_seconds:.2f} s at its end"
    )
    if after > 2 * before + 2:
        found.append(f"the lag grew from {before:.2f} to {after:.2f} s")
    return found


async def _lost(load: Load) -> list[str]:
    connection = await asyncpg.connect(load.service.embedded.url("postgres"))
    places = dict(await connection.fetch(PLACES, "self:live"))
    await connection.close()
    found = [f"{len(load.moved)} duplicates were said to stand elsewhere"] if load.moved else []
    if wrong := [one for one, at in load.acknowledged.items() if places.get(one) != at]:
        found.append(f"{len(wrong)} acknowledged events are not where they were said to be, such as {wrong[0]}")
    if sorted(places.values()) != list(range(1, len(places) + 1)):
        found.append("the log has a gap")
    if others := {status: count for status, count in load.statuses.items() if status >= 500}:
        found.append(f"the service refused: {others}")
    return found


def main(
    minutes: Annotated[float, typer.Option(min=0.5)] = 20.0,
    probe_events: Annotated[int, typer.Option(min=100)] = 48_000,
) -> None:
    """Soak a service; status 1 where memory or lag is not flat, or anything was lost."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    service = Service(folder)
    service.start()
    try:
        load = Load(service, service.credentials["webhook_secret"], service.credentials["api_key"])
        wrong = asyncio.run(_soak(load, minutes, probe_events))
        if service.spawn("verify").wait() != 0:
            wrong.append("the log does not verify")
    finally:
        service.close()
        shutil.rmtree(folder)
    for one in wrong:
        typer.echo(f"WRONG  {one}", err=True)
    if wrong:
        raise typer.Exit(1)
    typer.echo("flat, and nothing lost")


if __name__ == "__main__":
    typer.run(main)

"""The engine's rows: rebuild beside the bound and beside the library's runner, memory, lag, late events."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
import psutil

from bench.ground import Ground
from bench.library import library_runner_rate
from bench.log import new_event, now
from bench.table import Row, percentiles_ms, rate
from ledger.appender import Appender
from ledger.dictionary import BodyReader
from ledger.event import Source
from ledger.postgres import Database
from ledger.simulated import append_simulated
from ledger.simulator.company import Arguments, Company
from projections.ahead import reading_ahead
from projections.builds import Request, ensure_live, start_build
from projections.entitlements.tables import entitlements
from projections.follower import follow
from projections.rebuild import finish, fold_piece, plan, read_all_terms
from projections.runner import connect_runner

PROJECTION = entitlements("org_id")
EVENTS_PER_CUSTOMER_IN_36_MONTHS = 165

FETCHED = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE book = $1 AND type = ANY ($2)
ORDER BY stream_id, version
"""


async def filled(ground: Ground, events: int) -> Database:
    """Make a ledger with the history of a simulated company of about so many events."""
    database = await ground.fresh()
    arguments = Arguments(customers=max(60, events // EVENTS_PER_CUSTOMER_IN_36_MONTHS), api_version="mixed")
    deliveries = ((one.at, one.body) for one in Company(arguments, keep_truth=False).deliveries(indented=True))
    await append_simulated(database, deliveries, {"bench": events}, platform_account="self", clock=now)
    owner = await ground.owner()
    await owner.execute("VACUUM ANALYZE ledger.event")
    await owner.close()
    return database


async def rebuild_rows(ground: Ground, events: int) -> list[Row]:
    """Rebuild entitlements over a company's history: one worker, two workers, beside fetch-and-decode."""
    database = await filled(ground, events)
    connection = await connect_runner(database)
    count = await connection.fetchval("SELECT sum(position)::bigint FROM ledger.head WHERE book <> 'ledger:control'")
    await _bound(connection)  # once before it counts, for both alike
    bound, folded = await _bound(connection)
    one, memory = await _rebuild(connection, ground, 1)
    two, _ = await _rebuild(connection, ground, 2)
    await connection.close()
    library = await library_runner_rate(await ground.fresh())
    small = await _small_memory(ground)
    return [
        Row(f"rebuild of {count:,} events", f"{rate(count, one)}", f"{rate(count, bound)} fetch and decode",
            bound / one, "≥ 0.5"),
        Row("rebuild, events it folds", rate(folded, one), f"{library:,.0f}/s ProjectionRunner", folded / one / library,
            "≥ 20"),
        Row("rebuild, two workers", rate(count, two), f"{rate(count, one)} one worker", one / two, "≥ 1.3"),
        Row("memory of a worker", f"{memory / 2**20:,.0f} MiB", f"{small / 2**20:,.0f} MiB at a tenth", memory / small,
            "≤ 1.2"),
        Row("memory of a worker", f"{memory / 2**20:,.0f} MiB", "300 MiB allowed", memory / (300 * 2**20), "≤ 1"),
    ]  # fmt: skip


async def _small_memory(ground: Ground) -> int:
    database = await filled(ground, 20_000)
    connection = await connect_runner(database)
    _, memory = await _rebuild(connection, ground, 1)
    await connection.close()
    return memory


async def _bound(connection: asyncpg.Connection) -> tuple[float, int]:
    """Fetch, decompress and parse the same rows in this process."""
    bodies, count, began = BodyReader(), 0, time.perf_counter()
    for book in [row["book"] for row in await connection.fetch("SELECT book FROM ledger.head ORDER BY book")]:
        async with connection.transaction():
            rows: list[asyncpg.Record] = []
            async for row in connection.cursor(FETCHED, book, list(PROJECTION.types), prefetch=2_000):
                rows.append(row)
                if len(rows) == 2_000:
                    count += await _decode(connection, bodies, rows)
                    rows = []
            count += await _decode(connection, bodies, rows)
    return time.perf_counter() - began, count


async def _decode(connection: asyncpg.Connection, bodies: BodyReader, rows: list[asyncpg.Record]) -> int:
    await bodies.prepare(connection, rows)
    return sum(orjson.loads(bodies.decode(row)) is not None for row in rows)


async def _rebuild(connection: asyncpg.Connection, ground: Ground, workers: int) -> tuple[float, int]:
    """Rebuild in processes of its own; return the seconds it took without their start, and the largest's memory."""
    heads = await connection.fetch("SELECT book, position FROM ledger.head WHERE book <> 'ledger:control'")
    build = await start_build(
        connection, PROJECTION, Request("bench", None, {row["book"]: row["position"] for row in heads})
    )
    await plan(connection, PROJECTION, build)
    command = (sys.executable, "-m", "bench.engine", ground.url, build.build_id)
    processes = [
        await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        for _ in range(workers)
    ]
    for process in processes:
        await _line(process)
    began, peak = time.perf_counter(), 0
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    waiting = [asyncio.create_task(_line(process)) for process in processes]
    watched = [psutil.Process(process.pid) for process in processes]
    while not all(task.done() for task in waiting):
        for one in watched:
            try:
                peak = max(peak, one.memory_info().rss)
            except psutil.Error:
                continue
        await asyncio.wait(waiting, timeout=0.05)
    assert await finish(connection, build)
    seconds = time.perf_counter() - began
    assert [await process.wait() for process in processes] == [0] * workers
    return seconds, peak


async def _line(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    await process.stdout.readline()


async def _worker(url: str, build_id: str) -> None:
    from projections.builds import read_build

    connection, reading = await connect_runner(Database(url)), await connect_runner(Database(url))
    build = await read_build(connection, build_id)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    terms = await read_all_terms(connection, PROJECTION, build)
    async with reading_ahead(reading) as ahead:
        while await fold_piece(connection, PROJECTION, build, terms, ahead):
            pass
    print("done", flush=True)
    await connection.close()


async def lag_row(ground: Ground, events_per_second: int = 300, seconds: int = 10) -> Row:
    """From an append to its rows being visible, with a steady stream of subscription events."""
    database = await ground.fresh()
    connection = await connect_runner(database)
    live = await ensure_live(connection, PROJECTION)
    visible: dict[int, float] = {}
    appended: dict[int, float] = {}
    stop = asyncio.Event()
    arrived = asyncio.Event()

    async def fold() -> None:
        while not stop.is_set():
            await arrived.wait()
            arrived.clear()
            while await follow(connection, PROJECTION, live):
                at, reached = (
                    time.perf_counter(),
                    await connection.fetchval("SELECT max(position) FROM ledger.checkpoint WHERE book = 'self:live'"),
                )
                for position in list(appended):
                    if position <= reached and position not in visible:
                        visible[position] = at

    folding = asyncio.create_task(fold())
    async with Appender(database, clock=now, on_commit=arrived.set) as appender:
        bodies = subscription_events(random.Random(1), events_per_second * seconds)
        for body in bodies:
            began = time.perf_counter()
            (place,) = await appender.append([new_event(body)])
            appended[place.position] = began
            arrived.set()
            await asyncio.sleep(max(0.0, 1 / events_per_second - (time.perf_counter() - began)))
        await asyncio.sleep(0.5)
    stop.set()
    arrived.set()
    await folding
    await connection.close()
    p50, p99 = percentiles_ms([visible[position] - began for position, began in appended.items()])
    ours = f"{p99:.0f} ms p99"
    return Row(f"append to visible, {events_per_second}/s", ours, "50 ms allowed", p99 / 50, "≤ 1", p50, p99)


async def late_rows(ground: Ground, events: int = 100_000) -> list[Row]:
    """An event that comes late into a subject of very many events: an hour late, and half a life late."""
    database = await ground.fresh()
    dice = random.Random(2)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    connection = await connect_runner(database)
    async with Appender(database, clock=now) as appender:
        for some in _batched(hot_subject(dice, begun, events), 1_000):
            await appender.append([new_event(body, Source.IMPORT) for body in some])
        live = await ensure_live(connection, PROJECTION)
        while await follow(connection, PROJECTION, live):
            pass
        rows = []
        for name, back in (("an hour", timedelta(hours=1)), ("half a life", timedelta(seconds=15 * events))):
            took = []
            for attempt in range(20):
                at = begun + timedelta(seconds=30 * events) - back - timedelta(seconds=97 * attempt)
                await appender.append([new_event(late_event(dice, at, f"{name}_{attempt}".replace(" ", "_")))])
                began = time.perf_counter()
                await follow(connection, PROJECTION, live)
                took.append(time.perf_counter() - began)
            p50, p99 = percentiles_ms(took)
            what = f"{name} late among {events:,} events"
            rows.append(Row(what, f"{p50:.0f} ms", "50 ms allowed", p50 / 50, "≤ 1", p50, p99))
    await connection.close()
    return rows


async def hot_rows(ground: Ground, events: int = 100_000, seconds: int = 8) -> list[Row]:
    """Other customers' lag while ten subjects of very many events get a hundred more a second, beside without them."""
    alone = await _others_lag(ground, 0, 0, seconds)
    crowded = await _others_lag(ground, 10, events // 10, seconds)
    p50, p99 = percentiles_ms(crowded)
    beside = f"{percentiles_ms(alone)[1]:.0f} ms p99 without"
    name = f"visible beside ten hot subjects of {events // 10:,}"
    return [Row(name, f"{p99:.0f} ms p99", beside, p99 / max(percentiles_ms(alone)[1], 25.0), "≤ 2", p50, p99)]


async def _others_lag(ground: Ground, hot: int, history: int, seconds: int) -> list[float]:
    """Let 50 events a second of many customers in, and 100 of ``hot`` ones; return the lags of the many."""
    database, dice = await ground.fresh(), random.Random(7)
    connection = await connect_runner(database)
    live = await ensure_live(connection, PROJECTION)
    appended: dict[int, float] = {}
    visible: dict[int, float] = {}
    arrived, stop = asyncio.Event(), asyncio.Event()
    begun = datetime.now(UTC) - timedelta(seconds=30 * history)

    async def fold() -> None:
        while not stop.is_set():
            await arrived.wait()
            arrived.clear()
            while await follow(connection, PROJECTION, live):
                reached = await connection.fetchval("SELECT position FROM ledger.checkpoint WHERE book = 'self:live'")
                at = time.perf_counter()
                visible.update({one: at for one in appended if one <= reached and one not in visible})

    async with Appender(database, clock=now, on_commit=arrived.set) as appender:
        for number in range(hot):
            for some in _batched(hot_subject(dice, begun, history, 1_000 + number), 1_000):
                await appender.append([new_event(body, Source.IMPORT) for body in some])
        while await follow(connection, PROJECTION, live):
            pass
        folding = asyncio.create_task(fold())
        began, number = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            at = int(time.time())
            number += 1
            if hot:
                name = f"evt_hot_{number}"
                await appender.append([new_event(update(name, 1_000 + number % hot, at, number % 40, "active"))])
            if number % 2 == 0 or not hot:
                asked = time.perf_counter()
                body = update(f"evt_cool_{number}", dice.randrange(500), at, number % 40, "active")
                (place,) = await appender.append([new_event(body)])
                appended[place.position] = asked
            await asyncio.sleep(max(0.0, number / (100 if hot else 50) - (time.perf_counter() - began)))
        await asyncio.sleep(0.5)
    stop.set()
    arrived.set()
    await folding
    await connection.close()
    return [visible[position] - asked for position, asked in appended.items()]


def _batched(items: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while some := list(itertools.islice(items, size)):
        yield some


def subscription_events(dice: random.Random, count: int) -> Iterator[bytes]:
    """Give subscription updates of a few hundred customers, now."""
    for number in range(count):
        customer = dice.randrange(300)
        yield update(
            f"evt_{number}", customer, int(time.time()), dice.randrange(1, 50), dice.choice(("active", "past_due"))
        )


def hot_subject(dice: random.Random, begun: datetime, count: int, customer: int = 0) -> Iterator[bytes]:
    """Give the updates of one customer's subscription, one every half minute."""
    for number in range(count):
        at = int((begun + timedelta(seconds=30 * number)).timestamp())
        yield update(f"evt_{customer}_{number}", customer, at, 1 + number % 40, "active")


def late_event(dice: random.Random, at: datetime, name: str) -> bytes:
    """Give an update that should have come long ago."""
    return update(f"evt_late_{name}", 0, int(at.timestamp()), 77, "active")


def update(event_id: str, customer: int, created: int, quantity: int, status: str) -> bytes:
    item = {
        "id": f"si_{customer}", "object": "subscription_item", "quantity": quantity,
        "price": {"id": "price_1", "object": "price", "product": "prod_1"},
    }  # fmt: skip
    subscription = {
        "id": f"sub_{customer}", "object": "subscription", "customer": f"cus_{customer}", "status": status,
        "items": {"object": "list", "data": [item], "has_more": False}, "metadata": {}, "created": 1_700_000_000,
    }  # fmt: skip
    event = {
        "id": event_id, "object": "event", "api_version": "2026-10-28.endive", "created": created, "livemode": True,
        "type": "customer.subscription.updated", "data": {"object": subscription}, "pending_webhooks": 1,
    }  # fmt: skip
    return orjson.dumps(event)


if __name__ == "__main__":
    asyncio.run(_worker(sys.argv[1], sys.argv[2]))

"""``python -m bench --growth``: one log that grows, and what an event or a read costs at each of its sizes.

One database serves every row: a company's history is appended in its own order up to each size; the last events of
each step are imported and appended under measure. What is flat costs the same at every size.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import orjson

from bench import reads
from bench.ground import Ground
from bench.log import SIZES, appending, new_event, now, proving
from bench.rebuilds import EVENTS_PER_CUSTOMER_IN_36_MONTHS, HEADS, PROJECTIONS, make_live, rebuilt
from bench.table import Costs, percentiles_ms
from ledger.appender import Appender
from ledger.event import Source
from ledger.importing import import_file
from ledger.postgres import Database
from ledger.simulator.company import Arguments, Company
from ledger.verify import verify_log
from projections.builds import builds_of, drop_build
from projections.runner import connect_runner

MEASURED_EVENTS: Final = 2_000
_BATCH_EVENTS: Final = 1_000
_BATCHES_AT_ONCE: Final = 4

LAST: Final = "SELECT event_id FROM ledger.event WHERE book = 'self:live' ORDER BY position DESC LIMIT 1"


async def measure_growth(ground: Ground, sizes: Sequence[int]) -> Costs:
    """Fill one ledger up to each size in turn, and measure there."""
    costs, database = Costs(), await ground.fresh()
    customers = max(60, sizes[-1] // EVENTS_PER_CUSTOMER_IN_36_MONTHS)
    company = Company(Arguments(customers=customers, api_version="mixed"), keep_truth=False)
    bodies = (one.body for one in company.deliveries(indented=True))
    reached = 0
    for size in sizes:
        began = time.perf_counter()
        await _fill(database, itertools.islice(bodies, size - 2 * MEASURED_EVENTS - reached))
        costs.sizes.append(size)
        await _into_the_log(ground, database, bodies, costs)
        await _out_of_the_log(ground, database, costs)
        await _rebuilds(ground, database, costs)
        await _reads(ground, database, costs)
        reached = size
        print(f"grown to {size:,} events, {time.perf_counter() - began:.0f} s", flush=True)
    return costs


async def _fill(database: Database, bodies: Iterator[bytes]) -> None:
    """Append in batches, made in a thread while others commit."""

    def batch() -> list[bytes]:
        return list(itertools.islice(bodies, _BATCH_EVENTS))

    waiting: list[asyncio.Task[object]] = []
    async with Appender(database, clock=now) as appender:
        while some := await asyncio.to_thread(batch):
            events = [new_event(body, Source.IMPORT) for body in some]
            waiting.append(asyncio.create_task(appender.append(events)))
            if len(waiting) >= _BATCHES_AT_ONCE:
                await waiting.pop(0)
        for task in waiting:
            await task


async def _into_the_log(ground: Ground, database: Database, bodies: Iterator[bytes], costs: Costs) -> None:
    file = ground.folder / "grown.jsonl"
    some = list(itertools.islice(bodies, MEASURED_EVENTS))
    file.write_bytes(b"".join(orjson.dumps(orjson.loads(body)) + b"\n" for body in some))
    async with Appender(database, clock=now) as appender:
        await appender.append([new_event(next(bodies))])  # what is done once by a process
        began = time.perf_counter()
        await import_file(appender, file, platform_account="self", now=now())
        costs.add("import", "µs", (time.perf_counter() - began) / MEASURED_EVENTS * 1e6)
        events = [new_event(body) for body in itertools.islice(bodies, MEASURED_EVENTS - 1)]
        began = time.perf_counter()
        await appending(appender, events, 128)
        costs.add("append, 128 waiting", "µs", (time.perf_counter() - began) / (MEASURED_EVENTS - 1) * 1e6)


async def _out_of_the_log(ground: Ground, database: Database, costs: Costs) -> None:
    owner = await ground.owner()
    await owner.execute("VACUUM ANALYZE ledger.event")
    size = await owner.fetchrow(SIZES)
    costs.add("on disk, with indexes", "B", size["bytes"] / size["events"])
    began = time.perf_counter()
    async with owner.transaction(isolation="repeatable_read", readonly=True):
        report = await verify_log(owner, [], [], full=True)
    assert report.true, report.problems
    costs.add("verify --full", "µs", (time.perf_counter() - began) / size["events"] * 1e6)
    async with Appender(database, clock=now) as appender:
        seconds, _ = await proving(database, appender, await owner.fetchval(LAST))
    costs.add("prove one", "ms", percentiles_ms(seconds)[0])
    await owner.close()


async def _rebuilds(ground: Ground, database: Database, costs: Costs) -> None:
    connection = await connect_runner(database)
    count = sum(row["position"] for row in await connection.fetch(HEADS))
    for name, projection in PROJECTIONS.items():
        done = await rebuilt(ground, projection, 1)
        costs.add(f"rebuild {name}", "µs", done.seconds / count * 1e6)
        costs.add(f"memory of {name}", "MiB", done.peak_bytes / 2**20)
        await make_live(database, projection, done.build)
        for build in await builds_of(connection, name):
            if build.phase == "retired":
                await drop_build(connection, build)
    await connection.close()


async def _reads(ground: Ground, database: Database, costs: Costs) -> None:
    owner: asyncpg.Connection = await ground.owner()
    asked = await reads.paths(owner)
    await owner.close()
    for name, seconds in (await reads.read_seconds(database, Path(ground.folder), asked)).items():
        costs.add(name, "ms", percentiles_ms(seconds)[0])

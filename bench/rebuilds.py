"""A rebuild of each projection: one worker and two, beside fetching and decoding, and a worker's memory.

``python -m bench.rebuilds URL BUILD`` is a worker: a process of its own, ready before it is timed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import orjson
import psutil

from api.children import fast_loop
from api.operations import Operations
from api.services import projections_of
from api.settings import Settings
from bench.ground import Ground
from bench.library import library_runner_rate
from bench.log import now
from bench.table import Row, rate
from ledger.appender import Appender
from ledger.dictionary import BodyReader
from ledger.postgres import Database
from ledger.simulated import append_simulated
from ledger.simulator.company import Arguments, Company
from projections.builds import Build, Request, read_build, start_build
from projections.contract import Projection
from projections.rebuild import finish, fold_piece, folding_ahead, plan, read_all_terms, read_progress
from projections.runner import connect_runner

EVENTS_PER_CUSTOMER_IN_36_MONTHS: Final = 165
PROJECTIONS: Final = {one.name: one for one in projections_of(Settings())}
_WANTED: Final = {"revenue": "≥ 0.4"}
_OTHERS_WORK_SECONDS: Final = 0.02

FETCHED: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE book = $1 AND type = ANY ($2)
ORDER BY stream_id, version
"""

HEADS: Final = "SELECT book, position FROM ledger.head WHERE book <> 'ledger:control' ORDER BY book"


@dataclass(frozen=True, slots=True)
class Folded:
    """A rebuild that was measured: the build, its seconds from planning to the last part, the largest worker."""

    build: Build
    seconds: float
    peak_bytes: int


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
    """Rebuild every projection over a company's history."""
    rows: list[Row] = []
    database = await filled(ground, events)
    for projection in PROJECTIONS.values():
        rows += await _rows(ground, database, projection)
    small = await _small_memory(ground)
    for projection in PROJECTIONS.values():
        peaks = [row for row in rows if row.name == f"memory of a worker, {projection.name}"]
        beside = f"{small[projection.name] / 2**20:,.0f} MiB at 20,000 events"
        ratio = float(peaks[0].ours.split()[0]) * 2**20 / small[projection.name]
        rows.append(Row(peaks[0].name, peaks[0].ours, beside, ratio, "≤ 1.2"))
    return rows


async def _rows(ground: Ground, database: Database, projection: Projection) -> list[Row]:
    connection = await connect_runner(database)
    count = sum(row["position"] for row in await connection.fetch(HEADS))
    await bound(connection, projection)  # once before it counts, for both alike
    limit, folded = await bound(connection, projection)
    one = await rebuilt(ground, projection, 1)
    two = await rebuilt(ground, projection, 2)
    await connection.close()
    name, mib = projection.name, one.peak_bytes / 2**20
    of_it = f", {folded / count:.0%} folded"
    rows = [
        Row(f"rebuild of {name}, {count:,} events{of_it}", rate(count, one.seconds),
            f"{rate(count, limit)} fetch and decode", limit / one.seconds, _WANTED.get(name, "≥ 0.5")),
        Row(f"rebuild of {name}, two workers", rate(count, two.seconds), f"{rate(count, one.seconds)} one worker",
            one.seconds / two.seconds, "≥ 1.3"),
        Row(f"memory of a worker, {name}", f"{mib:,.0f} MiB", "300 MiB allowed", mib / 300, "≤ 1"),
    ]  # fmt: skip
    if name == "entitlements":
        library = await library_runner_rate(await ground.fresh())
        ratio = folded / one.seconds / library
        ground.back_to(database)
        rows.append(
            Row(f"rebuild of {name}, events it folds", rate(folded, one.seconds), f"{library:,.0f}/s ProjectionRunner",
                ratio, "≥ 20")
        )  # fmt: skip
    return rows


async def _small_memory(ground: Ground) -> dict[str, int]:
    await filled(ground, 20_000)
    return {name: (await rebuilt(ground, one, 1)).peak_bytes for name, one in PROJECTIONS.items()}


async def bound(connection: asyncpg.Connection, projection: Projection) -> tuple[float, int]:
    """Fetch, decompress and parse the rows a projection folds in this process; return seconds and how many."""
    bodies, count, began = BodyReader(), 0, time.perf_counter()
    for head in await connection.fetch(HEADS):
        async with connection.transaction():
            rows: list[asyncpg.Record] = []
            async for row in connection.cursor(FETCHED, head["book"], list(projection.types), prefetch=2_000):
                rows.append(row)
                if len(rows) == 2_000:
                    count += await _decode(connection, bodies, rows)
                    rows = []
            count += await _decode(connection, bodies, rows)
    return time.perf_counter() - began, count


async def _decode(connection: asyncpg.Connection, bodies: BodyReader, rows: list[asyncpg.Record]) -> int:
    await bodies.prepare(connection, rows)
    return sum(orjson.loads(bodies.decode(row)) is not None for row in rows)


async def rebuilt(ground: Ground, projection: Projection, workers: int) -> Folded:
    """Rebuild in processes of its own."""
    connection = await connect_runner(Database(ground.url))
    targets = {row["book"]: row["position"] for row in await connection.fetch(HEADS)}
    build = await start_build(connection, projection, Request("bench", None, targets))
    command = (sys.executable, "-m", "bench.rebuilds", ground.url, build.build_id)
    processes = [
        await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        for _ in range(workers)
    ]
    for process in processes:
        await _line(process)
    began = time.perf_counter()
    await plan(connection, projection, build)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    peak = await _peak_until_done(processes)
    assert await finish(connection, build)
    seconds = time.perf_counter() - began
    assert [await process.wait() for process in processes] == [0] * workers
    await connection.close()
    return Folded(build, seconds, peak)


async def _peak_until_done(processes: Sequence[asyncio.subprocess.Process]) -> int:
    waiting = [asyncio.create_task(_line(process)) for process in processes]
    watched, peak = [psutil.Process(process.pid) for process in processes], 0
    while not all(task.done() for task in waiting):
        for one in watched:
            try:
                peak = max(peak, one.memory_info().rss)
            except psutil.Error:
                continue
        await asyncio.wait(waiting, timeout=0.05)
    return peak


async def _line(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    await process.stdout.readline()


async def make_live(database: Database, projection: Projection, build: Build) -> None:
    """Bring a folded build up to the head, certify and promote it."""
    async with Appender(database, clock=now) as appender:
        ready = Operations(database, projection, appender, now)
        await ready.complete(build.build_id)
        await ready.promote(build.build_id, by="bench", reason="measured", force=True)


async def _worker(url: str, build_id: str) -> None:
    connection, reading = await connect_runner(Database(url)), await connect_runner(Database(url))
    build = await read_build(connection, build_id)
    projection = PROJECTIONS[build.projection]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    terms = await read_all_terms(connection, projection, build)
    async with folding_ahead(reading, projection, build, terms) as ahead:
        while not (await read_progress(connection, build)).finished:
            if not await fold_piece(connection, projection, build, ahead):
                await asyncio.sleep(_OTHERS_WORK_SECONDS)
    print("done", flush=True)
    await connection.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=fast_loop()) as runner:  # as every worker does
        runner.run(_worker(sys.argv[1], sys.argv[2]))

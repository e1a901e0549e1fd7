"""``python -m bench``: run the rows, print the table, and say whether every ratio is what it has to be."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer

from api.children import fast_loop
from bench import (
    backfill,
    catalog,
    console,
    cpu,
    engine,
    growth,
    http,
    live,
    lives,
    log,
    orders,
    reads,
    rebuilds,
    revenue,
)
from bench.ground import Ground
from bench.peers import webhooks
from bench.report import Report, keep
from bench.table import Row, show, show_growth


async def _append_and_proof(ground: Ground, events: int) -> list[Row]:
    rows = await log.append_rows(ground, events)
    busiest = float(rows[1].ours.removesuffix("/s").replace(",", ""))
    return [*rows, log.proof_row(min(events, 5_000), 1 / busiest)]


async def _lag(ground: Ground, events: int) -> list[Row]:
    lag, late, hot = await engine.lag_row(ground), await engine.late_rows(ground), await engine.hot_rows(ground)
    return [lag, *late, *hot, await lives.lives_row(ground, events // 2)]


async def _followed(ground: Ground, events: int) -> list[Row]:
    rows = await http.followed_rows(ground.folder, events // 5)
    return [*rows, await http.visible_row(ground.folder)]


async def _http(ground: Ground, events: int) -> list[Row]:
    rows = await http.webhook_rows(ground.folder, events // 2)
    return [*rows, await http.during_rebuild_row(ground.folder, 3 * events)]


async def _one(row: Awaitable[Row]) -> list[Row]:
    return [await row]


MEASURES: Final[dict[str, Callable[[Ground, int], Awaitable[list[Row]]]]] = {
    "append": _append_and_proof,
    "import": lambda ground, events: _one(log.import_row(ground, events)),
    "backfill": lambda ground, events: _one(backfill.backfill_row(ground, 5 * events)),
    "log": log.filled_rows,
    "rebuild": lambda ground, events: rebuilds.rebuild_rows(ground, 5 * events),
    "reads": lambda ground, events: reads.read_rows(ground, 5 * events),
    "lag": _lag,
    "orders": lambda _, events: asyncio.to_thread(lambda: [orders.orders_row(events)]),
    "revenue": lambda ground, events: revenue.revenue_rows(ground, 5 * events // 2),
    "catalog": lambda ground, _: _one(catalog.publish_row(ground)),
    "console": console.pages_rows,
    "http": _http,
    "followed": _followed,
    "cpu": lambda ground, events: cpu.cpu_rows(ground.folder, events // 2),
    "peers": lambda ground, events: webhooks.peer_rows(ground, events // 2),
    "live": lambda ground, _: live.live_rows(ground),
}
"""What there is to measure, by name, from how many events each row moves."""


async def _run(ground: Ground, events: int, names: list[str], sizes: list[int]) -> Report:
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    for name, measure in MEASURES.items():
        if name in names:
            began = time.monotonic()
            rows += await measure(ground, events)
            await ground.clear()
            seconds[name] = time.monotonic() - began
            print(f"{name}: {seconds[name]:.0f} s", flush=True)
    costs = None
    if sizes:
        began = time.monotonic()
        costs = await growth.measure_growth(ground, sizes)
        seconds["growth"] = time.monotonic() - began
    return Report(rows, costs, events, seconds)


def main(
    events: Annotated[int, typer.Option(min=1_000, help="How many events each row moves.")] = 20_000,
    only: Annotated[list[str] | None, typer.Option(help=f"Only these rows: {', '.join(MEASURES)}.")] = None,
    grow: Annotated[
        int, typer.Option("--growth", min=0, help="Grow one log to so many events, from 10,000 by tens; 0: do not.")
    ] = 0,
    growth_only: Annotated[bool, typer.Option("--growth-only", help="Leave the other rows out.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was measured to this file too.")] = None,
    document: Annotated[Path | None, typer.Option("--write", help="Put it between this document's marks.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw it in this SVG file.")] = None,
) -> None:
    """Measure; exit status 1 when a ratio is not reached."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-bench-"))
    ground = Ground(folder)
    ground.embedded.start()
    sizes = [10**power for power in range(4, 9) if 10**power <= grow]
    try:
        with asyncio.Runner(loop_factory=fast_loop()) as runner:  # as every process of the service does
            report = runner.run(_run(ground, events, [] if growth_only else only or list(MEASURES), sizes))
    finally:
        ground.embedded.release()
        shutil.rmtree(folder)
    show(report.rows)
    if report.growth is not None:
        show_growth(report.growth)
    typer.echo(f"{events:,} events a row, {sum(report.seconds.values()):.0f} s")
    kept = report.as_json()
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
    keep(kept, document, chart)
    if not all(row.reached for row in report.rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

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

from bench import backfill, catalog, console, engine, http, live, log, orders, revenue
from bench.ground import Ground
from bench.table import Row, as_json, show


async def _append_and_proof(ground: Ground, events: int) -> list[Row]:
    rows = await log.append_rows(ground, events)
    busiest = float(rows[1].ours.removesuffix("/s").replace(",", ""))
    return [*rows, log.proof_row(min(events, 5_000), 1 / busiest)]


async def _lag(ground: Ground, _: int) -> list[Row]:
    return [await engine.lag_row(ground), *await engine.late_rows(ground), *await engine.hot_rows(ground)]


async def _http(ground: Ground, events: int) -> list[Row]:
    rows = await http.webhook_rows(ground.folder, events // 2)
    return [*rows, await http.during_rebuild_row(ground.folder, 20 * events)]


async def _one(row: Awaitable[Row]) -> list[Row]:
    return [await row]


MEASURES: Final[dict[str, Callable[[Ground, int], Awaitable[list[Row]]]]] = {
    "append": _append_and_proof,
    "import": lambda ground, events: _one(log.import_row(ground, events)),
    "backfill": lambda ground, events: _one(backfill.backfill_row(ground, 5 * events)),
    "log": log.filled_rows,
    "rebuild": lambda ground, events: engine.rebuild_rows(ground, 10 * events),
    "lag": _lag,
    "orders": lambda _, events: asyncio.to_thread(lambda: [orders.orders_row(events)]),
    "revenue": lambda ground, events: revenue.revenue_rows(ground, 5 * events // 2),
    "catalog": lambda ground, _: _one(catalog.publish_row(ground)),
    "console": console.pages_rows,
    "http": _http,
    "live": lambda ground, _: live.live_rows(ground),
}
"""What there is to measure, by name, from how many events each row moves."""


async def _run(ground: Ground, events: int, names: list[str]) -> list[Row]:
    return [row for name, measure in MEASURES.items() if name in names for row in await measure(ground, events)]


def main(
    events: Annotated[int, typer.Option(min=1_000, help="How many events each row moves.")] = 20_000,
    only: Annotated[list[str] | None, typer.Option(help=f"Only these rows: {', '.join(MEASURES)}.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file too.")] = None,
) -> None:
    """Measure; exit status 1 when a ratio is not reached."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-bench-"))
    ground = Ground(folder)
    ground.embedded.start()
    began = time.monotonic()
    try:
        rows = asyncio.run(_run(ground, events, only or list(MEASURES)))
    finally:
        ground.embedded.release()
        shutil.rmtree(folder)
    show(rows)
    typer.echo(f"{events:,} events a row, {time.monotonic() - began:.0f} s")
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(as_json(rows), option=orjson.OPT_INDENT_2))
    if not all(row.reached for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

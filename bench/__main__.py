"""``python -m bench``: run the rows, print the table, and say whether every ratio is what it has to be."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import orjson
import typer

from bench import catalog, engine, http, live, log, orders
from bench.ground import Ground
from bench.table import Row, as_json, show

ROWS = ("append", "import", "log", "rebuild", "lag", "orders", "catalog", "http", "live")


async def _append_and_proof(ground: Ground, events: int) -> list[Row]:
    rows = await log.append_rows(ground, events)
    busiest = float(rows[1].ours.removesuffix("/s").replace(",", ""))
    return [*rows, log.proof_row(min(events, 5_000), 1 / busiest)]


async def _run(ground: Ground, events: int, names: list[str]) -> list[Row]:
    rows: list[Row] = []
    if "append" in names:
        rows += await _append_and_proof(ground, events)
    if "import" in names:
        rows.append(await log.import_row(ground, events))
    if "log" in names:
        rows += await log.filled_rows(ground, events)
    if "rebuild" in names:
        rows += await engine.rebuild_rows(ground, 10 * events)
    if "lag" in names:
        rows += [await engine.lag_row(ground), *await engine.late_rows(ground), *await engine.hot_rows(ground)]
    if "orders" in names:
        rows.append(orders.orders_row(events))
    if "catalog" in names:
        rows.append(await catalog.publish_row(ground))
    if "http" in names:
        rows += await http.webhook_rows(ground.folder, events // 2)
        rows.append(await http.during_rebuild_row(ground.folder, 20 * events))
    if "live" in names:
        rows += await live.live_rows(ground)
    return rows


def main(
    events: Annotated[int, typer.Option(min=1_000, help="How many events each row moves.")] = 20_000,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only these rows: append, import, log, rebuild, lag, orders, catalog, http, live."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file too.")] = None,
) -> None:
    """Measure; exit status 1 when a ratio is not reached."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-bench-"))
    ground = Ground(folder)
    ground.embedded.start()
    began = time.monotonic()
    try:
        rows = asyncio.run(_run(ground, events, only or list(ROWS)))
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

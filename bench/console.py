"""The console's pages: the server's time for each that is registered, signed in, over a large company.

``python -m bench --only console`` simulates a company of as many events as are asked for; ``python -m bench.console
FOLDER`` measures on a data folder that is there already (a copy: its PostgreSQL is started, and nothing is written).
Pages are asked in this process, one at a time, so that what is measured is what a page costs and nothing of a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx
import orjson
import structlog
import typer

from api.app import create_app
from api.console.pages import PAGES
from api.console.rendering import segment
from api.credentials import Credentials
from api.secrets import ApiKey, digest_of
from api.services import Services, open_services, projections_of
from api.settings import Settings
from api.signing import generate_signing_key, signer_of
from bench.ground import Ground
from bench.log import new_event
from bench.table import Row, percentiles_ms, show
from ledger.embedded import EmbeddedPostgres
from ledger.postgres import Database
from ledger.reader import Filter, read_head, read_page
from ledger.simulator.company import Arguments, Company
from ledger.times import rfc3339
from projections.builds import ensure_live, list_builds
from projections.follower import follow
from projections.runner import connect_runner

_LIMIT_MS: Final = 300.0
_ASKED: Final = 20
_KEY: Final = "lk_bench"
BOOK: Final = "self:live"
_EVENTS_A_CUSTOMER: Final = 20
_LOOKED_THROUGH: Final = 200


async def pages_rows(ground: Ground, events: int) -> list[Row]:
    """Measure every page over a company that is simulated here."""
    database = await ground.fresh()
    settings = Settings(data_dir=ground.folder / "console")
    async with _opened(settings, database) as services:
        await _fill(services, events)
        return await _measured(services)


async def _fill(services: Services, events: int) -> None:
    customers = max(10, events // _EVENTS_A_CUSTOMER)
    start = int((services.clock() - timedelta(days=240)).timestamp())
    made = [one for one in Company(Arguments(customers=customers, months=7, start=start)).events() if one["livemode"]]
    for begin in range(0, len(made), 500):
        await services.appender.append([new_event(orjson.dumps(one)) for one in made[begin : begin + 500]])
    connection = await connect_runner(services.database)
    for projection in projections_of(services.settings, services.clock):
        build = await ensure_live(connection, projection)
        while await follow(connection, projection, build):
            pass
    await connection.execute("ANALYZE")
    await connection.close()


@contextlib.asynccontextmanager
async def _opened(settings: Settings, database: Database) -> AsyncIterator[Services]:
    key = ApiKey("bench", frozenset({"admin"}), None, digest_of(_KEY))
    signer = signer_of(generate_signing_key())
    async with open_services(
        settings, database=database, credentials=Credentials((), (key,), None, None), signer=signer
    ) as services:
        yield services


async def _measured(services: Services) -> list[Row]:
    async with services.pool.acquire() as connection:
        paid = await read_page(connection, BOOK, Filter(type="invoice.paid"), _LOOKED_THROUGH, newest_first=True)
        events = await read_head(connection, BOOK)
        live = next(one["build_id"] for one in await list_builds(connection) if one["projection"] == "entitlements")
    found = dict.fromkeys(one.stream_id.removeprefix(f"{BOOK}/") for one in paid)
    customers = [segment(name) for name in found if name.startswith("cus_")][:_ASKED]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # no line for each request
    app = create_app(lambda: contextlib.nullcontext(services))
    app.state.services = services
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bench.test") as client:
        await client.post("/sign-in", data={"key": _KEY})
        rows = []
        for page in PAGES:
            if page.method == "GET" and page.sample is not None:
                sample = page.sample.replace("entitlements-1", live)
                addresses = [sample.replace("{customer}", one) for one in customers]
                rows.append(await _row(client, f"{page.path}, {events:,} events", addresses))
        then = datetime.now(UTC) - timedelta(days=60)
        known = [f"/customers/{one}?as_of={rfc3339(then)}&known_at={rfc3339(then)}" for one in customers]
        rows.append(await _row(client, f"a customer as of then, as known then, {events:,} events", known))
    return rows


async def _row(client: httpx.AsyncClient, name: str, addresses: list[str]) -> Row:
    times = []
    for address in [addresses[0], *addresses]:
        began = time.perf_counter()
        answer = await client.get(address, params={} if "?" in address else {"book": BOOK})
        times.append(time.perf_counter() - began)
        if answer.status_code not in {200, 303}:
            raise AssertionError(f"{address} answered {answer.status_code}")
    times = times[1:]  # the first asks what is then kept: statements, templates
    p95 = sorted(times)[int(len(times) * 0.95) - 1] * 1000
    median, worst = percentiles_ms(times)
    return Row(f"console {name}", f"p95 {p95:.0f} ms", f"{_LIMIT_MS:.0f} ms", p95 / _LIMIT_MS, "≤ 1", median, worst)


def main(folder: Path) -> None:
    """Measure on a data folder."""
    embedded = EmbeddedPostgres(folder)
    embedded.start()

    async def run() -> list[Row]:
        async with _opened(Settings(data_dir=folder), Database(embedded.url())) as services:
            return await _measured(services)

    try:
        rows = asyncio.run(run())
    finally:
        embedded.release()
    show(rows)
    if not all(row.reached for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

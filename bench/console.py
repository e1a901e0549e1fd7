"""The console's pages: the server's time for each that is registered, signed in, over a large company.

``python -m bench --only console`` simulates a company of as many events as are asked for; ``python -m bench.console
FOLDER`` measures on a data folder that is there already (a copy: its PostgreSQL is started, and nothing is written).
Pages are asked in this process, one at a time, so that what is measured is what a page costs and nothing of a network.
Every page is visited but for the export, which is a file; those about closed months where some are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import perf_counter
from typing import Final

import httpx
import orjson
import structlog
import typer
from starlette.routing import compile_path

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
from projections.builds import ensure_live, enter_build, list_builds
from projections.follower import follow
from projections.periods.closing import Asked, close_month
from projections.periods.decisions import SEALED
from projections.periods.months import month_after, month_end
from projections.periods.query import enter_closed, read_first_month
from projections.runner import connect_runner

_LIMIT_MS: Final = 300.0
_ASKED: Final = 20
_KEY: Final = "lk_bench"
BOOK: Final = "self:live"
_EVENTS_A_CUSTOMER: Final = 20
_LOOKED_THROUGH: Final = 200
_CLOSED: Final = 3
_SEALS: Final = 5
_PROJECTIONS: Final = ("entitlements", "dunning", "revenue", "periods")
_FILES: Final = frozenset({"/revenue/export"})

BUSIEST: Final = """
SELECT period FROM revenue_sum WHERE book = $1 AND months = 1 GROUP BY period ORDER BY count(*) DESC, period LIMIT 1
"""
"""The month in which most customers' books moved."""


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
    await _fold(services)
    async with services.pool.acquire() as connection, connection.transaction(readonly=True):
        await enter_build(connection, services.revenue.name, BOOK)
        first = await read_first_month(connection, BOOK)
    for number in range(_CLOSED if first else 0):
        month = month_after(f"{first:%Y-%m}", number)
        asked = Asked(BOOK, month, "bench", "measured", services.clock(), force=True)
        await close_month(services.pool, services.appender, services.revenue, asked)
        await _fold(services)


async def _fold(services: Services) -> None:
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
    there = await _look(services)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # no line for each request
    app = create_app(lambda: contextlib.nullcontext(services))
    app.state.services = services
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bench.test") as client:
        await client.post("/sign-in", data={"key": _KEY})
        visits = [(page.path, _samples(page.sample, there)) for page in PAGES if page.method == "GET" and page.sample]
        visits += [*_busy(there), *_closed(there), *await _others(client, there)]
        for path in _unvisited(visits):
            print(f"{path} is not measured: this ledger has nothing to look at there", file=sys.stderr)
        return [
            await _row(client, f"{name}, {there.events:,} events", addresses) for name, addresses in visits if addresses
        ]


def _unvisited(visits: list[Visits]) -> list[str]:
    """Name the pages that are at none of the addresses."""
    places = {address.partition("?")[0] for _, addresses in visits for address in addresses}
    paths = [page.path for page in PAGES if page.method == "GET" and page.path not in _FILES]
    return [path for path in paths if not any(compile_path(path)[0].match(place) for place in places)]


Visits = tuple[str, list[str]]
"""What is measured, and the addresses that are visited for it."""


@dataclass(frozen=True, slots=True)
class _There:
    """What a ledger has to be looked at: some customers and events, its months, the busiest, and its builds."""

    events: int
    customers: list[str]
    paid: list[str]
    seals: list[str]
    busiest: date
    closed: list[str]
    live: str
    retired: list[str]


async def _look(services: Services) -> _There:
    async with services.pool.acquire() as connection, connection.transaction(readonly=True):
        paid = await read_page(connection, BOOK, Filter(type="invoice.paid"), _LOOKED_THROUGH, newest_first=True)
        seals = await read_page(connection, BOOK, Filter(type=SEALED), _SEALS, newest_first=True, with_bodies=False)
        events = await read_head(connection, BOOK)
        builds = [dict(one) for one in await list_builds(connection, every=True)]
        await enter_build(connection, services.revenue.name, BOOK)
        busiest = await connection.fetchval(BUSIEST, BOOK)
        closed = await enter_closed(connection, BOOK)
    found = dict.fromkeys(one.stream_id.removeprefix(f"{BOOK}/") for one in paid)
    customers = [segment(name) for name in found if name.startswith("cus_")][:_ASKED]
    live = next(one["build_id"] for one in builds if (one["projection"], one["phase"]) == ("entitlements", "live"))
    retired = {one["build_id"]: one["projection"] for one in builds if one["phase"] == "retired" and one["position"]}
    return _There(
        events, customers, [segment(one.event_id) for one in paid][:_ASKED],
        [segment(one.event_id) for one in seals], busiest,
        [one.month for one in closed.periods], live,
        [f"/projections/{name}/builds/{build}/diff" for build, name in retired.items()][:1],
    )  # fmt: skip


def _samples(sample: str, there: _There) -> list[str]:
    return [sample.replace("entitlements-1", there.live).replace("{customer}", one) for one in there.customers]


def _busy(there: _There) -> list[Visits]:
    """Return the pages that a parameter makes dearer, in the months in which most happened, and one by its name."""
    month = f"{there.busiest:%Y-%m}"
    middle = rfc3339(datetime.combine(there.busiest, time(12), UTC) + timedelta(days=14))
    then = rfc3339(datetime.now(UTC) - timedelta(days=60))
    months = f"from={month_after(month, -6)}&through={month_after(month, 5)}"
    last = (month_end(month) - timedelta(days=1)).date()
    return [
        ("a customer as of then, as known then", [f"/customers/{one}?as_of={then}&known_at={then}"
                                                  for one in there.customers]),
        ("the busiest month's tie-out", [f"/revenue/tie-out?month={month}"] * _ASKED),
        ("ageing inside the busiest month", [f"/revenue/ageing?as_of={middle}"] * _ASKED),
        ("trial balance inside the busiest month", [f"/revenue/trial-balance?as_of={middle}"] * _ASKED),
        ("the busiest year's recognition", [f"/revenue/recognition?{months}"] * _ASKED),
        ("the busiest year's waterfall", [f"/revenue/recognition?{months}&detail=waterfall"] * _ASKED),
        ("the busiest month's journal", [f"/revenue/journal?since={month}&until={month}&basis=restated"] * _ASKED),
        ("the last day's of it", [f"/revenue/journal?since={last}&until={last}&basis=restated"] * _ASKED),
        ("every projection", [f"/projections/{name}" for name in _PROJECTIONS] * 5),
        ("an event", [f"/log/{one}" for one in there.paid]),
        ("an event's bytes", [f"/log/{one}/raw" for one in there.paid]),
        ("an event's proof", [f"/log/{one}/proof" for one in there.paid]),
    ]  # fmt: skip


def _closed(there: _There) -> list[Visits]:
    """Return the pages about closed months, and about the first open one, in which what changed of them is posted."""
    if not there.closed:
        return []
    first, last, following = there.closed[0], there.closed[-1], month_after(there.closed[-1])
    end = rfc3339(month_end(last) - timedelta(seconds=1))
    months = f"from={first}&through={month_after(following, 8)}"
    asked = {
        "revenue over closed months": f"/revenue?{months}",
        "movements over closed months": f"/revenue/movements?{months}",
        "recognition over closed months": f"/revenue/recognition?{months}",
        "waterfall over closed months": f"/revenue/recognition?{months}&detail=waterfall",
        "trial balance at the end of a closed month": f"/revenue/trial-balance?as_of={end}",
        "ageing at the end of a closed month": f"/revenue/ageing?as_of={end}",
        "a closed month's tie-out": f"/revenue/tie-out?month={last}",
        "the first open month's tie-out": f"/revenue/tie-out?month={following}",
        "a closed month's journal": f"/revenue/journal?since={last}&until={last}",
        "the first open month's journal": f"/revenue/journal?since={following}&until={following}",
    }
    return [(name, [address] * _ASKED) for name, address in asked.items()] + [
        ("an event of a seal", [f"/log/{one}" for one in there.seals] * (_ASKED // _SEALS))
    ]


async def _others(client: httpx.AsyncClient, there: _There) -> list[Visits]:
    """Return the pages of what is found by asking first: entries, cases, seals; and builds that can be compared."""
    asked = {"book": BOOK, "limit": str(_ASKED)}
    headers = {"Authorization": f"Bearer {_KEY}"}
    month = f"{there.busiest:%Y-%m}"
    journal = await client.get("/v1/revenue/journal", params={**asked, "from": month}, headers=headers)
    moved = await client.get(
        "/v1/revenue/mrr/movements", params={**asked, "detail": "true", "from": month}, headers=headers
    )
    further = moved.json()["next_cursor"]
    cases = await client.get("/v1/dunning/cases", params=asked, headers=headers)
    for build in there.retired:
        while (
            await client.get(f"/v1{build}", params={"limit": "1", "wait": "10"}, headers=headers)
        ).status_code == 503:
            pass  # compared once, beside the requests
    entries = [segment(one["entry"]) for one in journal.json()["data"]]
    return [
        ("movements further on", [f"/revenue/movements?from={month}&cursor={further}"] * _ASKED if further else []),
        ("an entry", [f"/revenue/entry?entry={one}" for one in entries]),
        ("/dunning/{invoice}", [f"/dunning/{segment(one['case'])}" for one in cases.json()["data"]]),
        ("/revenue/periods/{month}", [f"/revenue/periods/{one}" for one in there.closed] * _ASKED),
        ("a build's diff", there.retired * _ASKED),
    ]


async def _row(client: httpx.AsyncClient, name: str, addresses: list[str]) -> Row:
    times = []
    for address in [addresses[0], *addresses]:
        began = perf_counter()
        answer = await client.get(address, params=None if "?" in address else {"book": BOOK})
        times.append(perf_counter() - began)
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

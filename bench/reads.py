"""What people and apps ask of a filled ledger: each read with the time one request takes in the application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg

from bench.asking import allowed, asking, timed
from bench.ground import Ground
from bench.rebuilds import PROJECTIONS, filled, make_live, rebuilt
from bench.table import Row, percentiles_ms
from ledger.postgres import Database

CUSTOMERS: Final = """
SELECT DISTINCT split_part(stream_id, '/', 2) AS customer
FROM ledger.event
WHERE book = 'self:live' AND type = 'invoice.paid' AND stream_id LIKE 'self:live/cus%'
ORDER BY customer
LIMIT $1
"""

NEWEST: Final = "SELECT max(created) FROM ledger.event WHERE book = 'self:live' AND type = 'invoice.paid'"

Paths = Mapping[str, Sequence[str]]


async def paths(connection: asyncpg.Connection, customers: int = 40) -> Paths:
    """Return, by the name of a read, what is asked for."""
    names = [row["customer"] for row in await connection.fetch(CUSTOMERS, customers)]
    newest = await connection.fetchval(NEWEST)
    before = f"{newest - timedelta(days=10):%Y-%m-%dT%H:%M:%SZ}"
    position = await connection.fetchval("SELECT position / 2 FROM ledger.head WHERE book = 'self:live'")
    return {
        "entitlements now": [f"/v1/customers/{name}/entitlements" for name in names],
        "entitlements as of": [f"/v1/customers/{name}/entitlements?as_of={before}" for name in names],
        "entitlements as known": [f"/v1/customers/{name}/entitlements?known_position={position}" for name in names],
        "dunning of a customer": [f"/v1/customers/{name}/dunning" for name in names],
        "newest 100 events": ["/v1/events?limit=100"] * 5,
        "a customer's events": [f"/v1/events?customer={name}" for name in names],
        "dunning cases": ["/v1/dunning/cases?limit=100"] * 3,
        "MRR as of": [f"/v1/revenue/mrr?at={before}"] * 3,
        "trial balance as of": [f"/v1/revenue/trial-balance?at={before}"] * 3,
        "recognition of a year": [f"/v1/revenue/recognition?from={newest.year - 1}-01&to={newest.year}-01"] * 3,
        "journal, first page": [f"/v1/revenue/journal?from={newest.year}-01-01T00:00:00Z&limit=100"] * 3,
    }


LIMITS_MS: Final = {"trial balance as of": 1_000.0, "recognition of a year": 1_000.0}


async def read_rows(ground: Ground, events: int) -> list[Row]:
    """Fold a company's history by every projection, and ask."""
    database = await filled(ground, events)
    for projection in PROJECTIONS.values():
        await make_live(database, projection, (await rebuilt(ground, projection, 1)).build)
    owner = await ground.owner()
    asked = await paths(owner)
    count = await owner.fetchval("SELECT count(*) FROM ledger.event")
    await owner.close()
    found = await read_seconds(database, ground.folder, asked)
    fresh = percentiles_ms(found["entitlements now"])[0]
    rows = []
    for name, seconds in found.items():
        p50, p99 = percentiles_ms(seconds)
        what = f"{name}, {count:,} events"
        if name in LIMITS_MS:
            rows.append(allowed(what, seconds, LIMITS_MS[name]))
        else:
            beside = f"{fresh:.1f} ms entitlements now"
            rows.append(Row(what, f"{p50:,.1f} ms", beside, p50 / fresh, "", p50, p99))
    return rows


async def read_seconds(database: Database, folder: Path, asked: Paths) -> dict[str, list[float]]:
    """Ask for everything once to warm up, then measure."""
    async with asking(database, folder) as client:
        found = {}
        for name, some in asked.items():
            await timed(client, some[:1])
            found[name] = await timed(client, some)
        return found

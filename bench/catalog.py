"""Publishing a catalog over many customers: until answers count it, and what that does to the live lag."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Final

import asyncpg

from api.granting import publish_catalog
from bench.ground import Ground
from bench.log import new_event, now
from bench.table import Row, percentiles_ms
from ledger.appender import Appender
from projections.builds import ensure_live
from projections.catalog import catalog_at
from projections.entitlements.changes import Changes
from projections.entitlements.holdings import read_catalogs
from projections.entitlements.tables import entitlements
from projections.runner import Runner, connect_runner
from tests.stripe_events import body_of, event, subscription

CUSTOMERS: Final = 50_000

FILL: Final = """
INSERT INTO entitlement_source
SELECT 'self:live/cus_' || n, 'self:live', 'cus_' || n, 'subscription', 'sub_' || n, 'si_' || n, 'prod_team',
       'price_team', NULL, n % 9 + 1, NULL, NULL, 'active', now(), NULL, NULL, NULL, now(), NULL, ARRAY['evt_' || n]
FROM generate_series(1, $1::int) AS n
"""

# All have paid; of ten one was refunded, one disputed, about three once owed, and nine belong to an organisation.
FILL_EVIDENCE: Final = """
INSERT INTO entitlement_evidence
SELECT 'self:live/cus_' || n, 'self:live', 'sub_' || n, kind, 'in_' || n, now() - interval '20 days',
       now() + interval '10 days', now() - interval '20 days', CASE kind WHEN 'owed' THEN now() - interval '9 days' END,
       ARRAY['evt_' || kind || n]
FROM generate_series(1, $1::int) AS n,
     unnest(CASE WHEN n % 10 = 0 THEN ARRAY['paid', 'refunded'] WHEN n % 10 = 5 THEN ARRAY['paid', 'disputed']
                 WHEN n % 3 = 0 THEN ARRAY['paid', 'owed'] ELSE ARRAY['paid'] END) AS kind
"""

FILL_ORGS: Final = """
INSERT INTO entitlement_org
SELECT 'self:live/cus_' || n, 'self:live', 'cus_' || n, source, 'org_' || n / 10, now() - interval '20 days', NULL,
       ARRAY['evt_' || n]
FROM generate_series(1, $1::int) AS n, unnest(ARRAY['', 'sub_' || n]) AS source
WHERE n % 10 > 0
"""

CATALOG: Final = """
[policy]
past_due = "grace"
dispute = "suspend"
refund = "revoke"
[features.seats]
kind = "quantity"
[features.sso]
kind = "boolean"
[[plans]]
product = "prod_team"
features = { seats = "quantity", sso = true }
"""


async def publish_row(ground: Ground) -> Row:
    """From asking for a catalog to its being what answers are made of, with fifty thousand customers."""
    database = await ground.fresh()
    projection = replace(entitlements("org_id"), consumer=Changes(now))
    connection = await connect_runner(database)
    live = await ensure_live(connection, projection)
    owner = await ground.owner()
    await owner.execute(f"SET search_path = {live.schema_name}")
    for fill in (FILL, FILL_EVIDENCE, FILL_ORGS):
        await owner.execute(fill, CUSTOMERS)
    await owner.execute("ANALYZE")
    runner = Runner(connection, projection, holder="bench")
    stop = asyncio.Event()

    async def fold() -> None:
        while not stop.is_set():
            if await runner.turn() == 0:
                await asyncio.sleep(0.005)

    folding = asyncio.create_task(fold())
    async with Appender(database, clock=now) as appender:
        before = await _lags(appender, owner, 100, "a")
        began = time.perf_counter()
        await publish_catalog(owner, appender, "self:live", CATALOG, effective_from=None, by="bench", now=now())
        while catalog_at(await read_catalogs(owner, "self:live"), now()) is None:  # noqa: ASYNC110 - it asks again, as a caller would
            await asyncio.sleep(0.005)
        counted = time.perf_counter() - began
        after = await _lags(appender, owner, 100, "b")
    stop.set()
    await folding
    await connection.close()
    await owner.close()
    lags = f"lag p99 {percentiles_ms(before)[1]:.0f} → {percentiles_ms(after)[1]:.0f} ms"
    return Row(
        f"catalog over {CUSTOMERS:,} customers", f"{counted * 1000:.0f} ms, {lags}", "1 s allowed", counted, "≤ 1"
    )


async def _lags(appender: Appender, connection: asyncpg.Connection, count: int, name: str) -> list[float]:
    """Return how long each of some events took from append to visible."""
    found = []
    for number in range(count):
        began = time.perf_counter()
        subject = subscription(f"sub_{name}", customer=f"cus_{name}", items=f"si_{name}:prod_team*{number + 1}")
        one = event(f"evt_{name}{number}", "customer.subscription.updated", subject, created=1_768_000_000 + number)
        [place] = await appender.append([new_event(body_of(one))])
        while (await connection.fetchval("SELECT max(position) FROM ledger.checkpoint") or 0) < place.position:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        found.append(time.perf_counter() - began)
    return found

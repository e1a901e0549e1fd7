"""``GET /metrics``: is it healthy, how far behind, what is parked, what is not covered.

Gauges are read from the database when they are asked for and kept nowhere, so that several processes say the same and
none says yesterday's; while the database is away they are missing, and ``ledger_database_up`` is 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Final

import asyncpg
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from api.access import metrics_of, services
from api.front import CONTRACT
from api.metrics import Metrics
from api.outward.alarms import alarms
from api.services import Services
from ledger.postgres import AWAY
from projections.builds import list_builds

_ENOUGH_SECONDS: Final = 8.0
"""Prometheus gives up after ten."""

HEADS: Final = """
SELECT h.book, h.position, s.position AS signed, s.signed_at
FROM ledger.head AS h
LEFT JOIN LATERAL (SELECT c.position, c.signed_at
                   FROM ledger.log_checkpoint AS c
                   WHERE c.book = h.book
                   ORDER BY c.position DESC
                   LIMIT 1) AS s ON true
WHERE h.position > 0
ORDER BY h.book
"""

CONFLICTS: Final = "SELECT book, count(*) AS count FROM ledger.event_conflict GROUP BY book ORDER BY book"

BUILDS: Final = """
SELECT projection, phase, count(*) AS count
FROM ledger.build
GROUP BY projection, phase
ORDER BY projection, phase
"""

LIVE_SCHEMAS: Final = """
SELECT projection, schema_name
FROM ledger.build
WHERE phase = 'live'
ORDER BY projection
"""

ENTER: Final = "SELECT set_config('search_path', $1, true)"

DIRTY: Final = "SELECT count(*) FROM dirty"


async def prometheus(request: Request) -> Response:
    """Answer what this process counts, and what the database knows."""
    serving = services(request)
    try:
        async with asyncio.timeout(_ENOUGH_SECONDS):
            families = [_one("ledger_database_up", "Whether the database answers", 1), *await _measure(serving)]
    except (*AWAY, asyncpg.PostgresError):
        families = [_one("ledger_database_up", "Whether the database answers", 0)]
    measure(metrics_of(request), serving)
    now = CollectorRegistry()
    now.register(_Measured([_release(), *families]))
    content = generate_latest(metrics_of(request).registry) + generate_latest(now)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Measured(Collector):
    """Gives what was measured already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families that have a value."""
        return [family for family in self._families if family.samples]


def _one(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value)


def measure(metrics: Metrics, serving: Services) -> None:
    """Note how things are in this process, for itself and for those who answer for it."""
    metrics.measured(waiting=serving.appender.waiting, readers=serving.live.streams.count)


def _release() -> Metric:
    about = GaugeMetricFamily("ledger_info", "This release, and the contract it keeps", labels=["version", "contract"])
    about.add_metric([version("ledger"), CONTRACT], 1)
    return about


async def _measure(serving: Services) -> list[Metric]:
    now, asks_stripe = serving.clock(), serving.settings.stripe_api_key is not None
    async with (
        serving.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        return [
            *await _log(connection, now),
            *await _builds(connection, now),
            await _dirty(connection),
            *await alarms(connection, now, asks_stripe=asks_stripe),
        ]


async def _log(connection: asyncpg.Connection, now: datetime) -> list[Metric]:
    events = CounterMetricFamily("ledger_log_events", "Events appended: a book's head", labels=["book"])
    age = GaugeMetricFamily("ledger_checkpoint_age_seconds", "Since a book's head was last signed", labels=["book"])
    unsigned = GaugeMetricFamily(
        "ledger_checkpoint_unsigned_events",
        "Events after the newest signed head: an alarm when it stays",
        labels=["book"],
    )
    conflicts = CounterMetricFamily("ledger_conflicts", "Later copies that say something else", labels=["book"])
    for row in await connection.fetch(HEADS):
        events.add_metric([row["book"]], row["position"])
        unsigned.add_metric([row["book"]], row["position"] - (row["signed"] or 0))
        if row["signed_at"] is not None:
            age.add_metric([row["book"]], max(0.0, (now - row["signed_at"]).total_seconds()))
        conflicts.add_metric([row["book"]], 0)
    counted = {row["book"]: row["count"] for row in await connection.fetch(CONFLICTS)}
    conflicts.samples = [one._replace(value=counted.get(one.labels["book"], 0)) for one in conflicts.samples]
    return [events, age, unsigned, conflicts]


async def _builds(connection: asyncpg.Connection, now: datetime) -> list[Metric]:
    of_book = ["projection", "book"]
    position = GaugeMetricFamily("ledger_projection_position", "How far the live build has folded", labels=of_book)
    behind = GaugeMetricFamily("ledger_projection_lag_events", "Positions the live build lacks", labels=of_book)
    lag = GaugeMetricFamily("ledger_projection_lag_seconds", "How long the oldest of them waits", labels=of_book)
    parked = GaugeMetricFamily("ledger_projection_parked", "Subjects that could not be folded", labels=of_book[:1])
    builds = GaugeMetricFamily("ledger_builds", "Builds by phase", labels=["projection", "phase"])
    found: dict[str, int] = {}
    for row in await list_builds(connection):
        found[row["projection"]] = row["parked"]
        if row["book"] is not None:
            names, waits = [row["projection"], row["book"]], row["waiting_since"]
            position.add_metric(names, row["position"])
            behind.add_metric(names, row["head"] - row["position"])
            lag.add_metric(names, max(0.0, (now - waits).total_seconds()) if waits else 0.0)
    for name, count in found.items():
        parked.add_metric([name], count)
    for row in await connection.fetch(BUILDS):
        builds.add_metric([row["projection"], row["phase"]], row["count"])
    return [position, behind, lag, parked, builds]


async def _dirty(connection: asyncpg.Connection) -> Metric:
    family = GaugeMetricFamily(
        "ledger_projection_dirty", "Subjects that something told late made dirty", labels=["projection"]
    )
    for row in await connection.fetch(LIVE_SCHEMAS):
        await connection.execute(ENTER, row["schema_name"])
        family.add_metric([row["projection"]], await connection.fetchval(DIRTY))
    return family

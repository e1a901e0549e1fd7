"""Alarms: hours that are not proven, a silent endpoint, requests that were given up, purchases of unknown content."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

import asyncpg
from prometheus_client.metrics_core import GaugeMetricFamily

from api.outward import wanted
from api.outward.coverage import HOUR, KEPT, Hour, covered_books, first_hour, hour_of, read_hours
from projections.builds import enter_build
from projections.entitlements.tables import NAME as ENTITLEMENTS

PROVEN_WITHIN: Final = 2 * HOUR
"""An hour older than this should be proven."""

KNOWN_WITHIN: Final = timedelta(seconds=60)
"""What was bought should be known so long after it was paid for: until then nobody may use it."""

_LOOK_BACK: Final = timedelta(days=14)
_UNUSUAL_WITHOUT_HISTORY: Final = timedelta(hours=24)

# Among the newest only: an imported log has none, however far back one looks.
LAST_WEBHOOK: Final = """
SELECT received_at
FROM (
    SELECT position, source, received_at
    FROM ledger.event
    WHERE book = $1
    ORDER BY position DESC
    LIMIT 10000
) AS newest
WHERE source = 'webhook'
ORDER BY position DESC
LIMIT 1
"""

UNKNOWN_PURCHASES: Final = """
SELECT count(*)
FROM entitlement_source
WHERE book = $1 AND kind = 'purchase' AND product IS NULL AND price IS NULL AND status = 'paid' AND valid_to IS NULL
  AND valid_from <= $2
"""


async def alarms(connection: asyncpg.Connection, now: datetime, *, asks_stripe: bool) -> list[GaugeMetricFamily]:
    """Measure them for Prometheus. Without a key nothing can be proven, and nothing is said to be unproven."""
    unproven = GaugeMetricFamily(
        "ledger_coverage_unproven_hours",
        "Hours older than two that are not proven complete: an alarm above 0",
        labels=["book"],
    )
    missed = GaugeMetricFamily(
        "ledger_coverage_found_events", "Events of the last 30 days that had to be asked for", labels=["book"]
    )
    silent = GaugeMetricFamily("ledger_webhook_silence_seconds", "Since the last webhook of a book", labels=["book"])
    unusual = GaugeMetricFamily(
        "ledger_webhook_silence_unusual",
        "1 where a book's webhooks have been silent for unusually long: an alarm",
        labels=["book"],
    )
    asked = GaugeMetricFamily(
        "ledger_observations",
        "Requests to Stripe by what became of them: given_up is an alarm",
        labels=["book", "state"],
    )
    unknown = GaugeMetricFamily(
        "ledger_purchases_unknown",
        "Purchases paid for over a minute ago of which it is not known what was bought: an alarm above 0",
        labels=["book"],
    )
    for book in await covered_books(connection):
        unknown.add_metric([book], await unknown_purchases(connection, book, now))
        begin = max(await first_hour(connection, book) or now, hour_of(now - KEPT) + HOUR)
        hours = await read_hours(connection, book, hour_of(begin), hour_of(now))
        if asks_stripe:
            unproven.add_metric([book], len(overdue(hours, now)))
            missed.add_metric([book], sum(hour.found for hour in hours))
        last = await connection.fetchval(LAST_WEBHOOK, book)
        if last is not None:
            silent.add_metric([book], (now - last).total_seconds())
            unusual.add_metric([book], now - last > usual_silence(hours, last))
    for (book, state), count in (await wanted.counts(connection)).items():
        asked.add_metric([book, state], count)
    return [unproven, missed, silent, unusual, asked, unknown]


async def unknown_purchases(connection: asyncpg.Connection, book: str, now: datetime) -> int:
    """Count what was paid for and gives nothing, since neither events nor Stripe's API said what it is."""
    if (await enter_build(connection, ENTITLEMENTS, book)).build is None:
        return 0
    return int(await connection.fetchval(UNKNOWN_PURCHASES, book, now - KNOWN_WITHIN))


def overdue(hours: Sequence[Hour], now: datetime) -> list[Hour]:
    """Return the hours that should be proven by now and are not."""
    return [one for one in hours if not one.proven and one.hour + HOUR + PROVEN_WITHIN <= now]


def usual_silence(hours: Sequence[Hour], last_webhook: datetime) -> timedelta:
    """Return the longest silence that is nothing unusual: twice the longest of the two weeks before the last webhook.

    Nobody's business is silent for less than two hours; where no hours were looked at, a day is unusual.
    """
    recent = [one for one in hours if last_webhook - _LOOK_BACK <= one.hour < hour_of(last_webhook) and one.listed_at]
    if not recent:
        return _UNUSUAL_WITHOUT_HISTORY
    runs = [len(list(run)) for quiet, run in groupby(one.webhooks == 0 for one in recent) if quiet]
    return max(PROVEN_WITHIN, 2 * HOUR * (max(runs, default=0) + 1))

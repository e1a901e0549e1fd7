"""Reading the components of a month's tie-out from a build of revenue that the connection has entered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Final

import asyncpg

from projections.mrr.worth import Policy
from projections.periods.lines import read_earned_by_line
from projections.periods.tie_out import Earned

WORTH: Final = """
SELECT currency,
       sum(net_forever * extract(epoch FROM least(until, $3) - greatest(since, $2))) FILTER (WHERE gross > 0) AS worth,
       sum(net_all * extract(epoch FROM least(until, $3) - greatest(since, $2))) FILTER (WHERE gross > 0) AS discounted,
       sum(CASE $4 WHEN 'all-discounts' THEN net_all ELSE net_forever END) FILTER (WHERE lasts) AS last
FROM mrr_span
CROSS JOIN LATERAL (SELECT until IS NULL OR until >= $3 AS lasts) AS at_the_end
WHERE book = $1 AND since < $3 AND (until IS NULL OR until > $2) AND (gross > 0 OR incomplete <> '{}')
GROUP BY currency
"""
"""Worth over the month's time, and in its last second; what is not fully known yet may be worth nothing so far."""

EARNED: Final = """
SELECT currency, sum(earned_counted) AS counted, sum(earned_uncounted) AS uncounted, -sum(revenue) AS earned
FROM revenue_sum
WHERE book = $1 AND months = 1 AND period = $2
GROUP BY currency
"""

EARNED_SINCE: Final = 4
"""The first version of revenue whose sums know what was earned on subscriptions; an older build is read by line."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """By currency: worth in the month's last second, and over its time before and after temporary discounts; and what
    the month earned."""

    worth: Mapping[str, int]
    average: Mapping[str, Fraction]
    discounted: Mapping[str, Fraction]
    earned: Mapping[str, Earned]


async def read_bridge(
    connection: asyncpg.Connection, version: int, book: str, policy: Policy, start: datetime, end: datetime
) -> Bridge:
    """Return what is needed to tie a month out, from a build of a version of revenue."""
    seconds = int((end - start).total_seconds())
    rows = await connection.fetch(WORTH, book, start, end, policy)
    earned = read_earned if version >= EARNED_SINCE else read_earned_by_line
    counted = [row for row in rows if row["worth"] is not None]
    return Bridge(
        worth={row["currency"]: int(row["last"]) for row in rows if row["last"] is not None},
        average={row["currency"]: Fraction(row["worth"]) / seconds for row in counted},
        discounted={row["currency"]: Fraction(row["discounted"]) / seconds for row in counted},
        earned=await earned(connection, book, start, end),
    )


async def read_earned(
    connection: asyncpg.Connection, book: str, start: datetime, end: datetime
) -> Mapping[str, Earned]:
    """Return by currency what the month from ``start`` to ``end`` earned, from the sums of months."""
    found: dict[str, Earned] = {}
    for row in await connection.fetch(EARNED, book, start.date()):
        counted, uncounted = int(row["counted"] or 0), int(row["uncounted"] or 0)
        found[row["currency"]] = Earned(counted, uncounted, int(row["earned"] or 0) - counted - uncounted)
    return found

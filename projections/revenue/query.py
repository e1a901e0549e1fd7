"""Reading the books: balances and recognition at any second, from sums of whole months and what the last one adds.

All of it needs a transaction in which the build was entered, so that registry and rows are of one snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

import asyncpg

from projections.revenue.documents import time_of
from projections.revenue.schedule import month_start
from projections.revenue.sums import COLUMNS, flow_of, month_of

# The columns' names are constants of this code.
_SUM: Final = ", ".join(f"sum({column}) AS {column}" for column in COLUMNS)

WHOLE_MONTHS: Final = f"""
SELECT currency, {_SUM}
FROM revenue_sum
WHERE book = $1
  AND ((months = 12 AND period < date_trunc('year', $2::date)) OR
       (months = 1 AND period >= date_trunc('year', $2::date) AND period < $2))
GROUP BY currency
"""  # noqa: S608
"""Everything before a month: whole years, and the months of its own year."""

BY_MONTH: Final = f"""
SELECT period, currency, {_SUM}
FROM revenue_sum
WHERE book = $1 AND months = 1 AND period >= $2 AND period < $3
GROUP BY period, currency
ORDER BY period, currency
"""  # noqa: S608

POSTED: Final = """
SELECT e.currency, e.kind, posted.account, sum(posted.amount) AS amount
FROM journal_entry AS e
CROSS JOIN LATERAL unnest(e.accounts, e.amounts) AS posted (account, amount)
WHERE e.book = $1 AND e.at >= $2 AND e.at <= $3
GROUP BY e.currency, e.kind, posted.account
"""

EARNED: Final = """
SELECT s.currency, s.account, sum(sign(s.amount) * (
           q.q0 + CASE WHEN 2 * (n.n0 - q.q0 * s.c) + q.q0 % 2 > s.c THEN 1 ELSE 0 END
           - q.q1 - CASE WHEN 2 * (n.n1 - q.q1 * s.c) + q.q1 % 2 > s.c THEN 1 ELSE 0 END)) AS amount
FROM earning_span AS s
CROSS JOIN LATERAL (
    SELECT greatest(s.start, $2) AS since,
           CASE WHEN $3 >= least(s."end", $4) - 1 THEN least(s."end", $4) ELSE $3 END AS until
) AS cut
CROSS JOIN LATERAL (
    SELECT abs(s.amount * (s.a - s.b * ((cut.since - s.origin) / s.unit))) AS n0,
           abs(s.amount * (s.a - s.b * ((cut.until - s.origin) / s.unit))) AS n1
) AS n
CROSS JOIN LATERAL (SELECT div(n.n0, s.c) AS q0, div(n.n1, s.c) AS q1) AS q
WHERE s.book = $1 AND s."end" > $2 AND s.start < cut.until
GROUP BY s.currency, s.account
"""
"""What the month from $2 to $4 has earned by $3; in the last second of a span's month it has earned all of it."""

WATERFALL: Final = """
SELECT to_char(i.finalized_at AT TIME ZONE 'UTC', 'YYYY-MM') AS invoiced, to_char(j.at AT TIME ZONE 'UTC', 'YYYY-MM')
       AS recognized, j.currency, sum(-j.amount) AS amount
FROM ledger.journal_lines AS j
JOIN invoice AS i ON i.invoice = j.invoice
WHERE j.book = $1 AND j.account = 'revenue' AND j.at >= $2 AND j.at < $3
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
"""

PROBLEMS: Final = """
SELECT kind, key, currency, amount, at, because
FROM revenue_problem
WHERE book = $1 AND at <= $2
ORDER BY at, kind, key
LIMIT $3
"""

Sums = dict[str, dict[str, int]]
"""Amounts by currency and column."""


async def balances(connection: asyncpg.Connection, book: str, at: int) -> Sums:
    """Return what every account comes to at a second, that second included, since the first event."""
    start, end = month_start(at), month_start(at, 1)
    if at == end - 1:
        return await _before(connection, book, month_of(end))
    found = await _before(connection, book, month_of(start))
    _add(found, await _within(connection, book, start, at))
    return found


async def _before(connection: asyncpg.Connection, book: str, month: date) -> Sums:
    return {row["currency"]: _columns(row) for row in await connection.fetch(WHOLE_MONTHS, book, month)}


async def _within(connection: asyncpg.Connection, book: str, start: int, until: int) -> Sums:
    """Return what an unfinished month has come to."""
    found: Sums = {}
    for row in await connection.fetch(POSTED, book, time_of(start), time_of(until)):
        _add_one(found, row["currency"], row["account"], int(row["amount"]))
        if (flow := flow_of(row["kind"], row["account"], int(row["amount"]))) is not None:
            _add_one(found, row["currency"], *flow)
    for row in await connection.fetch(EARNED, book, start, until, month_start(start, 1)):
        _add_one(found, row["currency"], row["account"], int(row["amount"]))
        _add_one(found, row["currency"], "revenue", -int(row["amount"]))
    return found


async def months(
    connection: asyncpg.Connection, book: str, first: date, until: date, at: int | None
) -> dict[date, Sums]:
    """Return what each month came to; with ``at`` only what had come about by that second."""
    found: dict[date, Sums] = {}
    whole = until if at is None else min(until, month_of(at + 1))
    for row in await connection.fetch(BY_MONTH, book, first, whole):
        found.setdefault(row["period"], {})[row["currency"]] = _columns(row)
    if at is not None and first <= month_of(at) < until and whole <= month_of(at):
        found[month_of(at)] = await _within(connection, book, month_start(at), at)
    return found


async def opening(connection: asyncpg.Connection, book: str, month: date) -> Sums:
    """Return what everything came to before a month."""
    return await _before(connection, book, month)


async def waterfall(
    connection: asyncpg.Connection, book: str, first: datetime, until: datetime
) -> list[dict[str, Any]]:
    """Return what each month's invoices were recognised in each month."""
    rows = await connection.fetch(WATERFALL, book, first, until)
    return [dict(row) | {"amount": int(row["amount"])} for row in rows]


async def problems(connection: asyncpg.Connection, book: str, at: datetime, limit: int) -> list[dict[str, Any]]:
    """Return what does not add up, oldest first."""
    return [dict(row) for row in await connection.fetch(PROBLEMS, book, at, limit)]


def _columns(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(row[name]) for name in COLUMNS if row[name]}


def _add(into: Sums, more: Sums) -> None:
    for currency, amounts in more.items():
        for name, amount in amounts.items():
            _add_one(into, currency, name, amount)


def _add_one(into: Sums, currency: str, name: str, amount: int) -> None:
    one = into.setdefault(currency, {})
    one[name] = one.get(name, 0) + amount

"""Reading the books: balances and recognition at any second, from sums of whole months and days, and the last one.

All of it needs a transaction in which the build was entered, so that registry and rows are of one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, Final

import asyncpg

from projections.revenue.documents import time_of
from projections.revenue.gather import midnight
from projections.revenue.journal import Books
from projections.revenue.pages import Wanted, read_journal
from projections.revenue.schedule import DAY, day_of, month_name, month_of, month_start
from projections.revenue.shown import Shown, show_all
from projections.revenue.sums import COLUMNS, SELDOM, USUAL, flow_of

# The columns' names are constants of this code.
_USUAL: Final = ", ".join(f"sum({column}) AS {column}" for column in USUAL)
_SELDOM: Final = ", ".join(f"sum({column}) AS {column}" for column in SELDOM)
_ANY_SELDOM: Final = f"coalesce({', '.join(SELDOM)}) IS NOT NULL"

WHOLE_MONTHS: Final = f"""
SELECT part.*
FROM (VALUES (12, '-infinity'::date, date_trunc('year', $2::date)::date),
             (3, date_trunc('year', $2::date)::date, date_trunc('quarter', $2::date)::date),
             (1, date_trunc('quarter', $2::date)::date, $2)) AS span (count, since, until)
CROSS JOIN LATERAL (
    SELECT *
    FROM (
        SELECT currency, {_USUAL}
        FROM revenue_sum
        WHERE book = $1 AND months = span.count AND period >= span.since AND period < span.until
        GROUP BY currency
    ) AS usual
    LEFT JOIN (
        SELECT currency, {_SELDOM}
        FROM revenue_sum
        WHERE book = $1 AND months = span.count AND period >= span.since AND period < span.until AND {_ANY_SELDOM}
        GROUP BY currency
    ) AS seldom USING (currency)
) AS part
"""  # noqa: S608
"""Everything before a month: whole years, the quarters of its own year, and the months of its own quarter."""

BY_MONTH: Final = f"""
SELECT *
FROM (
    SELECT period, currency, {_USUAL}
    FROM revenue_sum
    WHERE book = $1 AND months = 1 AND period >= $2 AND period < $3
    GROUP BY period, currency
) AS usual
LEFT JOIN (
    SELECT period, currency, {_SELDOM}
    FROM revenue_sum
    WHERE book = $1 AND months = 1 AND period >= $2 AND period < $3 AND {_ANY_SELDOM}
    GROUP BY period, currency
) AS seldom USING (period, currency)
ORDER BY period, currency
"""  # noqa: S608

BY_DAY: Final = f"""
SELECT *
FROM (
    SELECT currency, {_USUAL}
    FROM revenue_sum
    WHERE book = $1 AND months = 0 AND period >= $2 AND period < $3
    GROUP BY currency
) AS usual
LEFT JOIN (
    SELECT currency, {_SELDOM}
    FROM revenue_sum
    WHERE book = $1 AND months = 0 AND period >= $2 AND period < $3 AND {_ANY_SELDOM}
    GROUP BY currency
) AS seldom USING (currency)
"""  # noqa: S608

POSTED: Final = """
SELECT e.currency, e.kind, posted.account, sum(posted.amount) AS amount
FROM journal_entry AS e
CROSS JOIN LATERAL unnest(e.accounts, e.amounts) AS posted (account, amount)
WHERE e.book = $1 AND e.at >= $2 AND e.at <= $3
GROUP BY e.currency, e.kind, posted.account
"""

EARNED: Final = """
SELECT currency, account,
       coalesce(sum(sign * (n0 / d + (2 * (n0 % d) + (n0 / d) % 2 > d)::int
                            - n1 / d - (2 * (n1 % d) + (n1 / d) % 2 > d)::int)), 0)
       + coalesce(sum(sign * (div(w0, c) + (2 * mod(w0, c) + mod(div(w0, c), 2) > c)::int
                              - div(w1, c) - (2 * mod(w1, c) + mod(div(w1, c), 2) > c)::int)), 0) AS amount
FROM (
    SELECT s.currency, s.account, sign(s.amount)::bigint AS sign, s.c, small.d,
           CASE WHEN small.d IS NOT NULL
               THEN abs(s.amount) * (s.a::bigint - s.b::bigint * ((cut.since - s.origin) / s.unit)) END AS n0,
           CASE WHEN small.d IS NOT NULL
               THEN abs(s.amount) * (s.a::bigint - s.b::bigint * ((cut.until - s.origin) / s.unit)) END AS n1,
           CASE WHEN small.d IS NULL THEN abs(s.amount * (s.a - s.b * ((cut.since - s.origin) / s.unit))) END AS w0,
           CASE WHEN small.d IS NULL THEN abs(s.amount * (s.a - s.b * ((cut.until - s.origin) / s.unit))) END AS w1
    FROM earning_span AS s
    CROSS JOIN LATERAL (
        SELECT greatest(s.start, $2) AS since,
               CASE WHEN $3 >= least(s."end", $4) - 1 THEN least(s."end", $4) ELSE $3 END AS until
    ) AS cut
    CROSS JOIN LATERAL (
        SELECT CASE WHEN abs(s.amount) < 2147483648 AND s.c < 4294967296 THEN s.c::bigint END AS d
    ) AS small
    WHERE s.book = $1 AND s."end" > $2 AND s.start <= $3 AND s.start < cut.until
    OFFSET 0
) AS earning
GROUP BY currency, account
"""
"""What the month from $2 to $4 has earned by $3; in the last second of a span's month it has earned all of it.

What fits is worked out in 64 bits, the rest in decimals. OFFSET 0 keeps the planner from working each out many times.
"""

POSITION: Final = """
SELECT c.position
FROM ledger.checkpoint AS c
JOIN ledger.build AS b USING (build_id)
WHERE c.book = $1
  AND CASE WHEN $2::text IS NULL THEN b.projection = 'revenue' AND b.phase = 'live' ELSE b.build_id = $2 END
"""

PROBLEMS: Final = """
SELECT subject, kind, key, currency, amount, at, because
FROM revenue_problem
WHERE book = $1 AND at <= $2 AND ($4::timestamptz IS NULL OR (at, kind, key, subject) > ($4, $5, $6, $7))
ORDER BY at, kind, key, subject
LIMIT $3
"""

FALLEN: Final = """
SELECT currency, period AS recognized, invoiced_first, sum(fallen_first) AS first, invoiced_second,
       sum(fallen_second) AS second
FROM revenue_sum
WHERE book = $1 AND months = 1 AND period >= $2 AND period < $3 AND invoiced_first IS NOT NULL
GROUP BY currency, period, invoiced_first, invoiced_second
"""
"""What each month earned, by which months' invoices; an index holds all of it, in this order."""

FALLEN_OTHERS: Final = """
SELECT currency, period AS recognized, invoiced, sum(fallen) AS amount
FROM revenue_sum
CROSS JOIN LATERAL unnest(invoiced_others, fallen_others) AS other (invoiced, fallen)
WHERE book = $1 AND months = 1 AND period >= $2 AND period < $3 AND invoiced_others IS NOT NULL
GROUP BY currency, period, invoiced
"""

FALLEN_SINCE: Final = 6
"""The first version of revenue whose months say so in columns of which month's invoices they earned; an older build's
journal is read."""

INVOICED: Final = """
SELECT invoice, to_char(finalized_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month FROM invoice WHERE book = $1
"""


Falls = dict[tuple[str, str, str], int]
"""Amounts by currency, month of invoice and month of service."""

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
    found: Sums = {}
    for row in await connection.fetch(WHOLE_MONTHS, book, month):
        _add(found, {row["currency"]: _columns(row)})
    return found


async def _within(connection: asyncpg.Connection, book: str, start: int, until: int) -> Sums:
    """Return what an unfinished month has come to: its whole days, and entry by entry what came on the last one."""
    today = until + 1 - (until + 1) % DAY
    days = await connection.fetch(BY_DAY, book, day_of(start), day_of(today))
    found: Sums = {row["currency"]: _columns(row) for row in days}
    for row in await connection.fetch(POSTED, book, time_of(today), time_of(until)) if today <= until else ():
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
    connection: asyncpg.Connection, version: int, book: str, since: int, until: int
) -> list[dict[str, Any]]:
    """Return by month of invoice and month of service what was recognised, oldest first, in a build of a version.

    From the first second of a month on: whole months are read from their sums, one that is not over from the journal.
    """
    whole = month_start(until + 1) if version >= FALLEN_SINCE else since
    sums: Falls = {}
    if since < whole:
        await _fall_by_month(connection, sums, book, month_of(since), month_of(whole))
    if max(since, whole) <= until:
        await _fall_by_entry(connection, sums, book, max(since, whole), until)
    return _waterfall(sums)


async def _fall_by_month(connection: asyncpg.Connection, sums: Falls, book: str, first: date, until: date) -> None:
    found = [
        (row, row[f"invoiced_{which}"], row[which])
        for row in await connection.fetch(FALLEN, book, first, until)
        for which in ("first", "second")
    ]
    others = await connection.fetch(FALLEN_OTHERS, book, first, until)
    found += [(row, row["invoiced"], row["amount"]) for row in others]
    for row, invoiced, amount in found:
        if invoiced is not None:
            key = (row["currency"], f"{invoiced:%Y-%m}", f"{row['recognized']:%Y-%m}")
            sums[key] = sums.get(key, 0) + int(amount)


async def _fall_by_entry(connection: asyncpg.Connection, sums: Falls, book: str, since: int, until: int) -> None:
    invoiced = {row["invoice"]: row["month"] for row in await connection.fetch(INVOICED, book)}
    async for some in read_journal(connection, Wanted(book, since, until, account="revenue")):
        _fall(sums, some, invoiced)


def waterfall_of(made: Iterable[Books], since: int, until: int) -> list[dict[str, Any]]:
    """Return the same of subjects that were folded anew."""
    books = list(made)
    invoiced = {key: month_name(one.finalized_at) for some in books for key, one in some.facts.invoices.items()}
    sums: Falls = {}
    _fall(sums, show_all(books, since, until), invoiced)
    return _waterfall(sums)


def _fall(sums: Falls, entries: Iterable[Shown], invoiced: Mapping[str, str]) -> None:
    for entry in entries:
        for line in entry.lines:
            if line.account == "revenue":
                recognized = month_name(entry.at)
                key = (entry.currency, invoiced.get(line.invoice or "", recognized), recognized)
                sums[key] = sums.get(key, 0) - line.amount


def _waterfall(sums: Falls) -> list[dict[str, Any]]:
    return [
        {"currency": currency, "invoiced": invoiced, "recognized": recognized, "amount": amount}
        for (currency, invoiced, recognized), amount in sorted(sums.items())
    ]


async def position_of(connection: asyncpg.Connection, book: str, build: str | None) -> int:
    """Return how far a build, or the live one, has folded a book."""
    return int(await connection.fetchval(POSITION, book, build) or 0)


def seconds(day: date) -> int:
    """Return a UTC day's first second."""
    return midnight(day)


async def problems(
    connection: asyncpg.Connection,
    book: str,
    at: datetime,
    limit: int,
    after: tuple[datetime, str, str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return what does not add up, oldest first, or after one; each with the subject whose it is."""
    return [dict(row) for row in await connection.fetch(PROBLEMS, book, at, limit, *(after or (None,) * 4))]


def _columns(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(row[name]) for name in COLUMNS if row[name]}


def _add(into: Sums, more: Sums) -> None:
    for currency, amounts in more.items():
        for name, amount in amounts.items():
            _add_one(into, currency, name, amount)


def _add_one(into: Sums, currency: str, name: str, amount: int) -> None:
    one = into.setdefault(currency, {})
    one[name] = one.get(name, 0) + amount

"""The reported journal: sealed entries of closed months, and later changes of these in the first open month."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Final

import asyncpg

from projections.builds import enter_both, enter_build
from projections.periods.kept import KEEPS
from projections.periods.months import month_end, month_start
from projections.periods.owners import Scope, by_owner
from projections.periods.query import Closed, sealed_line_of
from projections.periods.reported import prior_period
from projections.periods.seal import PRIOR_PERIOD, SealedLine
from projections.periods.tables import NAME
from projections.revenue.documents import time_of
from projections.revenue.pages import Wanted, read_journal, read_one
from projections.revenue.prints import MODULUS
from projections.revenue.shown import Shown, ShownLine
from projections.revenue.whose import customer_of

LINES: Final = """
SELECT owner, entry, kind, of, at, original_month, currency, account, amount, invoice, line, subscription, product,
       price, tax_rate, because
FROM sealed_line
WHERE book = $1 AND digest = $2 AND (at, entry COLLATE "C") > ($3, $4) AND at <= $5
  AND ($6::text IS NULL OR customer = $6) AND ($7::text IS NULL OR entry = $7)
ORDER BY at, entry COLLATE "C", owner COLLATE "C", original_month, subject, place
LIMIT $8
"""

SEALED_FOR: Final = """
SELECT DISTINCT owner FROM sealed_line WHERE book = $1 AND digest = ANY ($2) AND (entry = ANY ($3) OR line = $4)
"""

SO_FOR: Final = """
SELECT subject AS owner FROM journal_entry WHERE book = $1 AND (entry = $2 OR lines @> ARRAY[$3])
UNION
SELECT subject FROM earning_span WHERE book = $1 AND line = $3
"""

DIFFERING: Final = """
SELECT owner
FROM (
    SELECT owner, print
    FROM sealed_print
    CROSS JOIN LATERAL unnest(owners, prints) AS was (owner, print)
    WHERE book = $1 AND digest = ANY ($2)
    UNION ALL
    SELECT subject, -prints[width_bucket($3::date, months)]
    FROM journal_print
    WHERE book = $1
) AS sealed_and_so
GROUP BY owner
HAVING mod(sum(print), $4) <> 0
"""
"""Whose books differ from what was sealed of them up to the end of a month: seldom many, so theirs alone are read."""

_FEW: Final = 250
_MANY: Final = 16_000
_ABOUT: Final = ("account", "amount", "invoice", "line", "subscription", "product", "price", "tax_rate")


async def reported_journal(
    connection: asyncpg.Connection, revenue: str, build: str | None, wanted: Wanted, closed: Closed
) -> AsyncIterator[list[Shown]]:
    """Give the wanted entries month by month: as sealed, then as they are, beginning with what changed since.

    The connection is in a build of revenue (None: the live one) before, and whenever entries are given.
    """
    async for some in _sealed_months(connection, revenue, build, wanted, closed):
        yield some
    changed = await _changed(connection, revenue, build, wanted, closed)
    async for some in read_journal(connection, opened(wanted, closed)):
        due = [one for one in changed if some and place_in(one) <= place_in(some[-1])]
        yield sorted([*due, *some], key=place_in)
        changed = changed[len(due) :]
    if changed:
        yield changed


async def read_named(
    connection: asyncpg.Connection, revenue: str, build: str | None, wanted: Wanted, closed: Closed
) -> list[Shown]:
    """Return one entry, or all entries of one line, reading only the customers and open months that have any."""
    sealed: list[Shown] = []
    changed: list[Shown] = []
    open_: list[Shown] = []
    for part in await _whose(connection, revenue, build, wanted, closed):
        async for some in _sealed_months(connection, revenue, build, part, closed):
            sealed += some
        changed += await _changed(connection, revenue, build, part, closed)
        open_ += await read_one(connection, opened(part, closed))
    return [*sorted(sealed, key=place_in), *changed, *sorted(open_, key=place_in)]


async def _whose(
    connection: asyncpg.Connection, revenue: str, build: str | None, wanted: Wanted, closed: Closed
) -> list[Wanted]:
    """Ask only the customers who have the entry or line."""
    if wanted.customer is not None or closed.until is None:
        return [wanted]
    entry = (wanted.entry or "").partition(":prior:")[0]
    line = wanted.line or entry.partition(":rec:")[0]
    await enter_build(connection, NAME, wanted.book)
    rows = await connection.fetch(SEALED_FOR, wanted.book, closed.digests(), [entry, wanted.entry or entry], line)
    await enter_build(connection, revenue, wanted.book, build)
    rows += await connection.fetch(SO_FOR, wanted.book, entry, line)
    customers = sorted({row["owner"].removeprefix(f"{wanted.book}/") for row in rows})
    if not all(map(customer_of, customers)):
        return [wanted]
    return [replace(wanted, customer=one) for one in customers]


def opened(wanted: Wanted, closed: Closed) -> Wanted:
    """Return what is left to read of the journal as it is."""
    return wanted if closed.until is None else replace(wanted, since=max(wanted.since, int(closed.until.timestamp())))


async def _sealed_months(
    connection: asyncpg.Connection, revenue: str, build: str | None, wanted: Wanted, closed: Closed
) -> AsyncIterator[list[Shown]]:
    """Yield what was sealed, piece by piece: a month of a large book may not fit in memory."""
    for period in closed.periods:
        start, end = int(month_start(period.month).timestamp()), int(month_end(period.month).timestamp()) - 1
        since, until = max(start, wanted.since), min(end, wanted.until)
        if since <= until:
            async for lines in _sealed_lines(connection, revenue, build, wanted, period.digest, (since, until)):
                yield shown_of(lines, wanted)


async def _sealed_lines(
    connection: asyncpg.Connection,
    revenue: str,
    build: str | None,
    wanted: Wanted,
    digest: str,
    between: tuple[int, int],
) -> AsyncIterator[list[SealedLine]]:
    """Give postings of a seal in the order of time, whole entries at once.

    A page needs few of them and a month all, so each piece is larger than the one before.
    """
    since, until = map(time_of, between)
    entry, size = "", _FEW
    while True:
        await enter_build(connection, NAME, wanted.book)
        of = (wanted.book, digest, since, entry, until, wanted.customer, wanted.entry)
        lines = [sealed_line_of(row) for row in await connection.fetch(LINES, *of, size)]
        await enter_build(connection, revenue, wanted.book, build)
        whole, is_last = len(lines), len(lines) < size
        while whole and not is_last and lines[whole - 1].entry == lines[-1].entry:
            whole -= 1  # the last entry may go on
        yield lines[:whole]
        if is_last:
            return
        if whole:
            since, entry = lines[whole - 1].at, lines[whole - 1].entry
        size = min(size * 2, _MANY) if whole else size * 2


async def _changed(
    connection: asyncpg.Connection, revenue: str, build: str | None, wanted: Wanted, closed: Closed
) -> list[Shown]:
    """Return what changed in closed months since they were sealed, if the moment it is posted at is wanted."""
    until = closed.until
    if until is None or not wanted.prior or not wanted.since <= until.timestamp() <= wanted.until:
        return []
    customers = await _differing(connection, revenue, build, wanted, closed)
    if customers == []:
        await enter_build(connection, revenue, wanted.book, build)
        return []
    scope = Scope(wanted.book, until, closed.digests(), customers)
    found: list[Shown] = []
    async for one in by_owner(connection, revenue, build, scope, with_movements=False):
        found += shown_of(prior_period(one.lines, one.sealed_lines, closed.first_open or ""), wanted)
    return sorted(found, key=place_in)


async def _differing(
    connection: asyncpg.Connection, revenue: str, build: str | None, wanted: Wanted, closed: Closed
) -> list[str] | None:
    """Return the wanted customers whose books changed since they were sealed; None if a build keeps no prints."""
    if wanted.customer is not None:
        return [wanted.customer]
    await enter_both(connection, revenue, build, NAME)
    for table in ("journal_print", "sealed_print"):
        if not await connection.fetchval(KEEPS, table):
            return None
    month = month_start(closed.periods[-1].month).date()
    rows = await connection.fetch(DIFFERING, wanted.book, closed.digests(), month, Decimal(MODULUS))
    return sorted(row["owner"].removeprefix(f"{wanted.book}/") for row in rows)


def shown_of(lines: Iterable[SealedLine], wanted: Wanted) -> list[Shown]:
    """Return the wanted entries that sealed postings, or such as are posted beside them, are of."""
    by_entry: dict[tuple[str, str, str], list[SealedLine]] = {}
    for one in lines:
        by_entry.setdefault(_entry_of(one), []).append(one)
    found = [_entry(wanted.book, some) for some in by_entry.values()]
    return sorted((one for one in found if is_wanted(one, wanted)), key=place_in)


def _entry_of(line: SealedLine) -> tuple[str, str, str]:
    return (line.owner, line.entry, line.original_month)


def place_in(one: Shown) -> tuple[int, str]:
    """Return what entries are in the order of."""
    return (one.at, one.entry)


def _entry(book: str, lines: list[SealedLine]) -> Shown:
    first = lines[0]
    key = first.owner.removeprefix(f"{book}/")
    return Shown(
        entry=first.entry,
        at=int(first.at.timestamp()),
        customer=customer_of(key),
        kind=first.kind,
        currency=first.currency,
        original_month=first.original_month if first.kind == PRIOR_PERIOD else None,
        lines=tuple(ShownLine(*(getattr(one, name) for name in _ABOUT)) for one in lines),
        because=first.because,
    )


def is_wanted(one: Shown, wanted: Wanted) -> bool:
    """Tell whether an entry is the one that is asked for, or has what is asked for."""
    return (
        wanted.entry in {None, one.entry}
        and (wanted.account is None or any(line.account == wanted.account for line in one.lines))
        and (wanted.line is None or any(line.line == wanted.line for line in one.lines))
    )

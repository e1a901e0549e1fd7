"""Reported accounts and flows: closed months as sealed, their later changes in the first open month."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import asyncpg

from projections.periods.query import Closed
from projections.periods.totals import read_totals
from projections.revenue import query
from projections.revenue.query import Sums
from projections.revenue.schedule import month_of, month_start


@dataclass(frozen=True, slots=True)
class SealedSums:
    """What each closed month reported, by currency, account and flow; the months that have none are open."""

    months: Mapping[date, Sums]
    first_open: date

    def before(self, month: date) -> Sums:
        """Return what was reported before a closed month, or before the first open one."""
        return total(sums for one, sums in self.months.items() if one < month)


async def read_sealed_sums(connection: asyncpg.Connection, book: str, closed: Closed) -> SealedSums | None:
    """Return what closed months reported; None where no month is closed."""
    if closed.until is None:
        return None
    totals = await read_totals(connection, book, closed.digests())
    months = {day_of(one.month): totals[one.digest].sums for one in closed.periods}
    return SealedSums(months, closed.until.date())


async def reported_balances(connection: asyncpg.Connection, book: str, sealed: SealedSums | None, at: int) -> Sums:
    """Return the balance of every account at a second: the end of a closed month, or any second of an open one."""
    if sealed is not None and month_of(at) < sealed.first_open:
        return sealed.before(month_of(month_start(at, 1)))
    return await query.balances(connection, book, at)


async def reported_months(
    connection: asyncpg.Connection, book: str, sealed: SealedSums | None, first: date, until: date, at: int | None
) -> tuple[Sums, dict[date, Sums]]:
    """Return what everything came to before a month, and what each month from it on did."""
    if sealed is None or first > sealed.first_open:
        return await query.opening(connection, book, first), await query.months(connection, book, first, until, at)
    last = until if at is None else min(until, month_of(month_start(at, 1)))
    reported = {month: sums for month, sums in sealed.months.items() if first <= month < last}
    if sealed.first_open < last:
        reported |= await query.months(connection, book, sealed.first_open, until, at)
        now = await query.opening(connection, book, sealed.first_open)
        changed = less(now, sealed.before(sealed.first_open))
        reported[sealed.first_open] = total([reported.get(sealed.first_open, {}), changed])
    return sealed.before(first), reported


async def reported_month(
    connection: asyncpg.Connection, book: str, sealed: SealedSums | None, month: date, now: Sums
) -> Sums:
    """Return what one month reports, given what it is as known now."""
    if sealed is None or month > sealed.first_open:
        return now
    if month < sealed.first_open:
        return sealed.months.get(month, {})
    changed = less(await query.opening(connection, book, month), sealed.before(month))
    return total([now, changed])


def day_of(month: str) -> date:
    """Return the first day of a month."""
    return date(int(month[:4]), int(month[5:]), 1)


def total(several: Iterable[Sums]) -> Sums:
    """Add sums up."""
    found: Sums = {}
    for sums in several:
        for currency, amounts in sums.items():
            into = found.setdefault(currency, {})
            for name, amount in amounts.items():
                into[name] = into.get(name, 0) + amount
    return found


def less(sums: Sums, others: Sums) -> Sums:
    """Take sums off others."""
    negative = {currency: {name: -amount for name, amount in amounts.items()} for currency, amounts in others.items()}
    return total([sums, negative])

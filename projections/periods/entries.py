"""The journal as it is reported: sealed entries of closed months, and what changed in them in the first open one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg

from projections.builds import enter_build
from projections.periods.effective import read_lines
from projections.periods.query import Closed, read_sealed_lines
from projections.periods.reported import prior_period
from projections.periods.seal import PRIOR_PERIOD, SealedLine
from projections.revenue.entries import Entry, Posting
from projections.revenue.pages import ABOUTS, Wanted
from projections.revenue.shown import About, Shown, show


@dataclass(frozen=True, slots=True)
class SealedJournal:
    """The entries that closes account for, oldest first; from ``until`` on the journal goes on as it is."""

    entries: list[Shown]
    until: datetime


async def read_sealed_journal(
    connection: asyncpg.Connection, revenue: str, build: str | None, wanted: Wanted, closed: Closed
) -> SealedJournal | None:
    """Return what is sealed of what is wanted, with what changed since; None where no month is closed.

    The connection has entered a build of periods, and is in one of revenue (None: the live one) afterwards.
    """
    until = closed.until
    if until is None:
        await enter_build(connection, revenue, wanted.book, build)
        return None
    sealed = await read_sealed_lines(connection, wanted.book, closed.digests(), wanted.customer)
    await enter_build(connection, revenue, wanted.book, build)
    opens = int(until.timestamp())
    lines = [one for one in sealed if wanted.since <= one.at.timestamp() <= wanted.until]
    if wanted.since <= opens <= wanted.until:
        now = await read_lines(connection, wanted.book, until, wanted.customer)
        lines += prior_period(now, sealed, closed.first_open or "")
    return SealedJournal(await _shown(connection, wanted, lines), until)


def opened(wanted: Wanted, sealed: SealedJournal | None) -> Wanted:
    """Return what is left to read of the journal as it is."""
    return wanted if sealed is None else replace(wanted, since=max(wanted.since, int(sealed.until.timestamp())))


async def _shown(connection: asyncpg.Connection, wanted: Wanted, lines: Iterable[SealedLine]) -> list[Shown]:
    by_entry: dict[tuple[str, str, str], list[SealedLine]] = {}
    for one in lines:
        by_entry.setdefault((one.owner, one.entry, one.original_month), []).append(one)
    owners, invoices = set(), set()
    for some in by_entry.values():
        owners.add(some[0].owner)
        invoices |= {one.invoice for one in some if one.invoice}
    rows = await connection.fetch(ABOUTS, sorted(owners), sorted(invoices))
    abouts = {
        (row["invoice"], row["line"]): About(row["subscription"], row["product"], row["price"], row["tax_rate"])
        for row in rows
    }
    found = []
    for some in by_entry.values():
        first = some[0]
        postings = tuple(Posting(one.account, one.amount, one.line) for one in some)
        entry = Entry(
            first.entry, int(first.at.timestamp()), first.kind, first.currency, postings, first.invoice, first.because
        )
        shown = show(entry, _customer(wanted.book, first.owner), abouts)
        month = first.original_month if first.kind == PRIOR_PERIOD else None
        found.append(replace(shown, original_month=month))
    return sorted((one for one in found if _is_wanted(one, wanted)), key=lambda one: (one.at, one.entry))


def _customer(book: str, owner: str) -> str | None:
    key = owner.removeprefix(f"{book}/")
    return key if key.startswith("cus_") else None


def _is_wanted(one: Shown, wanted: Wanted) -> bool:
    return (
        wanted.entry in {None, one.entry}
        and (wanted.account is None or any(line.account == wanted.account for line in one.lines))
        and (wanted.line is None or any(line.line == wanted.line for line in one.lines))
    )

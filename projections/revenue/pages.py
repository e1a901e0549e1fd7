"""Reading the journal: the entries of a span of time, month by month, from a build's rows or folded now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from projections.contract import Projection
from projections.revenue import gather
from projections.revenue.documents import time_of
from projections.revenue.dossier import fold_facts
from projections.revenue.journal import Books, books_of
from projections.revenue.pieces import Found, Place, earnings_of, entries_of, read_pieces
from projections.revenue.policy import Policy
from projections.revenue.schedule import month_start
from projections.revenue.shown import About, Shown, show

POSTED: Final = """
SELECT subject, customer, entry, extract(epoch FROM at)::bigint AS at, kind, currency, invoice, accounts, amounts,
       lines, because
FROM journal_entry
WHERE book = $1 AND at >= $2 AND at <= $3 AND ($4::text IS NULL OR customer = $4)
  AND ($5::text IS NULL OR accounts @> ARRAY[$5]) AND ($6::text IS NULL OR entry = $6)
  AND ($7::text IS NULL OR lines @> ARRAY[$7]) AND ($8::text[] IS NULL OR subject = ANY ($8))
"""

SPANS: Final = """
SELECT subject, customer, invoice, line, currency, account, start, "end", first, amount, origin, unit, a, b, c, because
FROM earning_span
WHERE book = $1 AND "end" > $2 AND start <= $3 AND ($4::text IS NULL OR customer = $4)
  AND ($5::text IS NULL OR $5 IN (account, 'revenue')) AND ($6::text IS NULL OR line = $6)
  AND ($7::text[] IS NULL OR subject = ANY ($7))
"""

ABOUTS: Final = """
SELECT invoice, line, subscription, product, price, tax_rate
FROM invoice_line
WHERE subject = ANY ($1) AND invoice = ANY ($2)
UNION ALL
SELECT invoice, NULL, subscription, NULL, NULL, NULL
FROM invoice
WHERE subject = ANY ($1) AND invoice = ANY ($2)
"""

TIMES: Final = """
SELECT subject, extract(epoch FROM date_trunc('month', at, 'UTC'))::bigint AS since,
       extract(epoch FROM date_trunc('month', at, 'UTC'))::bigint AS until
FROM journal_entry
WHERE book = $1 AND ($2::text IS NULL OR subject = $1 || '/' || $2) AND ($3::text IS NULL OR entry = $3)
  AND ($4::text IS NULL OR lines @> ARRAY[$4])
UNION ALL
SELECT subject, start, "end" - 1
FROM earning_span
WHERE book = $1 AND ($2::text IS NULL OR subject = $1 || '/' || $2) AND line = $5
"""

OWNERS: Final = """
SELECT subject FROM journal_entry WHERE book = $1 AND (split_part(entry, ':', 1) = $2 OR lines @> ARRAY[$2])
UNION
SELECT subject FROM invoice_line WHERE book = $1 AND line = $2
ORDER BY subject
"""
"""Whose an entry or line is. An entry that is not there any more is of whom others about the same fact or line are."""

FIRST: Final = "SELECT min(period) FROM revenue_sum WHERE book = $1 AND months = 1"

SUBJECTS: Final = "SELECT DISTINCT subject FROM revenue_sum WHERE book = $1 ORDER BY subject LIMIT $2"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: of a book, from ``since`` to ``until`` (unix seconds, both included), and of what.

    ``subjects`` are whose they are, where that is known: theirs are found by key. ``prior`` asks also for what changed
    in closed months since. Where everybody's entries are asked for, those up to ``after`` are not read again.
    """

    book: str
    since: int
    until: int
    customer: str | None = None
    account: str | None = None
    entry: str | None = None
    line: str | None = None
    subjects: Sequence[str] | None = None
    prior: bool = True
    after: Place = (0, "")


async def read_month(connection: asyncpg.Connection, wanted: Wanted, month: int) -> list[Shown]:
    """Return the entries of one month that are wanted, in order of time and name."""
    start, end = max(month, wanted.since), min(month_start(month, 1) - 1, wanted.until)
    if start > end:
        return []
    rows = await connection.fetch(
        POSTED, wanted.book, time_of(start), time_of(end), wanted.customer, wanted.account, wanted.entry, wanted.line,
        wanted.subjects,
    )  # fmt: skip
    posted = entries_of(rows)
    line = wanted.line if wanted.entry is None else wanted.entry.partition(":rec:")[0]
    rows = await connection.fetch(
        SPANS, wanted.book, start, end, wanted.customer, wanted.account, line, wanted.subjects
    )
    earned = [one for one in earnings_of(rows, start, end) if wanted.entry in {None, one[2].key}]
    return await _shown(connection, sorted([*posted, *earned], key=lambda one: (one[2].at, one[2].key)))


async def read_journal(connection: asyncpg.Connection, wanted: Wanted) -> AsyncIterator[list[Shown]]:
    """Give the wanted entries in order: month by month, and where they are everybody's a piece of one at a time."""
    first = await connection.fetchval(FIRST, wanted.book)
    if first is None:
        return
    month = max(month_start(wanted.since), gather.midnight(first))
    of_few = any(one is not None for one in (wanted.customer, wanted.entry, wanted.line, wanted.subjects))
    while month <= wanted.until:
        start, end = max(month, wanted.since), min(month_start(month, 1) - 1, wanted.until)
        if of_few:
            yield await read_month(connection, wanted, month)
        elif start <= end:
            async for some in read_pieces(connection, wanted.book, wanted.account, start, end, wanted.after):
                yield await _shown(connection, some)
        month = month_start(month, 1)


async def read_one(connection: asyncpg.Connection, wanted: Wanted) -> list[Shown]:
    """Return one entry, or the entries of one line, from the months in which whose it is may have some."""
    line = wanted.line or (wanted.entry or "").partition(":rec:")[0]
    months: set[int] = set()
    subjects: set[str] = set()
    for row in await connection.fetch(TIMES, wanted.book, wanted.customer, wanted.entry, wanted.line, line):
        subjects.add(row["subject"])
        month = month_start(row["since"])
        while month <= min(row["until"], wanted.until):
            months.add(month)
            month = month_start(month, 1)
    theirs = replace(wanted, subjects=sorted(subjects))
    return [one for month in sorted(months) for one in await read_month(connection, theirs, month)]


async def fold_books(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    subjects: Sequence[str],
    policy: Policy | None,
    until: int,
) -> list[Books]:
    """Fold subjects anew, under a policy, from what had been recorded by a position."""
    folded = await fold_facts(connection, projection, book, subjects, until)
    return [books_of(facts, policy) for facts in folded]


async def owners_of(connection: asyncpg.Connection, book: str, name: str) -> list[str]:
    """Name the subjects whose an entry or an invoice's line is."""
    return [row["subject"] for row in await connection.fetch(OWNERS, book, name.partition(":")[0])]


async def subjects_of(connection: asyncpg.Connection, book: str, limit: int) -> list[str]:
    """Name the subjects of a book that have entries."""
    return [row["subject"] for row in await connection.fetch(SUBJECTS, book, limit)]


async def _shown(connection: asyncpg.Connection, found: Sequence[Found]) -> list[Shown]:
    abouts = await _abouts(connection, found)
    return [show(entry, customer, abouts) for _, customer, entry in found]


async def _abouts(connection: asyncpg.Connection, found: Iterable[Found]) -> dict[tuple[str | None, str | None], About]:
    invoices = {entry.invoice for _, _, entry in found if entry.invoice}
    rows = await connection.fetch(ABOUTS, sorted({subject for subject, _, _ in found}), sorted(invoices))
    return {
        (row["invoice"], row["line"]): About(row["subscription"], row["product"], row["price"], row["tax_rate"])
        for row in rows
    }

"""Reading the journal: the entries of a stretch of time, month by month, from a build's rows or folded anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from projections.contract import Projection
from projections.revenue import gather
from projections.revenue.documents import time_of
from projections.revenue.dossier import fold_facts
from projections.revenue.entries import Entry, Posting
from projections.revenue.journal import Books, books_of
from projections.revenue.policy import Policy
from projections.revenue.recognition import Earning, entries_of_time
from projections.revenue.schedule import Span, month_start
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

FIRST: Final = "SELECT min(period) FROM revenue_sum WHERE book = $1 AND months = 1"

SUBJECTS: Final = "SELECT DISTINCT subject FROM revenue_sum WHERE book = $1 ORDER BY subject LIMIT $2"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: of a book, from ``since`` to ``until`` (unix seconds, both included), and of what.

    ``subjects`` are whose they are, where that is known: theirs are found by key.
    """

    book: str
    since: int
    until: int
    customer: str | None = None
    account: str | None = None
    entry: str | None = None
    line: str | None = None
    subjects: Sequence[str] | None = None


async def read_month(connection: asyncpg.Connection, wanted: Wanted, month: int) -> list[Shown]:
    """Return the entries of one month that are wanted, in order of time and name."""
    start, end = max(month, wanted.since), min(month_start(month, 1) - 1, wanted.until)
    if start > end:
        return []
    rows = await connection.fetch(
        POSTED, wanted.book, time_of(start), time_of(end), wanted.customer, wanted.account, wanted.entry, wanted.line,
        wanted.subjects,
    )  # fmt: skip
    posted = [(row["subject"], row["customer"], _entry(row)) for row in rows]
    line = wanted.line if wanted.entry is None else wanted.entry.partition(":rec:")[0]
    rows = await connection.fetch(
        SPANS, wanted.book, start, end, wanted.customer, wanted.account, line, wanted.subjects
    )
    earned = [
        (row["subject"], row["customer"], entry)
        for row in rows
        for entry in entries_of_time([_earning(row, month)], end)
        if entry.at >= start and wanted.entry in {None, entry.key}
    ]
    found = sorted([*posted, *earned], key=lambda one: (one[2].at, one[2].key))
    abouts = await _abouts(connection, found)
    return [show(entry, customer, abouts) for _, customer, entry in found]


async def read_journal(connection: asyncpg.Connection, wanted: Wanted) -> AsyncIterator[list[Shown]]:
    """Give the wanted entries month by month."""
    first = await connection.fetchval(FIRST, wanted.book)
    if first is None:
        return
    month = max(month_start(wanted.since), gather.midnight(first))
    while month <= wanted.until:
        yield await read_month(connection, wanted, month)
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


async def subjects_of(connection: asyncpg.Connection, book: str, limit: int) -> list[str]:
    """Name the subjects of a book that have entries."""
    return [row["subject"] for row in await connection.fetch(SUBJECTS, book, limit)]


async def _abouts(
    connection: asyncpg.Connection, found: Iterable[tuple[str, str | None, Entry]]
) -> dict[tuple[str | None, str | None], About]:
    invoices = {entry.invoice for _, _, entry in found if entry.invoice}
    rows = await connection.fetch(ABOUTS, sorted({subject for subject, _, _ in found}), sorted(invoices))
    return {
        (row["invoice"], row["line"]): About(row["subscription"], row["product"], row["price"], row["tax_rate"])
        for row in rows
    }


def _entry(row: asyncpg.Record) -> Entry:
    postings = tuple(map(Posting, row["accounts"], row["amounts"], row["lines"]))
    return Entry(row["entry"], row["at"], row["kind"], row["currency"], postings, row["invoice"], tuple(row["because"]))


def _earning(row: asyncpg.Record, month: int) -> Earning:
    """Return a row's span, as far as it lies in a month or after it."""
    start = max(row["start"], month)
    end = min(row["end"], month_start(month, 1))
    span = Span(start, end, row["amount"], row["origin"], row["unit"], int(row["a"]), int(row["b"]), int(row["c"]))
    first = row["first"] and row["start"] == start
    return Earning(row["invoice"], row["line"], row["currency"], row["account"], span, first, tuple(row["because"]))

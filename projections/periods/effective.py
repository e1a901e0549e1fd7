"""The effective books, from a build of revenue: entries and movements before a time, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from projections.mrr.rows import MovementRow
from projections.periods.months import month_of
from projections.periods.seal import SealedLine, SealedMovement
from projections.revenue import query
from projections.revenue.accounts import CLEARING
from projections.revenue.documents import time_of
from projections.revenue.recognition import Earning, entries_of_time
from projections.revenue.schedule import Span
from projections.revenue.shown import About, Abouts, about_of

MOVEMENTS: Final = """
SELECT subject, book, customer, policy, currency, kind, since, at, before, after, amount, paid_at, reason, involuntary,
       subscriptions, because
FROM mrr_movement
WHERE book = $1 AND at < $2
ORDER BY subject COLLATE "C", policy, currency, at
"""

ENTRIES: Final = """
SELECT subject, entry, at, kind, currency, invoice, accounts, amounts, lines, because
FROM journal_entry
WHERE book = $1 AND at < $2 AND ($3::text[] IS NULL OR subject = ANY ($3))
ORDER BY subject COLLATE "C", entry
"""

EARNED: Final = """
SELECT subject, invoice, line, currency, account, start, "end", amount, origin, unit, a, b, c, first, because
FROM earning_span
WHERE book = $1 AND start < $2 AND ($3::text[] IS NULL OR subject = ANY ($3))
ORDER BY subject COLLATE "C", line, account, start
"""

ABOUTS: Final = """
SELECT subject, invoice, line, subscription, product, price, tax_rate
FROM (
    SELECT subject, invoice, line, subscription, product, price, tax_rate
    FROM invoice_line
    WHERE book = $1 AND ($2::text[] IS NULL OR subject = ANY ($2))
    UNION ALL
    SELECT subject, invoice, NULL, subscription, NULL, NULL, NULL
    FROM invoice
    WHERE book = $1 AND ($2::text[] IS NULL OR subject = ANY ($2))
) AS about
ORDER BY subject COLLATE "C"
"""
"""What everybody's lines are about; an invoice's own row stands for those of its postings that are of no line."""

PROBLEMS: Final = """
SELECT kind, key, currency, amount
FROM revenue_problem
WHERE book = $1 AND at < $2
ORDER BY at, kind, key
"""

PARKED: Final = "SELECT subject FROM ledger.parked WHERE build_id = $1 AND book = $2 ORDER BY subject"

UNKNOWN_WORTH: Final = """
SELECT subscription, incomplete
FROM mrr_span
WHERE book = $1 AND since < $2 AND (until IS NULL OR until >= $2) AND incomplete <> '{}'
ORDER BY subscription
"""


@dataclass(frozen=True, slots=True)
class Objection:
    """Something that blocks closing a month: which check, in words, and whom or what it is about."""

    check: str
    detail: str
    about: list[Any]

    @property
    def content(self) -> dict[str, Any]:
        """As it is sealed, and answered."""
        return {"check": self.check, "detail": self.detail, "about": self.about}


def lines_of(
    posted: Iterable[asyncpg.Record], earned: Iterable[asyncpg.Record], abouts: Abouts, until: int
) -> list[SealedLine]:
    """Return an owner's postings before a second: what facts posted, and what time has earned of each line."""
    found = [line for row in posted for line in _posted(row, abouts)]
    for row in earned:
        found += _earned(row, abouts, until)
    return found


def abouts_of(rows: Iterable[asyncpg.Record]) -> Abouts:
    """Return what an owner's lines and invoices are about."""
    return {(row[1], row[2]): About(row[3], row[4], row[5], row[6]) for row in rows}


def _posted(row: asyncpg.Record, abouts: Abouts) -> Iterator[SealedLine]:
    owner, entry, at, kind, currency, invoice, accounts, amounts, lines, because = row
    month, why = month_of(at), tuple(because)
    for account, amount, line in zip(accounts, amounts, lines, strict=True):
        about = about_of(abouts, account, invoice, line)
        yield SealedLine(owner, entry, kind, kind, at, month, currency, account, amount, invoice, line, *about, why)


def _earned(row: asyncpg.Record, abouts: Abouts, until: int) -> Iterator[SealedLine]:
    span = Span(*(int(row[name]) for name in Span._fields))
    because = tuple(row["because"])
    earning = Earning(row["invoice"], row["line"], row["currency"], row["account"], span, row["first"], because)
    about = about_of(abouts, earning.account, earning.invoice, earning.line)
    for entry in entries_of_time([earning], until - 1):
        at = time_of(entry.at)
        month = month_of(at)
        for account, amount, line in entry.postings:
            yield SealedLine(
                row["subject"], entry.key, entry.kind, entry.kind, at, month, entry.currency, account, amount,
                entry.invoice, line, *about, because,
            )  # fmt: skip


def movement_of(one: MovementRow) -> SealedMovement:
    """Return a movement as it is sealed."""
    return SealedMovement(
        owner=one.subject,
        policy=one.policy,
        currency=one.currency,
        kind=one.kind,
        at=one.at,
        before=one.before,
        after=one.after,
        prior_period=False,
        paid=one.paid_at is not None,
        involuntary=one.involuntary,
        reason=one.reason,
        because=tuple(one.because),
    )


async def read_objections(
    connection: asyncpg.Connection, build: str | None, book: str, before: datetime
) -> list[Objection]:
    """Return what blocks sealing a build's rows: subjects parked, facts incomplete, or clearing accounts not at 0."""
    parked = [row["subject"] for row in await connection.fetch(PARKED, build, book)]
    problems = [dict(row) for row in await connection.fetch(PROBLEMS, book, before)]
    unknown = [
        {"subscription": row["subscription"], "incomplete": list(row["incomplete"])}
        for row in await connection.fetch(UNKNOWN_WORTH, book, before)
    ]
    balances = await query.balances(connection, book, int(before.timestamp()) - 1)
    clearing = [
        {"account": account, "currency": currency, "amount": amounts[account]}
        for currency, amounts in sorted(balances.items())
        for account in sorted(CLEARING)
        if amounts.get(account)
    ]
    found = (
        Objection("parked", f"{len(parked)} subjects could not be folded", parked),
        Objection("problems", f"{len(problems)} facts do not add up or are not fully known", problems),
        Objection("worth", f"{len(unknown)} subscriptions are worth what is not fully known", unknown),
        Objection("clearing", f"{len(clearing)} clearing accounts are not at 0", clearing),
    )
    return [one for one in found if one.about]

"""What is so now, out of a build of revenue: entries and movements before a time, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
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

MOVEMENTS: Final = """
SELECT subject, book, customer, policy, currency, kind, since, at, before, after, amount, paid_at, reason, involuntary,
       subscriptions, because
FROM mrr_movement
WHERE book = $1 AND at < $2
ORDER BY subject, policy, currency, at
"""

ENTRIES: Final = """
SELECT subject, entry, at, kind, currency, invoice, accounts, amounts, lines, because
FROM journal_entry
WHERE book = $1 AND at < $2 AND ($3::text IS NULL OR customer = $3)
ORDER BY subject, entry
"""

EARNED: Final = """
SELECT subject, invoice, line, currency, account, start, "end", amount, origin, unit, a, b, c, first, because
FROM earning_span
WHERE book = $1 AND start < $2 AND ($3::text IS NULL OR customer = $3)
ORDER BY subject, line, account, start
"""

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
    """Something that stands against closing a month: which check, in words, and whom or what it is about."""

    check: str
    detail: str
    about: list[Any]

    @property
    def content(self) -> dict[str, Any]:
        """As it is sealed, and answered."""
        return {"check": self.check, "detail": self.detail, "about": self.about}


async def read_lines(
    connection: asyncpg.Connection, book: str, before: datetime, customer: str | None = None
) -> list[SealedLine]:
    """Return every posting before a time: what facts posted, and what time has earned of each line."""
    posted = await connection.fetch(ENTRIES, book, before, customer)
    found = [line for row in posted for line in _posted(row)]
    until = int(before.timestamp())
    for row in await connection.fetch(EARNED, book, until, customer):
        found += _earned(row, until)
    return found


def _posted(row: asyncpg.Record) -> Iterator[SealedLine]:
    for account, amount, line in zip(row["accounts"], row["amounts"], row["lines"], strict=True):
        yield SealedLine(
            row["subject"], row["entry"], row["kind"], row["kind"], row["at"], month_of(row["at"]), row["currency"],
            account, amount, row["invoice"], line, tuple(row["because"]),
        )  # fmt: skip


def _earned(row: asyncpg.Record, until: int) -> Iterator[SealedLine]:
    span = Span(*(int(row[name]) for name in Span._fields))
    because = tuple(row["because"])
    earning = Earning(row["invoice"], row["line"], row["currency"], row["account"], span, row["first"], because)
    for entry in entries_of_time([earning], until - 1):
        at = time_of(entry.at)
        for account, amount, line in entry.postings:
            yield SealedLine(
                row["subject"], entry.key, entry.kind, entry.kind, at, month_of(at), entry.currency, account, amount,
                entry.invoice, line, because,
            )  # fmt: skip


async def read_movements(connection: asyncpg.Connection, book: str, before: datetime) -> list[SealedMovement]:
    """Return every movement before a time, as every policy counts it."""
    return [_movement(MovementRow(**dict(row))) for row in await connection.fetch(MOVEMENTS, book, before)]


def _movement(row: MovementRow) -> SealedMovement:
    return SealedMovement(
        owner=row.subject,
        policy=row.policy,
        currency=row.currency,
        kind=row.kind,
        at=row.at,
        before=row.before,
        after=row.after,
        prior_period=False,
        paid=row.paid_at is not None,
        involuntary=row.involuntary,
        reason=row.reason,
        because=tuple(row.because),
    )


async def read_objections(
    connection: asyncpg.Connection, build: str | None, book: str, before: datetime
) -> list[Objection]:
    """Return what stands against sealing a build's rows: what is parked, incomplete, or does not come out even."""
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

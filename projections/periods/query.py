"""Reading closes and seals from a build of the periods projection that the connection has entered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import asyncpg

from ledger.written import read_json
from projections.builds import enter_build
from projections.mrr.worth import POLICIES
from projections.periods.decisions import chunk_stream
from projections.periods.kept import fetch_kept
from projections.periods.months import month_after, month_end
from projections.periods.seal import SealedLine, SealedMovement
from projections.periods.tables import NAME
from projections.periods.totals import read_totals
from projections.revenue.accounts import CLASSES

PERIODS: Final = """
SELECT p.month, p.seal, p.digest, p.chunks, p.position, p.by, p.at, p.reason, p.forced, p.exceptions, p.policies,
       p.code, p.reopened_by, p.reopened_at, p.reopened_reason, c.position AS closed_position,
       r.position AS reopened_position
FROM period AS p
JOIN ledger.event_key AS c ON c.event_id = p.closed_event AND c.book = p.book
LEFT JOIN ledger.event_key AS r ON r.event_id = p.reopened_event AND r.book = p.book
WHERE p.book = $1
ORDER BY p.month, p.seal
"""

CLOSES: Final = """
SELECT p.month, p.seal, p.digest, c.position AS closed_position, r.position AS reopened_position
FROM period AS p
JOIN ledger.event_key AS c ON c.event_id = p.closed_event AND c.book = p.book
LEFT JOIN ledger.event_key AS r ON r.event_id = p.reopened_event AND r.book = p.book
WHERE p.book = $1
ORDER BY p.month, p.seal
"""
"""Without what a close was forced in spite of: that may be long, and every report of the book asks what is closed."""

CHUNK_LINES: Final = """
SELECT owner, entry, kind, of, at, original_month, currency, account, amount, invoice, line, subscription, product,
       price, tax_rate, because
FROM sealed_line
WHERE subject = $1
ORDER BY place
"""

CHUNK_MOVEMENTS: Final = """
SELECT owner, policy, currency, kind, at, before, after, prior_period, paid, involuntary, reason, because
FROM sealed_movement
WHERE subject = $1
ORDER BY place
"""

FIRST_MONTH: Final = """
SELECT least((SELECT min(period) FROM revenue_sum WHERE book = $1 AND months = 1),
             (SELECT (date_trunc('month', min(moved.at), 'UTC') AT TIME ZONE 'UTC')::date
              FROM unnest($2::text[]) AS known (policy)
              CROSS JOIN LATERAL (
                  SELECT min(at) AS at FROM mrr_movement WHERE book = $1 AND policy = known.policy
              ) AS moved))
"""
"""Policy by policy, so that an index has the first of each."""

MOVED: Final = """
SELECT sum(movements) AS movements
FROM sealed_worth
WHERE book = $1 AND digest = $2
"""

WORTH: Final = """
SELECT currency, sum(amount) AS total, sum(customers) AS customers
FROM sealed_worth
WHERE book = $1 AND digest = ANY ($2) AND policy = $3
GROUP BY currency
ORDER BY currency
"""


@dataclass(frozen=True, slots=True)
class Close:
    """One close of one month: its seal, and the positions of the events that closed and reopened it."""

    month: str
    seal: int
    digest: str
    closed_position: int
    reopened_position: int | None

    def closed_at(self, known: int | None) -> bool:
        """Tell whether it held as far as is known at a position (None: now)."""
        if known is None:
            return self.reopened_position is None
        return self.closed_position <= known and (self.reopened_position is None or self.reopened_position > known)


@dataclass(frozen=True, slots=True)
class Period(Close):
    """Everything about a close: its position, by whom, why, despite what; and about its reopening, if any."""

    chunks: int
    position: int
    by: str
    at: datetime
    reason: str
    forced: bool
    exceptions: list[Any]
    policies: dict[str, Any]
    code: str
    reopened_by: str | None
    reopened_at: datetime | None
    reopened_reason: str | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The months that are closed, oldest first; every month after them is open."""

    periods: tuple[Close, ...]

    @property
    def first_open(self) -> str | None:
        """The month after the last closed one; None where none is closed, and so all are open."""
        return month_after(self.periods[-1].month) if self.periods else None

    @property
    def until(self) -> datetime | None:
        """The first instant that is open; None where all are."""
        return month_end(self.periods[-1].month) if self.periods else None

    def of(self, month: str) -> Close | None:
        """Return a month's close; None where it is open."""
        return next((one for one in self.periods if one.month == month), None)

    def digests(self, until: str | None = None) -> list[str]:
        """Return the digests of the seals of every closed month, or of those up to one."""
        return [one.digest for one in self.periods if until is None or one.month <= until]


@dataclass(frozen=True, slots=True)
class Holdings:
    """A seal's totals by currency and account, and how many postings and movements it holds."""

    change: dict[str, dict[str, int]]
    lines: int
    movements: int


async def read_periods(connection: asyncpg.Connection, book: str) -> list[Period]:
    """Return every close of a book, by month and seal."""
    rows = await connection.fetch(PERIODS, book)
    written = ("exceptions", "policies")
    return [Period(**{**row, **{name: read_json(row[name].encode()) for name in written}}) for row in rows]


async def read_closed(connection: asyncpg.Connection, book: str, known: int | None = None) -> Closed:
    """Return which months are closed, as far as is known at a position."""
    closes = [Close(**row) for row in await connection.fetch(CLOSES, book)]
    return Closed(tuple(one for one in closes if one.closed_at(known)))


async def enter_closed(connection: asyncpg.Connection, book: str, known: int | None = None) -> Closed:
    """Enter the live build of periods and return which months are closed; none are where there is no build yet."""
    if (await enter_build(connection, NAME, book)).build is None:
        return Closed(())
    return await read_closed(connection, book, known)


async def read_chunk(
    connection: asyncpg.Connection, book: str, digest: str, number: int
) -> tuple[list[SealedLine], list[SealedMovement]]:
    """Return the rows of one chunk of a seal, in their order."""
    subject = f"{book}/{chunk_stream(digest, number)}"
    lines = await connection.fetch(CHUNK_LINES, subject)
    moved = await connection.fetch(CHUNK_MOVEMENTS, subject)
    return [sealed_line_of(row) for row in lines], [sealed_movement_of(row) for row in moved]


def sealed_line_of(row: asyncpg.Record) -> SealedLine:
    """Return a row as the posting that was sealed."""
    *values, because = row
    return SealedLine._make((*values, tuple(because)))


def sealed_movement_of(row: asyncpg.Record) -> SealedMovement:
    """Return a row as the movement that was sealed."""
    *values, because = row
    return SealedMovement._make((*values, tuple(because)))


async def read_holdings(connection: asyncpg.Connection, book: str, digest: str) -> Holdings:
    """Return what one seal holds, without its rows."""
    total = (await read_totals(connection, book, [digest]))[digest]
    change = {
        currency: {account: amounts[account] for account in sorted(CLASSES) if account in amounts}
        for currency, amounts in total.sums.items()
    }
    moved = await fetch_kept(connection, MOVED, book, digest)
    return Holdings(change, total.lines, moved[0]["movements"] or 0)


async def read_sealed_worth(
    connection: asyncpg.Connection, book: str, digests: Sequence[str], policy: str
) -> dict[str, tuple[int, int]]:
    """Return by currency what everything was worth after some seals, and of how many customers."""
    rows = await fetch_kept(connection, WORTH, book, list(digests), policy)
    return {row["currency"]: (int(row["total"]), row["customers"]) for row in rows}


async def read_first_month(connection: asyncpg.Connection, book: str) -> date | None:
    """Return the first month of a book with an amount; the connection has entered a build of revenue."""
    found: date | None = await connection.fetchval(FIRST_MONTH, book, list(POLICIES))
    return found

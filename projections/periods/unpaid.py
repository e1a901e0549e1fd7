"""What is deferred on invoices still owed: as known for any moment, or as sealed for the ends of closed months."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from projections.revenue.documents import time_of
from projections.revenue.recognition import Earning
from projections.revenue.schedule import Span
from projections.revenue.unpaid import Amounts, earned_by

POSTED: Final = """
SELECT e.currency, e.invoice, -sum(posted.amount)::numeric AS amount
FROM journal_entry AS e
CROSS JOIN LATERAL unnest(e.accounts, e.amounts) AS posted (account, amount)
WHERE e.book = $1 AND ($2::text[] IS NULL OR e.subject = ANY ($2)) AND e.invoice = ANY ($3) AND e.at <= $4
  AND posted.account = 'deferred_revenue'
GROUP BY e.currency, e.invoice
"""

EARNING: Final = """
SELECT invoice, line, currency, account, start, "end", amount, origin, unit, a, b, c, first
FROM earning_span
WHERE book = $1 AND ($2::text[] IS NULL OR subject = ANY ($2)) AND invoice = ANY ($3) AND start <= $4
  AND account = 'deferred_revenue'
"""

SEALED: Final = """
SELECT currency, invoice, -sum(amount)::numeric AS amount
FROM sealed_line
WHERE book = $1 AND digest = ANY ($2) AND invoice = ANY ($3) AND account = 'deferred_revenue'
GROUP BY currency, invoice
"""


async def read_deferred(
    connection: asyncpg.Connection, book: str, customers: Sequence[str | None], invoices: Sequence[str], at: int
) -> Amounts:
    """Return what is deferred at a second on some invoices, which are these customers' (None: whoever's)."""
    named = [f"{book}/{customer}" for customer in customers if customer is not None]
    subjects = named if len(named) == len(customers) else None
    posted = await connection.fetch(POSTED, book, subjects, list(invoices), time_of(at))
    found = {(row["currency"], row["invoice"]): int(row["amount"]) for row in posted}
    for row in await connection.fetch(EARNING, book, subjects, list(invoices), at):
        span = Span(*(int(row[name]) for name in Span._fields))
        one = Earning(row["invoice"], row["line"], row["currency"], row["account"], span, row["first"], ())
        key = (row["currency"], row["invoice"])
        found[key] = found.get(key, 0) - earned_by(one, at)
    return found


async def read_sealed_deferred(
    connection: asyncpg.Connection, book: str, digests: Sequence[str], invoices: Sequence[str]
) -> Amounts:
    """Return what was deferred on some invoices after these seals; the connection has entered a build of periods."""
    rows = await connection.fetch(SEALED, book, list(digests), list(invoices))
    return {(row["currency"], row["invoice"]): int(row["amount"]) for row in rows}

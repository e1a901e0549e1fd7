"""What a month earned, line by line: for older builds of revenue, whose sums do not say on what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import asyncpg

from projections.periods.tie_out import Earned, earned_in, plus
from projections.revenue.recognition import Earning
from projections.revenue.schedule import Span

EARNED: Final = """
SELECT s.invoice, s.line, s.currency, s.account, s.start, s."end", s.amount, s.origin, s.unit, s.a, s.b, s.c, s.first,
       l.subscription
FROM earning_span AS s
LEFT JOIN invoice_line AS l ON l.subject = s.subject AND l.invoice = s.invoice AND l.line = s.line
WHERE s.book = $1 AND s.start < $3 AND s."end" > $2
"""

POSTED: Final = """
SELECT e.currency, coalesce(l.subscription, i.subscription) IS NOT NULL AS subscribed, -sum(posted.amount) AS amount
FROM journal_entry AS e
CROSS JOIN LATERAL unnest(e.accounts, e.amounts, e.lines) AS posted (account, amount, line)
LEFT JOIN invoice AS i ON i.subject = e.subject AND i.invoice = e.invoice
LEFT JOIN invoice_line AS l ON l.subject = e.subject AND l.invoice = e.invoice AND l.line = posted.line
WHERE e.book = $1 AND e.at >= $2 AND e.at < $3 AND posted.account = 'revenue'
GROUP BY 1, 2
"""

WORTH: Final = """
SELECT subscription, since, until, net_all = 0 AS worthless
FROM mrr_span
WHERE book = $1 AND since < $3 AND (until IS NULL OR until > $2) AND subscription = ANY ($4)
"""


async def read_earned_by_line(
    connection: asyncpg.Connection, book: str, start: datetime, end: datetime
) -> Mapping[str, Earned]:
    """Return by currency what the month from ``start`` to ``end`` earned, from everything that earned in it."""
    since, until = int(start.timestamp()), int(end.timestamp())
    earnings = [
        (_earning(row), row["subscription"]) for row in await connection.fetch(EARNED, book, since, until)
    ]  # fmt: skip
    worthless: dict[str, list[tuple[datetime, datetime | None]]] = {}
    known: set[str] = set()
    earning = list({subscription for _, subscription in earnings if subscription is not None})
    for row in await connection.fetch(WORTH, book, start, end, earning):
        known.add(row["subscription"])
        if row["worthless"]:
            worthless.setdefault(row["subscription"], []).append((row["since"], row["until"]))
    posted: dict[str, Earned] = {}
    for row in await connection.fetch(POSTED, book, start, end):
        amount = int(row["amount"])
        part = Earned(amount, 0, 0) if row["subscribed"] else Earned(0, 0, amount)
        posted = plus(posted, {row["currency"]: part})
    return plus(earned_in(earnings, worthless, frozenset(known), since, until), posted)


def _earning(row: asyncpg.Record) -> Earning:
    span = Span(*(int(row[name]) for name in Span._fields))
    return Earning(row["invoice"], row["line"], row["currency"], row["account"], span, row["first"], ())

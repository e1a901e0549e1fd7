"""What is owed on each invoice at a moment, and since when it has been due."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Final, NamedTuple

import asyncpg

from projections.revenue.whose import customer_in

RECEIVABLE: Final = """
SELECT subject, currency, invoice, coalesce(due_date, finalized_at) AS due, owed[width_bucket($2, owed_at)] AS amount
FROM invoice
WHERE book = $1 AND finalized_at <= $2 AND (settled_at IS NULL OR settled_at > $2) AND owed <> '{}'
  AND owed[width_bucket($2, owed_at)] <> 0
ORDER BY subject, invoice
"""
"""The bucket is the last step of what was owed that had come by then; none for a moment before the first."""

OWED_SINCE: Final = 4
"""The first version of revenue whose invoices say what was owed on them; an older build is asked entry by entry."""

WHO_MAY_OWE: Final = """
SELECT subject
FROM revenue_sum
WHERE book = $1
  AND ((months = 12 AND period < date_trunc('year', $2::date)) OR
       (months = 3 AND period >= date_trunc('year', $2::date) AND period < date_trunc('quarter', $2::date)) OR
       (months = 1 AND period >= date_trunc('quarter', $2::date) AND period < $2))
  AND accounts_receivable <> 0
GROUP BY subject, currency
HAVING sum(accounts_receivable) <> 0
UNION
SELECT subject FROM revenue_sum
WHERE book = $1 AND months = 0 AND period >= $2 AND period < $3 AND accounts_receivable <> 0
UNION
SELECT subject FROM journal_entry WHERE book = $1 AND at >= $4 AND at <= $5
UNION
SELECT subject FROM revenue_problem WHERE book = $1
"""
"""All who owed something before a month, whose debts moved on a day of it, or on the day asked about; and those whose
invoices do not add up, as nobody else's come to nothing together unless each does."""

# Subject by subject, by key: they are few, which the planner does not know.
BY_ENTRY: Final = """
SELECT o.customer, o.currency, o.invoice, coalesce(i.due_date, i.finalized_at) AS due, o.amount
FROM unnest($3::text[]) AS who (subject)
CROSS JOIN LATERAL (
    SELECT e.subject, e.customer, e.currency, e.invoice, sum(posted.amount) AS amount
    FROM journal_entry AS e
    CROSS JOIN LATERAL unnest(e.accounts, e.amounts) AS posted (account, amount)
    WHERE e.subject = who.subject AND e.book = $1 AND e.at <= $2 AND posted.account = 'accounts_receivable'
    GROUP BY e.subject, e.customer, e.currency, e.invoice
    HAVING sum(posted.amount) <> 0
) AS o
LEFT JOIN LATERAL (
    SELECT due_date, finalized_at FROM invoice WHERE subject = o.subject AND invoice = o.invoice LIMIT 1
) AS i ON true
ORDER BY o.customer, o.invoice
"""


class Owed(NamedTuple):
    """What is owed on an invoice, and since when it is due: where Stripe names no day, since it was finalised."""

    customer: str | None
    currency: str
    invoice: str | None
    due: datetime | None
    amount: int


async def receivable(connection: asyncpg.Connection, version: int, book: str, at: datetime) -> list[Owed]:
    """Return what is owed on each invoice at a moment, in a build of a version of revenue."""
    if version < OWED_SINCE:
        return await receivable_by_entry(connection, book, at)
    return [
        Owed(
            customer_in(book, row["subject"]),
            row["currency"],
            row["invoice"],
            row["due"],
            row["amount"],
        )
        for row in await connection.fetch(RECEIVABLE, book, at)
    ]


async def receivable_by_entry(connection: asyncpg.Connection, book: str, at: datetime) -> list[Owed]:
    """Return the same from the journal of all who may owe."""
    day = at.astimezone(UTC).date()
    begun = datetime.combine(day, time(), UTC)
    subjects = [row["subject"] for row in await connection.fetch(WHO_MAY_OWE, book, day.replace(day=1), day, begun, at)]
    rows = await connection.fetch(BY_ENTRY, book, at, subjects)
    return [Owed(row["customer"], row["currency"], row["invoice"], row["due"], int(row["amount"])) for row in rows]

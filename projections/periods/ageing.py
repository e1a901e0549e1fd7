"""What was owed on each invoice at the end of a closed month, according to its seals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from projections.builds import enter_build
from projections.periods.kept import fetch_kept
from projections.revenue.owed import Owed
from projections.revenue.whose import customer_in

SEALED: Final = """
SELECT owner, currency, invoice, sum(amount) AS amount
FROM sealed_owed
WHERE book = $1 AND digest = ANY ($2)
GROUP BY owner, currency, invoice
HAVING sum(amount) <> 0
ORDER BY owner, invoice
"""

DUE: Final = """
SELECT subject, invoice, coalesce(due_date, finalized_at) AS due
FROM invoice
WHERE subject = ANY ($1) AND invoice = ANY ($2)
"""


async def read_sealed_receivable(
    connection: asyncpg.Connection, revenue: str, build: str | None, book: str, digests: Sequence[str]
) -> list[Owed]:
    """Return what was owed after these seals.

    The connection has entered a build of periods, and is in one of revenue (None: the live one) afterwards: since when
    an invoice is due is no amount, and is not sealed.
    """
    sealed = await fetch_kept(connection, SEALED, book, list(digests))
    await enter_build(connection, revenue, book, build)
    owners, invoices = {row["owner"] for row in sealed}, {row["invoice"] for row in sealed if row["invoice"]}
    rows = await connection.fetch(DUE, sorted(owners), sorted(invoices))
    due = {(row["subject"], row["invoice"]): row["due"] for row in rows}
    return [
        Owed(
            customer_in(book, row["owner"]), row["currency"], row["invoice"], due.get((row["owner"], row["invoice"])),
            int(row["amount"]),
        )
        for row in sealed
    ]  # fmt: skip

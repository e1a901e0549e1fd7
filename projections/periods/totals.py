"""Totals of seals in each currency, by account and flow: one wide row per chunk, so that months of seals are few rows.

From builds that do not keep these, the postings are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from projections.periods.kept import KEEPS
from projections.revenue.query import Sums
from projections.revenue.sums import COLUMNS, post

# The columns' names are constants of this code.
_SUM: Final = ", ".join(f"sum({column}) AS {column}" for column in COLUMNS)

TOTALS: Final = f"""
SELECT digest, currency, sum(lines) AS lines, {_SUM}
FROM sealed_total
WHERE book = $1 AND digest = ANY ($2)
GROUP BY digest, currency
ORDER BY currency
"""  # noqa: S608

POSTED: Final = """
SELECT digest, currency, of, account, sum(amount) AS amount, count(*) AS lines
FROM sealed_line
WHERE book = $1 AND digest = ANY ($2)
GROUP BY digest, currency, of, account
ORDER BY currency
"""


@dataclass(slots=True)
class Total:
    """What one seal comes to, by currency and column, and how many postings it holds."""

    sums: Sums = field(default_factory=dict)
    lines: int = 0


async def read_totals(connection: asyncpg.Connection, book: str, digests: Sequence[str]) -> Mapping[str, Total]:
    """Return what seals come to by their digests; the connection has entered a build of periods."""
    found = {digest: Total() for digest in digests}
    if not await connection.fetchval(KEEPS, "sealed_total"):
        return await _of_lines(connection, book, found)
    for row in await connection.fetch(TOTALS, book, list(digests)):
        one = found[row["digest"]]
        one.lines += row["lines"]
        one.sums[row["currency"]] = {column: int(row[column]) for column in COLUMNS if row[column] is not None}
    return found


async def _of_lines(connection: asyncpg.Connection, book: str, found: dict[str, Total]) -> Mapping[str, Total]:
    for row in await connection.fetch(POSTED, book, list(found)):
        one = found[row["digest"]]
        one.lines += row["lines"]
        post(one.sums.setdefault(row["currency"], {}), row["of"], row["account"], int(row["amount"]))
    return found

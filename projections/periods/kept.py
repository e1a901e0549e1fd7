"""Reading the totals kept beside sealed rows; from builds that do not keep them, the rows themselves are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import asyncpg

KEEPS: Final = "SELECT to_regclass($1) IS NOT NULL"

ROWS: Final[Mapping[str, str]] = {
    "sealed_owed": """(SELECT book, digest, owner, currency, invoice, amount::numeric
          FROM sealed_line
          WHERE account = 'accounts_receivable')""",
    "sealed_worth": """(SELECT book, digest, policy, currency, (after - before)::numeric AS amount,
                 (after > 0)::int - (before > 0)::int AS customers, 1 AS movements
          FROM sealed_movement)""",
    "sealed_moved": """(SELECT book, digest, policy, currency, kind, abs(after - before)::numeric AS amount,
                 array_fill(0::numeric, ARRAY[extract(day FROM at AT TIME ZONE 'UTC')::int - 1])
                     || abs(after - before)::numeric AS days
          FROM sealed_movement)""",
    "sealed_last": """(SELECT book, digest, policy, currency, ARRAY[owner] AS owners, ARRAY[after - before] AS amounts
          FROM sealed_movement)""",
}
"""What each table of sums is made of."""


async def fetch_kept(connection: asyncpg.Connection, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Run a statement over a table of sums, in the build of periods that the connection has entered."""
    for name, rows in ROWS.items():
        if f"FROM {name}\n" in statement and not await connection.fetchval(KEEPS, name):
            statement = statement.replace(f"FROM {name}\n", f"FROM {rows} AS {name}\n")
    found: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
    return found

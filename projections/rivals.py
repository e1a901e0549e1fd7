"""Rivals: a child that links of two customers claim is parked, and stays with the first (design decision 7).

A link that lost to an earlier one is kept until it is known to lead to the same customer, as nearly all do, or to
another. So it does not matter in which order events and links come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import asyncpg
import structlog

from projections.joining import LINKS_DOWN, LINKS_UP
from projections.links import Link, rival, root_of
from projections.writing import PARK, UNPARK

_log = structlog.get_logger()

NOTE: Final = """
INSERT INTO rival_link (child, book, parent, created, event_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""

NOTED: Final = """
SELECT child, parent, created, event_id
FROM rival_link
WHERE child = ANY ($1) OR parent = ANY ($1)
ORDER BY child, created, event_id
"""

SETTLED: Final = "DELETE FROM rival_link WHERE child = $1 AND parent = $2"

PARKED: Final = "SELECT EXISTS (SELECT FROM ledger.parked WHERE build_id = $1 AND subject = $2)"


class RivalCustomersError(Exception):
    """Two customers claim one object."""

    def __init__(self, kept: str, other: str) -> None:
        super().__init__(f"belongs to {kept}, and {other} claims it")


async def note(connection: asyncpg.Connection, book: str, losing: Iterable[Link]) -> None:
    """Write down links that lost."""
    records = [(link.child, book, link.parent, link.created, link.event_id) for link in losing]
    if records:
        await connection.executemany(NOTE, records)


async def settle(
    connection: asyncpg.Connection, build_id: str, book: str, touched: Sequence[str]
) -> Mapping[str, RivalCustomersError]:
    """Park whom another customer claims too, now that links of ``touched`` streams are new; return who is parked.

    Links that turn out to lead to the same customer are forgotten.
    """
    below = await connection.fetch(LINKS_DOWN, list(touched))
    noted = [Link(*row) for row in await connection.fetch(NOTED, [*touched, *(row["child"] for row in below)])]
    if not noted:
        return {}
    streams = sorted({end for link in noted for end in (link.child, link.parent)})
    standing = {row["child"]: Link(*row) for row in await connection.fetch(LINKS_UP, streams)}
    found: dict[str, RivalCustomersError] = {}
    for link in noted:
        kept, other = root_of(link.child, standing), root_of(link.parent, standing)
        if kept == other:
            await connection.execute(SETTLED, link.child, link.parent)
        elif rival(standing[link.child], link, standing) and link.child not in found:
            found[link.child] = RivalCustomersError(kept, other)
            if not await connection.fetchval(PARKED, build_id, link.child):
                _log.error("rival_customers", build=build_id, child=link.child, kept=kept, other=other)
            await connection.execute(PARK, build_id, link.child, book, link.event_id, repr(found[link.child]))
    return found


async def let_go(connection: asyncpg.Connection, build_id: str, children: Sequence[str]) -> None:
    """Park children no more that no other customer claims."""
    await connection.execute(UNPARK, build_id, list(children))

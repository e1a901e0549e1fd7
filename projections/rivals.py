"""Rivals: a child that two customers claim by links is parked, and stays with the first (design decision 7).

A link that lost to an earlier one is kept: nearly all lead to the same customer, but what they lead to may find another
one later. So the order in which events and links arrive does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import asyncpg
import structlog

from projections.links import Link, is_customer, root_of
from projections.stored_links import LINKS_DOWN, read_up
from projections.writing import PARK, UNPARK

_log = structlog.get_logger()

NOTE: Final = """
INSERT INTO rival_link (child, book, parent, created, event_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (child, parent) DO UPDATE
SET created = excluded.created, event_id = excluded.event_id
WHERE (excluded.created, excluded.event_id COLLATE "C") < (rival_link.created, rival_link.event_id)
"""

NOTED: Final = """
SELECT child, parent, created, event_id
FROM rival_link
WHERE child IN (SELECT child FROM rival_link WHERE child = ANY ($1) OR parent = ANY ($1))
ORDER BY child COLLATE "C", created, event_id COLLATE "C"
"""

# Those of which two steps up do not yet tell that both links lead to the same.
CLAIMED: Final = """
SELECT DISTINCT lost.child
FROM rival_link AS lost
JOIN link AS kept ON kept.child = lost.child
LEFT JOIN link AS above_kept ON above_kept.child = kept.parent
LEFT JOIN link AS above_lost ON above_lost.child = lost.parent
WHERE lost.book = $1
  AND coalesce(above_kept.parent, kept.parent) <> coalesce(above_lost.parent, lost.parent)
ORDER BY lost.child
"""

PARKED: Final = "SELECT EXISTS (SELECT FROM ledger.parked WHERE build_id = $1 AND subject = $2)"


class RivalCustomersError(Exception):
    """Two customers claim one object."""

    def __init__(self, kept: str, other: str) -> None:
        super().__init__(f"belongs to {kept}, and {other} claims it")


async def note(connection: asyncpg.Connection, book: str, losing: Iterable[Link]) -> None:
    """Keep links that lost."""
    records = [(link.child, book, link.parent, link.created, link.event_id) for link in losing]
    records.sort()  # a fixed order, so that concurrent writers cannot deadlock
    if records:
        await connection.executemany(NOTE, records)


async def settle(
    connection: asyncpg.Connection, build_id: str, book: str, touched: Sequence[str]
) -> Mapping[str, RivalCustomersError]:
    """Park the children that two customers claim, after links of ``touched`` streams changed; return the parked ones.

    What nobody else claims any more is unparked.
    """
    below = await connection.fetch(LINKS_DOWN, list(touched))
    led = await _led(connection, [*touched, *(row["child"] for row in below)])
    found: dict[str, RivalCustomersError] = {}
    for link, kept, other in led:
        if kept != other and is_customer(kept) and is_customer(other) and link.child not in found:
            found[link.child] = RivalCustomersError(kept, other)
            if not await connection.fetchval(PARKED, build_id, link.child):
                _log.error("rival_customers", build=build_id, child=link.child, kept=kept, other=other)
            await connection.execute(PARK, build_id, link.child, book, link.event_id, repr(found[link.child]))
    await let_go(connection, build_id, sorted({link.child for link, _, _ in led} - found.keys()))
    return found


async def settle_all(connection: asyncpg.Connection, build_id: str, book: str) -> list[str]:
    """Park every child that two customers claim; return those customers."""
    children = [row["child"] for row in await connection.fetch(CLAIMED, book)]
    await settle(connection, build_id, book, children)
    led = await _led(connection, children)
    ends = {root for _, kept, other in led if kept != other for root in (kept, other)}
    return sorted(root for root in ends if is_customer(root))


async def _led(connection: asyncpg.Connection, streams: Sequence[str]) -> list[tuple[Link, str, str]]:
    """Return every lost link of children of which one is from or to some streams, and where it leads.

    That is its child's root, and the root of the parent it named.
    """
    noted = [Link(*row) for row in await connection.fetch(NOTED, list(streams))] if streams else []
    known = await read_up(connection, [end for link in noted for end in (link.child, link.parent)])
    return [(link, root_of(link.child, known), root_of(link.parent, known)) for link in noted]


async def let_go(connection: asyncpg.Connection, build_id: str, children: Sequence[str]) -> None:
    """Unpark children; ``settle`` parks those again that are still claimed twice."""
    if children:
        await connection.execute(UNPARK, build_id, list(children))

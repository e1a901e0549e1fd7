"""News of customers with a long life: followed by who remembers where they were, and by who folds them whole."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

import asyncpg

from bench.ground import Ground
from bench.rebuilds import PROJECTIONS, filled
from bench.table import Row, rate
from projections.builds import Request, start_build
from projections.contract import Projection
from projections.follower import clean, step
from projections.runner import connect_follower
from projections.stored_terms import TermsReader
from projections.warm import Warm

NEWS: Final = 1_000
"""So many of the last events come a few at a time, as they do where somebody follows."""
_A_FEW: Final = 10

BUSIEST: Final = """
SELECT h.book, h.position, count(*) / count(DISTINCT e.stream_id) AS life
FROM ledger.head AS h
JOIN ledger.event AS e ON e.book = h.book
WHERE h.book <> 'ledger:control' AND e.stream_id LIKE h.book || '/cus\\_%'
GROUP BY h.book, h.position
ORDER BY h.position DESC
LIMIT 1
"""


async def lives_row(ground: Ground, events: int) -> Row:
    """Follow the last events of a company's three years in the projections that fold customers."""
    database = await filled(ground, events)
    connection = await connect_follower(database)
    row = await connection.fetchrow(BUSIEST)
    seconds = dict.fromkeys((True, False), 0.0)
    for projection in PROJECTIONS.values():
        if projection.name != "periods":
            for remembering in seconds:
                warm = Warm() if remembering else None
                seconds[remembering] += await _followed(connection, projection, row["book"], row["position"], warm)
    await connection.close()
    name = f"news of customers of {row['life']} events, three projections"
    ours, whole = (rate(NEWS, seconds[remembering]) for remembering in (True, False))
    return Row(name, ours, f"{whole} folding them whole", seconds[False] / seconds[True])


async def _followed(
    connection: asyncpg.Connection, projection: Projection, book: str, last: int, warm: Warm | None
) -> float:
    """Follow a book in a build of its own; return the seconds that the news took."""
    projection = replace(projection, consumer=None)
    build, terms = await start_build(connection, projection, Request("bench", None, {})), TermsReader()
    position = 0
    while position < last - NEWS:
        position += await step(connection, projection, build, book, min(4_000, last - NEWS - position), 0, terms, warm)
    while await clean(connection, projection, build, book, terms=terms, warm=warm):
        pass
    began = time.perf_counter()
    while await step(connection, projection, build, book, _A_FEW, 0, terms, warm):
        pass
    return time.perf_counter() - began

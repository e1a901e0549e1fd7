"""What became of an event: the rows of the live builds that rest on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from projections import joining
from projections.builds import enter_build
from projections.contract import Projection, Table

ROWS_AT_MOST: Final = 100
"""How many rows of a table are told of one event."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A row that rests on an event, and where it is."""

    projection: str
    build: str
    table: str
    row: dict[str, Any]


async def rows_of_event(
    connection: asyncpg.Connection, projections: Iterable[Projection], book: str, stream: str, event_id: str
) -> list[Trace]:
    """Return the rows of the event's own subject that rest on it, a table at a time. Needs a transaction.

    An event about a reference object (a price, a coupon) is in force in rows of others, which name events of their own.
    """
    found: list[Trace] = []
    for projection in projections:
        freshness = await enter_build(connection, projection.name, book)
        if freshness.build is None:
            continue
        roots = await joining.roots_of(connection, projection, [stream])
        subjects = sorted({stream, roots.get(stream, stream)})
        for table in projection.tables:
            if "because" in table.columns:
                rows = await connection.fetch(_resting_on(table), subjects, event_id, ROWS_AT_MOST)
                found += [Trace(projection.name, freshness.build, table.name, dict(row)) for row in rows]
    return found


def _resting_on(table: Table) -> str:
    # The table's name is a constant of this code. Where a table names one event alone, it becomes a list here.
    return f"SELECT * FROM {table.name} WHERE subject = ANY ($1) AND $2 = ANY (because || '{{}}'::text[]) LIMIT $3"  # noqa: S608

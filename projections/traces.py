"""What an event contributed to: the rows of the live builds that rest on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from projections import stored_links, stored_terms
from projections.builds import enter_build
from projections.contract import Projection, Row, Subject, Table
from projections.folding import rows_of
from projections.recall import facts_known


@dataclass(frozen=True, slots=True)
class Trace:
    """A row that rests on an event, and where it is."""

    projection: str
    build: str
    table: str
    row: dict[str, Any]


class Until(NamedTuple):
    """What counts: what had happened by a moment, and had been recorded up to a position; None: all."""

    as_of: datetime | None
    position: int | None


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
        subjects = await _subjects(connection, projection, stream)
        for table in projection.tables:
            if "because" in table.columns:
                rows = await connection.fetch(_resting_on(table), subjects, event_id)
                found += [Trace(projection.name, freshness.build, table.name, dict(row)) for row in rows]
    return found


async def rows_until(
    connection: asyncpg.Connection,
    projections: Iterable[Projection],
    book: str,
    stream: str,
    event_id: str,
    until: Until,
) -> list[Trace]:
    """Return the rows that would rest on the event if no more counted, folded now. Needs a transaction."""
    found: list[Trace] = []
    for projection in projections:
        freshness = await enter_build(connection, projection.name, book)
        if freshness.build is None:
            continue
        position = freshness.position if until.position is None else until.position
        known = await facts_known(
            connection, projection, book, await _subjects(connection, projection, stream), position
        )
        terms = await stored_terms.read_terms(connection, projection, book, position)
        for subject, told in known.items():
            facts = [fact for fact in told if until.as_of is None or fact.created <= until.as_of]
            rows = rows_of(projection, Subject(book, subject), facts, terms)
            found += [
                Trace(projection.name, freshness.build, table.name, dict(zip(table.columns, row, strict=True)))
                for table in projection.tables
                for row in rows.get(table.name, ())
                if _rests_on(table, row, event_id)
            ]
    return found


async def _subjects(connection: asyncpg.Connection, projection: Projection, stream: str) -> list[str]:
    roots = await stored_links.roots_of(connection, projection, [stream])
    return sorted({stream, roots[stream]})


def _rests_on(table: Table, row: Row, event_id: str) -> bool:
    if "because" not in table.columns:
        return False
    because = row[table.columns.index("because")]
    return event_id == because if isinstance(because, str) else event_id in (because or ())


def _resting_on(table: Table) -> str:
    # The table's name is a constant of this code. Where a table names one event alone, it becomes a list here.
    return (
        f"SELECT * FROM {table.name} AS t WHERE subject = ANY ($1) AND $2 = ANY (because || '{{}}'::text[]) ORDER BY t"  # noqa: S608
    )

"""Builds: one materialisation of a projection over all books, in a Postgres schema of its own; one is live.

The registry names them (``ledger.build``), checkpoints say how far each has folded each book.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from projections.contract import Projection

LIVE = """
SELECT build_id, schema_name
FROM ledger.build
WHERE projection = $1 AND phase = 'live'
"""

ENTER_LIVE = """
SELECT b.build_id, b.version, coalesce(c.position, 0) AS position, coalesce(h.position, 0) AS head,
       set_config('search_path', b.schema_name, true) AS entered,
       (SELECT e.recorded_at
        FROM ledger.event AS e
        WHERE e.book = $2 AND e.position = coalesce(c.position, 0) + 1) AS waiting_since
FROM ledger.build AS b
LEFT JOIN ledger.checkpoint AS c ON c.build_id = b.build_id AND c.book = $2
LEFT JOIN ledger.head AS h ON h.book = $2
WHERE b.projection = $1 AND b.phase = 'live'
"""

REGISTER = """
INSERT INTO ledger.build (build_id, projection, version, schema_name, phase)
VALUES ($1, $2, $3, $4, 'live')
"""

PARKED_SUBJECT = "SELECT EXISTS (SELECT FROM ledger.parked WHERE build_id = $1 AND subject = ANY ($2))"

LIST_BUILDS = """
SELECT b.projection, b.version, b.build_id, h.book, coalesce(c.position, 0) AS position, h.position AS head,
       (SELECT e.recorded_at
        FROM ledger.event AS e
        WHERE e.book = h.book AND e.position = coalesce(c.position, 0) + 1) AS waiting_since,
       (SELECT count(*) FROM ledger.parked AS p WHERE p.build_id = b.build_id) AS parked
FROM ledger.build AS b
LEFT JOIN ledger.head AS h ON h.position > 0
LEFT JOIN ledger.checkpoint AS c ON c.build_id = b.build_id AND c.book = h.book
WHERE b.phase = 'live'
ORDER BY b.projection, h.book
"""


@dataclass(frozen=True, slots=True)
class Build:
    """A build by its id and the schema its tables are in."""

    build_id: str
    schema_name: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the build that answers has folded a book, beside the book's head."""

    book: str
    build: str | None
    position: int
    head: int
    waiting_since: datetime | None

    def lag_seconds(self, now: datetime) -> float:
        """Return for how long the oldest event not yet folded has been in the log; 0 when there is none."""
        return max(0.0, (now - self.waiting_since).total_seconds()) if self.waiting_since else 0.0


async def ensure_live(connection: asyncpg.Connection, projection: Projection) -> Build:
    """Return the projection's live build; make an empty one, to be folded from position 0, where there is none."""
    async with connection.transaction():
        # One maker at a time, and everybody else sees the build it made.
        await connection.execute("LOCK TABLE ledger.build IN SHARE ROW EXCLUSIVE MODE")
        row = await connection.fetchrow(LIVE, projection.name)
        if row is not None:
            return Build(**row)
        build_id = f"{projection.name}-{projection.version}"
        schema_name = f"build_{projection.name}_{projection.version}"
        await _create_schema(connection, schema_name, projection)
        await connection.execute(REGISTER, build_id, projection.name, projection.version, schema_name)
        return Build(build_id, schema_name)


async def _create_schema(connection: asyncpg.Connection, schema_name: str, projection: Projection) -> None:
    await connection.execute(f"CREATE SCHEMA {schema_name}")
    await connection.execute(f"GRANT USAGE ON SCHEMA {schema_name} TO ledger_app")
    await enter(connection, schema_name)
    for table in projection.tables:
        await connection.execute(table.create)
    await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema_name} TO ledger_app")
    for view in projection.views.values():
        await connection.execute(view)


async def enter(connection: asyncpg.Connection, schema_name: str) -> None:
    """Resolve the names of a projection's tables to one build's, until the transaction ends."""
    await connection.execute("SELECT set_config('search_path', $1, true)", schema_name)


async def enter_live(connection: asyncpg.Connection, projection: str, book: str) -> Freshness:
    """Enter the live build inside a transaction and return how fresh it is: registry and rows in one snapshot."""
    row = await connection.fetchrow(ENTER_LIVE, projection, book)
    if row is None:
        return Freshness(book, None, 0, 0, None)
    return Freshness(book, row["build_id"], row["position"], row["head"], row["waiting_since"])


async def any_parked(connection: asyncpg.Connection, build_id: str | None, subjects: list[str]) -> bool:
    """Tell whether one of the subjects is parked: its rows are its last good ones."""
    return bool(await connection.fetchval(PARKED_SUBJECT, build_id, subjects))


async def list_builds(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    """Return each live build with its position in every book."""
    return list(await connection.fetch(LIST_BUILDS))

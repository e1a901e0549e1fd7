"""Builds: one materialisation of a projection over all books, in a Postgres schema of its own; one is live.

The registry names them (``ledger.build``), checkpoints say how far each has folded each book.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from ledger.errors import LedgerError, MistakeError
from projections import engine_tables
from projections.contract import Projection

BUILD: Final = """
SELECT build_id, projection, version, schema_name, phase, bounded, targets, requested_by, reason, created_at,
       changed_at, certificate, error
FROM ledger.build
WHERE build_id = $1
"""

LIVE: Final = """
SELECT build_id, projection, version, schema_name, phase, bounded, targets, requested_by, reason, created_at,
       changed_at, certificate, error
FROM ledger.build
WHERE projection = $1 AND phase = 'live'
"""

BUILDS: Final = """
SELECT build_id, projection, version, schema_name, phase, bounded, targets, requested_by, reason, created_at,
       changed_at, certificate, error
FROM ledger.build
WHERE projection = $1
ORDER BY number
"""

ENTER: Final = """
SELECT b.build_id, b.version, b.phase, coalesce(c.position, 0) AS position, coalesce(h.position, 0) AS head,
       set_config('search_path', b.schema_name, true) AS entered,
       (SELECT e.recorded_at
        FROM ledger.event AS e
        WHERE e.book = $2 AND e.position = coalesce(c.position, 0) + 1) AS waiting_since
FROM ledger.build AS b
LEFT JOIN ledger.checkpoint AS c ON c.build_id = b.build_id AND c.book = $2
LEFT JOIN ledger.head AS h ON h.book = $2
WHERE b.projection = $1 AND CASE WHEN $3::text IS NULL THEN b.phase = 'live' ELSE b.build_id = $3 END
"""

ENTER_BOTH: Final = """
SELECT set_config('search_path', string_agg(schema_name, ', ' ORDER BY projection = $3), true)
FROM ledger.build
WHERE (projection = $1 AND CASE WHEN $2::text IS NULL THEN phase = 'live' ELSE build_id = $2 END)
   OR (projection = $3 AND phase = 'live')
"""

# A deleted build still has its decisions in the log, so its number is never reused.
NEXT_NUMBER: Final = """
SELECT 1 + greatest(
    (SELECT max(number) FROM ledger.build WHERE projection = $1),
    (SELECT max(substring(stream_id FROM '[0-9]{1,9}$')::int)
     FROM ledger.event
     WHERE book = 'ledger:control' AND stream_id ~ ('^ledger:control/' || $1 || '-[0-9]{1,9}$')),
    0
)
"""

REGISTER: Final = """
INSERT INTO ledger.build (build_id, projection, version, schema_name, phase, number, bounded, targets, requested_by,
                          reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

SET_PHASE: Final = "UPDATE ledger.build SET phase = $2, error = $3, changed_at = now() WHERE build_id = $1"

FORGET: Final = "DELETE FROM ledger.build WHERE build_id = $1 AND phase <> 'live'"

FORGET_CHECKPOINTS: Final = "DELETE FROM ledger.checkpoint WHERE build_id = $1"

FORGET_PARTS: Final = "DELETE FROM ledger.build_part WHERE build_id = $1"

FORGET_PARKED: Final = "DELETE FROM ledger.parked WHERE build_id = $1"

POSITIONS: Final = "SELECT book, position FROM ledger.checkpoint WHERE build_id = $1"

PARKED_SUBJECT: Final = "SELECT EXISTS (SELECT FROM ledger.parked WHERE build_id = $1 AND subject = ANY ($2))"

LIST_BUILDS: Final = """
SELECT b.projection, b.version, b.build_id, b.phase, b.bounded, b.certificate, h.book,
       coalesce(c.position, 0) AS position, h.position AS head,
       (SELECT e.recorded_at
        FROM ledger.event AS e
        WHERE e.book = h.book AND e.position = coalesce(c.position, 0) + 1) AS waiting_since,
       (SELECT count(*) FROM ledger.parked AS p WHERE p.build_id = b.build_id) AS parked
FROM ledger.build AS b
LEFT JOIN ledger.head AS h ON h.position > 0 AND h.book <> 'ledger:control'
LEFT JOIN ledger.checkpoint AS c ON c.build_id = b.build_id AND c.book = h.book
WHERE b.phase = 'live' OR $1
ORDER BY b.projection, b.number, h.book
"""


class NoSuchBuildError(MistakeError):
    """There is no build of that id."""

    def __init__(self, build_id: str) -> None:
        super().__init__(f"there is no build {build_id}: `ledger status` lists them")
        self.build_id = build_id


class StillFoldingError(LedgerError):
    """A build that was asked has folded only part of history, so its rows cannot answer yet."""

    def __init__(self, build_id: str) -> None:
        super().__init__(f"{build_id} is still being folded")
        self.build_id = build_id


@dataclass(frozen=True, slots=True)
class Build:
    """A build as registered. ``targets`` are, by book, the positions its first pass folds up to."""

    build_id: str
    projection: str
    version: int
    schema_name: str
    phase: str
    bounded: bool
    targets: Mapping[str, int]
    requested_by: str
    reason: str | None
    created_at: datetime
    changed_at: datetime
    certificate: Mapping[str, Any] | None
    error: str | None

    @property
    def unfinished(self) -> bool:
        """Whether it is not yet folded, caught up and certified."""
        return self.phase == "folding" or (self.phase in {"catching_up", "ready"} and self.certificate is None)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the answering build has folded a book, the book's head, and the build's version."""

    book: str
    build: str | None
    position: int
    head: int
    waiting_since: datetime | None
    kept: bool = False
    version: int = 0

    def lag_seconds(self, now: datetime) -> float:
        """Return how long the oldest event not yet folded has been in the log; 0 if there is none."""
        return max(0.0, (now - self.waiting_since).total_seconds()) if self.waiting_since else 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a new build: by whom, why, up to which position of each book, and whether it stays there."""

    by: str
    reason: str | None
    targets: Mapping[str, int]
    bounded: bool = False


async def ensure_live(connection: asyncpg.Connection, projection: Projection) -> Build:
    """Return the projection's live build; if there is none, make an empty one, to be folded from position 0."""
    async with connection.transaction():
        await _one_maker_at_a_time(connection)
        live = await live_build(connection, projection.name)
        if live is not None:
            return live
        build = await _make(connection, projection, "live", Request("serve", None, {}))
        for view in projection.views.values():
            await connection.execute(view)
        return build


async def start_build(connection: asyncpg.Connection, projection: Projection, request: Request) -> Build:
    """Register a new build beside the live one, with its empty tables, to be folded."""
    async with connection.transaction():
        await _one_maker_at_a_time(connection)
        return await _make(connection, projection, "folding", request)


async def live_build(connection: asyncpg.Connection, projection: str) -> Build | None:
    """Return a projection's live build."""
    row = await connection.fetchrow(LIVE, projection)
    return None if row is None else _build(row)


async def read_build(connection: asyncpg.Connection, build_id: str) -> Build:
    """Return a build. Raises ``NoSuchBuildError``."""
    row = await connection.fetchrow(BUILD, build_id)
    if row is None:
        raise NoSuchBuildError(build_id)
    return _build(row)


async def builds_of(connection: asyncpg.Connection, projection: str) -> list[Build]:
    """Return every build of a projection, oldest first."""
    return [_build(row) for row in await connection.fetch(BUILDS, projection)]


async def set_phase(connection: asyncpg.Connection, build: Build, phase: str, error: str | None = None) -> None:
    """Note how far a build has come."""
    await connection.execute(SET_PHASE, build.build_id, phase, error)


async def drop_build(connection: asyncpg.Connection, build: Build) -> None:
    """Delete a build. Raises ``MistakeError`` for the live one."""
    async with connection.transaction():
        if await connection.execute(FORGET, build.build_id) == "DELETE 0":
            raise MistakeError(f"{build.build_id} is live: promote another build first")
        for forget in (FORGET_CHECKPOINTS, FORGET_PARTS, FORGET_PARKED):
            await connection.execute(forget, build.build_id)
        await connection.execute(f"DROP SCHEMA {build.schema_name} CASCADE")


async def positions_of(connection: asyncpg.Connection, build_id: str) -> dict[str, int]:
    """Return, by book, how far a build has folded."""
    return {row["book"]: row["position"] for row in await connection.fetch(POSITIONS, build_id)}


async def _one_maker_at_a_time(connection: asyncpg.Connection) -> None:
    # Held until commit, so that whoever is next sees what was made.
    await connection.execute("LOCK TABLE ledger.build IN SHARE ROW EXCLUSIVE MODE")


async def _make(connection: asyncpg.Connection, projection: Projection, phase: str, request: Request) -> Build:
    number = await connection.fetchval(NEXT_NUMBER, projection.name)
    build_id = f"{projection.name}-{number}"
    schema_name = f"build_{projection.name}_{number}"
    targets = orjson.dumps(dict(request.targets)).decode()
    await connection.execute(f"CREATE SCHEMA {schema_name}")
    await connection.execute(f"GRANT USAGE ON SCHEMA {schema_name} TO ledger_app")
    await connection.execute("SELECT set_config('search_path', $1, true)", schema_name)
    for create in (engine_tables.CREATE, *(table.create for table in projection.tables)):
        await connection.execute(create)
    await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema_name} TO ledger_app")
    await connection.execute(
        REGISTER,
        build_id,
        projection.name,
        projection.version,
        schema_name,
        phase,
        number,
        request.bounded,
        targets,
        request.by,
        request.reason,
    )
    return await read_build(connection, build_id)


def _build(row: asyncpg.Record) -> Build:
    columns = dict(row)
    columns["targets"] = orjson.loads(columns["targets"])
    columns["certificate"] = orjson.loads(columns["certificate"]) if columns["certificate"] else None
    return Build(**columns)


async def enter(connection: asyncpg.Connection, schema_name: str) -> None:
    """Resolve the names of a projection's tables to one build's, for as long as the connection is used."""
    await connection.execute("SELECT set_config('search_path', $1, false)", schema_name)


async def enter_build(
    connection: asyncpg.Connection, projection: str, book: str, build_id: str | None = None
) -> Freshness:
    """Enter the live build (or a named one) inside a transaction and return how fresh it is.

    Registry and rows are of one snapshot. Raises ``StillFoldingError`` for one whose first pass is not over.
    """
    row = await connection.fetchrow(ENTER, projection, book, build_id)
    if row is None:
        return Freshness(book, None, 0, 0, None)
    if row["phase"] == "folding":
        raise StillFoldingError(row["build_id"])
    kept = row["phase"] != "live"
    return Freshness(book, row["build_id"], row["position"], row["head"], row["waiting_since"], kept, row["version"])


async def enter_both(connection: asyncpg.Connection, projection: str, build_id: str | None, beside: str) -> None:
    """Enter the live build (or a named one) of one projection and the live one of another; both must exist.

    A statement may then name the tables of both; a name that both have means the first one's.
    """
    await connection.execute(ENTER_BOTH, projection, build_id, beside)


async def any_parked(connection: asyncpg.Connection, build_id: str | None, subjects: list[str]) -> bool:
    """Tell whether one of the subjects is parked: its rows are its last good ones."""
    return bool(await connection.fetchval(PARKED_SUBJECT, build_id, subjects))


async def list_builds(connection: asyncpg.Connection, *, every: bool = False) -> list[asyncpg.Record]:
    """Return each live build (or every one) with its position in every book."""
    return list(await connection.fetch(LIST_BUILDS, every))

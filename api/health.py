"""``GET /healthz`` and ``GET /readyz``: whether the process answers, and whether its answers would be right.

Neither needs a key, so neither names a book.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import services
from api.problems import JSONResponse, Problem
from api.services import Services, projections_of
from ledger.errors import SchemaError
from ledger.identity import read_identity
from ledger.migrate import check_schema
from ledger.postgres import AWAY
from projections.builds import LIVE, list_builds
from projections.contract import Projection

LAG_SECONDS_READY: Final = 60.0

_CANNOT_BE_READ: Final = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
)


class NotReadyError(Exception):
    """A readiness check failed: which one, and in how many seconds to ask again."""

    def __init__(self, check: str, why: str, retry_after: int = 5) -> None:
        super().__init__(why)
        self.check = check
        self.why = why
        self.retry_after = retry_after


async def healthz(_: Request) -> Response:
    """Say that the process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Say whether database, schema, keys and runner are in order; 503 with the first that is not."""
    serving, checks = services(request), dict[str, Any]()
    try:
        async with serving.pool.acquire() as connection:
            await _check_writes(connection)
            checks["database"] = "ok"
            await _check_schema(connection)
            checks["schema"] = "ok"
            await _check_keys(connection, serving)
            checks["keys"] = "ok"
            checks["lag_seconds"] = await _check_runner(connection, serving)
            await _check_tables(connection, serving)
            checks["tables"] = "ok"
    except (*AWAY, asyncpg.PostgresError) as error:
        raise _problem(NotReadyError("database", "the database cannot be reached", 1), checks) from error
    except NotReadyError as error:
        raise _problem(error, checks) from error
    return JSONResponse({"status": "ready", "checks": checks})


def _problem(error: NotReadyError, checks: dict[str, Any]) -> Problem:
    return Problem(
        503,
        error.why,
        kind="not-ready",
        headers={"Retry-After": str(error.retry_after)},
        more={"checks": checks | {error.check: error.why}},
    )


async def _check_writes(connection: asyncpg.Connection) -> None:
    if await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        raise NotReadyError("database", "the database takes no writes: it is a standby, or set to be read only", 1)


async def _check_schema(connection: asyncpg.Connection) -> None:
    try:
        await check_schema(connection)
    except SchemaError as error:
        raise NotReadyError("schema", str(error)) from error


async def _check_keys(connection: asyncpg.Connection, serving: Services) -> None:
    """Check that there is a webhook secret and an API key, and that the signing key is known to the log (or new)."""
    if not serving.credentials.webhook_secrets or not serving.credentials.api_keys:
        raise NotReadyError("keys", "there is no webhook secret or no API key")
    keys = (await read_identity(connection)).keys
    if keys and serving.notary.signer.verifier not in keys:
        raise NotReadyError("keys", "the signing key is not registered in the log yet", 1)


async def _check_runner(connection: asyncpg.Connection, serving: Services) -> float:
    """Return how long the oldest event waits to be folded into any of this release's projections."""
    rows = await list_builds(connection)
    missing = {one.name for one in projections_of(serving.settings)} - {row["projection"] for row in rows}
    if missing:
        raise NotReadyError("runner", f"not built yet: {', '.join(sorted(missing))}", 1)
    now = serving.clock()
    lag: float = max([0.0, *((now - row["waiting_since"]).total_seconds() for row in rows if row["waiting_since"])])
    if lag > LAG_SECONDS_READY:
        raise NotReadyError("runner", f"the runner is {lag:.0f} s behind")
    return round(lag, 3)


async def _check_tables(connection: asyncpg.Connection, serving: Services) -> None:
    """Check that the live tables can be read: the lag does not reveal that they are gone or locked."""
    for projection in projections_of(serving.settings):
        live = await connection.fetchrow(LIVE, projection.name)
        if live is None:
            continue
        try:
            await connection.execute(_look_at(live["schema_name"], projection))
        except _CANNOT_BE_READ as error:
            raise NotReadyError("tables", f"{live['build_id']} cannot be read: {error}") from error


def _look_at(schema: str, projection: Projection) -> str:
    # Names of schemas and tables are made by this code.
    return ";".join(f"SELECT FROM {schema}.{table.name} LIMIT 0" for table in projection.tables)

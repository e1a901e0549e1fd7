"""``GET /v1/grants`` and ``POST /v1/catalog/preview``: what is given by hand, and what another catalog would change."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import book_of_request, require, services
from api.catalog import catalog_text
from api.entitlements import value_json
from api.parameters import MAX_LIMIT
from api.problems import JSONResponse
from api.reads import answer, asked_by, build_for, page_of, page_parameters, read_build, time_json
from projections.catalog import Catalog, check_catalog
from projections.entitlements.preview import Difference, count_holders, preview

GRANTS: Final = """
SELECT source, customer, feature, value, note, status, valid_from, expires_at, because
FROM entitlement_source
WHERE book = $1 AND kind = 'grant' AND valid_to IS NULL
  AND ($3::timestamptz IS NULL OR valid_from < $3 OR (valid_from = $3 AND source > $4))
ORDER BY valid_from DESC, source
LIMIT $2
"""

GRANTS_AS_OF: Final = """
SELECT source, customer, feature, value, note, status, valid_from, expires_at, because
FROM (
    SELECT DISTINCT ON (s.source) s.*
    FROM entitlement_source AS s
    JOIN ledger.event_key AS k ON k.event_id = s.because[cardinality(s.because)] AND k.book = s.book
    JOIN ledger.event AS e ON e.stream_id = k.stream_id AND e.version = k.version
    WHERE s.book = $1 AND s.kind = 'grant' AND e.created <= $5
    ORDER BY s.source, s.valid_from DESC
) AS standing
WHERE $3::timestamptz IS NULL OR valid_from < $3 OR (valid_from = $3 AND source > $4)
ORDER BY valid_from DESC, source
LIMIT $2
"""
"""Each grant as its newest event up to a moment made it. One that was taken back before it began was never there."""

HOLDERS_AT_MOST: Final = 1_000
"""How many customers a request looks at; `ledger catalog diff` looks at all."""


async def list_grants(request: Request) -> Response:
    """List what was granted by hand, newest first: what is in force, planned, and ended."""
    serving = services(request)
    asked = await build_for(serving, serving.entitlements.name, await asked_by(request, "entitlements:read"))
    limit, after = page_parameters(request, datetime, str)

    async def rows(connection: asyncpg.Connection) -> list[asyncpg.Record]:
        wanted = (asked.book, limit + 1, *(after or (None, None)))
        if asked.as_of is None:
            return list(await connection.fetch(GRANTS, *wanted))
        return list(await connection.fetch(GRANTS_AS_OF, *wanted, asked.as_of))

    found = await read_build(serving, serving.entitlements.name, asked, rows)
    page, cursor = page_of(found.value, limit, lambda row: (row["valid_from"], row["source"]))
    return answer(
        asked, {"data": [_grant_json(row, asked.as_of or asked.now) for row in page], "next_cursor": cursor}, found
    )


def _grant_json(row: asyncpg.Record, at: datetime) -> dict[str, Any]:
    return {
        "id": row["source"],
        "customer": row["customer"],
        "feature": row["feature"],
        "value": True if row["value"] is None else row["value"],
        "state": _state(row, at),
        "since": time_json(row["valid_from"]),
        "valid_until": time_json(row["expires_at"]),
        "reason": row["note"],
        "because": row["because"],
    }


def _state(row: asyncpg.Record, at: datetime) -> str:
    if row["status"] != "granted":
        return str(row["status"])
    if row["expires_at"] is not None and row["expires_at"] <= at:
        return "expired"
    return "granted" if row["valid_from"] <= at else "planned"


async def preview_catalog(request: Request) -> Response:
    """Answer who would gain or lose what if this catalog were published now; checks some customers, changes nothing."""
    key = require(request, "admin")
    book = await book_of_request(request, key)
    catalog = check_catalog(await catalog_text(request))
    serving = services(request)
    async with (
        serving.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        total = await count_holders(connection, serving.entitlements, book)
        looked_at, found = 0, list[Difference]()
        async for some, differences in preview(connection, serving.entitlements, book, catalog, serving.clock()):
            looked_at += some
            found += differences
            if looked_at >= HOLDERS_AT_MOST:
                break
    return JSONResponse(_preview_json(book, catalog, found) | {"customers": total, "looked_at": looked_at})


def _preview_json(book: str, catalog: Catalog, found: list[Difference]) -> dict[str, Any]:
    data = [
        {
            "customer": one.customer,
            "feature": one.feature,
            "change": one.change,
            "before": value_json(one.before),
            "after": value_json(one.after),
        }
        for one in found
    ]
    return {
        "book": book,
        "features": sorted(catalog.features),
        "plans": len(catalog.plans),
        "summary": {
            "customers": len({one.customer for one in found}),
            **{kind: sum(one.change == kind for one in found) for kind in ("gained", "lost", "changed")},
        },
        "data": data[:MAX_LIMIT],
    }

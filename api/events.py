"""``/v1/events``: the log as it is, to anybody with ``events:read``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.access import require, services
from api.comparing import cells_json
from api.parameters import (
    FORGED_CURSOR,
    book_parameter,
    identifier_parameter,
    integer_parameter,
    path_value,
)
from api.problems import JSONResponse, Problem
from api.reads import Asked, asked_by, key_parameter, look_until, page_of, page_parameters, page_through
from api.services import projections_of
from ledger.books import CONTROL_BOOK
from ledger.conflicts import Conflict, conflicts_of, newest_conflicts
from ledger.event import mapping
from ledger.reader import Filter, StoredEvent, read_event, read_head, read_page
from ledger.times import rfc3339
from ledger.written import json_bytes, may_exceed_64_bits, read_json
from projections.traces import Until, rows_of_event, rows_until

SCOPE: Final = "events:read"
_LAST_POSITION: Final = 2**63 - 1
_SCOPES: Final = {
    "entitlements": "entitlements:read",
    "dunning": "dunning:read",
    "revenue": "revenue:read",
    "periods": "revenue:read",
}
"""What a key needs to see rows of a projection."""


async def list_events(request: Request) -> Response:
    """List a book's events in order of position (``order=desc``: newest first), a page at a time.

    With ``as_of`` those that had happened by then; with ``known_at`` those that had been recorded. ``data=false``
    leaves out what is in them, and so does not read it.
    """
    asked, head = await asked_of_log(request, SCOPE)
    with_data = request.query_params.get("data") != "false"
    newest_first = _newest_first(request)
    limit, cursor = page_parameters(request, int)
    wanted = _filter(request, asked, cursor, newest_first=newest_first)
    async with services(request).pool.acquire() as connection:
        events = await read_page(
            connection, asked.book, wanted, limit + 1, newest_first=newest_first, with_bodies=with_data, lenient=True
        )
    page, next_cursor = page_of(events, limit, lambda one: (one.position,))
    data = [event_json(event, []) for event in page]
    return answer_at_head({"data": data, "next_cursor": next_cursor}, asked.book, head)


async def get_event(request: Request) -> Response:
    """Answer one event, with the later copies that say something else."""
    asked, head = await asked_of_log(request, SCOPE)
    async with services(request).pool.acquire() as connection:
        event = await find_event(request, connection, asked, lenient=True)
        conflicts = await conflicts_of(connection, asked.book, event.event_id)
    return answer_at_head(event_json(event, list(conflicts)), asked.book, head)


async def get_raw(request: Request) -> Response:
    """Answer the exact bytes that were received."""
    asked, _ = await asked_of_log(request, SCOPE)
    async with services(request).pool.acquire() as connection:
        event = await find_event(request, connection, asked)
    if not event.salt:
        raise Problem(410, f"the body of {event.event_id} was erased")
    return Response(event.body, media_type="application/json", headers={"Ledger-Position": str(event.position)})


async def asked_of_log(request: Request, scope: str) -> tuple[Asked, int]:
    """Read what is asked about the log, and its head once that has reached ``min_position``.

    Raises 503 if that takes longer than ``wait``.
    """
    asked, head = await asked_by(request, scope), 0

    async def look() -> bool | None:
        nonlocal head
        async with services(request).pool.acquire() as connection:
            head = await read_head(connection, asked.book)
        return head >= asked.min_position or None

    if await look_until(look, asked.wait_seconds) is None:
        detail = f"the log is at position {head}, not yet {asked.min_position}"
        raise Problem(503, detail, kind="not-yet", headers={"Retry-After": "1"})
    return asked, head


async def list_conflicts(request: Request) -> Response:
    """List later copies of events that say something else than the first, which stands; newest first."""
    asked, head = await asked_of_log(request, SCOPE)
    limit, _ = page_parameters(request, datetime, str, str)
    after = _copy_of_cursor(request)
    async with services(request).pool.acquire() as connection:
        found = await newest_conflicts(connection, asked.book, limit + 1, after, asked.as_of)
    page, cursor = page_of(found, limit, lambda one: (one[1].received_at, one[0], one[1].body_sha256.hex()))
    data = [{"event": event_id} | _conflict_json(conflict) for event_id, conflict in page]
    return answer_at_head({"data": data, "next_cursor": cursor}, asked.book, head)


def _copy_of_cursor(request: Request) -> tuple[datetime, str, bytes] | None:
    key = key_parameter(request, datetime, str, str)
    try:
        return None if key is None else (key[0], key[1], bytes.fromhex(key[2]))
    except ValueError as error:
        raise Problem(400, FORGED_CURSOR) from error


async def list_rows(request: Request) -> Response:
    """List the rows of the live builds that rest on an event, of those projections that the key may read.

    As of a moment, or as known, they are the rows of the event's subject at that time, folded now.
    """
    key = require(request, SCOPE)
    asked, head = await asked_of_log(request, SCOPE)
    serving = services(request)
    readable = [one for one in projections_of(serving.settings) if key.allows(_SCOPES.get(one.name, "admin"))]
    async with (
        serving.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        event = await find_event(request, connection, asked, lenient=True)
        if asked.as_of is None and asked.known is None:
            found = await rows_of_event(connection, readable, asked.book, event.stream_id, event.event_id)
        else:
            until = Until(asked.as_of, asked.known)
            found = await rows_until(connection, readable, asked.book, event.stream_id, event.event_id, until)
    page, cursor = page_through(request, list(enumerate(found)), lambda one: one[:1], int)
    data = [
        {"projection": one.projection, "build": one.build, "table": one.table, "row": cells_json(one.row)}
        for _, one in page
    ]
    return answer_at_head({"data": data, "next_cursor": cursor}, asked.book, head)


def event_json(event: StoredEvent, conflicts: list[Conflict]) -> dict[str, Any]:
    """Write an event as the contract has it; ``leaf`` lets anybody check it against the log's Merkle tree.

    Data that was not read, cannot be read any more, or is nested deeper than JSON can be written here, is left out and
    named in ``incomplete``.
    """
    data = data_of(event)
    return {
        "id": event.event_id,
        "book": event.book,
        "position": event.position,
        "type": event.type,
        "created": rfc3339(event.created),
        "stream": event.stream_id,
        "source": event.source,
        "api_version": event.api_version,
        "recorded_at": rfc3339(event.recorded_at),
        "received_at": rfc3339(event.received_at),
        "data": None if data is None else orjson.Fragment(data),
        "erased": not event.salt,
        "incomplete": ["data"] if event.salt and data is None else [],
        "leaf": {"header": event.header.decode(), "salt": event.salt.hex(), "hash": event.leaf.hex()},
        "conflicts": [_conflict_json(conflict) for conflict in conflicts],
    }


def _conflict_json(conflict: Conflict) -> dict[str, Any]:
    return {
        "received_at": rfc3339(conflict.received_at),
        "source": conflict.source,
        "api_version": conflict.api_version,
        "body_sha256": conflict.body_sha256.hex(),
    }


def data_of(event: StoredEvent) -> bytes | None:
    """Return an event's data as JSON; None where it was erased, not read, is damaged, or is too deep to be written."""
    if not event.salt or not event.body:
        return None
    try:
        data = orjson.dumps(mapping(orjson.loads(event.body).get("data")))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return json_bytes(mapping(read_json(event.body).get("data"))) if may_exceed_64_bits(event.body) else data


async def find_event(
    request: Request, connection: asyncpg.Connection, asked: Asked, *, lenient: bool = False
) -> StoredEvent:
    """Return the event a request's path names. Raises 404 where its book has none, or had none by then.

    ``lenient``: with an empty body where that cannot be read.
    """
    event_id = path_value(request, "event_id")
    event = await read_event(connection, asked.book, event_id, lenient=lenient)
    if event is None:
        raise Problem(404, f"book {asked.book} has no event {event_id}")
    if asked.as_of is not None and event.created > asked.as_of:
        raise Problem(404, f"{event_id} happened later, at {rfc3339(event.created)}")
    if asked.known is not None and event.position > asked.known:
        raise Problem(404, f"{event_id} was recorded later, at position {event.position}")
    return event


def _newest_first(request: Request) -> bool:
    order = request.query_params.get("order", "asc")
    if order not in ("asc", "desc"):
        raise Problem(400, "order must be asc or desc")
    return order == "desc"


def _filter(request: Request, asked: Asked, cursor: tuple[int] | None, *, newest_first: bool) -> Filter:
    after = integer_parameter(request, "after", 0, 0, _LAST_POSITION)
    before = integer_parameter(request, "before", _LAST_POSITION, 0, _LAST_POSITION)
    if cursor is not None:
        after, before = (after, min(before, *cursor)) if newest_first else (max(after, *cursor), before)
    if asked.known is not None:
        before = min(before, asked.known + 1)
    customer = identifier_parameter(request, "customer")
    return Filter(
        after=after,
        before=before,
        type=identifier_parameter(request, "type"),
        stream_id=f"{asked.book}/{customer}" if customer else None,
        as_of=asked.as_of,
    )


def answer_at_head(content: dict[str, Any], book: str, head: int) -> Response:
    """Answer what is read off the log itself, which is never behind."""
    content["freshness"] = {
        "book": book,
        "position": head,
        "head": head,
        "lag_seconds": 0.0,
        "build": None,
        "stale": False,
        "parked": False,
    }
    return JSONResponse(content, headers={"Ledger-Position": str(head)})


async def answer_of_all(request: Request, content: dict[str, Any]) -> Response:
    """Answer what is of all books: with the head of the one that is asked about, else of our own decisions."""
    book = book_parameter(request) or CONTROL_BOOK
    async with services(request).pool.acquire() as connection:
        return answer_at_head(content, book, await read_head(connection, book))

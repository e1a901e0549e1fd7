"""``GET /v1/coverage`` and ``GET /v1/observations``: what the log is proven to have, and what is still being asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.access import book_of_request, require, services
from api.events import answer_at_head
from api.outward.coverage import HOUR, KEPT, Hour, first_hour, hour_of, read_hours
from api.outward.wanted import Wanted, list_wanted
from api.parameters import (
    FORGED_CURSOR,
    MAX_LIMIT,
    bound_parameter,
    cursor_parameter,
    encode_cursor,
    integer_parameter,
    time_parameter,
)
from api.problems import Problem
from api.reads import key_parameter, page_of
from ledger.reader import read_head
from ledger.times import from_unix, rfc3339

_STATES: Final = frozenset({"open", "answered", "given_up"})


async def get_coverage(request: Request) -> Response:
    """Answer every hour of a book: whether it is proven complete, by what. By default, as far back as Stripe lists."""
    key = require(request, "events:read")
    serving = services(request)
    book = await book_of_request(request, key)
    now = serving.clock()
    limit = integer_parameter(request, "limit", MAX_LIMIT, 1, MAX_LIMIT)
    cursor = _hour_of_cursor(request)
    async with serving.pool.acquire() as connection:
        oldest = max(await first_hour(connection, book) or now, now - KEPT)
        since = hour_of(bound_parameter(request, "from") or oldest)
        until = bound_parameter(request, "to") or time_parameter(request, "as_of", "at") or now
        begin = since if cursor is None else cursor
        end = begin + min(until - begin, limit * HOUR)
        hours = await read_hours(connection, book, begin, end) if begin < end else []
        head = await read_head(connection, book)
    content = {
        "proven": sum(one.proven for one in hours),
        "unproven": sum(not one.proven for one in hours),
        "data": [hour_json(one) for one in hours],
        "next_cursor": encode_cursor(int(end.timestamp())) if begin < end < until else None,
    }
    return answer_at_head(content, book, head)


async def list_observations(request: Request) -> Response:
    """List what events left to be asked of Stripe: open, answered (by which event), or given up, and why."""
    key = require(request, "events:read")
    book = await book_of_request(request, key)
    state = request.query_params.get("state")
    if state is not None and state not in _STATES:
        raise Problem(400, f"state must be one of {', '.join(sorted(_STATES))}")
    limit = integer_parameter(request, "limit", 100, 1, MAX_LIMIT)
    after = key_parameter(request, datetime, str)
    as_of = time_parameter(request, "as_of", "at")
    async with services(request).pool.acquire() as connection:
        found = await list_wanted(connection, book, state, limit + 1, as_of, after)
        head = await read_head(connection, book)
    page, cursor = page_of(found, limit, lambda one: (one.created, one.event_id))
    return answer_at_head({"data": [wanted_json(one) for one in page], "next_cursor": cursor}, book, head)


def _hour_of_cursor(request: Request) -> datetime | None:
    seconds = cursor_parameter(request)
    try:
        return None if seconds is None else hour_of(from_unix(seconds))
    except ValueError as error:
        raise Problem(400, FORGED_CURSOR) from error


def hour_json(hour: Hour) -> dict[str, Any]:
    """Write an hour: ``until`` is how far it was asked for, ``found`` how many events the log lacked."""
    return {
        "hour": rfc3339(hour.hour),
        "proven": hour.proven,
        "by": hour.by,
        "until": rfc3339(hour.until) if hour.until else None,
        "listed_at": rfc3339(hour.listed_at) if hour.listed_at else None,
        "listed": hour.listed,
        "found": hour.found,
        "webhooks": hour.webhooks,
    }


def wanted_json(wanted: Wanted) -> dict[str, Any]:
    """Write a request on the list."""
    return {
        "event": wanted.event_id,
        "kind": wanted.kind,
        "of": wanted.of,
        "because": wanted.because,
        "describes": rfc3339(wanted.created),
        "state": wanted.state,
        "tries": wanted.tries,
        "next_try_at": rfc3339(wanted.next_try_at) if wanted.state == "open" else None,
        "error": wanted.error,
    }

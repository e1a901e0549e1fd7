"""``GET /v1/coverage`` and ``GET /v1/observations``: which hours are proven complete, and what Stripe is asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.access import services
from api.events import SCOPE, answer_at_head, asked_of_log
from api.outward.coverage import HOUR, KEPT, Hour, first_hour, hour_of, read_hours
from api.outward.wanted import Wanted, list_wanted
from api.parameters import MAX_LIMIT, bound_parameter
from api.problems import Problem
from api.reads import encode_key, page_of, page_parameters
from ledger.times import rfc3339

_STATES: Final = frozenset({"open", "answered", "given_up"})


async def get_coverage(request: Request) -> Response:
    """Answer, for every hour of a book, whether it is proven complete and by what; by default for Stripe's 30 days.

    An hour that has not begun is none yet, whatever was asked for.
    """
    asked, head = await asked_of_log(request, SCOPE)
    book, now = asked.book, asked.now
    limit, after = page_parameters(request, datetime, default=MAX_LIMIT)
    async with services(request).pool.acquire() as connection:
        oldest = max(await first_hour(connection, book) or now, now - KEPT)
        since = hour_of(bound_parameter(request, "from") or oldest)
        until = min(bound_parameter(request, "to") or asked.as_of or now, now)
        begin = since if after is None else hour_of(after[0])
        end = begin + min(until - begin, limit * HOUR)
        hours = await read_hours(connection, book, begin, end) if begin < end else []
    content = {
        "proven": sum(one.proven for one in hours),
        "unproven": sum(not one.proven for one in hours),
        "data": [hour_json(one) for one in hours],
        "next_cursor": encode_key(rfc3339(end)) if begin < end < until else None,
    }
    return answer_at_head(content, book, head)


async def list_observations(request: Request) -> Response:
    """List what Stripe is asked for because events omit it: open, answered (by which event), or given up, and why."""
    asked, head = await asked_of_log(request, SCOPE)
    state = request.query_params.get("state")
    if state is not None and state not in _STATES:
        raise Problem(400, f"state must be one of {', '.join(sorted(_STATES))}")
    limit, after = page_parameters(request, datetime, str)
    async with services(request).pool.acquire() as connection:
        found = await list_wanted(connection, asked.book, state, limit + 1, asked.as_of, after)
    page, cursor = page_of(found, limit, lambda one: (one.created, one.event_id))
    return answer_at_head({"data": [wanted_json(one) for one in page], "next_cursor": cursor}, asked.book, head)


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

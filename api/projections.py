"""``/v1/projections`` and ``/v1/parked``: rebuild, compare, swap and go back, for engineers (scope ``admin``)."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.access import default_book, idempotency_key_of, require, services
from api.bodies import json_body, reason_of, text_of, time_of
from api.building import build_json, live_json, read_builds, read_decisions
from api.calls import once, one_at_a_time
from api.comparing import comparison_json, difference_json
from api.events import answer_of_all
from api.operations import BY_HTTP, Operations, Until, replay_parked
from api.outbox import swapped_json
from api.parameters import (
    MAX_WAIT_SECONDS,
    book_parameter,
    identifier_parameter,
    path_value,
    seconds_parameter,
    time_parameter,
)
from api.problems import JSONResponse, Problem
from api.reads import DEFAULT_LIMIT, page_of, page_parameters, page_through
from api.services import find_projection, projections_of
from ledger.calls import KeyedCall
from ledger.errors import MistakeError
from ledger.times import rfc3339
from projections.builds import Build, NoSuchBuildError, builds_of, list_builds
from projections.compare import NotComparableError
from projections.promotion import PromotionRefusedError, Swapped


async def list_projections(request: Request) -> Response:
    """List the live builds: how far each has folded every book, its digest, what is parked."""
    require(request, "admin")
    async with services(request).pool.acquire() as connection:
        rows = await list_builds(connection)
    found = live_json(rows, services(request).clock(), book_parameter(request))
    page, cursor = page_through(request, found, lambda one: (one["name"],), str)
    return await answer_of_all(request, {"data": page, "next_cursor": cursor})


async def list_all_builds(request: Request) -> Response:
    """List every build of a projection that is kept, newest first."""
    ready, _ = _ready(request)
    async with services(request).pool.acquire() as connection:
        builds = await builds_of(connection, ready.projection.name)
        asked = [one for one in builds if one.created_at <= _until(request)]
        page, cursor = page_through(request, asked[::-1], _made, datetime, str, descending=True)
        found = await read_builds(connection, page, ready.clock(), book_parameter(request))
    return await answer_of_all(request, {"data": found, "next_cursor": cursor})


async def list_decisions(request: Request) -> Response:
    """List who asked for builds, made them live, went back or threw them away, and why; newest first."""
    ready, _ = _ready(request)
    limit, before = page_parameters(request, int)
    async with services(request).pool.acquire() as connection:
        found = await read_decisions(connection, ready.projection.name, before, _until(request), limit + 1)
    page, cursor = page_of(found, limit, lambda one: (one["position"],))
    return await answer_of_all(request, {"data": page, "next_cursor": cursor})


async def start_rebuild(request: Request) -> Response:
    """Ask for a new build; the service folds it, the answer says which one it is."""
    ready, by = _ready(request)
    body = await json_body(request, {"book", "until_position", "until_time", "reason"})
    moment, position = time_of(body, "until_time"), body.get("until_position")
    if moment is not None and position is not None:
        raise Problem(400, "until_time and until_position exclude each other")
    if position is not None and (isinstance(position, bool) or not isinstance(position, int) or position < 0):
        raise Problem(400, "until_position is a position, a whole number from 0")
    book = body.get("book")
    if position is not None and book is None:
        book = await default_book(services(request))
    until = Until(moment, position, None if book is None else str(book))
    reason, idempotency_key = text_of(body, "reason"), idempotency_key_of(request)
    if idempotency_key is None:
        build = await ready.request_rebuild(by=by, reason=reason, until=until)
    else:
        async with one_at_a_time(services(request), f"{ready.projection.name} {by} {idempotency_key}"):
            build = await ready.request_once(idempotency_key, by=by, reason=reason, until=until)
    return JSONResponse(await _build_json(ready, build.build_id), status_code=202)


async def get_build(request: Request) -> Response:
    """Say how far a build is."""
    ready, _ = _ready(request)
    return await answer_of_all(request, await _build_json(ready, path_value(request, "build")))


async def get_diff(request: Request) -> Response:
    """Compare a build with the live one, row by row; with ``limit``, ``cursor`` or ``wait`` a page at a time."""
    ready, by = _ready(request)
    customer = identifier_parameter(request, "customer")
    try:
        if {"limit", "cursor", "wait", "again"} & request.query_params.keys():
            return await answer_of_all(request, await _diff_page(request, ready, by, customer))
        comparison = await ready.compare(path_value(request, "build"), by=by, customer=customer)
    except NotComparableError as error:
        raise Problem(409, str(error), kind="not-comparable") from error
    if (book := book_parameter(request)) is not None:
        comparison.differences = [one for one in comparison.differences if one.subject.startswith(f"{book}/")]
    return await answer_of_all(request, comparison_json(comparison, ready.projection) | {"next_cursor": None})


async def _diff_page(request: Request, ready: Operations, by: str, customer: str | None) -> dict[str, Any]:
    """Return a page of a comparison that is kept while it is looked through."""
    build, table = path_value(request, "build"), request.query_params.get("table")
    book = book_parameter(request)
    again, wait = request.query_params.get("again") == "true", seconds_parameter(request, "wait", 5, MAX_WAIT_SECONDS)
    made = await services(request).comparisons.read(ready, build, by, again=again, wait_seconds=wait)
    if made is None:
        raise Problem(503, f"{build} is still being compared", kind="not-yet", headers={"Retry-After": "2"})
    chosen = [
        one
        for one in made.comparison.differences
        if (customer is None or one.subject.endswith(f"/{customer}"))
        and (book is None or one.subject.startswith(f"{book}/"))
        and table in (None, one.table)
    ]
    page, cursor = page_through(request, list(enumerate(chosen)), lambda one: one[:1], int, default=DEFAULT_LIMIT)
    return {
        "build": made.comparison.build,
        "live": made.comparison.live,
        "positions": made.comparison.positions,
        "made_at": rfc3339(made.made_at),
        "summary": made.summary,
        "count": len(chosen),
        "data": [difference_json(one) for _, one in page],
        "next_cursor": cursor,
    }


async def promote_build(request: Request) -> Response:
    """Make a build the live one."""
    ready, by = _ready(request)
    body = await json_body(request, {"reason", "force"})
    build, reason, force = path_value(request, "build"), reason_of(body), _flag(body, "force")

    async def act(call: KeyedCall | None) -> dict[str, Any]:
        return await _swap(ready.promote(build, by=by, reason=reason, force=force, call=call))

    wanted = {"build": build, "reason": reason, "force": force}
    return await once(request, require(request, "admin"), "promotion", wanted, act, ready.publish_swaps)


async def roll_back(request: Request) -> Response:
    """Make the build that was live before live again; ``force`` although it lags."""
    ready, by = _ready(request)
    body = await json_body(request, {"reason", "force"})
    reason, force = reason_of(body), _flag(body, "force")

    async def act(call: KeyedCall | None) -> dict[str, Any]:
        return await _swap(ready.roll_back(by=by, reason=reason, stale=force, call=call))

    wanted = {"projection": ready.projection.name, "reason": reason, "force": force}
    return await once(request, require(request, "admin"), "rollback", wanted, act, ready.publish_swaps)


async def delete_build(request: Request) -> Response:
    """Throw a build away; the live one stays."""
    ready, by = _ready(request)
    try:
        await ready.drop(path_value(request, "build"), by=by)
    except NoSuchBuildError:
        raise
    except MistakeError as error:
        raise Problem(409, str(error)) from error
    return Response(status_code=204)


async def list_parked(request: Request) -> Response:
    """List the subjects that could not be folded."""
    ready, _ = _ready(request, None)
    book, until = book_parameter(request), _until(request)
    found = [row for row in await ready.parked() if book in (None, row["book"]) and row["since"] <= until]
    page, cursor = page_through(request, found, _parked, datetime, str, str)
    names = ("projection", "subject", "error")
    data = [
        {**{name: row[name] for name in names}, "event": row["event_id"], "since": rfc3339(row["since"])}
        for row in page
    ]
    return await answer_of_all(request, {"data": data, "next_cursor": cursor})


async def replay_subject(request: Request) -> Response:
    """Fold a parked subject again."""
    ready, _ = _ready(request, None)
    subject = path_value(request, "subject")

    async def act(_: KeyedCall | None) -> dict[str, Any]:
        try:
            cleared, still = await replay_parked(ready, projections_of(services(request).settings), subject)
        except MistakeError as error:
            raise Problem(404, str(error)) from error
        return {"subject": subject, "cleared": cleared, "still_parked": still}

    return await once(request, require(request, "admin"), "replay", {"subject": subject}, act)


def _until(request: Request) -> datetime:
    return time_parameter(request, "as_of", "at") or datetime.max.replace(tzinfo=UTC)


def _made(one: Build) -> tuple[datetime, str]:
    return one.created_at, one.build_id


def _parked(row: Mapping[str, Any]) -> tuple[datetime, str, str]:
    return row["since"], row["subject"], row["build_id"]


def _ready(request: Request, name: str | None = "name") -> tuple[Operations, str]:
    key = require(request, "admin")
    serving = services(request)
    projection = serving.entitlements
    if name is not None:
        try:
            projection = find_projection(serving.settings, path_value(request, name))
        except MistakeError as error:
            raise Problem(404, str(error)) from error
    return Operations(serving.database, projection, serving.appender, serving.clock), f"{BY_HTTP}{key.name}"


async def _build_json(ready: Operations, build_id: str) -> dict[str, Any]:
    build, progress = await ready.read(build_id)
    parked = sum(row["build_id"] == build_id for row in await ready.parked())
    return build_json(build, progress, parked, ready.clock())


async def _swap(swapping: Awaitable[Swapped]) -> dict[str, Any]:
    try:
        swapped = await swapping
    except PromotionRefusedError as error:
        raise Problem(409, str(error), kind="not-promoted") from error
    return swapped_json(swapped)


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise Problem(400, f"{name} is true or false")
    return value

"""``/v1/projections`` and ``/v1/parked``: rebuild, compare, swap and go back, for engineers (scope ``admin``)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.access import require, services
from api.bodies import json_body, reason_of, text_of, time_of
from api.comparing import comparison_json
from api.operations import BY_HTTP, Operations, Until, replay_parked
from api.parameters import path_value
from api.problems import JSONResponse, Problem
from api.services import find_projection, projections_of
from ledger.errors import MistakeError
from ledger.times import rfc3339
from projections.builds import Build, NoSuchBuildError, list_builds
from projections.compare import NotComparableError
from projections.promotion import PromotionRefusedError, Swapped
from projections.rebuild import Progress


async def list_projections(request: Request) -> Response:
    """List the live builds: how far each has folded every book, its digest, what is parked."""
    require(request, "admin")
    async with services(request).pool.acquire() as connection:
        rows = await list_builds(connection)
    now = services(request).clock()
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = found.setdefault(
            row["projection"],
            {
                "name": row["projection"],
                "version": row["version"],
                "build": row["build_id"],
                "digest": _digest(row["certificate"]),
                "books": [],
                "parked": row["parked"],
            },
        )
        if row["book"] is not None:
            lag = max(0.0, (now - row["waiting_since"]).total_seconds()) if row["waiting_since"] else 0.0
            place = {"book": row["book"], "position": row["position"], "head": row["head"]}
            one["books"].append(place | {"lag_seconds": round(lag, 3)})
    return JSONResponse({"data": list(found.values())})


def _digest(certificate: str | None) -> str | None:
    return orjson.loads(certificate)["digest"] if certificate else None


async def start_rebuild(request: Request) -> Response:
    """Ask for a new build; the service folds it, the answer says which one it is."""
    ready, by = _ready(request)
    body = await json_body(request, {"book", "until_position", "until_time", "reason"})
    moment, position = time_of(body, "until_time"), body.get("until_position")
    if moment is not None and position is not None:
        raise Problem(400, "until_time and until_position exclude each other")
    if position is not None and (isinstance(position, bool) or not isinstance(position, int) or position < 1):
        raise Problem(400, "until_position is a position, a whole number from 1")
    book = body.get("book") or services(request).settings.book_by_default
    until = Until(moment, position, str(book))
    build = await ready.request_rebuild(by=by, reason=text_of(body, "reason"), until=until)
    return JSONResponse(await _build_json(ready, build.build_id), status_code=202)


async def get_build(request: Request) -> Response:
    """Say how far a build is."""
    ready, _ = _ready(request)
    return JSONResponse(await _build_json(ready, path_value(request, "build")))


async def get_diff(request: Request) -> Response:
    """Compare a build with the live one, row by row."""
    ready, by = _ready(request)
    customer = request.query_params.get("customer")
    try:
        comparison = await ready.compare(path_value(request, "build"), by=by, customer=customer)
    except NotComparableError as error:
        raise Problem(409, str(error), kind="not-comparable") from error
    return JSONResponse(comparison_json(comparison, ready.projection))


async def promote_build(request: Request) -> Response:
    """Make a build the live one."""
    ready, by = _ready(request)
    body = await json_body(request, {"reason", "force"})
    force = _flag(body, "force")
    return await _swap(ready.promote(path_value(request, "build"), by=by, reason=reason_of(body), force=force))


async def roll_back(request: Request) -> Response:
    """Make the build that was live before live again; ``force`` although it lags."""
    ready, by = _ready(request)
    body = await json_body(request, {"reason", "force"})
    return await _swap(ready.roll_back(by=by, reason=reason_of(body), stale=_flag(body, "force")))


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
    names = ("projection", "subject", "error")
    data = [
        {**{name: row[name] for name in names}, "event": row["event_id"], "since": rfc3339(row["since"])}
        for row in await ready.parked()
    ]
    return JSONResponse({"data": data})


async def replay_subject(request: Request) -> Response:
    """Fold a parked subject again."""
    ready, _ = _ready(request, None)
    subject = path_value(request, "subject")
    try:
        cleared, still = await replay_parked(ready, projections_of(services(request).settings), subject)
    except MistakeError as error:
        raise Problem(404, str(error)) from error
    return JSONResponse({"subject": subject, "cleared": cleared, "still_parked": still})


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
    return {
        "build": build.build_id,
        "phase": build.phase,
        "done": progress.events,
        "total": progress.expected,
        **_speed(build, progress, ready.clock()),
        "digest": (build.certificate or {}).get("digest"),
        "parked": parked,
        "bounded": build.bounded,
        "version": build.version,
        "requested_by": build.requested_by,
        "reason": build.reason,
    }


def _speed(build: Build, progress: Progress, now: datetime) -> dict[str, Any]:
    """Return events folded a second since it was asked for, and how long the rest takes at that rate."""
    if build.phase != "folding":
        return {"rate": None, "eta_seconds": 0}
    seconds = (now - build.created_at).total_seconds()
    if seconds <= 0 or progress.events == 0:
        return {"rate": None, "eta_seconds": None}
    rate = progress.events / seconds
    return {"rate": round(rate, 1), "eta_seconds": round((progress.expected - progress.events) / rate)}


async def _swap(swapping: Any) -> Response:
    try:
        swapped: Swapped = await swapping
    except PromotionRefusedError as error:
        raise Problem(409, str(error), kind="not-promoted") from error
    return JSONResponse(
        {
            "build": swapped.build,
            "previous": swapped.previous,
            "positions": swapped.positions,
            "lag_seconds": swapped.lag_seconds,
        }
    )


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise Problem(400, f"{name} is true or false")
    return value

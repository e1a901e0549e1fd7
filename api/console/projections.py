"""Projections: which build of each answers, how far it is, what is being built, what is parked, who decided what."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from api.console.frame import Page, Part, Visit, done, render
from api.problems import HANDLED, Problem, problem_of
from api.services import projections_of

ADMIN: Final = ("admin",)
REFRESH_SECONDS: Final = 2
UNFINISHED: Final = frozenset({"folding", "catching_up"})

_DECISIONS: Final = 25


def watched(response: Response, *, going_on: bool) -> Response:
    """Let a page that shows something under way load itself again, without any script."""
    if going_on:
        response.headers["Refresh"] = str(REFRESH_SECONDS)
    return response


def confirmed(visit: Visit) -> dict[str, Any]:
    """Return the reason and the force of a form that was confirmed. Raises ``Problem`` for one that was not."""
    if visit.form.get("confirmed") != "yes":
        raise Problem(400, "tick the box to confirm: this changes everybody's answers")
    return {"reason": visit.form.get("reason", ""), "force": visit.form.get("force") == "yes"}


async def show_all(visit: Visit, refused: Problem | None = None) -> Response:
    """Show every projection, its builds, and what is parked."""
    names = [one.name for one in projections_of(visit.services.settings)]
    live, parked, *builds = await asyncio.gather(
        visit.part("/v1/projections"),
        visit.part("/v1/parked"),
        *(visit.part("/v1/projections/{name}/builds", name=name) for name in names),
    )
    others = {name: _besides_live(part) for name, part in zip(names, builds, strict=True)}
    going_on = any(one["phase"] in UNFINISHED for some in others.values() for one in some)
    response = render(
        visit,
        "projections.html",
        names=names,
        live=live,
        parked=parked,
        others=others,
        going_on=going_on,
        refresh_seconds=REFRESH_SECONDS,
        refused=refused,
    )
    return watched(response, going_on=going_on and refused is None)


def _besides_live(part: Part) -> list[dict[str, Any]]:
    return [one for one in (part.content or {}).get("data", ()) if one["phase"] != "live"]


async def change(visit: Visit) -> Response:
    """Start a rebuild, or fold a parked subject again."""
    try:
        if visit.form.get("do") == "replay":
            return await _replay(visit)
        return await _rebuild(visit)
    except HANDLED as error:
        return await show_all(visit, refusal(error))


async def _rebuild(visit: Visit) -> Response:
    name = visit.form.get("name", "")
    body: dict[str, object] = {"reason": visit.form.get("reason", "").strip() or None, "book": visit.book}
    until = visit.form.get("until", "").strip()
    if until.isdecimal():
        body["until_position"] = int(until[:18])
    elif until:
        body["until_time"] = until
    build = await visit.ask("POST /v1/projections/{name}/rebuilds", name=name, body=body)
    told = f"{build['build']} is asked for; it is folded beside the live build."
    return done(visit, visit.url(f"/projections/{name}/builds/{build['build']}"), told)


async def _replay(visit: Visit) -> Response:
    subject = visit.form.get("subject", "")
    answer = await visit.ask("POST /v1/parked/{subject}/replay", subject=subject)
    still = answer["still_parked"]
    told = f"{subject} is still parked: its error stands." if still else f"{subject} is folded again."
    return done(visit, visit.url("/projections"), told)


async def show_one(visit: Visit, refused: Problem | None = None) -> Response:
    """Show one projection: its builds, and what was decided about them."""
    name = visit.path("name")
    builds, decisions = await asyncio.gather(
        visit.ask("/v1/projections/{name}/builds", name=name),
        visit.part(
            "/v1/projections/{name}/decisions", name=name, limit=_DECISIONS, cursor=visit.query("cursor") or None
        ),
    )
    retired = [one for one in builds["data"] if one["phase"] == "retired"]
    previous: Mapping[str, Any] | None = max(retired, key=lambda one: one["changed_at"], default=None)
    going_on = any(one["phase"] in UNFINISHED for one in builds["data"])
    response = render(
        visit,
        "projection.html",
        name=name,
        builds=builds["data"],
        decisions=decisions,
        previous=previous,
        going_on=going_on,
        refresh_seconds=REFRESH_SECONDS,
        refused=refused,
    )
    return watched(response, going_on=going_on and refused is None)


async def roll_back(visit: Visit) -> Response:
    """Make the build that was live before live again."""
    name = visit.path("name")
    try:
        swapped = await visit.ask("POST /v1/projections/{name}/rollback", name=name, body=confirmed(visit))
    except HANDLED as error:
        return await show_one(visit, refusal(error))
    told = f"{swapped['build']} is live again, instead of {swapped['previous']}."
    return done(visit, visit.url(f"/projections/{name}"), told)


def refusal(error: Exception) -> Problem:
    """Return a refusal that is shown on the page it was asked from; raises anything else that went wrong."""
    problem = problem_of(error)
    if problem.status not in (400, 409, 422):
        raise error
    return problem


PAGES: Final = (
    Page("/projections", show_all, scopes=ADMIN, nav="Projections", sample="/projections"),
    Page("/projections", change, scopes=ADMIN, method="POST"),
    Page("/projections/{name}", show_one, scopes=ADMIN, sample="/projections/entitlements"),
    Page("/projections/{name}", roll_back, scopes=ADMIN, method="POST"),
)

"""One build: how far it is, what it would change and since which event, and making it live or throwing it away."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.responses import Response

from api.console.frame import Page, Visit, done, render
from api.console.projections import ADMIN, REFRESH_SECONDS, UNFINISHED, confirmed, refusal, watched
from api.problems import HANDLED, Problem

_ROWS: Final = 50
_SUMS_SHOWN: Final = 12
_WAIT_SECONDS: Final = 0.1


async def show(visit: Visit, refused: Problem | None = None) -> Response:
    """Show how far a build is, its certificate, and what can be done with it."""
    name, build_id = visit.path("name"), visit.path("build")
    build, projections = await asyncio.gather(
        visit.ask("/v1/projections/{name}/builds/{build}", name=name, build=build_id), visit.ask("/v1/projections")
    )
    going_on = build["phase"] in UNFINISHED
    response = render(
        visit,
        "build.html",
        name=name,
        build=build,
        live=next((one["build"] for one in projections["data"] if one["name"] == name), None),
        going_on=going_on,
        refresh_seconds=REFRESH_SECONDS,
        comparable=_comparable(build),
        refused=refused,
    )
    return watched(response, going_on=going_on and refused is None)


def _comparable(build: dict[str, Any]) -> bool:
    """Tell whether a page can compare a build: an audit copy is behind the live one by almost everything."""
    return build["phase"] in ("catching_up", "ready", "retired") and not build["bounded"]


async def change(visit: Visit) -> Response:
    """Make a build the live one, or throw it away."""
    name, build_id = visit.path("name"), visit.path("build")
    path = {"name": name, "build": build_id}
    try:
        asked = confirmed(visit)
        if visit.form.get("do") == "delete":
            await visit.ask("DELETE /v1/projections/{name}/builds/{build}", **path)
            return done(visit, visit.url(f"/projections/{name}"), f"{build_id} is thrown away.")
        swapped = await visit.ask("POST /v1/projections/{name}/builds/{build}/promote", body=asked, **path)
    except HANDLED as error:
        return await show(visit, refusal(error))
    instead = f", instead of {swapped['previous']}" if swapped["previous"] else ""
    return done(visit, visit.url(f"/projections/{name}"), f"{build_id} is live{instead}.")


async def show_diff(visit: Visit) -> Response:
    """Show what a build would change: sums by table, customer, month and currency, and every row, a page at a time."""
    name, build_id = visit.path("name"), visit.path("build")
    build = await visit.ask("/v1/projections/{name}/builds/{build}", name=name, build=build_id)
    context: dict[str, Any] = {"name": name, "build": build, "refresh_seconds": REFRESH_SECONDS}
    if not _comparable(build):
        return render(visit, "diff.html", diff=None, **context)
    part = await visit.part(
        "/v1/projections/{name}/builds/{build}/diff",
        name=name,
        build=build_id,
        customer=visit.query("customer") or None,
        table=visit.query("table") or None,
        cursor=visit.query("cursor") or None,
        again=visit.query("again") or None,
        limit=_ROWS,
        wait=_WAIT_SECONDS,
    )
    comparing = part.problem is not None and part.problem.kind == "not-yet"
    sums = _sums(part.content["summary"]) if part.content else []
    rows = [_row(one) for one in part.content["data"]] if part.content else []
    response = render(visit, "diff.html", diff=part, comparing=comparing, sums=sums, rows=rows, **context)
    if comparing and "again" in visit.request.query_params:
        # So that reloading to look for the result does not start again.
        response.headers["Refresh"] = f"{REFRESH_SECONDS}; url={visit.here(again=None)}"
        return response
    return watched(response, going_on=comparing)


def _sums(summary: dict[str, Any]) -> list[tuple[str, list[tuple[str, int]], int]]:
    """Return the sums of a comparison, the largest first, and how many are not shown."""
    found = []
    for title, kind in (("Tables", "tables"), ("Customers", "customers"), ("Months", "months")):
        largest = sorted(summary[kind].items(), key=lambda one: (-one[1], one[0]))
        found.append((title, largest[:_SUMS_SHOWN], max(0, len(largest) - _SUMS_SHOWN)))
    return found


def _row(difference: dict[str, Any]) -> dict[str, Any]:
    """Return a row that differs as a page shows it: where it is, and each value that is another."""
    old, new, key = difference["old"] or {}, difference["new"] or {}, difference["key"]
    subject = str(key.get("subject", ""))
    values = [
        (name, _text(old.get(name)), _text(new.get(name)))
        for name in (new or old)
        if name not in key and name != "book" and old.get(name) != new.get(name)
    ]
    return {
        "table": difference["table"],
        "change": difference["change"],
        "subject": subject,
        "key": " ".join(_text(value) for name, value in key.items() if name != "subject"),
        "values": values,
        "first_event": difference["first_event"],
        "book": subject.partition("/")[0],
    }


def _text(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)


PAGES: Final = (
    Page("/projections/{name}/builds/{build}", show, scopes=ADMIN,
         sample="/projections/entitlements/builds/entitlements-1"),
    Page("/projections/{name}/builds/{build}", change, scopes=ADMIN, method="POST"),
    Page("/projections/{name}/builds/{build}/diff", show_diff, scopes=ADMIN),
)  # fmt: skip

"""Closing months: which are closed, what stands against the next, closing and reopening, and what a seal holds."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.responses import Response

from api.console.downloads import KINDS
from api.console.frame import NOW, Page, Part, Visit, done, render
from api.console.picks import in_order
from api.console.revenue import SCOPES
from api.problems import HANDLED, Problem, problem_of
from projections.periods.months import month_end, month_of
from projections.revenue.accounts import CLASSES

CLOSES: Final = ("periods:close",)

_WAIT_SECONDS: Final = 5
_VERIFIED_UNASKED: Final = 5_000
"""Rows of a seal that a page hashes without being asked to."""

Json = dict[str, Any]


async def show(visit: Visit, refused: Problem | None = None) -> Response:
    """Show every month, the checklist of the one to close next, and what can be exported."""
    periods = await visit.part("/v1/periods")
    months: list[Json] = periods.content["data"] if periods.shown else []
    following = next((one["month"] for one in months if one["status"] == "open"), None)
    latest = next((one["month"] for one in reversed(months) if one["status"] != "open"), None)
    checklist = Part(hidden=True)
    if following is not None:
        checklist = await visit.part("/v1/periods/{month}/checklist", month=following, **NOW)
    return render(
        visit,
        "periods.html",
        periods=periods,
        months=months[::-1],
        following=following,
        ended=following is not None and visit.now >= month_end(following),
        latest=latest,
        checklist=checklist,
        refused=refused,
        kinds=[one for one in KINDS.values() if visit.may(one.scope)],
        export_from=following or month_of(visit.now),
        export_through=month_of(visit.now),
    )


async def show_period(visit: Visit) -> Response:
    """Show what a close has sealed, and whether the sealed rows still come to its digest.

    To hash the rows of a large seal takes a while, and so it waits to be asked for.
    """
    month = visit.path("month")
    seal = visit.query("seal") or None
    sealed, periods = await asyncio.gather(
        visit.ask("/v1/periods/{month}", month=month, seal=seal, verify=False), visit.ask("/v1/periods")
    )
    if sealed["lines"] + sealed["movements"] <= _VERIFIED_UNASKED or visit.query("verify") == "true":
        sealed = await visit.ask("/v1/periods/{month}", month=month, seal=seal)
    change: dict[str, dict[str, int]] = sealed["change"]
    currencies = in_order(change)
    return render(
        visit,
        "period.html",
        month=month,
        sealed=sealed,
        seals=next((one["seals"] for one in periods["data"] if one["month"] == month), []),
        currencies=currencies,
        change=change,
        accounts=[name for name in CLASSES if any(change[currency].get(name) for currency in currencies)],
        heads=["Account", *((currency.upper(), "n") for currency in currencies)],
    )


async def close(visit: Visit) -> Response:
    """Close a month; where it is refused, say why beside the form."""
    month = visit.path("month")
    body = {"reason": _reason(visit), "force": visit.form.get("force") == "true"}
    try:
        _confirmed(visit)
        closed = await visit.ask("POST /v1/periods/{month}/close", month=month, wait=_WAIT_SECONDS, body=body)
    except HANDLED as error:
        return await _refused(visit, error)
    address = visit.url("/revenue/periods")
    return done(visit, address, f"{month} is closed: seal {closed['seal']}, {closed['digest'][:12]}…")


async def reopen(visit: Visit) -> Response:
    """Open the latest closed month again."""
    month = visit.path("month")
    try:
        _confirmed(visit)
        await visit.ask(
            "POST /v1/periods/{month}/reopen", month=month, wait=_WAIT_SECONDS, body={"reason": _reason(visit)}
        )
    except HANDLED as error:
        return await _refused(visit, error)
    return done(visit, visit.url("/revenue/periods"), f"{month} is open again.")


def _reason(visit: Visit) -> str:
    return visit.form.get("reason", "").strip()


def _confirmed(visit: Visit) -> None:
    if visit.form.get("confirmed") != "true":
        raise Problem(400, "tick the box that says what will happen")


async def _refused(visit: Visit, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status >= 500 or not visit.may(SCOPES[0]):
        raise error
    return await show(visit, problem)


PAGES = (
    Page("/revenue/periods", show, SCOPES, sample="/revenue/periods"),
    Page("/revenue/periods/{month}", show_period, SCOPES),
    Page("/revenue/periods/{month}/close", close, CLOSES, method="POST"),
    Page("/revenue/periods/{month}/reopen", reopen, CLOSES, method="POST"),
)

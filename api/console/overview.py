"""The front page: how far the log is, what it comes to, and what is new in it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from api.console import charts
from api.console.charts import Chart
from api.console.frame import Page, Part, Visit, render
from api.outward.coverage import hour_of
from ledger.times import earlier
from projections.periods.months import month_after, month_of

_NEWEST = 12
_COVERED = timedelta(hours=167)
"""A week, with the hour that is running."""


async def show(visit: Visit) -> Response:
    """Show the head, how far behind what is derived from it is, the figures people ask for first, and what is new."""
    at = visit.as_of or visit.now
    month = month_of(at)
    events, coverage, projections, worth, moved, earned = await asyncio.gather(
        visit.part("/v1/events", order="desc", limit=_NEWEST, data=False),
        visit.part("/v1/coverage", **{"from": earlier(hour_of(at), _COVERED), "to": at}),
        visit.part("/v1/projections"),
        visit.part("/v1/revenue/mrr"),
        visit.part("/v1/revenue/mrr/movements", to=month_after(month)),
        visit.part("/v1/revenue/recognition", **{"from": month, "to": month_after(month)}),
    )
    figures = figures_of(worth, earned, month)
    return render(
        visit,
        "overview.html",
        events=events,
        coverage=coverage,
        projections=projections,
        worth=worth,
        moved=moved,
        earned=earned,
        figures=figures,
        trend=worth_by_month(moved, [one["currency"] for one in figures]),
        parked=parked_of(projections, worth),
    )


def figures_of(worth: Part, earned: Part, month: str) -> list[dict[str, Any]]:
    """Return what each currency comes to, those of the most customers first; None where a figure is not known."""
    if not worth.shown:
        return []
    months: dict[str, Any] = earned.content["months"] if earned.shown else {}
    recognized = months.get(month, {})
    nothing: dict[str, Any] = {"total": 0, "customers": 0, "at_risk": 0, "incomplete": 0}
    found = [
        {
            **nothing,
            **worth.content["mrr"].get(currency, {}),
            "currency": currency,
            "recognized": recognized.get(currency, {"recognized": 0})["recognized"] if earned.shown else None,
        }
        for currency in sorted({*worth.content["mrr"], *recognized})
    ]
    return sorted(found, key=lambda one: -one["customers"])


def parked_of(projections: Part, worth: Part) -> int | bool | None:
    """Return how many subjects are parked; to a key that may not list them, whether any is."""
    if projections.shown:
        return sum(int(one["parked"]) for one in projections.content["data"])
    return bool(worth.freshness["parked"]) if worth.freshness else None


def worth_by_month(moved: Part, currencies: list[str]) -> list[Chart]:
    """Draw what recurring revenue was at the end of each month, a chart for each currency."""
    points: dict[str, list[tuple[str, int]]] = {currency: [] for currency in currencies}
    for one in moved.content["intervals"] if moved.shown else ():
        points.setdefault(one["currency"], []).append((one["from"][:7], one["closing"]))
    return [
        charts.lines(
            f"MRR at the end of each month, {currency.upper()}",
            [month for month, _ in some],
            {"MRR": [closing for _, closing in some]},
            currency=currency,
        )
        for currency, some in points.items()
        if some
    ]


PAGES = (Page("/", show, nav="Overview", sample="/"),)

"""The front page: how far the log is, what it comes to, and what is new in it."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from api.console import charts
from api.console.charts import Chart
from api.console.frame import Page, Part, Visit, render

_NEWEST = 15


async def show(visit: Visit) -> Response:
    """Show the newest events, how far each projection is, and the year's recurring revenue."""
    events, projections, movements = await asyncio.gather(
        visit.part("/v1/events", order="desc", limit=_NEWEST),
        visit.part("/v1/projections"),
        visit.part("/v1/revenue/mrr/movements"),
    )
    return render(
        visit,
        "overview.html",
        events=events,
        projections=projections,
        movements=movements,
        worth=worth_by_month(movements),
    )


def worth_by_month(movements: Part) -> list[Chart]:
    """Draw what recurring revenue was at the end of each interval, a chart for each currency."""
    if not movements.shown:
        return []
    by_currency: dict[str, list[tuple[str, int]]] = {}
    for one in movements.content["intervals"]:
        by_currency.setdefault(one["currency"], []).append((one["from"][:7], one["closing"]))
    return [
        charts.lines(
            f"MRR at the end of each month, {currency.upper()}",
            [month for month, _ in points],
            {"MRR": [closing for _, closing in points]},
            currency=currency,
        )
        for currency, points in by_currency.items()
    ]


PAGES = (Page("/", show, nav="Overview", sample="/"),)

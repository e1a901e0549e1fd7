"""The front page: how far the log is, what it comes to, and what is new in it."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from api.console.frame import Page, Visit, render

_NEWEST = 15


async def show(visit: Visit) -> Response:
    """Show the newest events, and how far each projection is."""
    events, projections = await asyncio.gather(
        visit.part("/v1/events", order="desc", limit=_NEWEST), visit.part("/v1/projections")
    )
    return render(visit, "overview.html", events=events, projections=projections)


PAGES = (Page("/", show, nav="Overview", sample="/"),)

"""Checks: what is well and what is not, each with a sentence and what to do."""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import Final

from starlette.responses import Response

from api.console.frame import Page, Visit, render
from api.console.projections import ADMIN


async def show(visit: Visit) -> Response:
    """Show every check, what failed first."""
    found, parked = await asyncio.gather(visit.ask("/v1/checks"), visit.part("/v1/parked"))
    areas = [(area, list(some)) for area, some in groupby(found["data"], key=lambda one: one["area"])]
    failed = [one for one in found["data"] if one["state"] == "failed"]
    return render(visit, "checks.html", found=found, areas=areas, failed=failed, parked=parked)


PAGES: Final = (Page("/checks", show, scopes=ADMIN, nav="Checks", sample="/checks"),)

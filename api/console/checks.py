"""Checks: what is well and what is not, each with a sentence and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
    said = verdict([one["state"] for one in found["data"]])
    return render(visit, "checks.html", areas=areas, failed=failed, verdict=said, parked=parked)


def verdict(states: Sequence[str]) -> str:
    """Say in a sentence what checks in these states come to: one that could not be made has not passed."""
    if failed := states.count("failed"):
        return f"{failed} of {len(states)} checks failed."
    if waived := states.count("waived"):
        return f"No check failed, and {waived} of {len(states)} could not be made."
    return "All checks pass."


PAGES: Final = (Page("/checks", show, scopes=ADMIN, nav="Checks", sample="/checks"),)

"""In which order the areas of the suite run, and how long each may take: together less than ten minutes on two cores.

Those whose files take long come first, so that the short ones at the end leave no core alone. A file is run by one
worker, as its fixtures want it; the simulator's are run by the same one, since they look at one company, played once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

BUDGETS: Final = {
    "system": 300, "faults": 60, "docs": 60, "simulator": 90, "projections": 150, "http": 150, "outward": 40,
    "periods": 40, "revenue": 45, "dunning": 40, "entitlements": 30, "mrr": 30, "log": 60, "proof": 20, "house": 40,
    "client": 10, "console": 15, "recorder": 15, "shapes": 15,
}  # fmt: skip
"""Seconds of one worker, for what is not slow, on a machine that does nothing else."""


def area_of(nodeid: str) -> str:
    return nodeid.split("/")[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {area: place for place, area in enumerate(BUDGETS)}
    items.sort(key=lambda item: places.get(area_of(item.nodeid), len(places)))


class Areas(LoadFileScheduling):  # type: ignore[misc]
    """A file at a time in the order they are collected in."""

    def _split_scope(self, nodeid: str) -> str:
        return area_of(nodeid) if area_of(nodeid) == "simulator" else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Areas | None:
    if config.option.dist != "loadfile":
        return None
    config.option.loadscopereorder = False  # which would put first what has many tests, most of them short
    return Areas(config, log)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how long each area took, where all are run."""
    if config.getoption("numprocesses", None) is None:
        return
    took: Counter[str] = Counter()
    for one in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(one, pytest.TestReport):
            took[area_of(one.nodeid)] += one.duration  # type: ignore[assignment]
    told = [f"{area} {took[area]:.0f}/{budget}" for area, budget in BUDGETS.items() if area in took]
    terminalreporter.write_sep("=", "seconds of each area / its budget on a quiet machine")
    terminalreporter.write_line(", ".join(told))

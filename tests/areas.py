"""In which order the areas of the suite run, and how long each may take: together less than ten minutes on two cores.

Three workers run them, since they often wait, for a commit or a process (on two cores it took 518 s, with two workers
630). Those whose files take long come first, so that the short ones at the end leave no core alone. A file is run by
one worker, as its fixtures want it; the simulator's are run by the same one, since they look at one company, played
once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

BUDGETS: Final = {
    "system": 560, "faults": 22, "docs": 70, "simulator": 75, "projections": 225, "http": 190, "outward": 52,
    "periods": 60, "revenue": 50, "dunning": 45, "entitlements": 40, "mrr": 22, "log": 50, "proof": 14, "house": 20,
    "client": 12, "console": 12, "recorder": 6, "shapes": 6,
}  # fmt: skip
"""Seconds of one worker of three, for what is not slow, on a machine that does nothing else."""

SLOW: Final = {"browser", "upgrade"}
"""Areas that only ``make test-slow`` runs."""

WAITING: Final = {"system", "faults", "docs"}
"""Areas that wait for processes half of their time: beside a file of theirs runs one that does not."""


def area_of(nodeid: str) -> str:
    return nodeid.split("/")[1]


def unit_of(nodeid: str) -> str:
    """Return what one worker runs as a whole."""
    return area_of(nodeid) if area_of(nodeid) == "simulator" else nodeid.partition("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {area: place for place, area in enumerate(BUDGETS)}
    items.sort(key=lambda item: places.get(area_of(item.nodeid), len(places)))
    turns: dict[str, tuple[int, bool]] = {}
    taken: Counter[bool] = Counter()
    for item in items:
        if unit_of(item.nodeid) not in turns:
            waits = area_of(item.nodeid) in WAITING
            turns[unit_of(item.nodeid)] = (taken[waits], waits)
            taken[waits] += 1
    items.sort(key=lambda item: turns[unit_of(item.nodeid)])


class Areas(LoadFileScheduling):  # type: ignore[misc]
    """A unit at a time, in the order they are collected in."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Areas | None:
    if config.option.dist != "loadfile":
        return None
    config.option.loadscopereorder = False  # which would put first what has many tests, most of them short
    return Areas(config, log)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how long each area took, as ``make test`` runs them."""
    if config.option.markexpr != "not slow":
        return
    took: defaultdict[str, float] = defaultdict(float)
    for one in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(one, pytest.TestReport):
            took[area_of(one.nodeid)] += one.duration
    told = [f"{area} {took[area]:.0f}/{budget}" for area, budget in BUDGETS.items() if area in took]
    terminalreporter.write_sep("=", "seconds of each area / its budget on a quiet machine")
    terminalreporter.write_line(", ".join(told))

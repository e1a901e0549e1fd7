"""The program that draws a report, run by an interpreter that has matplotlib; it imports nothing of ours.

``chart.py REPORT.json CHART.svg``: above, how many times as good as wanted each row is; below, how costs grow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# The same report gives the same file, and its words stay words.
mpl.rcParams.update({"svg.hashsalt": "ledger", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import LogLocator, NullFormatter  # noqa: E402

REACHED, MISSED, WANTED = "#2f7d5b", "#b4472e", "#333333"
SIZES = ("#333333", "#5b8db8", "#d08a2e", "#b4472e", "#7a3b8f")


def _times(axes: Any) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def margins(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Draw a bar a row, from what is wanted to what is reached."""
    judged = [row for row in rows if row["margin"]][::-1]
    colors = [REACHED if row["reached"] else MISSED for row in judged]
    axes.barh(range(len(judged)), [row["margin"] - 1 for row in judged], left=1, color=colors)
    axes.set_yticks(range(len(judged)), [row["name"] for row in judged])
    _times(axes)
    axes.axvline(1, color=WANTED, linewidth=1)
    axes.set_title("times as good as wanted", loc="left")


def growth(axes: Any, grown: dict[str, Any]) -> None:
    """Draw a line a cost: how many times what it was in the smallest log it is in each larger one."""
    costs = list(grown["costs"].items())[::-1]
    for place, (_, told) in enumerate(costs):
        relative = [cost / told["costs"][0] for cost in told["costs"]]
        axes.plot([min(relative), max(relative)], [place, place], color="#bbbbbb", linewidth=1, zorder=1)
    for number, (size, color) in enumerate(zip(grown["sizes"], SIZES, strict=False)):
        relative = [told["costs"][number] / told["costs"][0] for _, told in costs]
        axes.scatter(relative, range(len(costs)), s=18, color=color, label=f"{size:,} events", zorder=2)
    axes.set_yticks(range(len(costs)), [name for name, _ in costs])
    _times(axes)
    axes.axvline(1, color=WANTED, linewidth=1)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    axes.set_title("cost of an event or a read, times that in the smallest log", loc="left")


def main(report: dict[str, Any], chart: Path) -> None:
    """Draw what the report has."""
    judged = sum(1 for row in report["rows"] if row["margin"])
    grown = 0.22 * len(report["growth"]["costs"]) if report["growth"] else 0.0
    heights = [max(1.5, 0.22 * judged)] * bool(judged) + [grown] * bool(grown)
    figure, found = plt.subplots(len(heights), 1, figsize=(10, sum(heights) + 1), squeeze=False,
                                 height_ratios=heights, layout="constrained")  # fmt: skip
    axes = list(found[:, 0])
    figure.patch.set_facecolor("white")
    if judged:
        margins(axes.pop(0), report["rows"])
    if report["growth"]:
        growth(axes.pop(0), report["growth"])
    figure.suptitle(f"{report['date']}, {report['machine']}", fontsize=9)
    figure.savefig(chart, metadata={"Date": None})


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))

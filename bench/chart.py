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

REACHED, MISSED, WANTED = "#2f7d5b", "#b4472e", "#333333"


def margins(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Draw a bar a row, from what is wanted to what is reached."""
    judged = [row for row in rows if row["margin"]][::-1]
    colors = [REACHED if row["reached"] else MISSED for row in judged]
    axes.barh(range(len(judged)), [row["margin"] - 1 for row in judged], left=1, color=colors)
    axes.set_yticks(range(len(judged)), [row["name"] for row in judged])
    axes.set_xscale("log")
    axes.axvline(1, color=WANTED, linewidth=1)
    axes.set_title("times as good as wanted", loc="left")


def growth(axes: Any, grown: dict[str, Any]) -> None:
    """Draw every cost beside what it was in the smallest log."""
    sizes = grown["sizes"]
    for name, told in grown["costs"].items():
        relative = [cost / told["costs"][0] for cost in told["costs"]]
        [line] = axes.plot(sizes, relative, marker="o", markersize=3, linewidth=1)
        axes.annotate(name, (sizes[-1], relative[-1]), xytext=(5, -3), textcoords="offset points", fontsize=7,
                      color=line.get_color())  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.axhline(1, color=WANTED, linewidth=1)
    axes.margins(x=0.35)
    axes.set_title("cost beside the smallest log, by events in the log", loc="left")


def main(report: dict[str, Any], chart: Path) -> None:
    """Draw what the report has."""
    judged = sum(1 for row in report["rows"] if row["margin"])
    heights = [max(1.5, 0.22 * judged)] * bool(judged) + [5.0] * bool(report["growth"])
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

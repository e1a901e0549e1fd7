"""What a run leaves behind: JSON, a table for ``docs/benchmarks.md`` between its marks, and a chart beside it.

``python -m bench.report ONE.json TWO.json --write DOCUMENT --chart FILE`` does the same with runs that were kept.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from bench.peers.installed import NotInstalledError, chart_python
from bench.table import Costs, Row, as_json, machine

BEGIN: Final = "<!-- measured: `python -m bench --write` puts what it measured here -->"
END: Final = "<!-- end of measured -->"
NOT_FLAT: Final = 1.5
"""An event or a read that costs so many times as much in the largest log as in the smallest is pointed out."""


@dataclass(frozen=True, slots=True)
class Report:
    """One run: its rows, what grew, how many events a row moved, and how long each measure took."""

    rows: Sequence[Row]
    growth: Costs | None
    events: int
    seconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        growth = None
        if self.growth is not None:
            found = {
                name: {"unit": self.growth.units[name], "costs": costs} for name, costs in self.growth.found.items()
            }
            growth = {"sizes": self.growth.sizes, "costs": found}
        return {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": machine(),
            "events": self.events,
            "seconds": self.seconds,
            "rows": as_json(self.rows),
            "growth": growth,
        }


def markdown(report: dict[str, Any], chart: str | None = None) -> str:
    """Write a report, as it was kept, for people."""
    total = sum(report["seconds"].values())
    lines = [
        f"{report['date']}, {report['machine']}, {report['events']:,} events a row, {total:.0f} s in all.",
        "",
    ]
    if chart is not None:
        lines += [f"![How many times as good as wanted each row is, and what grows with the log]({chart})", ""]
    if report["rows"]:
        lines += [
            "| what | us | beside | ratio | wanted | reached | p50 ms | p99 ms |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_row(row) for row in report["rows"]]
    if growth := report["growth"]:
        sizes = growth["sizes"]
        lines += [
            "",
            "One log that grows; what an event costs in it, or a read (its median):",
            "",
            "| what | " + " | ".join(f"{size:,} events" for size in sizes) + " | last / first |",
            "|---" * (len(sizes) + 2) + "|",
        ]
        lines += [_grown(name, told["unit"], told["costs"]) for name, told in growth["costs"].items()]
    took = ", ".join(f"{name} {seconds:.0f}" for name, seconds in report["seconds"].items())
    return "\n".join([*lines, "", f"Seconds each took: {took}."])


def _row(row: dict[str, Any]) -> str:
    reached = "" if not row["wanted"] or row["ratio"] is None else ("yes" if row["reached"] else "NO")
    cells = [
        row["name"],
        row["ours"],
        row["beside"],
        "" if row["ratio"] is None else f"{row['ratio']:.3g}",
        row["wanted"],
        reached,
        _milliseconds(row["p50_ms"]),
        _milliseconds(row["p99_ms"]),
    ]
    return "| " + " | ".join(cells) + " |"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}" if value < 1 else f"{value:,.1f}"


def _grown(name: str, unit: str, costs: Sequence[float]) -> str:
    growth = costs[-1] / costs[0]
    cells = [f"{cost:,.1f} {unit}" for cost in costs]
    return "| " + " | ".join([name, *cells, f"**{growth:.2f}**" if growth > NOT_FLAT else f"{growth:.2f}"]) + " |"


def write_into(document: Path, text: str) -> None:
    """Put text between a document's marks."""
    before, begun, rest = document.read_text().partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"{document} has no place for what was measured: {BEGIN} … {END}")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def draw(report: dict[str, Any], chart: Path) -> str | None:
    """Draw the chart with a library of its own folder; return why not, where it cannot be had."""
    try:
        python = chart_python()
    except NotInstalledError as error:
        return str(error)
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(orjson.dumps(report))
        file.flush()
        program = Path(__file__).with_name("chart.py")
        done = subprocess.run([python, program, file.name, chart], check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def keep(report: dict[str, Any], document: Path | None, chart: Path | None) -> None:
    """Draw a report and put it into a document, where there are any."""
    if chart is not None and (why_not := draw(report, chart)) is not None:
        print(f"no chart: {why_not}")
        chart = None
    if document is not None:
        write_into(document, markdown(report, None if chart is None else os.path.relpath(chart, document.parent)))


def joined(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make one report of several runs of the same code on one machine: all rows, and the last growth."""
    return {
        **reports[-1],
        "seconds": {name: took for one in reports for name, took in one["seconds"].items()},
        "rows": [row for one in reports for row in one["rows"]],
        "growth": next((one["growth"] for one in reversed(reports) if one["growth"]), None),
        "events": max(one["events"] for one in reports),
    }


def main(
    files: Annotated[list[Path], typer.Argument(help="What `--json` kept.")],
    document: Annotated[Path | None, typer.Option("--write", help="Put it between this document's marks.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw it in this SVG file.")] = None,
) -> None:
    """Write and draw runs that were kept."""
    keep(joined([orjson.loads(file.read_bytes()) for file in files]), document, chart)


if __name__ == "__main__":
    typer.run(main)

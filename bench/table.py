"""One row a measurement: us, the peer or limit beside it, the ratio, and what the ratio has to be."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement. ``ratio`` is judged against ``wanted``, such as ``≥ 5`` or ``≤ 0.05``; None is not judged."""

    name: str
    ours: str
    beside: str
    ratio: float | None = None
    wanted: str = ""
    p50_ms: float | None = None
    p99_ms: float | None = None

    @property
    def margin(self) -> float | None:
        """How many times as good as wanted it is; None where nothing is wanted, or a ratio of 0 has no measure."""
        if not self.ratio or not self.wanted:
            return None
        sign, bound = self.wanted.split()
        return (self.ratio / float(bound) if sign == "≥" else float(bound) / self.ratio) or None

    @property
    def reached(self) -> bool:
        """Whether the ratio is what it has to be."""
        if self.ratio is None or not self.wanted:
            return True
        sign, bound = self.wanted.split()
        return self.ratio >= float(bound) if sign == "≥" else self.ratio <= float(bound)


@dataclass(slots=True)
class Costs:
    """What is measured, by name, at each size: microseconds an event, bytes an event or milliseconds a read."""

    sizes: list[int] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)
    found: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, unit: str, value: float) -> None:
        """Note one cost at the newest size."""
        self.units[name] = unit
        self.found.setdefault(name, []).append(value)

    def growth(self, name: str) -> float:
        """Return how many times the first cost the last one is."""
        return self.found[name][-1] / self.found[name][0]


def rate(count: int, seconds: float) -> str:
    """Write a rate."""
    return f"{count / seconds:,.0f}/s"


def percentiles_ms(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return statistics.median(ordered) * 1000, ordered[int(len(ordered) * 0.99)] * 1000


def machine() -> str:
    """Describe the machine in a line."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title=machine(), title_justify="left")
    for column in ("what", "us", "beside", "ratio", "wanted", "", "p50 ms", "p99 ms"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            row.ours,
            row.beside,
            "" if row.ratio is None else f"{row.ratio:.3g}",
            row.wanted,
            "" if not row.wanted else ("yes" if row.reached else "NO"),
            "" if row.p50_ms is None else f"{row.p50_ms:.1f}",
            "" if row.p99_ms is None else f"{row.p99_ms:.1f}",
        )
    Console(width=160).print(table)


def show_growth(costs: Costs) -> None:
    """Print what each cost is at each size."""
    table = Table(title="one log that grows: an event's cost in it, or a read's", title_justify="left")
    for column in ("what", *(f"{size:,}" for size in costs.sizes), "last / first"):
        table.add_column(column)
    for name, found in costs.found.items():
        table.add_row(name, *(f"{cost:,.1f} {costs.units[name]}" for cost in found), f"{costs.growth(name):.2f}")
    Console(width=160).print(table)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain data."""
    return [asdict(row) | {"reached": row.reached, "margin": row.margin} for row in rows]

"""Charts: data for Plotly, whose script ships in its package, and the same numbers as text for everybody.

A template shows one with ``ui.chart(one)``. Amounts are whole numbers of the currency's smallest unit and are never a
float: Plotly reads them as decimal text. Colours are names that ``console.js`` looks up in the style sheet, so that a
chart is drawn anew when the system turns dark.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from api.console.rendering import count, money
from ledger.money import whole

Kind = Literal["lines", "columns", "waterfall"]
Steps = Sequence[tuple[str, int, Literal["total", "change"]]]
Values = Sequence[int | None]

_COLOURS: Final = 6


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: what it shows at each label, a value for each of its series."""

    kind: Kind
    title: str
    axis: str
    labels: tuple[str, ...]
    series: Mapping[str, Values]
    currency: str | None
    measures: tuple[str, ...] = ()

    @property
    def heads(self) -> list[object]:
        """The columns of its table."""
        return [self.axis, *((name, "n") for name in self.series)]

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The rows of its table: a label, and the values as text."""
        return [
            (label, [self._text(values[at]) for values in self.series.values()]) for at, label in enumerate(self.labels)
        ]

    @property
    def figure(self) -> str:
        """What Plotly draws, as JSON."""
        traces = [self._trace(at, name, values) for at, (name, values) in enumerate(self.series.items())]
        layout: dict[str, Any] = {
            "yaxis": {"type": "linear", "rangemode": "tozero", "title": {"text": (self.currency or "").upper()}},
            "xaxis": {"type": "category"},
            "showlegend": len(traces) > 1,
        }
        if self.kind == "columns":
            layout["barmode"] = "relative"
        return orjson.dumps({"data": traces, "layout": layout}).decode()

    def _trace(self, at: int, name: str, values: Values) -> dict[str, Any]:
        common = {
            "name": html.escape(name),
            "x": [html.escape(label) for label in self.labels],
            "y": [self._number(value) for value in values],
            "customdata": [self._text(value) for value in values],
            "hovertemplate": "%{x}: %{customdata}<extra>%{fullData.name}</extra>",
        }
        colour = f"--series-{at % _COLOURS + 1}"
        if self.kind == "lines":
            return {**common, "type": "scatter", "mode": "lines+markers", "line": {"color": colour}}
        if self.kind == "columns":
            return {**common, "type": "bar", "marker": {"color": colour}}
        tones = {"increasing": "--rise", "decreasing": "--fall", "totals": "--series-1"}
        painted = {tone: {"marker": {"color": colour}} for tone, colour in tones.items()}
        return {**common, "type": "waterfall", "measure": list(self.measures), **painted}

    def _number(self, value: int | None) -> str | int | None:
        return value if value is None or self.currency is None else str(whole(value, self.currency))

    def _text(self, value: int | None) -> str:
        return count(value) if self.currency is None else money(value, self.currency)


def lines(
    title: str, labels: Sequence[str], series: Mapping[str, Values], *, currency: str | None = None, axis: str = "Month"
) -> Chart:
    """Draw a line for each series over the labels; a value that is None is a gap."""
    return Chart("lines", title, axis, tuple(labels), series, currency)


def columns(
    title: str, labels: Sequence[str], series: Mapping[str, Values], *, currency: str | None = None, axis: str = "Month"
) -> Chart:
    """Draw a column at each label, stacked of the series; what is below zero hangs from it."""
    return Chart("columns", title, axis, tuple(labels), series, currency)


def waterfall(title: str, steps: Steps, *, currency: str | None = None, axis: str = "Step") -> Chart:
    """Draw how one total becomes another: each step is a ``change``, or a ``total`` that stands on the ground.

    The first step and the last are totals as a rule, and every change is signed.
    """
    labels = tuple(label for label, _, _ in steps)
    measures = tuple("absolute" if kind == "total" else "relative" for _, _, kind in steps)
    return Chart("waterfall", title, axis, labels, {"Amount": [value for _, value, _ in steps]}, currency, measures)

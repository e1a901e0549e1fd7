"""How a comparison of builds is shown: as JSON, as a table for people, as CSV."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger.times import rfc3339
from ledger.written import json_bytes
from projections.compare import Cells, Comparison, Difference
from projections.contract import Projection

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def comparison_json(comparison: Comparison, projection: Projection) -> dict[str, Any]:
    """Write a comparison as the contract has it."""
    return {
        "build": comparison.build,
        "live": comparison.live,
        "positions": comparison.positions,
        "summary": comparison.summary(projection),
        "data": [difference_json(one) for one in comparison.differences],
    }


def difference_json(one: Difference) -> dict[str, Any]:
    """Write a row that differs."""
    return {
        "table": one.table,
        "key": cells_json(one.key),
        "change": one.change,
        "old": cells_json(one.old),
        "new": cells_json(one.new),
        "first_event": one.first_event,
    }


def cells_json(cells: Cells | None) -> dict[str, Any] | None:
    """Write a row's values as JSON has them."""
    return None if cells is None else {name: cell_json(value) for name, value in cells.items()}


def cell_json(value: Any) -> Any:
    """Write one value: times in RFC 3339, whole numbers as numbers, others exactly, as text."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    return [cell_json(one) for one in value] if isinstance(value, list) else value


def comparison_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return one line per difference: whose row, what happened to it, its old and new values, since which event."""
    return [
        (one.subject, one.table, _place(one), one.change, what_changed(one), one.first_event or "")
        for one in comparison.differences
    ]


ROW_COLUMNS = ("subject", "table", "row", "change", "from → to", "first event")


def _place(one: Difference) -> str:
    return " ".join(str(cell_json(value)) for name, value in one.key.items() if name != "subject")


def what_changed(one: Difference) -> str:
    """Say which of a row's values differ, and how."""
    old, new = one.old or {}, one.new or {}
    names = [name for name in (new or old) if name not in one.key and old.get(name) != new.get(name)]
    return ", ".join(f"{name}: {_text(old.get(name))} → {_text(new.get(name))}" for name in names)


def _text(value: Any) -> str:
    return "-" if value is None else str(cell_json(value))


def comparison_csv(comparison: Comparison) -> str:
    """Write a comparison as CSV; what a spreadsheet would run as a formula is quoted with ``'``."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["table", "change", "key", "old", "new", "first_event"])
    for one in comparison.differences:
        cells = (one.table, one.change, *map(_json_text, (one.key, one.old, one.new)), one.first_event or "")
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell for cell in cells])
    return text.getvalue()


def _json_text(cells: Cells | None) -> str:
    return "" if cells is None else json_bytes(cells_json(cells)).decode()

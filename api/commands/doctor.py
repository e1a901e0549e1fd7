"""``ledger doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from api.doctor import examine
from api.output import show_json, show_table
from api.settings import load_settings


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the effective settings and check each, and the database behind them. Status 1 when a check fails."""
    settings = load_settings()
    checks = examine(settings)
    if as_json:
        show_json({"checks": [{"name": one.name, "ok": one.ok, "value": one.value, "how": one.how} for one in checks]})
    else:
        rows = [("ok" if one.ok else "FAIL", one.name, one.value, one.how) for one in checks]
        show_table(["", "check", "value", "how"], rows)
    if not all(one.ok for one in checks):
        raise typer.Exit(1)

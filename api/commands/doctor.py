"""``ledger doctor``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import asyncpg
import typer

from api.database import running_database
from api.doctor import Check, examine
from api.output import show_json, show_table
from api.services import open_services
from api.settings import Settings, load_settings
from ledger.errors import LedgerError
from ledger.postgres import AWAY, Database


def doctor(
    production: Annotated[
        bool, typer.Option("--production", help="Also check that it is ready for real money.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the effective settings, and check each of them and the database. Exit status 1 if a check fails.

    Example: ledger doctor --production
    """
    settings = load_settings()
    checks = examine(settings)
    if production:
        checks += _production(settings)
    if as_json:
        show_json({"checks": [{"name": one.name, "ok": one.ok, "value": one.value, "how": one.how} for one in checks]})
    else:
        rows = [("ok" if one.ok else "FAIL", one.name, one.value, one.how) for one in checks]
        show_table(["", "check", "value", "how"], rows)
    if not all(one.ok for one in checks):
        raise typer.Exit(1)


def _production(settings: Settings) -> list[Check]:
    """Go through the checklist; what cannot be opened is a failed check, as in the rest of the examination."""
    from api.production import service_checks, settings_checks

    checks = settings_checks(settings)

    async def look(database: Database) -> list[Check]:
        async with open_services(settings, database=database) as services:
            return await service_checks(services)

    try:
        with running_database(settings) as database:
            return checks + asyncio.run(look(database))
    except (LedgerError, asyncpg.PostgresError, *AWAY) as error:
        return [*checks, Check("service", ok=False, value=str(error), how="opens as `ledger serve` does")]

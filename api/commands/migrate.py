"""``ledger migrate``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from api.output import show_json
from api.settings import Settings, load_settings
from ledger.migrate import Migration
from ledger.migrate import migrate as apply
from ledger.postgres import Database


def migrate(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring the database's schema up to this release, as the log's owner.

    Uses LEDGER_OWNER_DATABASE_URL, or LEDGER_DATABASE_URL, or the embedded database.

    Example: LEDGER_OWNER_DATABASE_URL=postgresql://owner@db/ledger ledger migrate
    """
    settings = load_settings()
    applied = _apply(settings)
    if as_json:
        show_json({"applied": [{"number": one.number, "name": one.name} for one in applied]})
    for one in applied if not as_json else []:
        typer.echo(f"applied {one.number:04} {one.name}")
    if not applied and not as_json:
        typer.echo("the schema is up to date")


def _apply(settings: Settings) -> list[Migration]:
    if settings.embedded and settings.owner_database_url is None:
        from api.database import running_database

        with running_database(settings):
            return []  # starting the embedded database migrates it
    return asyncio.run(_external(settings.owner_database_url or str(settings.database_url)))


async def _external(url: str) -> list[Migration]:
    connection = await Database(url).connect()
    try:
        return await apply(connection)
    finally:
        await connection.close()

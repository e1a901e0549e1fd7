"""``ledger status``."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from api.clock import wall_clock
from api.database import running_database
from api.output import show_json, show_table
from api.settings import load_settings
from ledger.postgres import Database
from ledger.reader import read_books
from ledger.times import rfc3339
from projections.builds import list_builds


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how long the log is, how far each projection has folded it, and which other builds are kept.

    Example: ledger status --json
    """
    settings = load_settings()
    with running_database(settings) as database:
        content = asyncio.run(read_status(database.as_role("ledger_app")))
    if as_json:
        show_json(content)
        return
    show_table(
        ["book", "events", "newest recorded"],
        [(one["book"], one["position"], one["recorded_at"]) for one in content["books"]],
    )
    typer.echo()
    show_table(
        ["projection", "build", "book", "folded", "head", "lag", "parked"],
        [
            (
                one["name"],
                one["build"],
                one["book"],
                one["position"],
                one["head"],
                f"{one['lag_seconds']} s",
                one["parked"],
            )
            for one in content["projections"]
        ],
    )
    if content["builds"]:
        typer.echo()
        show_table(
            ["build", "phase", "version", "audit copy", "parked"],
            [
                (one["build"], one["phase"], one["version"], "yes" if one["bounded"] else "", one["parked"])
                for one in content["builds"]
            ],
        )


async def read_status(database: Database) -> dict[str, Any]:
    """Return how far the log is, and every build: the live ones as their projections, the others beside them."""
    connection = await database.connect()
    try:
        books = await read_books(connection)
        every = await list_builds(connection, every=True)
    finally:
        await connection.close()
    builds = [row for row in every if row["phase"] == "live"]
    others = {row["build_id"]: row for row in every if row["phase"] != "live"}
    now = wall_clock()
    return {
        "books": [
            {"book": one.book, "position": one.position, "recorded_at": rfc3339(one.recorded_at)} for one in books
        ],
        "projections": [
            {
                "name": row["projection"],
                "version": row["version"],
                "build": row["build_id"],
                "book": row["book"],
                "position": row["position"],
                "head": row["head"] or 0,
                "lag_seconds": round((now - row["waiting_since"]).total_seconds(), 3) if row["waiting_since"] else 0.0,
                "parked": row["parked"],
            }
            for row in builds
        ],
        "builds": [
            {
                "build": row["build_id"],
                "name": row["projection"],
                "version": row["version"],
                "phase": row["phase"],
                "bounded": row["bounded"],
                "parked": row["parked"],
            }
            for row in others.values()
        ],
    }

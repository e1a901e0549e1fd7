"""``ledger serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from api.logs import configure_logging
from api.output import greet_in_json, say_aside
from api.settings import load_settings


def serve(
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Bring an external database's schema up to date first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print addresses and generated credentials as JSON.")] = False,
) -> None:
    """Receive webhooks, keep the projections up to date and answer HTTP, until Ctrl-C.

    Without LEDGER_DATABASE_URL it starts its own PostgreSQL in LEDGER_DATA_DIR and prints generated credentials.

    Example: LEDGER_STRIPE_WEBHOOK_SECRETS=test:whsec_… ledger serve
    """
    from api.serve import serve as run

    settings = load_settings()
    configure_logging(settings)
    if as_json:
        run(settings, migrate_first=migrate, say=say_aside, greet=greet_in_json)
    else:
        run(settings, migrate_first=migrate, say=typer.echo)

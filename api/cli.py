"""The ``ledger`` command line: registers the commands, turns what went wrong into a sentence and an exit status.

0 only when all was done; 2 for a mistake of the user; 130 for Ctrl-C; 1 for everything else: what was looked for and
found wrong, and what could not be done.
"""

from __future__ import annotations

import sys

import asyncpg
import structlog
import typer

from api.commands import (
    access,
    builds,
    doctor,
    erase,
    events,
    gather,
    keys,
    log,
    migrate,
    periods,
    reconcile,
    serve,
    simulate,
    status,
    transfer,
)
from ledger.errors import LedgerError, MistakeError
from ledger.postgres import AWAY

app = typer.Typer(
    name="ledger",
    help="The event-sourced billing ledger for companies on Stripe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("demo")(simulate.demo)
app.command("simulate")(simulate.simulate)
app.command("migrate")(migrate.migrate)
app.command("doctor")(doctor.doctor)
app.command("events")(events.events)
app.command("status")(status.status)
app.command("project")(builds.project)
app.command("rebuild")(builds.rebuild)
app.command("diff")(builds.diff)
app.command("promote")(builds.promote)
app.command("rollback")(builds.rollback)
app.command("drop")(builds.drop)
app.command("parked")(builds.parked)
app.command("replay")(builds.replay)
app.command("verify")(log.verify)
app.command("prove")(log.prove)
app.command("erase")(erase.erase)
app.command("backfill")(gather.backfill)
app.command("sweep")(gather.sweep)
app.command("reconcile")(reconcile.reconcile)
app.command("observe")(gather.observe)
app.command("grant")(access.grant)
app.command("import")(transfer.import_)
app.command("close")(periods.close)
app.command("reopen")(periods.reopen)
app.command("export")(transfer.export)
app.command("backup")(transfer.backup)
app.command("restore")(transfer.restore)
app.add_typer(access.app, name="catalog")
app.add_typer(keys.app, name="keys")
app.add_typer(log.app, name="log")


def main() -> None:
    """Run the command line."""
    # Standard output is for answers: what is logged while they are made never goes there.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    try:
        app()
    except MistakeError as error:
        _end(str(error), 2)
    except LedgerError as error:
        _end(str(error), 1)
    except AWAY as error:
        # A file of the user's has a name; a socket that nobody listens on has none.
        if isinstance(error, OSError) and error.filename is not None:
            _end(f"{error.filename}: {error.strerror}", 2)
        _end(f"the database cannot be reached: {error or type(error).__name__}", 1)
    except asyncpg.PostgresError as error:
        _end(f"the database refuses: {error}", 1)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _end(message: str, status: int) -> None:
    print(f"ledger: {message}", file=sys.stderr)  # noqa: T201 - the one place that speaks to the user's terminal
    sys.exit(status)

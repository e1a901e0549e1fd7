"""The ``ledger`` command line: finds the commands, and turns errors into a sentence and an exit status.

0 only if everything was done; 2 for a user's mistake; 130 for Ctrl-C; 1 for everything else: something was found wrong,
or could not be done.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections import UserDict
from importlib import import_module
from typing import Any, Final

import asyncpg
import structlog
import typer
from typer.core import TyperGroup
from typer.main import get_command

from ledger.errors import LedgerError, MistakeError
from ledger.postgres import AWAY, said_by

COMMANDS: Final = {
    "serve": "serve.serve",
    "demo": "simulate.demo",
    "simulate": "simulate.simulate",
    "migrate": "migrate.migrate",
    "doctor": "doctor.doctor",
    "events": "events.events",
    "status": "status.status",
    "project": "builds.project",
    "rebuild": "builds.rebuild",
    "diff": "builds.diff",
    "promote": "builds.promote",
    "rollback": "builds.rollback",
    "drop": "builds.drop",
    "parked": "builds.parked",
    "replay": "builds.replay",
    "verify": "log.verify",
    "prove": "log.prove",
    "erase": "erase.erase",
    "backfill": "gather.backfill",
    "sweep": "gather.sweep",
    "reconcile": "reconcile.reconcile",
    "observe": "gather.observe",
    "grant": "access.grant",
    "import": "transfer.import_",
    "close": "periods.close",
    "reopen": "periods.reopen",
    "export": "transfer.export",
    "backup": "transfer.backup",
    "restore": "transfer.restore",
    "catalog": "access.app",
    "keys": "keys.app",
    "log": "log.app",
}
"""Every command, and where in ``api.commands`` its function is, or the group of those below it."""


class _Imported(UserDict[str, Any]):
    """Commands by name, imported on demand, so that one command does not wait for the imports of others."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = super().__getitem__(name).partition(".")
        found = getattr(import_module(f"api.commands.{module}"), attribute)
        parent = typer.Typer(callback=_nothing)
        if isinstance(found, typer.Typer):
            parent.add_typer(found, name=name)
        else:
            parent.command(name)(found)
        return get_command(parent).commands[name]  # type: ignore[attr-defined]


def _nothing() -> None:
    pass


class _Commands(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Imported(COMMANDS)


app = typer.Typer(
    name="ledger", cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def _() -> None:
    """The event-sourced billing ledger for companies on Stripe."""


_NOT_WRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What a file or standard output answers that takes no more; a database that is away never does."""


_NO_TEXT: Final = "what is asked for or is to be kept is text in UTF-8, and an argument is not"


def main() -> None:
    """Run the command line."""
    try:
        _replace_what_is_closed()
        # Standard output is for answers: what is logged while they are made never goes there.
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
        app()
    except MistakeError as error:
        _end(str(error), 2)
    except LedgerError as error:
        _end(str(error), 1)
    except AWAY as error:
        # A file of the user's has a name; a socket that nobody listens on has none.
        if isinstance(error, OSError) and error.filename is not None:
            _end(f"{error.filename}: {error.strerror}", 2)
        if isinstance(error, OSError) and error.errno in _NOT_WRITTEN:
            _end(f"what was to be written could not be: {error.strerror}", 1)
        _end(f"the database cannot be reached: {said_by(error)}", 1)
    except asyncpg.PostgresError as error:
        if isinstance(error.__cause__, UnicodeEncodeError):
            _end(_NO_TEXT, 2)
        _end(f"the database refuses: {error}", 1)
    except UnicodeEncodeError:
        _end(_NO_TEXT, 2)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _replace_what_is_closed() -> None:
    """Redirect closed standard streams to nowhere: output must not end up in a file or connection opened later."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    # What a terminal's encoding has no letter for is shown as a question mark: the command was done all the same.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _end(message: str, status: int) -> None:
    print(f"ledger: {message}", file=sys.stderr)  # noqa: T201 - the one place that speaks to the user's terminal
    sys.exit(status)

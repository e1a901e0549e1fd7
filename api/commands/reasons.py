"""Why something is done: an option that must say something, wherever what is done stands in the log for good."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.errors import MistakeError


def said(reason: str) -> str:
    """Return a reason that says something."""
    if not reason.strip():
        raise MistakeError("--reason must not be empty: it is recorded in the log with your name")
    return reason


Reason = Annotated[str, typer.Option(help="The reason, recorded in the log with your name.", callback=said)]

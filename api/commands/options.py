"""Options that several commands take: a reason for what the log records, and times."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from ledger.errors import MistakeError
from ledger.times import parse_rfc3339


def not_blank(reason: str) -> str:
    """Return a reason. Raises ``MistakeError`` for a blank one."""
    if not reason.strip():
        raise MistakeError("--reason must not be empty: it is recorded in the log with your name")
    return reason


Reason = Annotated[str, typer.Option(help="The reason, recorded in the log with your name.", callback=not_blank)]


def moment_of(text: str | None, option: str) -> datetime | None:
    """Read the time given with an option; None where it is not given. Raises ``MistakeError``."""
    if text is None:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise MistakeError(f"{option} must be a time such as 2026-04-01T00:00:00Z: {error}") from error

"""Times that options name."""

from __future__ import annotations

from datetime import datetime

from ledger.errors import MistakeError
from ledger.times import parse_rfc3339


def moment_of(text: str | None, option: str) -> datetime | None:
    """Read the time given with an option; None where it is not given. Raises ``MistakeError``."""
    if text is None:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise MistakeError(f"{option} must be a time such as 2026-04-01T00:00:00Z: {error}") from error

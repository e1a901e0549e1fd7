"""Times as the ledger writes them: RFC 3339 in UTC, down to the microsecond PostgreSQL keeps."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?)?"
)
"""The RFC's form, with an offset or without; Python reads others of ISO 8601 too, such as weeks."""

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)
"""The first and the last instant there are: the database keeps them as infinities, which are no times."""


def rfc3339(moment: datetime) -> str:
    """Write ``moment`` in UTC with a ``Z``, with six fractional digits only where there are any."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def parse_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 time (or a bare date, taken as its first instant in UTC).

    Raises ``ValueError`` for anything else, and for a time without an offset: guessing a zone moves money.
    """
    if _RFC3339.fullmatch(text) is None:
        raise ValueError("write it as in 2026-01-15T00:00:00Z")
    moment = datetime.fromisoformat(f"{text[:-1]}Z" if text.endswith("z") else text)  # the RFC lets it be small
    if moment.tzinfo is None:
        if len(text) == len("2026-01-15"):
            return moment.replace(tzinfo=UTC)
        raise ValueError("a time needs an offset, such as Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is not a time between the years 1 and 9999 in UTC") from error


def from_unix(seconds: int) -> datetime:
    """Turn Stripe's whole seconds into a time. Raises ``ValueError`` outside the years 1 to 9999."""
    try:
        return storable(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, OSError) as error:
        raise ValueError(f"{seconds} is not a time between the years 1 and 9999") from error


def storable(moment: datetime) -> datetime:
    """Return a time at which something may be. Raises ``ValueError`` for the two instants that can only be asked."""
    if moment in (_BEGINNING, _END):
        raise ValueError("the first instant of the year 1 and the last of the year 9999 are not allowed")
    return moment


def earlier(moment: datetime, by: timedelta) -> datetime:
    """Return the time so much earlier; the first instant where that is before the year 1."""
    return moment - min(by, moment - _BEGINNING)


def later(moment: datetime, by: timedelta) -> datetime | None:
    """Return the time so much later; None where that is after the year 9999, and so never comes."""
    try:
        return moment + by
    except OverflowError:
        return None

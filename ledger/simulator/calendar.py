"""Billing's calendar, in unix seconds: periods count from an anchor, and a short month ends one early."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime
from typing import Final

from ledger.simulator.catalog import Interval

HOUR: Final = 3_600
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
MONTHS: Final[dict[str, int]] = {"month": 1, "year": 12}


def unix(year: int, month: int, day: int = 1) -> int:
    """Return the first second of a UTC day."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def later(anchor: int, interval: Interval, count: int) -> int:
    """Return the time ``count`` intervals after ``anchor``: on the same day of the month, or on its last one."""
    if interval == "week":
        return anchor + count * WEEK
    at = datetime.fromtimestamp(anchor, UTC)
    months = at.year * 12 + at.month - 1 + count * MONTHS[interval]
    year, month = divmod(months, 12)
    day = min(at.day, monthrange(year, month + 1)[1])
    return int(at.replace(year=year, month=month + 1, day=day).timestamp())


def period_after(anchor: int, interval: Interval, start: int) -> int:
    """Return the end of the period that begins at ``start``, counted from the anchor so that days do not drift."""
    count = 1
    if interval == "week":
        return start + WEEK
    if start > anchor:
        begun, at = datetime.fromtimestamp(anchor, UTC), datetime.fromtimestamp(start, UTC)
        months = (at.year - begun.year) * 12 + at.month - begun.month
        count = months // MONTHS[interval] + 1
    return later(anchor, interval, count)


def month_ends(start: int, end: int) -> list[int]:
    """Return the first second of every UTC month after ``start``, up to ``end``: where a month has just ended."""
    first = datetime.fromtimestamp(start, UTC)
    months = first.year * 12 + first.month - 1
    ends: list[int] = []
    while True:
        months += 1
        at = unix(months // 12, months % 12 + 1)
        if at > end:
            return ends
        ends.append(at)

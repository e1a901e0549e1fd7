"""Intervals of UTC days: days, weeks from Monday on, and months, cut at the bounds that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

Interval = Literal["day", "week", "month"]
INTERVALS: Final[tuple[Interval, ...]] = ("day", "week", "month")

_DAY: Final = timedelta(days=1)


class Bounds(NamedTuple):
    """``[start, end)``, both at midnight UTC, in intervals."""

    start: datetime
    end: datetime
    interval: Interval = "month"

    def intervals(self) -> Iterator[tuple[datetime, datetime]]:
        """Give the intervals in order; the first and the last may be cut."""
        at = self.start
        while at < self.end:
            following = min(_next(_begin(at, self.interval), self.interval), self.end)
            yield at, following
            at = following

    def start_of(self, at: datetime) -> datetime:
        """Return the start of the interval that a moment lies in."""
        return max(_begin(at, self.interval), self.start)

    @property
    def about(self) -> int:
        """About how many intervals there are."""
        return (self.end - self.start).days // {"day": 1, "week": 7, "month": 28}[self.interval]


def month_after(at: datetime) -> datetime:
    """Return the first instant of the month after the one that a moment lies in."""
    return _next(_begin(at, "month"), "month")


def _begin(at: datetime, interval: Interval) -> datetime:
    day = datetime(at.year, at.month, at.day, tzinfo=UTC)
    if interval == "week":
        return day - day.weekday() * _DAY
    return day.replace(day=1) if interval == "month" else day


def _next(start: datetime, interval: Interval) -> datetime:
    """Return where the interval after one begins; the last moment there is, where none does."""
    try:
        if interval == "month":
            return (start + 31 * _DAY).replace(day=1)
        return start + (7 if interval == "week" else 1) * _DAY
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)

"""Months in UTC, written ``2026-01``."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final

_MONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


def is_month(text: str) -> bool:
    """Tell whether a text names a month that begins and ends at a time there is."""
    return _MONTH.fullmatch(text) is not None and "0001" <= text < "9999-12"


def month_of(at: datetime) -> str:
    """Name the month that a moment lies in."""
    return month_named(at.astimezone(UTC))


def month_named(day: date) -> str:
    """Name the month that a day lies in."""
    return f"{day.year:04}-{day.month:02}"


def month_start(month: str) -> datetime:
    """Return the first instant of a month."""
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


def month_after(month: str, count: int = 1) -> str:
    """Name the month that comes ``count`` after."""
    months = int(month[:4]) * 12 + int(month[5:]) - 1 + count
    return f"{months // 12:04}-{months % 12 + 1:02}"


def month_end(month: str) -> datetime:
    """Return the first instant after a month."""
    return month_start(month_after(month))

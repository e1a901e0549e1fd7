"""How an amount is earned over a period, in closed form: what is left at any second is one formula.

A span is a stretch of time in which what is left falls evenly. By second or by UTC day a whole period is one span; by
month each month of it is one, of equal worth. The remaining amount is what is rounded, half-even; earned is the rest,
so that a period always sums to its amount (stripe-domain §5.5).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import lcm
from typing import Final, NamedTuple

from projections.revenue.policy import Granularity

DAY: Final = 86_400

NEVER: Final = 2**40
"""The start of a period that does not come: what is earned over it stays deferred."""


class Span(NamedTuple):
    """From ``start`` to ``end`` there is left of ``amount`` a part (a - b * ((t - origin) // unit)) / c, half-even."""

    start: int
    end: int
    amount: int
    origin: int
    unit: int
    a: int
    b: int
    c: int

    def left(self, at: int) -> int:
        """Return what is left at a second of the span, or at its end."""
        return half_even(self.amount * (self.a - self.b * ((at - self.origin) // self.unit)), self.c)


def half_even(numerator: int, denominator: int) -> int:
    """Divide by a positive number and round, a half to the even neighbour."""
    whole, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return whole + (twice > denominator or (twice == denominator and whole % 2 == 1))


def spans_of(amount: int, start: int, end: int, since: int, granularity: Granularity) -> list[Span]:
    """Return how ``amount``, left at ``since``, is earned until ``end``; before ``start`` nothing is."""
    begin = max(start, since)
    if amount == 0 or begin >= end or start >= NEVER:
        return []
    if granularity == "month":
        return _by_month(amount, start, end, begin)
    if granularity == "day":
        midnight = begin - begin % DAY
        days = end // DAY - begin // DAY
        if days > 0:
            return [Span(begin, end, amount, midnight, DAY, days, 1, days)]
    return [Span(begin, end, amount, begin, 1, end - begin, 1, end - begin)]


def left_at(spans: Sequence[Span], at: int) -> int:
    """Return what is left at a moment of spans that follow each other without a gap; nothing after the last."""
    if not spans or at >= spans[-1].end:
        return 0
    if at <= spans[0].start:
        return spans[0].amount
    return spans[bisect_right(spans, at, key=lambda span: span.start) - 1].left(at)


def fraction_left(start: int, end: int, since: int, at: int, granularity: Granularity) -> Fraction:
    """Return which part of what was left at ``since`` is still left at ``at``."""
    begin = max(start, since)
    if start >= NEVER:
        return Fraction(1)
    if at >= end or begin >= end:
        return Fraction(0)
    if at <= begin:
        return Fraction(1)
    spans = spans_of(1, start, end, since, granularity)
    span = spans[bisect_right(spans, at, key=lambda one: one.start) - 1]
    return Fraction(span.a - span.b * ((at - span.origin) // span.unit), span.c)


def _by_month(amount: int, start: int, end: int, begin: int) -> list[Span]:
    """Cut the period into months from its start, of equal worth; a part of one at its end is worth that part."""
    edges = [start]
    while edges[-1] < end:
        edges.append(months_after(start, len(edges)))
    lengths = [two - one for one, two in pairwise(edges)]
    worth = [
        Fraction(max(min(edge + length, end) - max(edge, begin), 0), length)
        for edge, length in zip(edges, lengths, strict=False)
    ]
    total = left = sum(worth, Fraction(0))
    spans: list[Span] = []
    for edge, length, part in zip(edges, lengths, worth, strict=False):
        if part > 0:
            first = max(edge, begin)
            slope = 1 / (length * total)
            level = left / total
            c = lcm(slope.denominator, level.denominator)
            spans.append(Span(first, min(edge + length, end), amount, first, 1, int(level * c), int(slope * c), c))
            left -= part
    return spans


def months_after(start: int, months: int) -> int:
    """Return the same day and time so many months later, or the month's last day where it has no such day."""
    moment = datetime.fromtimestamp(start, UTC)
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    first = datetime(year, month + 1, 1, tzinfo=UTC)
    days = (month_start(int(first.timestamp()), 1) - int(first.timestamp())) // DAY
    return int(moment.replace(year=year, month=month + 1, day=min(moment.day, days)).timestamp())


def month_start(at: int, months: int = 0) -> int:
    """Return the first second of the UTC month that a second lies in, or of one so many months later."""
    return _month_start(at // DAY, months)


@lru_cache(maxsize=50_000)
def _month_start(day: int, months: int) -> int:
    moment = datetime.fromtimestamp(day * DAY, UTC)
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp())


def month_of(at: int) -> date:
    """Return the first day of the UTC month that a second lies in."""
    return day_of(at).replace(day=1)


def day_of(at: int) -> date:
    """Return the UTC day that a second lies in."""
    return _day(at // DAY)


@lru_cache(maxsize=50_000)
def _day(number: int) -> date:
    return datetime.fromtimestamp(number * DAY, UTC).date()


def month_name(at: int) -> str:
    """Name the UTC month that a second lies in: 2026-03."""
    return _month_name(at // DAY)


@lru_cache(maxsize=50_000)
def _month_name(number: int) -> str:
    day = _day(number)
    return f"{day.year:04d}-{day.month:02d}"

"""What time alone earns: the spans of every line, and what they earn in a span of time.

A span belongs to an account: before a line is billed it earns against ``unbilled_receivable``, afterwards out of
``deferred_revenue``. An entry of recognition covers one span in one UTC month; a read inside of it shows its part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from projections.revenue.bill import Bill
from projections.revenue.entries import Entry, Posting
from projections.revenue.schedule import Span, month_name, month_start


class Earning(NamedTuple):
    """A line's span with what it is earned against."""

    invoice: str | None
    line: str
    currency: str
    account: str
    span: Span
    first: bool
    because: tuple[str, ...]

    def earned(self, since: int, until: int) -> int:
        """Return what is earned from ``since`` to ``until``."""
        start, end = max(since, self.span.start), min(until, self.span.end)
        return self.span.left(start) - self.span.left(end) if start < end else 0

    def key(self, start: int) -> str:
        """Name the entry of the month that begins, or is cut, at ``start``; a cut inside a month says from when."""
        name = f"{self.line}:rec:{month_name(start)}"
        if self.account == "unbilled_receivable":
            name += ":unbilled"
        begins = start == month_start(start) or (self.first and start == self.span.start)
        return name if begins else f"{name}:{start}"


def earnings(bills: Mapping[str, Bill]) -> Iterator[Earning]:
    """Return every span of every line."""
    for _, bill in sorted(bills.items()):
        for key, line in sorted(bill.pots.lines.items()):
            about = (bill.invoice, key, bill.currency)
            for place, span in enumerate(line.before):
                yield Earning(*about, "unbilled_receivable", span, place == 0, bill.because)
            for place, span in enumerate((*line.past, *line.spans)):
                yield Earning(*about, "deferred_revenue", span, place == 0, bill.because)


def months_of(span: Span) -> Iterator[tuple[int, int]]:
    """Cut a span at the UTC months' ends."""
    start = span.start
    while start < span.end:
        end = min(month_start(start, 1), span.end)
        yield start, end
        start = end


def entries_of_time(found: Iterable[Earning], until: int) -> Iterator[Entry]:
    """Return the entries that time has made by ``until``, the last of each span as far as it has come.

    The last second of a span's month is the time of its entry: from then on it is whole.
    """
    for one in found:
        for start, end in months_of(one.span):
            if start > until:
                break
            reached = end if until >= end - 1 else until
            amount = one.earned(start, reached)
            if amount:
                postings = (Posting(one.account, amount, one.line), Posting("revenue", -amount, one.line))
                yield Entry(one.key(start), end - 1, "recognition", one.currency, postings, one.invoice, one.because)

"""What a month's revenue was earned on: subscriptions while they counted, while they did not, or other lines.

So the tie-out (``periods.tie_out``) and the recognition waterfall need no look at every line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

from projections.mrr.portfolio import Span
from projections.revenue.facts import Facts
from projections.revenue.prepaid import served_lines
from projections.revenue.recognition import Earning
from projections.revenue.schedule import month_of, month_start

EARNED: Final = ("earned_counted", "earned_uncounted")
"""The columns, natural: on subscriptions worth something then, and on those that were not; the rest is on neither."""

Falls = dict[tuple[str, date], dict[date, int]]
"""Revenue, natural, by currency and month of service, and within it by month of invoice."""

_ENDLESS: Final = 2**62


class Stretch(NamedTuple):
    """A stretch of a subscription's life in seconds, half-open, and whether it was worth nothing then."""

    since: int
    until: int
    worthless: bool


@dataclass(frozen=True, slots=True)
class Counting:
    """The subscription of each line, by invoice and line (of a whole invoice by its key and None); their lives.

    ``invoiced`` is the month of each invoice.
    """

    lines: Mapping[tuple[str | None, str | None], str | None]
    lives: Mapping[str, list[Stretch]]
    invoiced: Mapping[str, date]

    def fall(self, falls: Falls, currency: str, month: date, invoice: str | None, amount: int) -> None:
        """Note what a month earned of an invoice; what is on none is of the month itself."""
        into = falls.setdefault((currency, month), {})
        invoiced = self.invoiced.get(invoice or "", month)
        into[invoiced] = into.get(invoiced, 0) + amount

    def subscribed(self, invoice: str | None, line: str | None) -> bool:
        """Tell whether what a fact posts on a line, or on an invoice, is about a subscription."""
        return (self.lines.get((invoice, line)) or self.lines.get((invoice, None))) is not None

    def parts(self, one: Earning, start: int, amount: int) -> tuple[int, int]:
        """Part what a line's span earns in the month that ``start`` lies in."""
        subscription = self.lines.get((one.invoice, one.line))
        if subscription is None:
            return 0, 0
        since, until = month_start(start), month_start(start, 1)
        lived = [each for each in self.lives.get(subscription, ()) if each.since < until and each.until > since]
        if not lived:
            return 0, amount
        without = sum(
            one.earned(max(each.since, since), min(each.until, until)) for each in lived if each.worthless
        )  # fmt: skip
        return amount - without, without


def counting_of(facts: Facts, spans: Iterable[Span]) -> Counting:
    """Return what is needed to tell what counts, from a customer's documents and what subscriptions were worth."""
    lines: dict[tuple[str | None, str | None], str | None] = {}
    invoiced = {key: month_of(invoice.finalized_at) for key, invoice in facts.invoices.items()}
    for key, invoice in facts.invoices.items():
        lines[key, None] = invoice.subscription
        lines.update(((key, line.key), line.subscription) for line in invoice.lines)
    lines.update(((invoice.key, line.key), line.subscription) for invoice, line in served_lines(facts))
    lives: dict[str, list[Stretch]] = {}
    for span in spans:
        until = _ENDLESS if span.until is None else int(span.until.timestamp())
        stretch = Stretch(int(span.since.timestamp()), until, span.worth.net_all == 0)
        lives.setdefault(span.subscription, []).append(stretch)
    return Counting(lines, lives, invoiced)

"""Billing credits that were bought: owed until they are used on an invoice's line, or end (stripe-domain §5.4, row 18).

Stripe does not say which sale a grant came from. So a customer has one purse a currency: what lines sold, of which the
oldest is used first. What is used beyond it was a gift, and nobody's money. A sale that is refunded gives back what of
it was not used, and as a contra what was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from projections.revenue.bill import Bill
from projections.revenue.facts import CreditMoveFact, Facts, InvoiceFact, LineFact
from projections.revenue.policy import Policy
from projections.revenue.schedule import NEVER


@dataclass(slots=True)
class Purse:
    """The lines that sold credits in one currency, oldest first, and what each use took of them."""

    sold: list[tuple[Bill, str]] = field(default_factory=list)
    taken: dict[str, list[tuple[Bill, str, int]]] = field(default_factory=dict)

    def take(self, key: str, amount: int) -> int:
        """Use up to an amount of what was sold so far; return how much it is."""
        rest, taken = amount, self.taken.setdefault(key, [])
        for bill, line in self.sold:
            if line in bill.pots.lines and (some := max(bill.pots.use(line, rest), 0)):
                taken.append((bill, line, some))
                rest -= some
        return amount - rest

    def give(self, key: str, amount: int) -> None:
        """Put back an amount of what a use took, the newest first."""
        for bill, line, taken in reversed(self.taken[key]):
            some = min(taken, amount)
            bill.pots.use(line, -some)
            amount -= some

    def end(self, move: CreditMoveFact, at: int) -> None:
        """Earn what was paid for credits that ended."""
        self.take(move.key, move.amount)
        parts: dict[str, list[tuple[str, int]]] = {}
        bills = {bill.key: bill for bill, _, _ in self.taken[move.key]}
        for bill, line, amount in self.taken[move.key]:
            parts.setdefault(bill.key, []).append((line, amount))
        for key, some in parts.items():
            bills[key].end_credits(move.key, at, some, [move.because])


def sold_credits(lines: Iterable[LineFact], policy: Policy) -> list[LineFact]:
    """Return the lines that sell billing credits, which are not earned by time."""
    return [
        replace(line, start=NEVER, end=NEVER + 1)
        for line in lines
        if line.product in policy.prepaid or line.price in policy.prepaid
    ]


def served(move: CreditMoveFact, invoice: InvoiceFact, amount: int) -> LineFact:
    """Return what credits paid of an invoice's line, as a line of its own with the same service."""
    for line in invoice.lines:
        if line.key == move.line:
            return replace(line, key=move.key, net=amount, tax=0, tax_rate=None)
    return LineFact(move.key, amount, 0, NEVER, NEVER + 1, invoice.subscription)


def served_lines(facts: Facts) -> Iterator[tuple[InvoiceFact, LineFact]]:
    """Give every line that bought credits paid a part of."""
    for _, move in sorted(facts.credit_moves.items()):
        grant, invoice = facts.credit_grants.get(move.grant), facts.invoices.get(move.invoice or "")
        if move.kind == "applied" and grant is not None and grant.paid and invoice is not None:
            yield invoice, served(move, invoice, move.amount)

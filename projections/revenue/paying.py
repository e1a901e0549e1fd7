"""Which payment paid what: charges and payment intents to invoices and sales, in every API version (§2.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from projections.revenue.facts import ChargeFact, Facts, InvoiceFact
from projections.revenue.pots import split

_NEAR: Final = 3_600


class Share(NamedTuple):
    """How much of a payment went to a bill (an invoice's or a sale's key)."""

    bill: str
    amount: int


class Step(NamedTuple):
    """A payment that only the invoice itself tells of."""

    at: int
    amount: int
    because: str
    outside: bool


@dataclass(slots=True)
class Paying:
    """What each charge and payment intent paid, and what of each invoice's payments no link explains.

    ``unlinked`` are charges that pay nothing we know; ``guessed`` are those matched by amount and time alone.
    """

    by_charge: dict[str, list[Share]] = field(default_factory=dict)
    by_intent: dict[str, list[Share]] = field(default_factory=dict)
    residual: dict[str, list[Step]] = field(default_factory=dict)
    unlinked: list[ChargeFact] = field(default_factory=list)
    guessed: set[tuple[str, int]] = field(default_factory=set)
    explained: set[str] = field(default_factory=set)

    def shares(self, charge: str | None, intent: str | None, amount: int) -> list[Share]:
        """Split an amount that comes back from a payment over what the payment paid."""
        paid = self.paid(charge, intent)
        parts = split(amount, [share.amount for share in paid])
        return [Share(share.bill, part) for share, part in zip(paid, parts, strict=True)]

    def paid(self, charge: str | None, intent: str | None) -> list[Share]:
        """Return what a payment paid."""
        return self.by_charge.get(charge or "") or self.by_intent.get(intent or "") or []


def paying(facts: Facts) -> Paying:
    """Find out what paid what."""
    found = Paying()
    linked: set[str] = set()
    taken = [charge for _, charge in sorted(facts.charges.items()) if charge.taken_at is not None]
    by_intent: dict[str, list[ChargeFact]] = {}
    for charge in taken:
        if charge.payment_intent:
            by_intent.setdefault(charge.payment_intent, []).append(charge)
    _invoice_payments(facts, found, by_intent, linked)
    _old_links(facts, found, taken, linked)
    for key, session in sorted(facts.sold.items()):
        if session.payment_intent:
            share = Share(key, session.amount)
            found.by_intent.setdefault(session.payment_intent, []).append(share)
            for charge in by_intent.get(session.payment_intent, ()):
                found.by_charge.setdefault(charge.key, []).append(share)
                linked.add(charge.key)
    _residuals(facts, found, [charge for charge in taken if charge.key not in linked], linked)
    found.unlinked = [charge for charge in taken if charge.key not in linked]
    for charge in found.unlinked:
        share = Share(charge.key, charge.amount)
        found.by_charge[charge.key] = [share]
        if charge.payment_intent:
            found.by_intent.setdefault(charge.payment_intent, []).append(share)
    return found


def _invoice_payments(facts: Facts, found: Paying, by_intent: dict[str, list[ChargeFact]], linked: set[str]) -> None:
    for _, payment in sorted(facts.invoice_payments.items()):
        if payment.record:
            continue
        share = [Share(payment.invoice, payment.amount)] if payment.invoice in facts.invoices else []
        charges = [payment.charge] if payment.charge else []
        if payment.payment_intent:
            charges += [charge.key for charge in by_intent.get(payment.payment_intent, ())]
            found.by_intent.setdefault(payment.payment_intent, []).extend(share)
        for charge in dict.fromkeys(charges):
            linked.add(charge)
            found.by_charge.setdefault(charge, []).extend(share)


def _old_links(facts: Facts, found: Paying, taken: Iterable[ChargeFact], linked: set[str]) -> None:
    """Follow the links that old shapes have themselves, where no invoice payment says more."""
    named = {payment: key for key, one in sorted(facts.invoices.items()) for payment in one.payments}
    for charge in taken:
        invoice = charge.invoice or named.get(charge.key) or named.get(charge.payment_intent or "")
        if invoice is None or charge.key in linked:
            continue
        linked.add(charge.key)
        if invoice in facts.invoices:
            share = Share(invoice, charge.amount)
            found.explained.add(invoice)
            found.by_charge.setdefault(charge.key, []).append(share)
            if charge.payment_intent:
                found.by_intent.setdefault(charge.payment_intent, []).append(share)


def _residuals(facts: Facts, found: Paying, free: list[ChargeFact], linked: set[str]) -> None:
    """Say what was paid of each invoice without a link; match it with a charge of that amount within the hour."""
    by_payments: dict[str, list[tuple[int, int]]] = {}
    records: dict[str, int] = {}
    for payment in facts.invoice_payments.values():
        by_payments.setdefault(payment.invoice, []).append((payment.paid_at, payment.amount))
        records[payment.invoice] = records.get(payment.invoice, 0) + (payment.amount if payment.record else 0)
    for key, invoice in sorted(facts.invoices.items()):
        unexplained = _unexplained(invoice, by_payments.get(key, []))
        found.residual[key] = steps = _outside(unexplained, invoice.off_stripe - records.get(key, 0))
        if key in found.explained or invoice.out_of_band:
            continue
        for step in (one for one in steps if not one.outside):
            near = [charge for charge in free if charge.key not in linked and _fits(charge, invoice, step)]
            if near:
                charge = min(near, key=lambda one: (abs((one.taken_at or 0) - step.at), one.key))
                linked.add(charge.key)
                found.guessed.add((key, step.at))
                share = Share(key, step.amount)
                found.by_charge[charge.key] = [share]
                if charge.payment_intent:
                    found.by_intent.setdefault(charge.payment_intent, []).append(share)


def _unexplained(invoice: InvoiceFact, payments: list[tuple[int, int]]) -> list[Step]:
    """Return what was paid at each time beyond what the invoice payments come to, in the end and by then."""
    steps = list(invoice.paid_steps)
    if invoice.out_of_band and invoice.paid_at is not None and invoice.amount_due > invoice.amount_paid:
        steps.append((invoice.paid_at, invoice.amount_due, invoice.because["paid"]))
    most = (steps[-1][1] if steps else 0) - sum(amount for _, amount in payments)
    found: list[Step] = []
    done = 0
    for at, paid, because in steps:
        by_then = sum(amount for when, amount in payments if when <= at)
        amount = min(paid - by_then, most) - done
        if amount > 0:
            found.append(Step(at, amount, because, invoice.out_of_band and at == steps[-1][0]))
            done += amount
    return found


def _outside(steps: list[Step], off_stripe: int) -> list[Step]:
    """Say of what no link explains which part was paid outside of Stripe, as its API told: the last of it."""
    found: list[Step] = []
    for step in reversed(steps):
        outside = step.amount if step.outside else max(0, min(off_stripe, step.amount))
        off_stripe -= outside
        parts = (step._replace(amount=outside, outside=True), step._replace(amount=step.amount - outside))
        found += [one for one in parts if one.amount]
    return found[::-1]


def _fits(charge: ChargeFact, invoice: InvoiceFact, step: Step) -> bool:
    near = abs((charge.taken_at or 0) - step.at) <= _NEAR
    return near and charge.currency == invoice.currency and charge.amount == step.amount

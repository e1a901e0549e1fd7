"""Events to natural facts: each is noted once, whichever of its events comes first and however many there are.

Events come in causal order. A snapshot of any type may be the one that tells a fact: an invoice that is first seen
paid has been finalised, with the time it says itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

from ledger.event import Json, identifier, mapping
from ledger.observation import OBSERVED
from projections.facts import Fact, listing
from projections.revenue import connecting, crediting, granting
from projections.revenue.facts import (
    BalanceFact,
    ChargeFact,
    DisputeFact,
    DisputeMoveFact,
    Facts,
    InvoiceFact,
    InvoicePaymentFact,
    LineFact,
    PayoutFact,
    RefundFact,
    SessionFact,
    SubscriptionFact,
    TransactionFact,
)
from projections.shapes.common import amount, currency, moment, text
from projections.shapes.invoice import Invoice, Line, invoice_of, line_of, standing_of
from projections.shapes.payment import (
    Refund,
    balance_transaction_of,
    charge_of,
    dispute_of,
    invoice_payment_of,
    refund_of,
    refunds_of_charge,
)

_FINAL: Final = frozenset({"open", "paid", "uncollectible", "void"})
_ENDED: Final = frozenset({"canceled", "incomplete_expired"})
_LONGEST: Final = 50 * 366 * 86_400
"""A service longer than this is a mistake: it is earned at once rather than month by month for centuries."""


def seconds(time: datetime | None) -> int | None:
    """Return a time as unix seconds."""
    return None if time is None else int(time.timestamp())


def midnight(day: date) -> int:
    """Return a UTC day's first second."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _at(fact: Fact) -> int:
    return int(fact.created.timestamp())


def invoice_changed(facts: Facts, fact: Fact) -> None:
    """Note an invoice's finalisation and what became of it; a draft is nothing."""
    shown = standing_of(fact.subject)
    if shown is None or shown.status not in _FINAL:
        return
    known = facts.invoices.get(shown.id)
    if known is None or (known.incomplete and not shown.incomplete):
        whole = invoice_of(fact.subject)
        if whole is None:
            return
        if known is None:
            known = facts.invoices[shown.id] = _finalized(whole, fact)
        else:
            known.lines, known.incomplete = _lines(whole), False
    known.status = shown.status
    known.amount_remaining, known.amount_due = shown.amount_remaining, shown.amount_due
    known.pre_payment_credit_notes = shown.pre_payment_credit_notes
    known.payments += [one for one in (shown.charge, shown.payment_intent) if one and one not in known.payments]
    known.out_of_band = known.out_of_band or shown.paid_out_of_band
    known.off_stripe = max(known.off_stripe, shown.paid_off_stripe)
    if shown.status == "paid" and known.paid_at is None:
        known.paid_at = seconds(shown.paid_at) or _at(fact)
        known.because["paid"] = fact.event_id
    if shown.amount_paid > known.amount_paid:
        known.amount_paid = shown.amount_paid
        at = known.paid_at if shown.status == "paid" and known.paid_at is not None else _at(fact)
        known.paid_steps.append((at, shown.amount_paid, fact.event_id))
    if shown.status == "void" and known.voided_at is None:
        known.voided_at = seconds(shown.voided_at) or _at(fact)
        known.because["void"] = fact.event_id
    if known.uncollectible_at is None and (shown.status == "uncollectible" or shown.uncollectible_at is not None):
        known.uncollectible_at = seconds(shown.uncollectible_at) or _at(fact)
        known.because["uncollectible"] = fact.event_id


def _finalized(shown: Invoice, fact: Fact) -> InvoiceFact:
    finalized_at = seconds(shown.finalized_at) or _at(fact)
    return InvoiceFact(
        key=shown.id,
        customer=shown.customer,
        currency=shown.currency,
        subscription=shown.subscription,
        reason=shown.billing_reason,
        collection_method=shown.collection_method,
        total=shown.total,
        tax=shown.tax,
        net=shown.total_excluding_tax,
        shipping=shown.shipping,
        shipping_tax=shown.shipping_tax,
        billing_credits=shown.billing_credits,
        amount_due=shown.amount_due,
        pre_payment_credit_notes=shown.pre_payment_credit_notes,
        starting_balance=shown.starting_balance,
        balance=shown.balance_applied,
        created=seconds(shown.created) or finalized_at,
        finalized_at=finalized_at,
        due_date=seconds(shown.due_date),
        lines=_lines(shown),
        incomplete=shown.incomplete,
        because={"finalize": fact.event_id},
    )


def _lines(shown: Invoice) -> list[LineFact]:
    each_once = {line.id: line for line in shown.lines}
    return [_line(line, shown.subscription) for line in each_once.values()]


def _line(line: Line, subscription: str | None) -> LineFact:
    start, end = seconds(line.start) or 0, seconds(line.end) or 0
    sensible = 0 < start < end <= start + _LONGEST
    return LineFact(
        key=line.id,
        net=line.net,
        tax=line.tax,
        start=start if sensible else 0,
        end=end if sensible else 0,
        subscription=line.subscription or subscription,
        product=line.product,
        price=line.price,
        tax_rate=next((tax.rate for tax in line.taxes if tax.rate), None),
    )


def invoice_paid(facts: Facts, fact: Fact) -> None:
    """Note a payment of an invoice."""
    shown = invoice_payment_of(fact.subject)
    if shown is None or shown.invoice is None or shown.status != "paid" or shown.id in facts.invoice_payments:
        return
    facts.invoice_payments[shown.id] = InvoicePaymentFact(
        key=shown.id,
        invoice=shown.invoice,
        amount=shown.amount_paid,
        paid_at=seconds(shown.paid_at) or _at(fact),
        payment_intent=shown.payment_intent,
        charge=shown.charge,
        record=shown.payment_record is not None or shown.kind == "payment_record",
        because=fact.event_id,
    )


def charge_changed(facts: Facts, fact: Fact) -> None:
    """Note money that a charge took, will take, or will not take after all; and refunds that it lists."""
    shown = charge_of(fact.subject)
    if shown is None or fact.subject.get("object") != "charge":
        return
    known = facts.charges.setdefault(shown.id, ChargeFact(shown.id, shown.currency))
    known.payment_intent = shown.payment_intent or known.payment_intent
    known.invoice = shown.invoice or known.invoice
    known.held = shown.amount - shown.captured if shown.status == "succeeded" else 0
    if shown.refunded > known.refunded:
        known.refunded, known.refunded_at = shown.refunded, _at(fact)
        known.because["refunded"] = fact.event_id
    created = seconds(shown.created) or _at(fact)
    if shown.status == "pending" and known.pending_at is None and known.taken_at is None:
        known.pending_at, known.pending = created, shown.amount
        known.because["pending"] = fact.event_id
    if shown.status == "failed" and known.failed_at is None:
        known.failed_at = _at(fact)
        known.because["failed"] = fact.event_id
    # A shape that does not say how much was captured says nothing of further parts.
    told = not known.takes or amount(fact.subject.get("amount_captured")) is not None
    if shown.status == "succeeded" and shown.captured > known.amount and told:
        waited = fact.type == "charge.captured" or "authorized" in known.because or known.pending_at is not None
        known.takes.append((_at(fact) if waited or known.takes else created, shown.captured, fact.event_id))
    if shown.status == "succeeded" and not shown.captured:
        known.because.setdefault("authorized", fact.event_id)
    for refund in refunds_of_charge(fact.subject):
        _refund(facts, refund, fact)


def refund_changed(facts: Facts, fact: Fact) -> None:
    """Note a refund, and when it came back."""
    shown = refund_of(fact.subject)
    if shown is not None and fact.subject.get("object") == "refund":
        _refund(facts, shown, fact)


def _refund(facts: Facts, shown: Refund, fact: Fact) -> None:
    known = facts.refunds.get(shown.id)
    moved = shown.status == "succeeded" or shown.balance_transaction is not None
    if known is None and moved:
        created = seconds(shown.created) or _at(fact)
        known = RefundFact(shown.id, shown.currency, shown.amount, None, None, created, untold=True)
        known.because["refund"] = fact.event_id
        facts.refunds[shown.id] = known
    if known is None:
        return
    known.charge = known.charge or shown.charge
    known.payment_intent = known.payment_intent or shown.payment_intent
    known.untold = known.untold and shown.balance_transaction is None
    if shown.status in {"failed", "canceled"} and known.failed_at is None:
        known.failed_at = _at(fact)
        known.because["failed"] = fact.event_id


def dispute_changed(facts: Facts, fact: Fact) -> None:
    """Note each movement of money a dispute made."""
    shown = dispute_of(fact.subject)
    if shown is None:
        return
    known = facts.disputes.setdefault(shown.id, DisputeFact(shown.id, shown.currency, shown.amount, None, None))
    known.charge = known.charge or shown.charge
    known.payment_intent = known.payment_intent or shown.payment_intent
    for move in shown.transactions:
        if move.id not in known.moves:
            at = seconds(move.created) or _at(fact)
            known.moves[move.id] = DisputeMoveFact(
                move.id, move.currency or shown.currency, move.amount, move.fee, at, fact.event_id
            )


def session_changed(facts: Facts, fact: Fact) -> None:
    """Note a one-time purchase, paid or not yet."""
    source = fact.subject
    key = identifier(source)
    paid = text(source.get("payment_status")) in {"paid", "no_payment_required"}
    known = facts.sessions if paid else facts.held
    if key is None or key in known or source.get("mode") != "payment" or source.get("invoice"):
        return
    if source.get("status") == "expired":
        return
    known[key] = SessionFact(
        key=key,
        currency=currency(source),
        amount=amount(source.get("amount_total")) or 0,
        tax=amount(mapping(source.get("total_details")).get("amount_tax")) or 0,
        payment_intent=identifier(source.get("payment_intent")),
        paid_at=_at(fact),
        because=fact.event_id,
    )


def payout_changed(facts: Facts, fact: Fact) -> None:
    """Note a payout on its way, arrived, or come back."""
    source: Json = fact.subject
    key = identifier(source)
    if key is None:
        return
    known = facts.payouts.get(key)
    if known is None:
        created_at = seconds(moment(source.get("created"))) or _at(fact)
        known = PayoutFact(key, currency(source), amount(source.get("amount")) or 0, created_at)
        known.because["payout"] = fact.event_id
        facts.payouts[key] = known
    if source.get("status") == "paid" and known.paid_at is None:
        known.paid_at, known.because["paid"] = _at(fact), fact.event_id
    if text(source.get("status")) in {"failed", "canceled"} and known.failed_at is None:
        known.failed_at, known.because["failed"] = _at(fact), fact.event_id


def customer_changed(facts: Facts, fact: Fact) -> None:
    """Note what a customer's balance is said to be."""
    balance, money = amount(fact.subject.get("balance")), currency(fact.subject)
    if balance is None or fact.subject.get("deleted") is True or (not money and not balance):
        return
    if [(one.balance, one.currency) for one in facts.balances[-2:]] == [(balance, money)] * 2:
        facts.balances.pop()  # of those that say the same the first and the last are enough
    facts.balances.append(BalanceFact(_at(fact), money, balance, fact.event_id))


def subscription_changed(facts: Facts, fact: Fact) -> None:
    """Note a subscription, and whether and until when it was incomplete."""
    source = fact.subject
    key, status = identifier(source), text(source.get("status")) or ""
    if key is None:
        return
    if fact.type == "customer.subscription.deleted":
        status = "canceled"
    known = facts.subscriptions.get(key)
    if known is None:
        created = seconds(moment(source.get("created"))) or _at(fact)
        customer = identifier(source.get("customer")) or identifier(source.get("customer_account"))
        known = SubscriptionFact(key, customer, status, currency(source), created)
        facts.subscriptions[key] = known
    if known.status in _ENDED and status not in _ENDED:
        return  # a snapshot from before the end that was rendered late
    if status == "incomplete":
        known.incomplete = known.incomplete or known.active_at is None
    elif status not in _ENDED and known.incomplete and known.active_at is None:
        known.active_at = _at(fact)
    known.status = status
    known.currency = currency(source) or known.currency
    known.cancel_at_period_end = source.get("cancel_at_period_end") is True
    known.canceled_at = seconds(moment(source.get("canceled_at")))
    known.ended_at = seconds(moment(source.get("ended_at")))
    known.because = fact.event_id


def observed(facts: Facts, fact: Fact) -> None:
    """Note what Stripe answered when it was asked: all lines of an invoice or credit note, payments' invoices, fees."""
    source = fact.subject
    if source.get("object") == "balance_transaction":
        _transaction(facts, fact)
    for one in listing(source.get("data")):
        if source.get("kind") == "invoice_payments":
            invoice_paid(facts, fact._replace(subject=one))
    known = facts.invoices.get(str(source.get("of")))
    if source.get("kind") == "invoice.lines" and known is not None and known.incomplete:
        lines = [line for one in listing(source.get("data")) if (line := line_of(one)) is not None]
        each_once = {line.id: line for line in lines}
        known.lines = [_line(line, known.subscription) for line in each_once.values()]
        known.incomplete = False
        known.because["lines"] = fact.event_id
    crediting.lines_observed(facts, fact)


def _transaction(facts: Facts, fact: Fact) -> None:
    shown, source = balance_transaction_of(fact.subject), identifier(fact.subject.get("source"))
    if shown is not None and source is not None and shown.id not in facts.transactions:
        at = seconds(shown.created) or _at(fact)
        facts.transactions[shown.id] = TransactionFact(
            shown.id, source, shown.currency, shown.amount, shown.fee, at, fact.event_id
        )


STEPS: Final[dict[str, Callable[[Facts, Fact], None]]] = {
    **dict.fromkeys(
        ("invoice.finalized", "invoice.updated", "invoice.paid", "invoice.payment_succeeded", "invoice.overpaid",
         "invoice.voided", "invoice.marked_uncollectible", "invoice.payment_failed", "invoice.sent"),
        invoice_changed,
    ),
    "invoice_payment.paid": invoice_paid,
    **dict.fromkeys(
        ("charge.succeeded", "charge.pending", "charge.failed", "charge.captured", "charge.refunded", "charge.updated"),
        charge_changed,
    ),
    **dict.fromkeys(("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"), refund_changed),
    **crediting.STEPS,
    **dict.fromkeys(
        ("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed",
         "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"),
        dispute_changed,
    ),
    "checkout.session.completed": session_changed,
    "checkout.session.async_payment_succeeded": session_changed,
    **dict.fromkeys(("payout.created", "payout.updated", "payout.paid", "payout.failed", "payout.canceled"),
                    payout_changed),
    **connecting.STEPS,
    **granting.STEPS,
    OBSERVED: observed,
    "customer.created": customer_changed,
    "customer.updated": customer_changed,
    **dict.fromkeys(
        ("customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted",
         "customer.subscription.paused", "customer.subscription.resumed"),
        subscription_changed,
    ),
}  # fmt: skip
"""What each event type tells. A type that is not here tells nothing."""

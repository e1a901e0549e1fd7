"""Invoices, refunds and disputes: what affects access by policy, and what takes back a purchase.

A payment is joined to what it paid for by its intent or charge, whichever object names them first.
"""

from __future__ import annotations

from typing import Final

from ledger.event import Json, identifier, mapping
from projections.entitlements.purchases import (
    captured,
    dispute_state,
    invoice_paid,
    is_refunded,
    payment_key,
    restate,
)
from projections.entitlements.state import Invoice, Payment, State, note, unnote
from projections.facts import Fact
from projections.shapes.common import amount, moment, text
from projections.shapes.invoice import is_credited_whole, period_of_lines, subscription_of_invoice
from projections.shapes.payment import Refund, refund_of, refunds_of_charge

_NOT_BEGUN: Final = frozenset({"incomplete", "incomplete_expired"})


def invoice_changed(state: State, fact: Fact) -> None:
    """Take an invoice: what is owed on it, that something was paid, and what it sold once."""
    invoice = fact.subject
    key, status = identifier(invoice), invoice.get("status")
    if key is None:
        return
    subscription = subscription_of_invoice(invoice)
    if subscription is not None:
        if status == "open":
            _owed(state, key, subscription, fact)
        else:
            unnote(state, "owed", key, fact.created)
    if status != "paid":
        return
    if subscription is not None:
        _paid(state, key, subscription, fact)
    if not is_credited_whole(invoice):
        invoice_paid(state, key, fact)
    if key in state.invoices or key in state.purchases:
        if paid_by := payment_key(state, invoice.get("payment_intent"), invoice.get("charge")):
            _join(state, paid_by, key, amount(invoice.get("amount_paid")), fact)
        _joined_before(state, key, fact)


def _owed(state: State, key: str, subscription: str, fact: Fact) -> None:
    """Note since when an invoice is owed: its due date, or its first failure. Of a checkout not finished nothing is."""
    invoice = fact.subject
    sent = "send_invoice" in (invoice.get("collection_method"), invoice.get("billing"))
    if invoice.get("billing_reason") == "subscription_create" and not sent and not _has_begun(state, subscription):
        return
    if sent:
        if (due := moment(invoice.get("due_date"))) is not None:
            note(state, "owed", subscription, key, due, fact)
    elif fact.type == "invoice.payment_failed":
        note(state, "owed", subscription, key, fact.created, fact)


def _has_begun(state: State, subscription: str) -> bool:
    known = state.subscriptions.get(subscription)
    return known is not None and known.status not in _NOT_BEGUN


def _paid(state: State, key: str, subscription: str, fact: Fact) -> None:
    if (amount(fact.subject.get("amount_due")) or 0) > 0 or _used_credit(fact.subject):
        note(state, "paid", subscription, subscription, fact.created, fact)
    elif fact.subject.get("billing_reason") == "subscription_create" and subscription not in state.free:
        state.free.append(subscription)
        state.evidence.pop(f"paid:{subscription}", None)  # its status alone said so
    if key not in state.invoices and (period := period_of_lines(fact.subject)) is not None:
        state.invoices[key] = Invoice(subscription, *period)


def _used_credit(invoice: Json) -> bool:
    """Tell whether the customer's credit with the seller paid something of an invoice: that is money, too."""
    before, after = (amount(invoice.get(f"{when}_balance")) or 0 for when in ("starting", "ending"))
    return before < 0 and before < after


def _joined_before(state: State, key: str, fact: Fact) -> None:
    """Look at the payments that were known to be for an invoice before the invoice was."""
    for name in list(state.paid_by.get(key, ())):
        touched(state, name, fact)


def _join(state: State, paid_by: str, invoice: str, paid: int | None, fact: Fact) -> None:
    payment = state.payments.setdefault(paid_by, Payment())
    if paid:
        payment.parts.setdefault(invoice, paid)
    if _tie(state, paid_by, payment, invoice):
        touched(state, paid_by, fact)


def _tie(state: State, key: str, payment: Payment, invoice: str) -> bool:
    """Note that a payment is for an invoice; tell whether that is news."""
    if invoice in payment.invoices:
        return False
    payment.invoices.append(invoice)
    state.paid_by.setdefault(invoice, []).append(key)
    return True


def invoice_payment_paid(state: State, fact: Fact) -> None:
    """Join a payment to the invoice it is for."""
    paid = mapping(fact.subject.get("payment"))
    key = payment_key(state, paid.get("payment_intent"), paid.get("charge")) or identifier(paid.get("payment_record"))
    invoice = fact.subject.get("invoice")
    if key is not None and (named := identifier(invoice)) is not None:
        _join(state, key, named, amount(fact.subject.get("amount_paid")), fact)


def charge_refunded(state: State, fact: Fact) -> None:
    """Take what a charge says of its refunds; older shapes list them."""
    charge = fact.subject
    key = payment_key(state, charge.get("payment_intent"), charge)
    if key is None:
        return
    payment = state.payments.setdefault(key, Payment())
    back = amount(charge.get("amount_refunded")) or 0
    # Refunded whole may be less than its amount: of that a part alone may have been captured.
    whole = back if charge.get("refunded") is True else amount(charge.get("amount"))
    payment.amount = whole or payment.amount
    payment.refunded = max(payment.refunded, back)
    for refund in refunds_of_charge(charge):
        _take_refund(payment, refund)
    if (invoice := identifier(charge.get("invoice"))) is not None:
        _tie(state, key, payment, invoice)
    touched(state, key, fact)


def charge_captured(state: State, fact: Fact) -> None:
    """Take it that money was taken which had been authorised: what a Checkout session held is bought by that."""
    key = payment_key(state, fact.subject.get("payment_intent"), fact.subject)
    if key is not None:
        captured(state, state.payments.setdefault(key, Payment()))
        touched(state, key, fact)


def refund_changed(state: State, fact: Fact) -> None:
    """Take a refund: one that failed or was canceled gives back what it took."""
    refund = refund_of(fact.subject)
    key = payment_key(state, refund.payment_intent, refund.charge) if refund is not None else None
    if refund is not None and key is not None:
        _take_refund(state.payments.setdefault(key, Payment()), refund)
        touched(state, key, fact)


def _take_refund(payment: Payment, refund: Refund) -> None:
    payment.refunds[refund.id] = refund.amount
    if refund.status in {"failed", "canceled"} and refund.id not in payment.failed:
        payment.failed.append(refund.id)


def dispute_changed(state: State, fact: Fact) -> None:
    """Take a dispute as it stands; one that was lost can still be won."""
    dispute = fact.subject
    name, key = identifier(dispute), payment_key(state, dispute.get("payment_intent"), dispute.get("charge"))
    if name is not None and key is not None:
        state.payments.setdefault(key, Payment()).disputes[name] = text(dispute.get("status")) or ""
        touched(state, key, fact)


def touched(state: State, key: str, fact: Fact) -> None:
    """Say anew what a payment's refunds and disputes do to what it paid for."""
    payment = state.payments[key]
    for purchase in payment.purchases:
        restate(state, purchase, fact)
    for invoice in payment.invoices:
        for sold in (invoice, state.session_of.get(invoice)):
            if sold in state.purchases:
                restate(state, sold, fact)
        if (known := state.invoices.get(invoice)) is not None:
            _bear(state, invoice, known, fact)


def _bear(state: State, key: str, invoice: Invoice, fact: Fact) -> None:
    payments = [state.payments[name] for name in state.paid_by.get(key, ())]
    for kind, holds in (
        ("refunded", all(is_refunded(one) for one in payments)),
        ("disputed", any(dispute_state(one) for one in payments)),
    ):
        if holds:
            note(state, kind, invoice.subscription, key, fact.created, fact, invoice)
        else:
            unnote(state, kind, key, fact.created)

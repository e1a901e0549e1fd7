"""Money coming in: payment intents and charges, with the bank's answers given from outside."""

from __future__ import annotations

from typing import Final

from ledger.simulator.account import Account
from ledger.simulator.objects import Charge, Customer, Invoice, Payment
from ledger.simulator.render_invoice import invoice_payment

_PLACES: Final = {"succeeded": "stripe_balance", "pending": "pending_cash"}


def intend(
    account: Account, customer: Customer | None, amount: int, currency: str, invoice: Invoice | None = None
) -> Payment:
    """Make a payment intent."""
    made = Payment(account.new_id("pi"), customer, amount, currency, account.now, invoice)
    made.pays = invoice.id if invoice else None
    account.announce("payment_intent.created", made)
    return made


def attempt(account: Account, payment: Payment, answer: str, *, asked: bool = False) -> str:
    """Charge once. ``answer``: ``ok``, ``action`` (the bank wants to see the customer), ``pending``, or a decline code.

    Returns the payment's new status.
    """
    card = payment.customer.card if payment.customer else account.new_id("pm")
    if answer == "action":
        payment.status = "requires_action"
        account.announce("payment_intent.requires_action", payment, asked=asked)
        return payment.status
    status = {"ok": "succeeded", "pending": "pending"}.get(answer, "failed")
    payment.decline = answer if status == "failed" else None
    payment.charge = Charge(
        account.new_id("ch"), payment, account.now, status, card, payment.amount, decline=payment.decline
    )
    if status != "failed":
        account.move(payment.currency, **{_PLACES[status]: payment.amount, "payments_clearing": -payment.amount})
    account.announce(f"charge.{status}", payment.charge, asked=asked)
    payment.status = {"failed": "requires_payment_method", "pending": "processing"}.get(status, status)
    ended = {"failed": "payment_failed", "pending": "processing"}.get(status, "succeeded")
    account.announce(f"payment_intent.{ended}", payment, asked=asked)
    return payment.status


def clear(account: Account, payment: Payment, *, succeeded: bool) -> None:
    """Let a pending charge of a delayed payment method succeed or fail at last."""
    charge = payment.charge
    if charge is None:
        raise ValueError(f"{payment.id} has no charge")
    charge.status = "succeeded" if succeeded else "failed"
    charge.decline = payment.decline = None if succeeded else "insufficient_funds"
    payment.status = "succeeded" if succeeded else "requires_payment_method"
    place = "stripe_balance" if succeeded else "payments_clearing"
    account.move(payment.currency, **{place: charge.amount, "pending_cash": -charge.amount})
    account.announce(f"charge.{charge.status}", charge)
    account.announce(f"payment_intent.{'succeeded' if succeeded else 'payment_failed'}", payment)


def cancel(account: Account, payment: Payment, reason: str) -> None:
    """Cancel a payment that was not made: what it was for is no longer wanted."""
    if payment.status not in {"succeeded", "canceled"}:
        payment.status = "canceled"
        payment.canceled = (account.now, reason)
        account.announce("payment_intent.canceled", payment)


def settle_invoice(account: Account, payment: Payment) -> None:
    """Announce the invoice payment that ties a succeeded payment to its invoice."""
    if payment.invoice is not None:
        written = invoice_payment(
            f"inpay_{payment.id[3:]}", payment.invoice, payment.amount, account.now, account.livemode, payment=payment
        )
        account.announce_rendered("invoice_payment.paid", written)


def settle_outside(account: Account, invoice: Invoice, amount: int) -> None:
    """Announce the invoice payment that says what was paid outside Stripe."""
    written = invoice_payment(account.new_id("inpay"), invoice, amount, account.now, account.livemode)
    account.announce_rendered("invoice_payment.paid", written)

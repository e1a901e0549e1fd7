"""Money moving: payment intents, charges, refunds and disputes, with the bank's answers given from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY
from ledger.simulator.objects import Charge, Customer, Dispute, Invoice, Payment, Refund
from ledger.simulator.render_invoice import invoice_payment

DISPUTE_FEE: Final = 1_500

Access = Callable[[bool], None]
"""Told whether what was paid for gives access from now on."""


def intend(
    account: Account, customer: Customer | None, amount: int, currency: str, invoice: Invoice | None = None
) -> Payment:
    """Make a payment intent."""
    made = Payment(account.new_id("pi"), customer, amount, currency, account.now, invoice)
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


def refund(account: Account, charge: Charge, amount: int, *, fails: bool = False) -> Refund:
    """Give money back; where it ``fails`` that shows days later, and the charge is as before."""
    made = Refund(account.new_id("re"), charge, amount, account.now, "pending")
    charge.refunds.append(made)
    account.announce("refund.created", made, asked=True)
    account.announce("charge.refunded", charge, asked=True)

    def end() -> None:
        made.status = "failed" if fails else "succeeded"
        account.announce("refund.updated", made)
        if fails:
            account.announce("refund.failed", made)
            account.announce("charge.refund.updated", made)
            account.announce("charge.updated", charge)

    account.schedule(account.now + 3 * DAY, end)
    return made


def dispute(account: Account, charge: Charge, course: str, access: Access) -> None:
    """Let a customer's bank dispute a charge. ``course``: ``inquiry``, ``won``, ``lost``, or ``late_win``.

    ``access`` is told when what was paid for is suspended, comes back, or is lost.
    """
    inquiry = course == "inquiry"
    status = "warning_needs_response" if inquiry else "needs_response"
    made = Dispute(account.new_id("dp"), charge, account.now, status)
    charge.dispute = made
    account.announce("charge.dispute.created", made)
    account.announce("charge.updated", charge)
    if not inquiry:
        _withdraw(account, made)
        access(False)
    account.schedule(account.now + 5 * DAY, lambda: _respond(account, made, inquiry=inquiry))
    account.schedule(account.now + 40 * DAY, lambda: _decide(account, made, course, access))


def _withdraw(account: Account, made: Dispute) -> None:
    amount = -made.charge.payment.amount
    made.movements = [*made.movements, (account.new_id("txn"), amount, DISPUTE_FEE, account.now)]
    account.announce("charge.dispute.funds_withdrawn", made)


def _respond(account: Account, made: Dispute, *, inquiry: bool) -> None:
    made.status = "warning_under_review" if inquiry else "under_review"
    account.announce("charge.dispute.updated", made, asked=True)


def _decide(account: Account, made: Dispute, course: str, access: Access) -> None:
    if course == "inquiry":
        made.status = "warning_closed"
    else:
        made.status = "won" if course == "won" else "lost"
    account.announce("charge.dispute.closed", made)
    if course == "won":
        _reinstate(account, made)
        access(True)
    elif course == "late_win":
        account.schedule(account.now + 20 * DAY, lambda: _win_late(account, made, access))


def _win_late(account: Account, made: Dispute, access: Access) -> None:
    made.status = "won"
    account.announce("charge.dispute.updated", made)
    _reinstate(account, made)
    access(True)


def _reinstate(account: Account, made: Dispute) -> None:
    amount = made.charge.payment.amount
    made.movements = [*made.movements, (account.new_id("txn"), amount, -DISPUTE_FEE, account.now)]
    account.announce("charge.dispute.funds_reinstated", made)

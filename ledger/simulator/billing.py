"""Invoices as Stripe Billing makes, finalises and collects them.

Every change of an invoice is announced; what a result means for its subscription is ``subscriptions``' affair, told
through the outcomes returned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ledger.simulator import payments
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY
from ledger.simulator.objects import Discount, Invoice, Line, Subscription


def draft(account: Account, subscription: Subscription, reason: str, lines: Sequence[Line]) -> Invoice:
    """Make a draft invoice of a subscription's lines, with discount and tax worked out."""
    made = Invoice(
        id=account.new_id("in"),
        customer=subscription.customer,
        subscription=subscription,
        reason=reason,
        lines=list(lines),
        created=account.now,
        discount=_discount_now(account, subscription),
        tax_rate=subscription.tax_rate,
        collection_method=subscription.collection_method,
    )
    take_off(made)
    account.announce("invoice.created", made)
    return made


def _discount_now(account: Account, subscription: Subscription) -> Discount | None:
    discount = subscription.discount
    if discount is not None and (discount.end is None or account.now < discount.end):
        return discount
    return None


def take_off(invoice: Invoice) -> None:
    """Work out discounts and tax line by line; what rounding leaves over goes to the largest line."""
    eligible = [line for line in invoice.lines if not line.proration and line.amount > 0]
    if invoice.discount is not None and eligible:
        whole = sum(line.amount for line in eligible)
        off = round(invoice.discount.coupon.off(whole))
        for line in eligible:
            line.discount = off * line.amount // whole
        max(eligible, key=lambda line: line.amount).discount += off - sum(line.discount for line in eligible)
    if invoice.tax_rate is not None:
        rate = Fraction(invoice.tax_rate.percentage, 100)
        share = rate / (1 + rate) if invoice.tax_rate.inclusive else rate
        for line in invoice.lines:
            line.tax = round((line.amount - line.discount) * share)


def finalize(account: Account, invoice: Invoice) -> None:
    """Finalise: number it, apply the customer's balance, and settle it at once where nothing is left to pay."""
    customer = invoice.customer
    customer.invoices += 1
    invoice.number = f"C{customer.number:07d}-{customer.invoices:04d}"
    invoice.status = "open"
    invoice.finalized_at = account.now
    invoice.starting_balance = customer.balance
    invoice.ending_balance = _balance_after(customer.balance, invoice.total)
    if invoice.collection_method == "send_invoice":
        invoice.due_date = account.now + 30 * DAY
    moved = customer.balance != invoice.ending_balance
    customer.balance = invoice.ending_balance
    if moved:
        account.announce("customer.updated", customer)
    account.announce("invoice.finalized", invoice)
    if invoice.amount_due == 0:
        mark_paid(account, invoice)
    elif invoice.collection_method == "send_invoice":
        account.announce("invoice.sent", invoice)


def _balance_after(balance: int, total: int) -> int:
    """Credit pays as much as it can; a negative total becomes credit; a debt is collected with the invoice."""
    if total <= 0:
        return balance + total
    return min(balance + total, 0) if balance < 0 else 0


def mark_paid(account: Account, invoice: Invoice) -> None:
    """Close an invoice as paid."""
    invoice.status = "paid"
    invoice.attempted = True
    invoice.paid_at = account.now
    invoice.amount_paid = invoice.amount_due
    invoice.next_payment_attempt = None
    account.announce("invoice.updated", invoice)
    account.announce("invoice.paid", invoice)
    account.announce("invoice.payment_succeeded", invoice)


def collect(account: Account, invoice: Invoice, answer: str, *, retry_at: int | None = None) -> bool:
    """Try to collect an open invoice; ``answer`` is the bank's (see ``payments.attempt``). Return whether it is paid.

    ``retry_at`` is when the next automatic attempt will be, should this one fail.
    """
    if invoice.payment is None:
        invoice.payment = payments.intend(account, invoice.customer, invoice.amount_due, invoice.currency, invoice)
    answered = payments.attempt(account, invoice.payment, answer)
    invoice.attempted = True
    if answered == "succeeded":
        mark_paid(account, invoice)
        payments.settle_invoice(account, invoice.payment)
        return True
    if answered == "requires_action":
        account.announce("invoice.updated", invoice)
        account.announce("invoice.payment_action_required", invoice)
        return False
    invoice.attempt_count += 1
    invoice.next_payment_attempt = retry_at
    account.announce("invoice.updated", invoice)
    account.announce("invoice.payment_failed", invoice)
    return False


def void(account: Account, invoice: Invoice) -> None:
    """Void an open invoice: as if it had never been."""
    invoice.status = "void"
    invoice.voided_at = account.now
    invoice.next_payment_attempt = None
    account.announce("invoice.updated", invoice)
    account.announce("invoice.voided", invoice, asked=True)


def mark_uncollectible(account: Account, invoice: Invoice, reason: str) -> None:
    """Give up on an open invoice; it can still be paid."""
    invoice.status = "uncollectible"
    invoice.uncollectible_at = account.now
    invoice.uncollectible_reason = reason
    invoice.next_payment_attempt = None
    account.announce("invoice.updated", invoice)
    account.announce("invoice.marked_uncollectible", invoice)

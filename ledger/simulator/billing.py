"""Invoices as Stripe Billing makes, finalises, collects and closes them.

Every change of an invoice is announced; what a result means for its subscription is ``collecting``'s affair, told
through the outcomes returned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from ledger.simulator import payments
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY
from ledger.simulator.catalog import charged
from ledger.simulator.declines import DECLINES
from ledger.simulator.objects import Customer, Discount, Invoice, Line, Subscription, Trouble

Payer = Literal["schedule", "customer"]
"""Who makes an attempt: Stripe by its schedule, or the customer on the hosted page."""

NO_METHOD = "no_method"
"""What happens instead of an attempt where there is nothing to charge."""


def draft(
    account: Account, customer: Customer, subscription: Subscription | None, reason: str, lines: Sequence[Line]
) -> Invoice:
    """Make a draft invoice of lines, with discount and tax worked out."""
    made = Invoice(
        id=account.new_id("in"),
        customer=customer,
        subscription=subscription,
        reason=reason,
        lines=list(lines),
        created=account.now,
    )
    if subscription is not None:
        made.discount = _discount_now(account, subscription)
        made.tax_rate = subscription.tax_rate
        made.collection_method = subscription.collection_method
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
    eligible = [line for line in invoice.lines if line.invoice_item is None and line.amount > 0]
    if invoice.discount is not None and eligible:
        whole = sum(line.amount for line in eligible)
        off = charged(invoice.discount.coupon.off(whole), invoice.currency)
        for line in eligible:
            line.discount = off * line.amount // whole
        max(eligible, key=lambda line: line.amount).discount += off - sum(line.discount for line in eligible)
    if invoice.tax_rate is not None:
        rate = Fraction(invoice.tax_rate.percentage, 100)
        share = rate / (1 + rate) if invoice.tax_rate.inclusive else rate
        for line in invoice.lines:
            line.tax = charged((line.amount - line.discount) * share, invoice.currency)
    added = invoice.tax_rate is not None and not invoice.tax_rate.inclusive
    for line in invoice.lines:
        line.gross = line.amount - line.discount + (line.tax if added else 0)


def block(account: Account, invoice: Invoice) -> None:
    """Fail to finalise: the draft stays one until what is missing is there."""
    invoice.finalization_error = "customer_tax_location_invalid"
    in_trouble(invoice).was_blocked = True
    account.truth.invoice(account.now, invoice)
    account.announce("invoice.updated", invoice)
    account.announce("invoice.finalization_failed", invoice)


def finalize(account: Account, invoice: Invoice) -> None:
    """Finalise: number it, apply the customer's balance, and settle it at once where nothing is left to pay."""
    customer = invoice.customer
    customer.invoices += 1
    invoice.number = f"C{customer.number:07d}-{customer.invoices:04d}"
    invoice.status = "open"
    invoice.finalization_error = None
    invoice.finalized_at = account.now
    invoice.starting_balance = customer.balance
    invoice.ending_balance = _balance_after(customer.balance, invoice.total)
    if invoice.collection_method == "send_invoice":
        invoice.due_date = account.now + 30 * DAY
    moved = customer.balance != invoice.ending_balance
    customer.balance = invoice.ending_balance
    if moved:
        account.announce("customer.updated", customer)
    account.truth.books.finalized(account.now, invoice)
    account.truth.invoice(account.now, invoice)
    account.announce("invoice.finalized", invoice)
    if invoice.amount_due == 0:
        close(account, invoice, "credit")
        return
    if invoice.subscription is not None:
        invoice.subscription.billed = True
    customer.open_invoices.append(invoice)
    if invoice.collection_method == "send_invoice":
        account.announce("invoice.sent", invoice)


def _balance_after(balance: int, total: int) -> int:
    """Credit pays as much as it can; a negative total becomes credit; a debt is collected with the invoice."""
    if total <= 0:
        return balance + total
    return min(balance + total, 0) if balance < 0 else 0


def close(account: Account, invoice: Invoice, by: str, *, asked: bool = False) -> None:
    """Close an invoice as paid. ``by``: ``schedule``, ``customer``, ``out_of_band``, ``credit`` or ``credit_note``."""
    invoice.status = "paid"
    invoice.attempted = True
    invoice.paid_at = account.now
    _no_longer_open(invoice)
    if invoice.trouble is not None:
        invoice.trouble.closed_by = by
        invoice.trouble.waits_for_action = False
    if not 0 < invoice.total <= invoice.pre_credited:  # nobody paid for what was credited
        note_bought(account, invoice, holds=True)
    account.truth.invoice(account.now, invoice)
    account.announce("invoice.updated", invoice, asked=asked)
    account.announce("invoice.paid", invoice, asked=asked)
    account.announce("invoice.payment_succeeded", invoice, asked=asked)


def note_bought(account: Account, invoice: Invoice, *, holds: bool) -> None:
    """Tell the truth whether what an invoice sells once gives access from now on."""
    for line in invoice.lines:
        if line.price.interval is None:
            account.truth.purchase(
                account.now, line.id, invoice.customer, line.price.product, line.quantity, holds=holds
            )


def in_trouble(invoice: Invoice) -> Trouble:
    """Return what is noted of an invoice's trouble, from its first sign on."""
    if invoice.trouble is None:
        invoice.trouble = Trouble()
    return invoice.trouble


def _no_longer_open(invoice: Invoice) -> None:
    invoice.next_payment_attempt = None
    if invoice in invoice.customer.open_invoices:
        invoice.customer.open_invoices.remove(invoice)


def collect(
    account: Account,
    invoice: Invoice,
    answer: str,
    *,
    by: Payer = "schedule",
    retry_at: int | None = None,
    amount: int | None = None,
) -> bool:
    """Try to collect an open invoice; ``answer`` is the bank's (see ``payments.attempt``). Return whether it is paid.

    ``retry_at`` is when the next automatic attempt will be, should this one fail; ``amount`` where it is only a part.
    """
    asked = by == "customer"
    amount = min(amount or invoice.amount_remaining, invoice.amount_remaining)
    payment = invoice.payment
    if payment is None or payment.status == "succeeded":
        payment = invoice.payment = payments.intend(account, invoice.customer, amount, invoice.currency, invoice)
    payment.amount = amount
    answered = NO_METHOD if answer == NO_METHOD else payments.attempt(account, payment, answer, asked=asked)
    invoice.attempted = True
    if answered != "requires_action" and (by == "schedule" or invoice.attempt_count == 0):
        invoice.attempt_count += 1
    if answered == "succeeded":
        return _received(account, invoice, by)
    if answered == "requires_action":
        trouble = in_trouble(invoice)
        trouble.attempts += 1
        trouble.waits_for_action = True
        invoice.next_payment_attempt = retry_at
        account.truth.invoice(account.now, invoice)
        account.announce("invoice.updated", invoice, asked=asked)
        account.announce("invoice.payment_action_required", invoice, asked=asked)
        return False
    _failed(account, invoice, answer)
    # A customer's own attempt leaves the schedule as it is.
    invoice.next_payment_attempt = invoice.next_payment_attempt if by == "customer" else retry_at
    account.truth.invoice(account.now, invoice)
    account.announce("invoice.updated", invoice, asked=asked)
    account.announce("invoice.payment_failed", invoice, asked=asked)
    return False


def _received(account: Account, invoice: Invoice, by: Payer) -> bool:
    payment = invoice.payment
    if payment is None:
        raise ValueError(f"{invoice.id} has no payment")
    invoice.amount_paid += payment.amount
    account.truth.books.happened(account.now, invoice.id, "received", payment.amount, "payments_clearing")
    if invoice.amount_remaining == 0:
        close(account, invoice, by, asked=by == "customer")
    else:
        account.truth.invoice(account.now, invoice)
        account.announce("invoice.updated", invoice, asked=by == "customer")
    payments.settle_invoice(account, payment)
    return invoice.status == "paid"


def _failed(account: Account, invoice: Invoice, answer: str) -> None:
    trouble = in_trouble(invoice)
    trouble.failures += 1
    trouble.attempts += answer != NO_METHOD
    trouble.decline = answer
    trouble.failed_at = account.now
    trouble.waits_for_action = False
    trouble.needs_method = answer == NO_METHOD or DECLINES[answer].hard
    trouble.new_method = None


def pass_over(account: Account, invoice: Invoice, retry_at: int | None) -> None:
    """Let a scheduled attempt pass that cannot succeed: it is counted, and nothing is charged."""
    invoice.attempt_count += 1
    invoice.next_payment_attempt = retry_at
    account.truth.invoice(account.now, invoice)
    account.announce("invoice.updated", invoice)


def rest(account: Account, invoice: Invoice) -> None:
    """Stop trying by itself: its subscription has ended."""
    if invoice.status == "open" and invoice.auto_advance:
        invoice.auto_advance = False
        invoice.next_payment_attempt = None
        account.truth.invoice(account.now, invoice)
        account.announce("invoice.updated", invoice)


def pay_out_of_band(account: Account, invoice: Invoice) -> None:
    """Mark as paid what was paid outside Stripe."""
    paid = invoice.amount_remaining
    invoice.out_of_band += paid
    invoice.amount_paid += paid
    account.truth.books.happened(account.now, invoice.id, "received", paid, "external_asset")
    close(account, invoice, "out_of_band", asked=True)
    payments.settle_outside(account, invoice, paid)


def void(account: Account, invoice: Invoice) -> None:
    """Void an invoice that is not paid: as if it had never been; what the balance paid of it goes back there."""
    account.truth.books.happened(account.now, invoice.id, "voided", invoice.amount_remaining)
    invoice.status = "void"
    invoice.voided_at = account.now
    _no_longer_open(invoice)
    account.truth.invoice(account.now, invoice)
    if invoice.payment is not None:
        payments.cancel(account, invoice.payment, "void_invoice")
    account.announce("invoice.updated", invoice, asked=True)
    account.announce("invoice.voided", invoice, asked=True)
    if invoice.from_balance:
        invoice.customer.balance -= invoice.from_balance
        account.announce("customer.updated", invoice.customer, asked=True)


def mark_uncollectible(account: Account, invoice: Invoice, reason: str) -> None:
    """Give up on an open invoice; it can still be paid."""
    account.truth.books.happened(account.now, invoice.id, "written_off", invoice.amount_remaining)
    invoice.status = "uncollectible"
    invoice.uncollectible_at = account.now
    invoice.uncollectible_reason = reason
    invoice.next_payment_attempt = None
    account.truth.invoice(account.now, invoice)
    account.announce("invoice.updated", invoice)
    account.announce("invoice.marked_uncollectible", invoice)

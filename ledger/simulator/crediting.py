"""Credit notes: less to pay on an open invoice, or money back on a paid one."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.simulator import billing
from ledger.simulator.account import Account
from ledger.simulator.objects import CreditNote, Customer, Invoice, Line, Refund


def issue(
    account: Account,
    invoice: Invoice,
    amount: int,
    *,
    line: Line | None = None,
    refunds: Sequence[Refund] = (),
    outside: int = 0,
) -> CreditNote:
    """Credit ``amount``, of one line or of all: what is still open first, then by ``refunds`` or ``outside`` Stripe.

    What is left after that becomes the customer's balance.
    """
    pre = min(amount, invoice.amount_remaining) if invoice.status in {"open", "uncollectible"} else 0
    made = CreditNote(
        id=account.new_id("cn"),
        number=f"{invoice.number}-CN-{_count(invoice)}",
        invoice=invoice,
        lines=[(account.new_id("cnli"), line, amount)],
        created=account.now,
        pre_payment=pre,
        out_of_band=outside,
        refunds=list(refunds),
    )
    invoice.credit_notes += 1
    invoice.pre_credited += pre
    invoice.post_credited += amount - pre
    for refund in made.refunds:
        if not refund.credited:
            # It was made earlier, and is only now explained.
            account.truth.books.happened(
                account.now, invoice.id, "undone", refund.id, "refunds", {"refunds_clearing": -refund.amount}
            )
            refund.credited = True
    account.truth.books.credited(account.now, made)
    account.announce("credit_note.created", made, asked=True)
    if to_balance(made):
        invoice.customer.balance -= to_balance(made)
        account.announce("customer.updated", invoice.customer, asked=True)
    if pre and invoice.amount_remaining == 0:
        billing.close(account, invoice, "credit_note", asked=True)
    else:
        account.truth.invoice(account.now, invoice)
        account.announce("invoice.updated", invoice, asked=True)
    return made


def _count(invoice: Invoice) -> str:
    return f"{invoice.credit_notes + 1:02d}"


def to_balance(note: CreditNote) -> int:
    """Return what of a credit note becomes the customer's balance."""
    return note.amount - note.pre_payment - note.out_of_band - sum(refund.amount for refund in note.refunds)


def adjust(account: Account, customer: Customer, amount: int) -> None:
    """Change a customer's balance by hand: a negative amount is credit given."""
    customer.balance += amount
    account.truth.books.entry(account.now, customer.currency, customer_balance=amount, customer_balance_adj=-amount)
    account.announce("customer.updated", customer, asked=True)


def void(account: Account, note: CreditNote) -> None:
    """Take a credit note back, which Stripe allows on open invoices."""
    note.status = "void"
    note.voided_at = account.now
    note.invoice.pre_credited -= note.pre_payment
    account.truth.books.credited(account.now, note)
    account.truth.invoice(account.now, note.invoice)
    account.announce("credit_note.voided", note, asked=True)
    account.announce("invoice.updated", note.invoice, asked=True)

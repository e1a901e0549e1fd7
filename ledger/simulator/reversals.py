"""Money that goes back: refunds, which may fail, and disputes, which may be won, also late."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from ledger.simulator import billing
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY
from ledger.simulator.objects import Charge, Dispute, Invoice, Movement, Refund

DISPUTE_FEE: Final = 1_500
_EXCHANGED: Final = {"jpy": ("usd", Fraction(67, 100), 0.67), "kwd": ("usd", Fraction(13, 40), 0.325)}
"""Currencies the account holds no balance in: what they are exchanged for, at what rate."""

COURSES: Final = ("inquiry", "won", "lost", "late_win")
"""How a dispute may go."""

Access = Callable[[bool], None]
"""Told whether what was paid for gives access from now on."""


def refund(account: Account, charge: Charge, amount: int, *, fails: bool = False, credited: bool = False) -> Refund:
    """Give money back; where it ``fails`` that shows days later, and the charge is as before.

    ``credited``: a credit note is made with it, which says what it is for.
    """
    made = Refund(account.new_id("re"), charge, amount, account.now, "pending", credited=credited)
    charge.refunds.append(made)
    _move(account, charge, refunds_clearing=amount, stripe_balance=-amount)
    if not credited:
        account.truth.books.happened(account.now, _paid_for(charge), "refunded", made.id, amount)
    account.announce("refund.created", made, asked=True)
    account.announce("charge.refunded", charge, asked=True)

    def end() -> None:
        made.status = "failed" if fails else "succeeded"
        if fails:
            _fail(account, made)
        account.announce("refund.updated", made)
        if fails:
            account.announce("refund.failed", made)
            account.announce("charge.refund.updated", made)
            account.announce("charge.updated", charge)

    account.schedule(account.now + 3 * DAY, end)
    return made


def refund_invoice(account: Account, invoice: Invoice, amount: int, *, fails: bool = False) -> None:
    """Refund what paid an invoice; all of it takes back what the invoice sells once, until it fails."""
    charge = invoice.payment.charge if invoice.payment else None
    if charge is None:
        raise ValueError(f"{invoice.id} was paid by no charge")
    refund(account, charge, amount, fails=fails)
    if charge.amount_refunded == charge.amount:
        billing.note_bought(account, invoice, holds=False)
        if fails:
            account.schedule(account.now + 3 * DAY, lambda: billing.note_bought(account, invoice, holds=True))


def _fail(account: Account, made: Refund) -> None:
    charge, amount = made.charge, made.amount
    _move(account, charge, stripe_balance=amount, refunds_clearing=-amount)
    if made.credited:
        _move(account, charge, refunds_clearing=amount, customer_refunds_payable=-amount)
    else:
        to = {"refunds_clearing": -amount}
        account.truth.books.happened(account.now, _paid_for(charge), "undone", made.id, "refunds", to)


def _paid_for(charge: Charge) -> str:
    if charge.payment.pays is None:
        raise ValueError(f"{charge.id} is for nothing")
    return charge.payment.pays


def _move(account: Account, charge: Charge, **amounts: int) -> None:
    account.move(charge.payment.currency, **amounts)


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
    _settle(account, made, -1)
    account.truth.books.happened(account.now, _paid_for(made.charge), "disputed", made.id, made.charge.amount)
    account.announce("charge.dispute.funds_withdrawn", made)


def _settle(account: Account, made: Dispute, sign: int) -> None:
    """Move a dispute's amount and fee: in its own currency where the account holds it, else exchanged."""
    amount, currency = made.charge.amount, made.charge.payment.currency
    settled, exchange, rate = _EXCHANGED.get(currency, (currency, None, None))
    moved = sign * (amount if exchange is None else round(amount * exchange))
    fee = -sign * DISPUTE_FEE
    made.movements = [*made.movements, Movement(account.new_id("txn"), moved, fee, account.now, settled, rate)]
    account.hold(currency, sign * amount)
    if exchange is not None:
        account.move(currency, fx_clearing=sign * amount, stripe_balance=-sign * amount)
        account.move(settled, stripe_balance=moved, fx_clearing=-moved)
    account.move(settled, dispute_fees=fee, stripe_balance=-fee)


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
    _settle(account, made, 1)
    account.truth.books.happened(account.now, _paid_for(made.charge), "won", made.id, made.charge.amount)
    account.announce("charge.dispute.funds_reinstated", made)

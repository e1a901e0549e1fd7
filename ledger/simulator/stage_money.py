"""What can be told of money in a scenario: what is done about the last invoice that was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.simulator import billing, cards, checkout, crediting, payouts, reversals
from ledger.simulator.calendar import DAY
from ledger.simulator.declines import DECLINES
from ledger.simulator.objects import Charge, Invoice, Session
from ledger.simulator.stage import Stage, one_of, price_of


def last_invoice(stage: Stage) -> Invoice:
    """Return the last invoice that was made."""
    return stage.billing.invoices[-1]


def pay(stage: Stage, how: str = "ok") -> None:
    """``pay``: on the invoice's own page; ``pay 1000`` only so much; ``pay stolen_card`` in vain."""
    if how.isdigit():
        stage.billing.pay(last_invoice(stage), amount=int(how))
    else:
        stage.billing.pay(last_invoice(stage), answer=one_of(how, ("ok", "action", *DECLINES)))


def pay_out_of_band(stage: Stage) -> None:
    """``out_of_band``: paid outside Stripe."""
    stage.billing.pay_out_of_band(last_invoice(stage))


def credit_note(stage: Stage, amount: str = "all", *words: str) -> None:
    """``credit_note 500``, ``credit_note all``: what is open first, then to the balance.

    ``refund``: by a refund made with it; ``earlier``: naming the last refund; ``outside``: paid back outside Stripe;
    ``line``: of the invoice's first line.
    """
    invoice = last_invoice(stage)
    some = (invoice.amount_remaining or invoice.amount_paid) if amount == "all" else int(amount)
    how = [one_of(word, ("refund", "earlier", "outside", "line")) for word in words]
    refunds = _charge(stage).refunds[-1:] if "earlier" in how else []
    if "refund" in how:
        refunds = [reversals.refund(stage.account, _charge(stage), some, credited=True)]
    note = crediting.issue(
        stage.account,
        invoice,
        some,
        line=invoice.lines[0] if "line" in how else None,
        refunds=refunds,
        outside=some if "outside" in how else 0,
    )
    stage.notes.append(note)
    if note.pre_payment and invoice.status == "paid":
        stage.billing.paid(invoice)


def void_credit_note(stage: Stage) -> None:
    """``void_credit_note``: take the last one back."""
    crediting.void(stage.account, stage.notes[-1])


def void(stage: Stage) -> None:
    """``void``: as if the invoice had never been."""
    stage.billing.void(last_invoice(stage))


def write_off(stage: Stage) -> None:
    """``write_off``: marked uncollectible by hand."""
    stage.billing.write_off(last_invoice(stage))


def change_card(stage: Stage) -> None:
    """``change_card``: the customer brings another one."""
    stage.billing.change_card(stage.customer)


def renew_card(stage: Stage) -> None:
    """``renew_card``: the network renews the customer's card."""
    stage.billing.renew_card(stage.customer)


def block(stage: Stage) -> None:
    """``block``: from now on no renewal's invoice can be finalised."""
    stage.blocked = True


def unblock(stage: Stage) -> None:
    """``unblock``: now they can again, at the next try."""
    stage.blocked = False


def _charge(stage: Stage) -> Charge:
    payment = last_invoice(stage).payment
    if payment is None or payment.charge is None:
        raise ValueError("the last invoice was paid by no charge")
    return payment.charge


def refund_invoice(stage: Stage, amount: str = "all", how: str = "arrives") -> None:
    """``refund_invoice all``, ``refund_invoice 300``, ``refund_invoice 300 fails``: what paid the last invoice."""
    some, fails = _some(_charge(stage), amount, how)
    reversals.refund_invoice(stage.account, last_invoice(stage), some, fails=fails)


def dispute_invoice(stage: Stage, course: str) -> None:
    """``dispute_invoice won``, or ``inquiry``, ``lost``, ``late_win``."""
    invoice = last_invoice(stage)
    reversals.dispute(
        stage.account,
        _charge(stage),
        one_of(course, reversals.COURSES),
        lambda holds: billing.note_bought(stage.account, invoice, holds=holds),
    )


def _some(charge: Charge, amount: str, how: str) -> tuple[int, bool]:
    some = charge.amount - charge.amount_refunded if amount == "all" else int(amount)
    return some, one_of(how, ("arrives", "fails")) == "fails"


def _bought(stage: Stage) -> tuple[Session, Charge]:
    session = stage.session
    if session is None or session.payment is None or session.payment.charge is None:
        raise ValueError("nothing has been bought")
    return session, session.payment.charge


def refund_purchase(stage: Stage, amount: str = "all", how: str = "arrives") -> None:
    """``refund_purchase all``, ``refund_purchase 300``, ``refund_purchase all fails``."""
    session, charge = _bought(stage)
    some, fails = _some(charge, amount, how)
    reversals.refund(stage.account, charge, some, fails=fails)
    if charge.amount_refunded == charge.amount:
        checkout.note(stage.account, session, holds=False)
        if fails:
            stage.account.schedule(
                stage.account.now + 3 * DAY, lambda: checkout.note(stage.account, session, holds=True)
            )


def dispute_purchase(stage: Stage, course: str) -> None:
    """``dispute_purchase late_win``: see ``dispute_invoice``."""
    session, charge = _bought(stage)
    known = one_of(course, reversals.COURSES)
    reversals.dispute(stage.account, charge, known, lambda holds: checkout.note(stage.account, session, holds=holds))


def refund(stage: Stage, amount: str = "all", how: str = "arrives") -> None:
    """``refund all``: of the last purchase; where there is none, of the last invoice."""
    (refund_invoice if stage.session is None else refund_purchase)(stage, amount, how)


def dispute(stage: Stage, course: str) -> None:
    """``dispute lost``: of the last purchase; where there is none, of the last invoice."""
    (dispute_invoice if stage.session is None else dispute_purchase)(stage, course)


def balance(stage: Stage, amount: str) -> None:
    """``balance -1100``: credit given by hand; ``balance 500``: a debt."""
    crediting.adjust(stage.account, stage.customer, int(amount))


def add_item(stage: Stage, name: str) -> None:
    """``add_item setup_once_usd``: billed once, with the next invoice."""
    stage.billing.add_item(stage.subscriptions[-1], price_of(name))


def bill(stage: Stage, name: str, how: str = "card") -> None:
    """``bill setup_once_usd``, ``bill setup_once_usd transfer``: an invoice of its own."""
    if one_of(how, ("card", "transfer")) == "card":
        cards.attach(stage.account, stage.customer)
    stage.billing.bill_once(stage.customer, price_of(name), by_transfer=how == "transfer")


def payout(stage: Stage, amount: str, how: str = "arrives") -> None:
    """``payout 5000``, ``payout 5000 fails``."""
    fails = one_of(how, ("arrives", "fails")) == "fails"
    payouts.pay_out(stage.account, stage.customer.currency, int(amount), fails=fails)


WORDS: Final[dict[str, Callable[..., None]]] = {
    "pay": pay,
    "out_of_band": pay_out_of_band,
    "credit_note": credit_note,
    "void_credit_note": void_credit_note,
    "void": void,
    "write_off": write_off,
    "change_card": change_card,
    "renew_card": renew_card,
    "refund": refund,
    "dispute": dispute,
    "refund_invoice": refund_invoice,
    "dispute_invoice": dispute_invoice,
    "refund_purchase": refund_purchase,
    "dispute_purchase": dispute_purchase,
    "balance": balance,
    "add_item": add_item,
    "bill": bill,
    "payout": payout,
    "block": block,
    "unblock": unblock,
}

"""What can be told of money in a scenario: what is done about the last invoice that was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.simulator import crediting
from ledger.simulator.declines import DECLINES
from ledger.simulator.objects import Invoice, Subscription
from ledger.simulator.stage import Stage, one_of


def last_invoice(stage: Stage) -> tuple[Subscription, Invoice]:
    """Return the last invoice that was made, with its subscription."""
    invoice = stage.billing.invoices[-1]
    if invoice.subscription is None:
        raise ValueError("the last invoice is of no subscription")
    return invoice.subscription, invoice


def pay(stage: Stage, how: str = "ok") -> None:
    """``pay``: on the invoice's own page; ``pay 1000`` only so much; ``pay stolen_card`` in vain."""
    one, invoice = last_invoice(stage)
    if how.isdigit():
        stage.billing.pay(one, invoice, amount=int(how))
    else:
        stage.billing.pay(one, invoice, answer=one_of(how, ("ok", "action", *DECLINES)))


def pay_out_of_band(stage: Stage) -> None:
    """``out_of_band``: paid outside Stripe."""
    stage.billing.pay_out_of_band(*last_invoice(stage))


def credit_note(stage: Stage, amount: str = "all") -> None:
    """``credit_note 500``, ``credit_note all``: what is open first."""
    one, invoice = last_invoice(stage)
    whole = invoice.amount_remaining or invoice.amount_paid
    stage.notes.append(crediting.issue(stage.account, invoice, whole if amount == "all" else int(amount)))
    if invoice.status == "paid":
        stage.billing.paid(one, invoice)


def void_credit_note(stage: Stage) -> None:
    """``void_credit_note``: take the last one back."""
    crediting.void(stage.account, stage.notes[-1])


def void(stage: Stage) -> None:
    """``void``: as if the invoice had never been."""
    stage.billing.void(last_invoice(stage)[1])


def write_off(stage: Stage) -> None:
    """``write_off``: marked uncollectible by hand."""
    stage.billing.write_off(last_invoice(stage)[1])


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


WORDS: Final[dict[str, Callable[..., None]]] = {
    "pay": pay,
    "out_of_band": pay_out_of_band,
    "credit_note": credit_note,
    "void_credit_note": void_credit_note,
    "void": void,
    "write_off": write_off,
    "change_card": change_card,
    "renew_card": renew_card,
    "block": block,
    "unblock": unblock,
}

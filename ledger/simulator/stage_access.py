"""What can be told of access in a scenario: money that goes back, and banks that take it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.simulator import checkout, payments
from ledger.simulator.calendar import DAY
from ledger.simulator.objects import Charge, Payment, Session
from ledger.simulator.stage import Stage, one_of
from ledger.simulator.stage_money import last_invoice

COURSES: Final = ("inquiry", "won", "lost", "late_win")


def refund(stage: Stage, amount: str = "all", how: str = "arrives") -> None:
    """``refund all``, ``refund 300`` of the last purchase; ``refund all fails``: it does not arrive."""
    session = _purchase(stage)
    charge = _charge(session.payment)
    fails = one_of(how, ("arrives", "fails")) == "fails"
    whole = amount == "all"
    payments.refund(stage.account, charge, charge.payment.amount if whole else int(amount), fails=fails)
    if whole:
        checkout.note(stage.account, session, holds=False)
        if fails:
            stage.account.schedule(
                stage.account.now + 3 * DAY, lambda: checkout.note(stage.account, session, holds=True)
            )


def dispute(stage: Stage, course: str) -> None:
    """``dispute late_win``: a bank takes the last purchase's money."""
    session = _purchase(stage)
    course = one_of(course, COURSES)
    payments.dispute(
        stage.account,
        _charge(session.payment),
        course,
        lambda holds: checkout.note(stage.account, session, holds=holds),
    )


def refund_invoice(stage: Stage, amount: str = "all", how: str = "arrives") -> None:
    """``refund_invoice all``: the money of the last invoice."""
    charge = _charge(last_invoice(stage)[1].payment)
    fails = one_of(how, ("arrives", "fails")) == "fails"
    payments.refund(stage.account, charge, charge.payment.amount if amount == "all" else int(amount), fails=fails)


def dispute_invoice(stage: Stage, course: str) -> None:
    """``dispute_invoice won``: a bank takes the money of the last invoice; what that means is a policy."""
    charge = _charge(last_invoice(stage)[1].payment)
    payments.dispute(stage.account, charge, one_of(course, COURSES), lambda _: None)


def _purchase(stage: Stage) -> Session:
    if stage.session is None:
        raise ValueError("nothing was bought")
    return stage.session


def _charge(payment: Payment | None) -> Charge:
    if payment is None or payment.charge is None:
        raise ValueError("nothing was paid")
    return payment.charge


WORDS: Final[dict[str, Callable[..., None]]] = {
    "refund": refund,
    "dispute": dispute,
    "refund_invoice": refund_invoice,
    "dispute_invoice": dispute_invoice,
}

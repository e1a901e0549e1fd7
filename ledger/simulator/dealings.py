"""What the company does about money already billed, and all that customers may do when they come back."""

from __future__ import annotations

from typing import Final

from ledger.simulator import billing, crediting, reversals
from ledger.simulator.calendar import DAY
from ledger.simulator.catalog import SETUP, price
from ledger.simulator.lives import Doings, Life
from ledger.simulator.objects import Charge, Invoice


def _taken(life: Life) -> tuple[Invoice, Charge] | None:
    """Take the invoice that was paid last, if by a charge; nothing else will be done about it."""
    invoice, life.last_paid = life.last_paid, None
    charge = invoice.payment.charge if invoice is not None and invoice.payment is not None else None
    if invoice is None or charge is None or charge.status != "succeeded" or charge.dispute or invoice.status != "paid":
        return None
    return invoice, charge


def refund(life: Life) -> None:
    """Refund the last invoice: wholly, in part, or in vain."""
    if found := _taken(life):
        invoice, charge = found
        chance = life.luck.random()
        amount = charge.amount if chance < 0.4 else max(charge.amount // 3, 1)
        reversals.refund_invoice(life.account, invoice, amount, fails=chance > 0.8)


def credit(life: Life) -> None:
    """Credit a part of the last invoice: with a refund, as balance, outside Stripe; of one line, or of all."""
    if found := _taken(life):
        invoice, charge = found
        line = max(invoice.lines, key=lambda one: one.gross) if life.luck.random() < 0.5 else None
        most = min(charge.amount, line.gross) if line else charge.amount
        amount = most // life.luck.choice((2, 3, 4))
        chance = life.luck.random()
        if amount <= 0:
            return
        if chance < 0.4:
            refunds = [reversals.refund(life.account, charge, amount, credited=True, fails=chance < 0.06)]
            crediting.issue(life.account, invoice, amount, line=line, refunds=refunds)
        else:
            crediting.issue(life.account, invoice, amount, line=line, outside=amount if chance > 0.85 else 0)


def explain_refund(life: Life) -> None:
    """Refund a part of the last invoice, and write the credit note for it days later."""
    if found := _taken(life):
        invoice, charge = found
        amount = max(charge.amount // 4, 1)
        made = reversals.refund(life.account, charge, amount)

        def explain() -> None:
            crediting.issue(life.account, invoice, amount, refunds=[made])

        life.account.schedule(life.account.now + 5 * DAY, explain)


def dispute(life: Life) -> None:
    """Have the bank take the last invoice's money back."""
    if found := _taken(life):
        invoice, charge = found
        course = life.luck.choice(("inquiry", "won", "lost", "lost", "late_win"))
        reversals.dispute(
            life.account, charge, course, lambda holds: billing.note_bought(life.account, invoice, holds=holds)
        )


def adjust_balance(life: Life) -> None:
    """Give credit for a bad day, or note a debt."""
    sign = -1 if life.luck.random() < 0.8 else 1
    crediting.adjust(life.account, life.customer, sign * life.luck.choice((500, 1_000, 2_500)))


def bill_once(life: Life) -> None:
    """Bill something once: with the next invoice, or by an invoice of its own."""
    one = next((one for one in life.subscriptions if one.status == "active"), None)
    setup = price(SETUP, None, life.customer.currency)
    if one is not None and life.luck.random() < 0.5:
        life.billing.add_item(one, setup)
    else:
        life.billing.bill_once(life.customer, setup, by_transfer=life.luck.random() < 0.4)


RUNNING: Final = (
    (Life.change_seats, 22), (Life.downgrade, 6), (Life.change_storage, 9), (Life.change_support, 8),
    (Life.plan_the_end, 7), (Life.leave, 3), (Life.hold_collection, 4), (Life.pause, 3), (Life.resume, 3),
    (Life.mend_card, 2), (Life.move, 3), (Life.buy, 12), (Life.give_back, 5), (Life.dispute, 4),
    (Life.ask_for_deletion, 1), (Life.nothing, 4), (refund, 3), (credit, 4), (explain_refund, 1), (dispute, 2),
    (adjust_balance, 3), (bill_once, 4),
)  # fmt: skip
DOINGS: Final = Doings(
    running=RUNNING,
    troubled=((Life.resume, 5), (Life.mend_card, 3), (Life.leave, 3), (Life.nothing, 2), (adjust_balance, 1)),
    without=((Life.subscribe, 5), (Life.buy, 3), (Life.give_back, 1), (Life.nothing, 3), (Life.ask_for_deletion, 1)),
)

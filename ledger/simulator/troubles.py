"""What people do when a payment fails: bring another card, pay by hand, pay elsewhere, are forgiven, or do nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.simulator import crediting
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY, HOUR
from ledger.simulator.collecting import Exhausted
from ledger.simulator.lives import Life
from ledger.simulator.objects import Invoice
from ledger.simulator.subscriptions import Billing

Doing = Callable[[Life, Invoice], None]


def change_card(life: Life, _invoice: Invoice) -> None:
    """Bring a card that works; the next attempt is made with it."""
    life.mend_card()


def renew_card(life: Life, _invoice: Invoice) -> None:
    """Have the network renew the card; the next attempt works."""
    life.declines_left = 0
    life.billing.renew_card(life.customer)


def pay(life: Life, invoice: Invoice) -> None:
    """Pay on the invoice's own page."""
    life.billing.pay(invoice)


def pay_with_new_card(life: Life, invoice: Invoice) -> None:
    """Bring another card, and pay with it at once."""
    life.mend_card()
    life.billing.pay(invoice)


def pay_in_parts(life: Life, invoice: Invoice) -> None:
    """Pay a third, and the rest some days later."""
    if invoice.status == "open" and invoice.amount_remaining > 300:
        life.billing.pay(invoice, amount=invoice.amount_remaining // 3)
        life.account.schedule(life.account.now + 4 * DAY, lambda: life.billing.pay(invoice))


def pay_outside(life: Life, invoice: Invoice) -> None:
    """Pay outside Stripe."""
    life.billing.pay_out_of_band(invoice)


def be_forgiven(life: Life, invoice: Invoice) -> None:
    """Have all that is open credited."""
    life.billing.forgive(invoice)


def be_credited(life: Life, invoice: Invoice) -> None:
    """Have a part of it credited; the rest is still to be paid."""
    if invoice.status == "open" and invoice.amount_remaining > 300:
        crediting.issue(life.account, invoice, invoice.amount_remaining // 4)


def be_voided(life: Life, invoice: Invoice) -> None:
    """Have it voided."""
    life.billing.void(invoice)


def be_written_off(life: Life, invoice: Invoice) -> None:
    """Have it given up; some pay in the end all the same."""
    life.billing.write_off(invoice)
    chance = life.luck.random()
    if chance < 0.5:
        late = life.account.now + life.luck.randrange(5, 60) * DAY
        doing = pay if chance < 0.35 else pay_outside if chance < 0.45 else be_voided
        life.account.schedule(late, lambda: doing(life, invoice))


def nothing(_life: Life, _invoice: Invoice) -> None:
    """Let it be."""


_OUTCOMES: Final[tuple[Exhausted, ...]] = ("cancel", "cancel", "unpaid", "past_due", "pause", "uncollectible")
_FAILED: Final[tuple[tuple[Doing, int], ...]] = (
    (change_card, 12), (renew_card, 9), (pay, 10), (pay_with_new_card, 6), (pay_in_parts, 8), (pay_outside, 5),
    (be_forgiven, 3), (be_credited, 5), (be_voided, 3), (nothing, 39),
)  # fmt: skip
_GAVE_UP: Final[tuple[tuple[Doing, int], ...]] = (
    (be_written_off, 30), (pay, 14), (pay_with_new_card, 8), (pay_outside, 6), (be_forgiven, 5), (be_voided, 9),
    (nothing, 28),
)  # fmt: skip


def _later(life: Life, invoice: Invoice, choices: tuple[tuple[Doing, int], ...], days: int) -> None:
    doing = life.luck.choices([doing for doing, _ in choices], [weight for _, weight in choices])[0]
    wait = life.luck.randrange(HOUR, days * DAY)

    def act() -> None:
        if not life.customer.deleted:
            doing(life, invoice)

    life.account.schedule(life.account.now + wait, act)


def billing_of(account: Account, lives: dict[str, Life]) -> Billing:
    """Make a billing in which each customer's own luck decides what their bank answers and what they do about it."""

    def failed(invoice: Invoice) -> None:
        life = lives[invoice.customer.id]
        if invoice.trouble is not None and invoice.trouble.waits_for_action and life.luck.random() < 0.6:
            account.schedule(account.now + life.luck.randrange(DAY), lambda: pay(life, invoice))
        else:
            _later(life, invoice, _FAILED, 9)

    def settled(invoice: Invoice) -> None:
        lives[invoice.customer.id].last_paid = invoice if invoice.amount_paid > 0 else None

    return Billing(
        account,
        bank=lambda invoice: lives[invoice.customer.id].answer(),
        exhausted=lambda invoice: lives[invoice.customer.id].luck.choice(_OUTCOMES),
        blocks=lambda invoice: lives[invoice.customer.id].is_blocked(invoice),
        failed=failed,
        settled=settled,
        gave_up=lambda invoice: _later(lives[invoice.customer.id], invoice, _GAVE_UP, 40),
    )

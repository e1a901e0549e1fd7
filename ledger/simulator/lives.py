"""What customers do: how they come, what they change, how their cards behave, and how they leave.

Every customer draws from a random generator of their own, so that one life does not depend on another.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from ledger.simulator import cards, catalog, checkout, reversals
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY
from ledger.simulator.catalog import ARCHIVE, COURSE, PRICED_IN, STARTER, STORAGE, SUPPORT, TEAM, Interval, Price, price
from ledger.simulator.objects import Customer, Invoice, Session, Subscription
from ledger.simulator.subscriptions import Billing, Terms, Wanted

_BAD: Final = ("stolen_card", "lost_card", "expired_card")
_OPEN_DAYS: Final = 150
_DAYS_BETWEEN: Final = (18, 110)


class Doings(NamedTuple):
    """What customers may do when they come back, each with its weight: by how their subscriptions are."""

    running: tuple[tuple[Callable[[Life], None], int], ...]
    troubled: tuple[tuple[Callable[[Life], None], int], ...]
    without: tuple[tuple[Callable[[Life], None], int], ...]


@dataclass(slots=True)
class Life:
    """One customer on one account, and the luck they have. ``last_paid`` is the invoice they paid last."""

    account: Account
    billing: Billing
    customer: Customer
    luck: random.Random
    doings: Doings
    subscriptions: list[Subscription] = field(default_factory=list)
    purchases: list[Session] = field(default_factory=list)
    last_paid: Invoice | None = None
    declines_left: int = 0
    decline: str = "insufficient_funds"

    # Coming.

    def begin(self) -> None:
        """Sign up, and come back to change something every few weeks."""
        self.account.announce("customer.created", self.customer, asked=True)
        self.subscribe()
        self._come_back()

    def subscribe(self) -> None:
        """Choose a plan, mostly through Checkout."""
        through_checkout = self.luck.random() < 0.6
        wanted = self._wanted()
        if through_checkout:
            session = checkout.open_session(self.account, self.customer, *wanted[0], recurring=True)
            if self.luck.random() < 0.12:
                checkout.abandon(self.account, session)
                return
            self.account.schedule(
                self.account.now + self.luck.randrange(60, 900), lambda: self._finish(session, wanted)
            )
        else:
            self._start(wanted)

    def _finish(self, session: Session, wanted: Wanted) -> None:
        if self.customer.deleted:
            return
        started = self._start(wanted)
        if started.status in {"active", "trialing"}:
            checkout.subscribed(self.account, session, started)

    def _start(self, wanted: Wanted) -> Subscription:
        luck = self.luck
        without_card = luck.random() < 0.12
        if not without_card:
            cards.attach(self.account, self.customer)
        coupon = luck.choice(catalog.COUPONS) if luck.random() < 0.25 else None
        if coupon is not None and coupon.currency not in (None, self.customer.currency):
            coupon = None
        terms = Terms(
            trial_days=luck.choice((7, 14, 30)) if without_card or luck.random() < 0.25 else 0,
            without_card=luck.choice(("pause", "cancel", "create_invoice")),
            coupon=coupon,
            tax_rate=luck.choice(catalog.TAX_RATES) if luck.random() < 0.4 else None,
            send_invoice=not without_card and luck.random() < 0.06,
            org=self.customer.org if luck.random() < 0.2 else None,
            item_trial_days=30 if len(wanted) > 1 and not without_card and luck.random() < 0.25 else 0,
        )
        if terms.item_trial_days:
            terms = replace(terms, trial_days=0)
        started = self.billing.start(self.customer, wanted, terms)
        self.subscriptions.append(started)
        return started

    def _wanted(self) -> list[tuple[Price, int]]:
        luck, currency = self.luck, self.customer.currency
        interval: Interval = luck.choices(("month", "year", "week"), (80, 14, 6))[0]
        if interval == "week" or luck.random() < 0.55:
            wanted = [(price(TEAM, interval, currency), luck.randrange(2, 12))]
        else:
            wanted = [(price(STARTER, interval, currency), 1)]
        if interval == "month" and luck.random() < 0.2:
            # Beside a monthly plan, so that one subscription has two intervals.
            wanted.append((price(SUPPORT, "year", currency), 1))
        return wanted

    # Changing their minds.

    def _come_back(self) -> None:
        days = self.luck.randrange(*_DAYS_BETWEEN)
        second = self.luck.randrange(DAY)
        self.account.schedule(self.account.now + days * DAY + second, self._visit)

    def _visit(self) -> None:
        if self.customer.deleted:
            return
        self.subscriptions = [one for one in self.subscriptions if not one.ended]
        self._tidy()
        running = [one for one in self.subscriptions if one.status in {"active", "trialing"}]
        doings = self.doings.running if running else self.doings.troubled if self.subscriptions else self.doings.without
        self.luck.choices([doing for doing, _ in doings], [weight for _, weight in doings])[0](self)
        if not self.customer.deleted:
            self._come_back()

    def _tidy(self) -> None:
        """Have the company give up what has long been open, and forget what it gave up long ago."""
        for invoice in tuple(self.customer.open_invoices):
            days = (self.account.now - (invoice.finalized_at or self.account.now)) // DAY
            if days > _OPEN_DAYS:
                self.billing.write_off(invoice)
            if days > 2 * _OPEN_DAYS:
                self.customer.open_invoices.remove(invoice)

    def _one(self, *statuses: str) -> Subscription | None:
        fitting = [one for one in self.subscriptions if one.status in (statuses or ("active",)) and not one.ended]
        return self.luck.choice(fitting) if fitting else None

    def change_seats(self) -> None:
        """Take more or fewer seats, or move up to a team."""
        one = self._one("active", "trialing")
        if one is not None and one.items[0].price.product in {STARTER, TEAM}:
            wanted = [(item.price, item.quantity) for item in one.items]
            first, quantity = wanted[0]
            if first.product is TEAM:
                wanted[0] = (first, max(1, quantity + self.luck.choice((-3, -2, 2, 3, 5))))
            elif one.currency not in PRICED_IN:
                wanted[0] = (price(TEAM, first.interval, one.currency), self.luck.randrange(2, 8))
            self.billing.change(one, wanted, invoice_now=self.luck.random() < 0.5)

    def downgrade(self) -> None:
        """Move down from a team."""
        if one := self._one():
            first = one.items[0].price
            if first.product is TEAM and first.interval != "week" and one.currency not in PRICED_IN:
                rest = [(item.price, item.quantity) for item in one.items[1:]]
                self.billing.change(one, [(price(STARTER, first.interval, one.currency), 1), *rest])

    def change_storage(self) -> None:
        """Buy extra storage, or an archive, as a subscription of its own; or end it."""
        product = ARCHIVE if self.luck.random() < 0.35 and self.customer.currency not in PRICED_IN else STORAGE
        running = [one for one in self.subscriptions if not one.ended]
        extra = next((one for one in running if one.items[0].price.product is product), None)
        if extra is None:
            wanted = price(product, "month", self.customer.currency)
            most = 30 if product is ARCHIVE else 6
            self.subscriptions.append(self.billing.start(self.customer, [(wanted, self.luck.randrange(1, most))]))
        elif extra.status in {"active", "past_due"}:
            self.billing.cancel(extra)

    def change_support(self) -> None:
        """Add the yearly add-on to a monthly subscription, or take it off."""
        one = self._one()
        # What an item added in the middle costs in a currency without prices of its own, no invoice says for a year.
        if one is None or one.items[0].price.interval != "month" or one.currency in PRICED_IN:
            return
        wanted = [(item.price, item.quantity) for item in one.items]
        if len(wanted) > 1:
            wanted = wanted[:1]
        else:
            wanted.append((price(SUPPORT, "year", self.customer.currency), 1))
        self.billing.change(one, wanted)

    def plan_the_end(self) -> None:
        """Plan to leave at the period's end, or think better of it."""
        if one := self._one():
            self.billing.cancel_at_period_end(one, really=not one.cancel_at_period_end)

    def leave(self) -> None:
        """Leave now."""
        if one := self._one("active", "trialing", "past_due", "unpaid", "paused"):
            self.billing.cancel(one)

    def hold_collection(self) -> None:
        """Have the collection of payments held, or taken up again."""
        if one := self._one():
            ways = ("void", "keep_as_draft", "mark_uncollectible")
            self.billing.pause_collection(one, None if one.pause_collection else self.luck.choice(ways))

    def pause(self) -> None:
        """Pause the service."""
        one = self._one()
        if one is not None and one.collection_method == "charge_automatically":
            self.billing.pause(one)

    def resume(self) -> None:
        """Let it go on."""
        if one := self._one("paused"):
            cards.attach(self.account, self.customer)
            self.billing.resume(one)

    def mend_card(self) -> None:
        """Bring a card that works."""
        self.declines_left = 0
        self.billing.change_card(self.customer)

    def move(self) -> None:
        """Belong to another organisation from now on, or to none."""
        self.customer.org = self.luck.choice(
            (None, f"org_{self.customer.number % 40}", f"org_{self.luck.randrange(40)}")
        )
        self.billing.customer_changed(self.customer)

    def buy(self) -> None:
        """Buy the course: by card, by a bank debit that may bounce, or not in the end."""
        session = checkout.open_session(
            self.account, self.customer, price(COURSE, None, self.customer.currency), 1, recurring=False
        )
        # A payment link of somebody's who does not know of the ledger.
        session.named = self.luck.random() < 0.93
        chance = self.luck.random()
        if chance < 0.15:
            checkout.abandon(self.account, session)
            return
        delayed = chance < 0.45
        self.purchases = [*self.purchases[-1:], session]
        self.account.schedule(
            self.account.now + self.luck.randrange(60, 900),
            lambda: checkout.buy(
                self.account,
                session,
                method="us_bank_account" if delayed else "card",
                clears=chance < 0.37 or not delayed,
            ),
        )

    def give_back(self) -> None:
        """Have a purchase refunded: wholly, in part, or in vain."""
        session = next((one for one in self.purchases if one.payment_status == "paid"), None)
        charge = session.payment.charge if session and session.payment else None
        if session is None or charge is None or charge.amount_refunded or charge.dispute:
            return
        whole, fails = self.luck.random() < 0.6, self.luck.random() < 0.3
        amount = charge.payment.amount if whole else charge.payment.amount // 3
        reversals.refund(self.account, charge, amount, fails=fails)
        if whole:
            checkout.note(self.account, session, holds=False)
            if fails:
                self.account.schedule(
                    self.account.now + 3 * DAY, lambda: checkout.note(self.account, session, holds=True)
                )

    def dispute(self) -> None:
        """Have the bank take a purchase's money back."""
        session = next((one for one in self.purchases if one.payment_status == "paid"), None)
        charge = session.payment.charge if session and session.payment else None
        if session is None or charge is None or charge.amount_refunded or charge.dispute:
            return
        course = self.luck.choice(("inquiry", "won", "lost", "late_win"))
        reversals.dispute(self.account, charge, course, lambda holds: checkout.note(self.account, session, holds=holds))

    def ask_for_deletion(self) -> None:
        """Ask to be forgotten."""
        self.billing.delete_customer(self.customer)
        self.purchases, self.last_paid = [], None

    def nothing(self) -> None:
        """Come back, look, and leave everything as it is."""

    # The bank.

    def answer(self) -> str:
        """Say what the bank answers now: mostly yes; a bad card stays bad for some attempts."""
        if self.declines_left:
            self.declines_left -= 1
            return self.decline
        chance = self.luck.random()
        if chance < 0.93:
            return "ok"
        if chance < 0.96:
            self.declines_left, self.decline = self.luck.randrange(6), "insufficient_funds"
            return self.decline
        if chance < 0.98:
            self.declines_left, self.decline = 9, self.luck.choice(_BAD)
            return self.decline
        return "action"

    def is_blocked(self, invoice: Invoice) -> bool:
        """Say whether something is missing that an invoice needs to be finalised; it is, for some days."""
        return self.luck.random() < (0.5 if invoice.finalization_error else 0.005)

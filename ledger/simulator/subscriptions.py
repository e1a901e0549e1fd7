"""What Stripe Billing does with subscriptions: trials, renewals, changes, retries, pauses, ends.

The status machine is stripe-domain §3.1. What people do (and what their banks answer) comes from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ledger.simulator import billing, proration, render_catalog
from ledger.simulator.calendar import DAY, HOUR, period_after
from ledger.simulator.catalog import Coupon, Price, TaxRate
from ledger.simulator.collecting import INCOMPLETE_SECONDS, Collecting
from ledger.simulator.objects import Customer, Discount, Invoice, Item, Line, PendingUpdate, Subscription

Wanted = Sequence[tuple[Price, int]]

_DRAFT_SECONDS: Final = HOUR


@dataclass(frozen=True, slots=True)
class Terms:
    """How a subscription starts, beside what it is for."""

    trial_days: int = 0
    without_card: Literal["create_invoice", "pause", "cancel"] = "create_invoice"
    coupon: Coupon | None = None
    tax_rate: TaxRate | None = None
    send_invoice: bool = False
    org: str | None = None
    item_trial_days: int = 0
    """Of its last item alone."""


@dataclass(slots=True, eq=False)
class Billing(Collecting):
    """Stripe Billing on one account."""

    def start(self, customer: Customer, wanted: Wanted, terms: Terms | None = None) -> Subscription:
        """Start a subscription: with its first invoice, or with a trial."""
        terms = terms or Terms()
        now = self.account.now
        trial_end = now + terms.trial_days * DAY if terms.trial_days else None
        made = Subscription(
            id=self.account.new_id("sub"),
            customer=customer,
            items=[],
            created=now,
            anchor=trial_end or now,
            status="trialing" if trial_end else "active" if terms.send_invoice else "incomplete",
            collection_method="send_invoice" if terms.send_invoice else "charge_automatically",
            trial_start=now if trial_end else None,
            trial_end=trial_end,
            missing_payment_method=terms.without_card,
            discount=self._discount(terms.coupon),
            tax_rate=terms.tax_rate,
            org=terms.org,
        )
        made.items = [self._item(made, price, quantity, trial_end) for price, quantity in wanted]
        if terms.item_trial_days:
            last = made.items[-1]
            last.trial_end = last.period_end = now + terms.item_trial_days * DAY
        self.of_customer.setdefault(customer.id, []).append(made)
        invoice = self._draft(made, "subscription_create", self._lines(made, made.items))
        if made.discount is not None:
            written = render_catalog.discount(made.discount, customer.id, made.id)
            self.account.announce_rendered("customer.discount.created", written)
        self.say(made, "customer.subscription.created")
        self.finalize(invoice)
        if trial_end:
            self._announce_later(made, trial_end - 3 * DAY, "customer.subscription.trial_will_end")
        if made.status == "incomplete":
            self.account.schedule(now + INCOMPLETE_SECONDS, lambda: self.expire(made, invoice))
        self._schedule_renewal(made)
        return made

    def change(self, one: Subscription, wanted: Wanted, *, invoice_now: bool = False) -> None:
        """Change what a subscription is for; prorations wait for the next invoice, or are invoiced at once."""
        items, lines = proration.changed(self.account, one, wanted)
        if not items:
            return
        if invoice_now and any(line.amount > 0 for line in lines):
            self._change_when_paid(one, items, lines)
            return
        one.items = items
        one.pending_lines += lines
        proration.announce(self.account, one.customer, one, lines)
        self.say(one, "customer.subscription.updated", asked=True)
        self._schedule_renewal(one)

    def cancel_at_period_end(self, one: Subscription, *, really: bool = True) -> None:
        """Plan the end, or take the plan back; access goes on meanwhile."""
        one.cancel_at_period_end = really
        one.cancel_at = one.period_end if really else None
        one.canceled_at = self.account.now if really else None
        one.cancel_reason = "cancellation_requested" if really else None
        self.say(one, "customer.subscription.updated", asked=True)

    def pause_collection(self, one: Subscription, behavior: str | None) -> None:
        """Stop collecting, or collect again; the status stays as it is."""
        one.pause_collection = behavior
        self.say(one, "customer.subscription.updated", asked=True)

    def resume(self, one: Subscription) -> None:
        """Let a paused subscription go on, in periods that begin now."""
        one.status, one.paused_by, one.paused_at = "active", None, None
        self._begin_periods(one, self.account.now)
        invoice = self._draft(one, "subscription_update", self._lines(one, one.items))
        self.say(one, "customer.subscription.updated", "customer.subscription.resumed", asked=True)
        self.finalize(invoice)
        self._schedule_renewal(one)

    def customer_changed(self, customer: Customer) -> None:
        """Announce a changed customer; their organisation may be another one now."""
        self.account.announce("customer.updated", customer, asked=True)
        for one in self.of_customer.get(customer.id, ()):
            self.account.truth.subscription(self.account.now, one)

    def delete_customer(self, customer: Customer) -> None:
        """Delete a customer: everything that runs is canceled at once."""
        for one in tuple(self.of_customer.get(customer.id, ())):
            self.cancel(one)
        for invoice in tuple(customer.open_invoices):
            billing.rest(self.account, invoice)
        customer.open_invoices.clear()
        customer.deleted = True
        self.account.announce("customer.deleted", customer, asked=True)
        self.account.truth.customer_deleted(self.account.now, customer)

    # Periods, renewals and trials.

    def _schedule_renewal(self, one: Subscription) -> None:
        at = one.period_end
        self.account.schedule(at, lambda: self._renew(one, at))

    def _renew(self, one: Subscription, at: int) -> None:
        if one.ended or one.status in {"paused", "incomplete"} or one.period_end != at:
            return
        if one.cancel_at_period_end:
            self.cancel(one)
            return
        if one.status == "trialing" and not self._leave_trial(one):
            return
        due = [item for item in one.items if item.period_end == at]
        for item in due:
            item.period_start, item.period_end = at, period_after(one.anchor, item.price.interval or "month", at)
            item.trial_end = None
        invoice = self._draft(one, "subscription_cycle", [*self._lines(one, due), *one.pending_lines])
        one.pending_lines = []
        self.say(one, "customer.subscription.updated")
        if one.status != "unpaid" and one.pause_collection != "keep_as_draft":
            self.account.schedule(at + _DRAFT_SECONDS, lambda: self.finalize(invoice))
        self._schedule_renewal(one)

    def _leave_trial(self, one: Subscription) -> bool:
        """End a trial; return whether the subscription goes on to be billed."""
        if one.customer.card is None and one.missing_payment_method == "pause":
            self.pause(one, "trial_end_without_payment_method")
            return False
        if one.customer.card is None and one.missing_payment_method == "cancel":
            self.cancel(one, "payment_failed")
            return False
        one.status = "active"
        return True

    def _begin_periods(self, one: Subscription, at: int) -> None:
        one.anchor = at
        for item in one.items:
            item.period_start, item.period_end = at, period_after(at, item.price.interval or "month", at)
            item.trial_end = None

    # Invoices and what they mean for the subscription.

    def _draft(self, one: Subscription, reason: str, lines: Sequence[Line]) -> Invoice:
        invoice = billing.draft(self.account, one.customer, one, reason, lines)
        one.latest_invoice = invoice.id
        return invoice

    # Changes that come into force only when paid for.

    def _change_when_paid(self, one: Subscription, items: list[Item], lines: list[Line]) -> None:
        proration.announce(self.account, one.customer, one, lines)
        invoice = self._draft(one, "subscription_update", lines)
        billing.finalize(self.account, invoice)
        expires_at = self.account.now + INCOMPLETE_SECONDS
        pending = PendingUpdate(items, expires_at, invoice.id)
        answer = self._answer(invoice)
        if invoice.status == "paid" or billing.collect(self.account, invoice, answer):
            one.items = items
            self.say(one, "customer.subscription.updated", asked=True)
            self._schedule_renewal(one)
            return
        self._await_change(one, invoice, pending)

    # What is billed once.

    def add_item(self, one: Subscription, price: Price) -> None:
        """Let something be billed once, with the subscription's next invoice."""
        line = self._once(price, one.currency)
        one.pending_lines.append(line)
        proration.announce(self.account, one.customer, one, [line])

    def bill_once(self, customer: Customer, price: Price, *, by_transfer: bool = False) -> Invoice:
        """Bill something once, on an invoice of its own that is charged, or sent."""
        line = self._once(price, customer.currency)
        proration.announce(self.account, customer, None, [line])
        invoice = billing.draft(self.account, customer, None, "manual", [line])
        if by_transfer:
            invoice.collection_method = "send_invoice"
        self.account.schedule(self.account.now + _DRAFT_SECONDS, lambda: self.finalize(invoice))
        return invoice

    def _once(self, price: Price, currency: str) -> Line:
        now, key = self.account.now, self.account.new_id("il")
        return Line(key, "", price, 1, price.amount(1, currency), now, now, invoice_item=self.account.new_id("ii"))

    # Making things, and saying so.

    def _item(self, of: Subscription, price: Price, quantity: int, trial_end: int | None) -> Item:
        now = self.account.now
        end = trial_end or period_after(of.anchor, price.interval or "month", now)
        return Item(self.account.new_id("si"), price, quantity, now, now, end)

    def _lines(self, one: Subscription, items: Sequence[Item]) -> list[Line]:
        free = one.status == "trialing"
        return [
            Line(
                id=self.account.new_id("il"),
                item=item.id,
                price=item.price,
                quantity=item.quantity,
                amount=0 if free or item.trial_end is not None else item.price.amount(item.quantity, one.currency),
                start=item.period_start,
                end=item.period_end,
            )
            for item in items
        ]

    def _discount(self, coupon: Coupon | None) -> Discount | None:
        if coupon is None:
            return None
        now = self.account.now
        end = now + (coupon.months or 0) * 30 * DAY if coupon.duration == "repeating" else None
        end = now + DAY if coupon.duration == "once" else end
        return Discount(self.account.new_id("di"), coupon, now, end)

    def _announce_later(self, one: Subscription, at: int, type_: str) -> None:
        def announce() -> None:
            if one.status == "trialing":
                self.account.announce(type_, one)

        self.account.schedule(at, announce)

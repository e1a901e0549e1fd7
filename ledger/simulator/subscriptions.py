"""What Stripe Billing does with subscriptions: trials, renewals, changes, retries, pauses, ends.

The status machine is stripe-domain §3.1. What people do (and what their banks answer) comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from ledger.simulator import billing, proration, render_catalog
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY, HOUR, period_after
from ledger.simulator.catalog import Coupon, Price, TaxRate
from ledger.simulator.objects import (
    Customer,
    Discount,
    Invoice,
    Item,
    Line,
    PausedBy,
    PendingUpdate,
    Subscription,
    Summary,
)
from ledger.simulator.truth import GIVES_ACCESS

Bank = Callable[[Subscription, Invoice], str]
"""What the bank answers to the next attempt: see ``payments.attempt``."""

Exhausted = Literal["cancel", "unpaid", "past_due", "pause", "uncollectible"]
Wanted = Sequence[tuple[Price, int]]

_RENEWAL_FAILS: Final = frozenset({"active", "trialing", "past_due"})
_DRAFT_SECONDS: Final = HOUR
_INCOMPLETE_SECONDS: Final = 23 * HOUR


@dataclass(frozen=True, slots=True)
class Terms:
    """How a subscription starts, beside what it is for."""

    trial_days: int = 0
    without_card: Literal["create_invoice", "pause", "cancel"] = "create_invoice"
    coupon: Coupon | None = None
    tax_rate: TaxRate | None = None
    send_invoice: bool = False
    org: str | None = None


@dataclass(slots=True, eq=False)
class Billing:
    """Stripe Billing on one account: retries after ``retry_days``, then what ``exhausted`` says of the subscription."""

    account: Account
    bank: Bank
    exhausted: Callable[[Subscription], Exhausted] = lambda _: "cancel"
    retry_days: tuple[int, ...] = (3, 5, 7)
    summaries: dict[str, Summary] = field(default_factory=dict)
    of_customer: dict[str, list[Subscription]] = field(default_factory=dict)

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
        self.of_customer.setdefault(customer.id, []).append(made)
        invoice = self._draft(made, "subscription_create", self._lines(made, made.items))
        if made.discount is not None:
            written = render_catalog.discount(made.discount, customer.id, made.id)
            self.account.announce_rendered("customer.discount.created", written)
        self._say(made, "customer.subscription.created")
        self._finalize(made, invoice)
        if trial_end:
            self._announce_later(made, trial_end - 3 * DAY, "customer.subscription.trial_will_end")
        if made.status == "incomplete":
            self.account.schedule(now + _INCOMPLETE_SECONDS, lambda: self._expire(made, invoice))
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
        proration.announce(self.account, one, lines)
        self._say(one, "customer.subscription.updated", asked=True)
        self._schedule_renewal(one)

    def cancel_at_period_end(self, one: Subscription, *, really: bool = True) -> None:
        """Plan the end, or take the plan back; access goes on meanwhile."""
        one.cancel_at_period_end = really
        one.cancel_at = one.period_end if really else None
        one.canceled_at = self.account.now if really else None
        one.cancel_reason = "cancellation_requested" if really else None
        self._say(one, "customer.subscription.updated", asked=True)

    def cancel(self, one: Subscription, reason: str = "cancellation_requested") -> None:
        """End a subscription now."""
        one.status = "canceled"
        one.canceled_at = one.canceled_at or self.account.now
        one.ended_at = self.account.now
        one.cancel_reason = one.cancel_reason or reason
        one.pending_update = None
        self._say(one, "customer.subscription.deleted", asked=reason == "cancellation_requested")

    def pause_collection(self, one: Subscription, behavior: str | None) -> None:
        """Stop collecting, or collect again; the status stays as it is."""
        one.pause_collection = behavior
        self._say(one, "customer.subscription.updated", asked=True)

    def pause(self, one: Subscription, by: PausedBy = "pause_requested") -> None:
        """Pause the service."""
        one.status, one.paused_by, one.paused_at = "paused", by, self.account.now
        self._say(one, "customer.subscription.updated", "customer.subscription.paused")

    def resume(self, one: Subscription) -> None:
        """Let a paused subscription go on, in periods that begin now."""
        one.status, one.paused_by, one.paused_at = "active", None, None
        self._begin_periods(one, self.account.now)
        invoice = self._draft(one, "subscription_update", self._lines(one, one.items))
        self._say(one, "customer.subscription.updated", "customer.subscription.resumed", asked=True)
        self._finalize(one, invoice)
        self._schedule_renewal(one)

    def pay(self, one: Subscription, invoice: Invoice) -> None:
        """Let the customer pay an open or uncollectible invoice; its subscription recovers if it can."""
        if invoice.status in {"open", "uncollectible"} and billing.collect(self.account, invoice, "ok"):
            self._paid(one, invoice)

    def customer_changed(self, customer: Customer) -> None:
        """Announce a changed customer; their organisation may be another one now."""
        self.account.announce("customer.updated", customer, asked=True)
        for one in self.of_customer.get(customer.id, ()):
            self.account.truth.subscription(self.account.now, one)

    def delete_customer(self, customer: Customer) -> None:
        """Delete a customer: everything that runs is canceled at once."""
        for one in tuple(self.of_customer.get(customer.id, ())):
            self.cancel(one)
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
        invoice = self._draft(one, "subscription_cycle", [*self._lines(one, due), *one.pending_lines])
        one.pending_lines = []
        self._say(one, "customer.subscription.updated")
        if one.status != "unpaid" and one.pause_collection != "keep_as_draft":
            self.account.schedule(at + _DRAFT_SECONDS, lambda: self._finalize(one, invoice))
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

    # Invoices and what they mean for the subscription.

    def _draft(self, one: Subscription, reason: str, lines: Sequence[Line]) -> Invoice:
        invoice = billing.draft(self.account, one, reason, lines)
        one.latest_invoice = invoice.id
        return invoice

    def _finalize(self, one: Subscription, invoice: Invoice) -> None:
        billing.finalize(self.account, invoice)
        if invoice.status == "paid":
            self._paid(one, invoice)
        elif one.pause_collection == "void":
            billing.void(self.account, invoice)
        elif one.pause_collection == "mark_uncollectible" or one.ended:
            reason = "subscription_canceled" if one.ended else "subscription_paused"
            billing.mark_uncollectible(self.account, invoice, reason)
        elif one.collection_method == "charge_automatically":
            self._attempt(one, invoice, 0)
        else:
            self._await_transfer(one, invoice)

    def _attempt(self, one: Subscription, invoice: Invoice, attempts: int) -> None:
        if invoice.status != "open" or (attempts and one.ended):
            return
        retry = self.retry_days[attempts] * DAY if attempts < len(self.retry_days) else None
        first = invoice.reason == "subscription_create"
        retry_at = self.account.now + retry if retry and not first else None
        answer = self.bank(one, invoice) if one.customer.card else "insufficient_funds"
        if billing.collect(self.account, invoice, answer, retry_at=retry_at):
            self._paid(one, invoice)
            return
        if first:
            # The customer stands before it: they try again, or leave it until it expires.
            if attempts < 2:
                self.account.schedule(self.account.now + HOUR, lambda: self._attempt(one, invoice, attempts + 1))
            return
        if one.status in _RENEWAL_FAILS and one.status != "past_due":
            one.status = "past_due"
            self._say(one, "customer.subscription.updated")
        if retry_at is not None:
            self.account.schedule(retry_at, lambda: self._attempt(one, invoice, attempts + 1))
        else:
            self._give_up(one, invoice)

    def _await_transfer(self, one: Subscription, invoice: Invoice) -> None:
        """Wait for a bank transfer; ``bank`` says whether it comes in time, or only after the invoice is overdue."""
        due = invoice.due_date or self.account.now
        in_time = self.bank(one, invoice) == "ok"

        def overdue() -> None:
            if invoice.status == "open" and not one.ended:
                one.status = "past_due"
                account.announce("invoice.overdue", invoice)
                self._say(one, "customer.subscription.updated")

        account = self.account
        account.schedule(due, overdue)
        account.schedule(due + (-10 if in_time else 12) * DAY, lambda: self.pay(one, invoice))

    def _paid(self, one: Subscription, invoice: Invoice) -> None:
        one.ever_paid = one.ever_paid or invoice.amount_due > 0
        if one.pending_update is not None and one.pending_update.invoice == invoice.id:
            self._apply(one, one.pending_update)
        if one.status in {"incomplete", "past_due", "unpaid"} and one.latest_invoice == invoice.id:
            one.status = "active"
            self._say(one, "customer.subscription.updated")

    def _give_up(self, one: Subscription, invoice: Invoice) -> None:
        outcome = self.exhausted(one)
        if one.ended or outcome == "past_due":
            return
        if outcome == "uncollectible":
            billing.mark_uncollectible(self.account, invoice, "max_payment_attempts")
        if outcome == "unpaid":
            one.status = "unpaid"
            self._say(one, "customer.subscription.updated")
        elif outcome == "pause":
            self.pause(one, "final_payment_failure")
        else:
            self.cancel(one, "payment_failed")

    def _expire(self, one: Subscription, invoice: Invoice) -> None:
        if one.status == "incomplete":
            billing.void(self.account, invoice)
            one.status = "incomplete_expired"
            one.ended_at = self.account.now
            self._say(one, "customer.subscription.updated")

    # Changes that come into force only when paid for.

    def _change_when_paid(self, one: Subscription, items: list[Item], lines: list[Line]) -> None:
        proration.announce(self.account, one, lines)
        invoice = self._draft(one, "subscription_update", lines)
        billing.finalize(self.account, invoice)
        expires_at = self.account.now + _INCOMPLETE_SECONDS
        pending = PendingUpdate(items, expires_at, invoice.id)
        answer = self.bank(one, invoice) if one.customer.card else "insufficient_funds"
        if invoice.status == "paid" or billing.collect(self.account, invoice, answer):
            one.items = items
            self._say(one, "customer.subscription.updated", asked=True)
            self._schedule_renewal(one)
            return
        one.pending_update = pending
        self._say(one, "customer.subscription.updated", asked=True)
        self.account.schedule(self.account.now + HOUR, lambda: self._try_pending(one, invoice, pending))
        self.account.schedule(expires_at, lambda: self._expire_pending(one, invoice, pending))

    def _try_pending(self, one: Subscription, invoice: Invoice, pending: PendingUpdate) -> None:
        waits = one.pending_update is pending and invoice.status == "open"
        if waits and billing.collect(self.account, invoice, self.bank(one, invoice)):
            self._paid(one, invoice)

    def _apply(self, one: Subscription, pending: PendingUpdate) -> None:
        periods = {item.id: item for item in one.items}
        one.items = [
            replace(item, period_start=periods[item.id].period_start, period_end=periods[item.id].period_end)
            if item.id in periods
            else item
            for item in pending.items
        ]
        one.pending_update = None
        self._say(one, "customer.subscription.updated", "customer.subscription.pending_update_applied")
        self._schedule_renewal(one)

    def _expire_pending(self, one: Subscription, invoice: Invoice, pending: PendingUpdate) -> None:
        if one.pending_update is pending and not one.ended:
            billing.void(self.account, invoice)
            one.pending_update = None
            self._say(one, "customer.subscription.updated", "customer.subscription.pending_update_expired")

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
                amount=0 if free else item.price.unit_amount * item.quantity,
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

    def _say(self, one: Subscription, *types: str, asked: bool = False) -> None:
        for type_ in types:
            self.account.announce(type_, one, asked=asked)
        self.account.truth.subscription(self.account.now, one)
        self._summarise(one.customer)
        if one.ended and one in self.of_customer.get(one.customer.id, ()):
            self.of_customer[one.customer.id].remove(one)

    def _summarise(self, customer: Customer) -> None:
        """Send Stripe's own list of active entitlements when it has changed."""
        running = [one for one in self.of_customer.get(customer.id, ()) if one.status in GIVES_ACCESS]
        names = {part.partition("=")[0] for one in running for item in one.items
                 for part in item.price.product.features.split(",")}  # fmt: skip
        summary = self.summaries.get(customer.id)
        if summary is None:
            summary = self.summaries[customer.id] = Summary(customer)
            summary.announced = self.account.rendered(summary)
        if summary.features != tuple(sorted(names)):
            summary.features = tuple(sorted(names))
            self.account.announce("entitlements.active_entitlement_summary.updated", summary)

"""What becomes of an invoice: attempts by a schedule, transfers, giving up, late payments; and what the subscription
becomes by it (stripe-domain §3.1, §4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from ledger.simulator import billing, cards, crediting
from ledger.simulator.calendar import DAY, HOUR
from ledger.simulator.objects import Customer, Invoice, PendingUpdate, Subscription
from ledger.simulator.statuses import Statuses

Bank = Callable[[Invoice], str]
"""What the bank answers to the next attempt: see ``payments.attempt``."""

Exhausted = Literal["cancel", "unpaid", "past_due", "pause", "uncollectible"]
Told = Callable[[Invoice], None]
"""Told that an invoice has just failed for the first time, or for the last."""

INCOMPLETE_SECONDS: Final = 23 * HOUR
"""How long a first payment, or one for a change, may take."""

_BLOCKED_SECONDS: Final = DAY


def _never(*_: object) -> bool:
    return False


def _nobody(*_: object) -> None:
    """Tell nobody."""


@dataclass(slots=True, eq=False)
class Collecting(Statuses):
    """Collection: retries after ``retry_days``, then what ``exhausted`` says of the subscription.

    ``blocks`` says whether an invoice cannot be finalised now; ``failed`` and ``gave_up`` are told of trouble, and
    ``settled`` of payments.
    """

    bank: Bank
    exhausted: Callable[[Invoice], Exhausted] = lambda _: "cancel"
    retry_days: tuple[int, ...] = (3, 5, 7)
    blocks: Callable[[Invoice], bool] = _never
    failed: Told = _nobody
    gave_up: Told = _nobody
    settled: Told = _nobody

    def finalize(self, invoice: Invoice) -> None:
        """Finalise a draft, unless something is missing for it, and begin to collect it."""
        if invoice.reason == "subscription_cycle" and self.blocks(invoice):
            billing.block(self.account, invoice)
            self.account.schedule(self.account.now + _BLOCKED_SECONDS, lambda: self.finalize(invoice))
            return
        one = invoice.subscription
        if one is None and invoice.customer.deleted:
            return
        held = one.pause_collection if one is not None else None
        billing.finalize(self.account, invoice)
        if invoice.status == "paid":
            self.paid(invoice)
        elif held == "void":
            billing.void(self.account, invoice)
        elif held == "mark_uncollectible" or (one is not None and one.ended):
            reason = "subscription_paused" if held == "mark_uncollectible" else "subscription_canceled"
            billing.mark_uncollectible(self.account, invoice, reason)
        elif invoice.collection_method == "charge_automatically":
            self._attempt(invoice, 0)
        else:
            self._await_transfer(invoice)

    def _attempt(self, invoice: Invoice, attempts: int) -> None:
        if invoice.status != "open" or not invoice.auto_advance:
            return
        retry = self.retry_days[attempts] * DAY if attempts < len(self.retry_days) else None
        first = invoice.reason == "subscription_create"
        retry_at = self.account.now + retry if retry and not first else None
        if attempts and not first and invoice.trouble is not None and invoice.trouble.needs_method:
            billing.pass_over(self.account, invoice, retry_at)
        elif billing.collect(
            self.account,
            invoice,
            self._answer(invoice),
            by="customer" if first and attempts else "schedule",
            retry_at=retry_at,
        ):
            self.paid(invoice)
            return
        if first:
            # The customer stands before it: they try again, or leave it until it expires.
            if attempts < 2:
                self.account.schedule(self.account.now + HOUR, lambda: self._attempt(invoice, attempts + 1))
            return
        self._past_due(invoice, "active", "trialing")
        if not attempts:
            self.failed(invoice)
        if retry_at is not None:
            self.account.schedule(retry_at, lambda: self._attempt(invoice, attempts + 1))
        else:
            self._give_up(invoice)

    def _past_due(self, invoice: Invoice, *statuses: str) -> None:
        one = invoice.subscription
        if one is not None and one.status in statuses:
            one.status = "past_due"
            self.say(one, "customer.subscription.updated")

    def _answer(self, invoice: Invoice) -> str:
        return self.bank(invoice) if invoice.customer.method else billing.NO_METHOD

    def _await_transfer(self, invoice: Invoice) -> None:
        """Wait for a bank transfer; ``bank`` says whether it comes in time, late, or never."""
        due = invoice.due_date or self.account.now
        answer = self.bank(invoice)
        self.account.schedule(due, lambda: self._overdue(invoice))
        if answer in {"ok", "action"}:
            self.account.schedule(due - 10 * DAY, lambda: self.pay(invoice))
        elif answer == "insufficient_funds":
            self.account.schedule(due + 12 * DAY, lambda: self.pay(invoice))
        else:
            self.account.schedule(due + 25 * DAY, lambda: self._give_up_transfer(invoice))

    def _overdue(self, invoice: Invoice) -> None:
        if invoice.status != "open" or not invoice.auto_advance:
            return
        billing.in_trouble(invoice)
        if invoice.customer.number % 2 == 0:
            # Only accounts with an automation for it are told; everybody else has the due date alone.
            self.account.announce("invoice.overdue", invoice)
        self._past_due(invoice, "active")
        self.failed(invoice)

    def _give_up_transfer(self, invoice: Invoice) -> None:
        one = invoice.subscription
        if invoice.status == "open":
            billing.mark_uncollectible(self.account, invoice, "payment_not_received")
            if one is not None and not one.ended:
                self.cancel(one, "payment_failed")
            self.gave_up(invoice)

    def _give_up(self, invoice: Invoice) -> None:
        one = invoice.subscription
        if one is None or not one.ended:
            outcome = self.exhausted(invoice)
            if outcome == "uncollectible":
                billing.mark_uncollectible(self.account, invoice, "max_payment_attempts")
            if one is not None:
                self._become(one, outcome)
            self.gave_up(invoice)

    def _become(self, one: Subscription, outcome: Exhausted) -> None:
        if outcome == "unpaid":
            one.status = "unpaid"
            self.say(one, "customer.subscription.updated")
        elif outcome == "pause":
            self.pause(one, "final_payment_failure")
        elif outcome != "past_due":
            self.cancel(one, "payment_failed")

    # What people do about it.

    def pay(self, invoice: Invoice, *, answer: str = "ok", amount: int | None = None) -> None:
        """Let the customer pay an open or uncollectible invoice, or a part; its subscription recovers if it can."""
        collectible = invoice.status in {"open", "uncollectible"} and not invoice.customer.deleted
        if collectible and billing.collect(self.account, invoice, answer, by="customer", amount=amount):
            self.paid(invoice)

    def pay_out_of_band(self, invoice: Invoice) -> None:
        """Mark an invoice as paid outside Stripe."""
        if invoice.status in {"open", "uncollectible"}:
            billing.pay_out_of_band(self.account, invoice)
            self.paid(invoice)

    def forgive(self, invoice: Invoice) -> None:
        """Credit all that is still open of an invoice."""
        if invoice.status in {"open", "uncollectible"}:
            crediting.issue(self.account, invoice, invoice.amount_remaining)
            self.paid(invoice)

    def void(self, invoice: Invoice) -> None:
        """Void an invoice that nothing has been paid of; Stripe voids no others."""
        if invoice.status in {"open", "uncollectible"} and not invoice.amount_paid:
            billing.void(self.account, invoice)

    def write_off(self, invoice: Invoice) -> None:
        """Give an open invoice up."""
        if invoice.status == "open":
            billing.mark_uncollectible(self.account, invoice, "user_forgiven")

    def change_card(self, customer: Customer) -> None:
        """Let a customer bring another card."""
        cards.replace(self.account, customer, tuple(self.of_customer.get(customer.id, ())))

    def renew_card(self, customer: Customer) -> None:
        """Let the network renew a customer's card."""
        cards.renew(self.account, customer)

    # What a payment means.

    def paid(self, invoice: Invoice) -> None:
        """Let a subscription have what its paid invoice means for it."""
        self.settled(invoice)
        one = invoice.subscription
        if one is None:
            return
        one.ever_paid = one.ever_paid or invoice.amount_due > 0
        if one.pending_update is not None and one.pending_update.invoice == invoice.id:
            self._apply(one, one.pending_update)
        if one.status == "incomplete":
            self.account.truth.books.happened(self.account.now, invoice.id, "released")
        if one.status in {"incomplete", "past_due", "unpaid"} and one.latest_invoice == invoice.id:
            one.status = "active"
            self.say(one, "customer.subscription.updated")

    def expire(self, one: Subscription, invoice: Invoice) -> None:
        """End a subscription whose first payment was never made."""
        if one.status == "incomplete":
            billing.void(self.account, invoice)
            one.status = "incomplete_expired"
            one.ended_at = self.account.now
            self.say(one, "customer.subscription.updated")

    # Changes that come into force only when paid for.

    def _await_change(self, one: Subscription, invoice: Invoice, pending: PendingUpdate) -> None:
        one.pending_update = pending
        self.say(one, "customer.subscription.updated", asked=True)
        self.account.schedule(self.account.now + HOUR, lambda: self._try_pending(one, invoice, pending))
        self.account.schedule(pending.expires_at, lambda: self._expire_pending(one, invoice, pending))

    def _try_pending(self, one: Subscription, invoice: Invoice, pending: PendingUpdate) -> None:
        waits = one.pending_update is pending and invoice.status == "open"
        if waits and billing.collect(self.account, invoice, self._answer(invoice), by="customer"):
            self.paid(invoice)

    def _apply(self, one: Subscription, pending: PendingUpdate) -> None:
        periods = {item.id: item for item in one.items}
        one.items = [
            replace(item, period_start=periods[item.id].period_start, period_end=periods[item.id].period_end)
            if item.id in periods
            else item
            for item in pending.items
        ]
        one.pending_update = None
        self.say(one, "customer.subscription.updated", "customer.subscription.pending_update_applied")
        self._schedule_renewal(one)

    def _expire_pending(self, one: Subscription, invoice: Invoice, pending: PendingUpdate) -> None:
        if one.pending_update is pending and not one.ended:
            billing.void(self.account, invoice)
            one.pending_update = None
            self.say(one, "customer.subscription.updated", "customer.subscription.pending_update_expired")

    def _schedule_renewal(self, one: Subscription) -> None:
        raise NotImplementedError

"""A subscription's status and who must be told when it changes: the events, the truth, Stripe's own entitlements."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.simulator import billing
from ledger.simulator.account import Account
from ledger.simulator.objects import Customer, PausedBy, Subscription, Summary
from ledger.simulator.truth import GIVES_ACCESS


@dataclass(slots=True, eq=False)
class Statuses:
    """The subscriptions of one account, by customer, while they have not ended."""

    account: Account
    summaries: dict[str, Summary] = field(default_factory=dict, kw_only=True)
    of_customer: dict[str, list[Subscription]] = field(default_factory=dict, kw_only=True)

    def cancel(self, one: Subscription, reason: str = "cancellation_requested") -> None:
        """End a subscription now; what is still open of it is no longer collected by itself."""
        one.status = "canceled"
        one.canceled_at = one.canceled_at or self.account.now
        one.ended_at = self.account.now
        one.cancel_reason = one.cancel_reason or reason
        one.pending_update = None
        self.say(one, "customer.subscription.deleted", asked=reason == "cancellation_requested")
        for invoice in tuple(one.customer.open_invoices):
            if invoice.subscription is one:
                billing.rest(self.account, invoice)

    def pause(self, one: Subscription, by: PausedBy = "pause_requested") -> None:
        """Pause the service."""
        one.status, one.paused_by, one.paused_at = "paused", by, self.account.now
        self.say(one, "customer.subscription.updated", "customer.subscription.paused")

    def say(self, one: Subscription, *types: str, asked: bool = False) -> None:
        """Announce a subscription as it is now, and note the truth of it."""
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

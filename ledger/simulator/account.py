"""A simulated Stripe account: its clock, what is to happen when, and how a change becomes an event."""

from __future__ import annotations

import base64
import hashlib
import heapq
from collections.abc import Callable, Iterator
from typing import Any, Final

from ledger.simulator import render_catalog, render_credit, render_invoice, render_payment, render_subscription
from ledger.simulator.catalog import Coupon, Price, Product
from ledger.simulator.objects import (
    Charge,
    CreditNote,
    Customer,
    Dispute,
    Invoice,
    Json,
    Kept,
    Method,
    Payment,
    Payout,
    Refund,
    Session,
    Subscription,
    Summary,
)
from ledger.simulator.render import changes
from ledger.simulator.truth import Truth
from ledger.simulator.versions import as_of_version, exists_in

Action = Callable[[], None]

_RENDER: Final[dict[type, Callable[[Any, bool], Json]]] = {
    Product: render_catalog.product,
    Price: render_catalog.price,
    Coupon: render_catalog.coupon,
    Customer: render_catalog.customer,
    Summary: render_catalog.summary,
    Subscription: render_subscription.subscription,
    Invoice: render_invoice.invoice,
    Payment: render_payment.payment,
    Charge: render_payment.charge,
    Refund: render_payment.refund,
    Dispute: render_payment.dispute,
    Session: render_payment.session,
    CreditNote: render_credit.credit_note,
    Method: render_credit.method,
    Payout: render_credit.payout,
}
_ALSO_CHANGES: Final = frozenset(
    {
        "charge.refunded",
        "customer.subscription.pending_update_applied",
        "payment_method.automatically_updated",
        "payment_method.detached",
    }
)
"""Types that carry ``previous_attributes`` although they are not called updated (stripe-domain §1.5)."""


_NO_REQUEST: Final[Json] = {"id": None, "idempotency_key": None}


class Account:
    """One account in one mode. Operations in this package change its objects and announce what they changed."""

    def __init__(
        self,
        seed: str,
        version: Callable[[], str],
        *,
        truth: Truth,
        livemode: bool = True,
        connected: str | None = None,
    ) -> None:
        self.seed = seed
        self.truth = truth
        self.livemode = livemode
        self.now = 0
        self.held: dict[str, int] = {}
        self._version = version
        self._connected = connected
        self._numbers = 0
        self._due: list[tuple[int, int, Action]] = []
        self._announced: list[Json] = []
        self._request: Json | None = None

    def new_id(self, prefix: str) -> str:
        """Make an id that says nothing about the order things happened in."""
        self._numbers += 1
        digest = hashlib.blake2b(f"{self.seed}/{prefix}/{self._numbers}".encode(), digest_size=18).digest()
        return f"{prefix}_{base64.b64encode(digest, altchars=b'Zz').decode()}"

    def schedule(self, at: int, action: Action) -> None:
        """Let something happen at a later second, after what has been put there before."""
        self._numbers += 1
        heapq.heappush(self._due, (max(at, self.now), self._numbers, action))

    @property
    def next_at(self) -> int | None:
        """When something happens next; None when nothing is left to happen."""
        return self._due[0][0] if self._due else None

    def step(self) -> Iterator[Json]:
        """Let the next thing happen; give the events it caused, in the order they were caused."""
        self.now, _, action = heapq.heappop(self._due)
        self._request = None
        action()
        yield from self.announced()

    def announced(self) -> list[Json]:
        """Take the events announced since the last time."""
        events, self._announced = self._announced, []
        return events

    def announce(self, type_: str, thing: Kept | Product | Price | Coupon, *, asked: bool = False) -> None:
        """Send an event with a snapshot of ``thing`` as it is now; ``asked``: caused by a request to the API."""
        rendered = self.rendered(thing)
        version = self._version()
        if exists_in(type_, version):
            data: Json = {"object": as_of_version(rendered, version)}
            if isinstance(thing, Kept) and thing.announced and (type_.endswith(".updated") or type_ in _ALSO_CHANGES):
                data["previous_attributes"] = changes(as_of_version(thing.announced, version), data["object"])
            self._announced.append(self._envelope(type_, version, data, asked=asked))
        if isinstance(thing, Kept):
            thing.announced = rendered

    def rendered(self, thing: Any) -> Json:
        """Write an object as the pinned API version has it now."""
        return _RENDER[type(thing)](thing, self.livemode)

    def move(self, currency: str, **amounts: int) -> None:
        """Move money between places, debits positive; note it, and what Stripe holds by it."""
        self.truth.books.entry(self.now, currency, **amounts)
        self.hold(currency, amounts.get("stripe_balance", 0))

    def hold(self, currency: str, amount: int) -> None:
        """Hold more, or less, for the account."""
        self.held[currency] = self.held.get(currency, 0) + amount

    def announce_rendered(self, type_: str, rendered: Json) -> None:
        """Send an event about something that is written but not kept."""
        version = self._version()
        if exists_in(type_, version):
            data: Json = {"object": as_of_version(rendered, version)}
            self._announced.append(self._envelope(type_, version, data, asked=False))

    def _envelope(self, type_: str, version: str, data: Json, *, asked: bool) -> Json:
        event: Json = {"id": self.new_id("evt"), "object": "event"}
        if self._connected:
            event["account"] = self._connected
        if asked and self._request is None:
            # What one thing causes, one request has caused.
            self._request = {"id": self.new_id("req"), "idempotency_key": self.new_id("key")}
        event |= {
            "api_version": version,
            "created": self.now,
            "data": data,
            "livemode": self.livemode,
            "pending_webhooks": 1,
            "request": self._request if asked and self._request else _NO_REQUEST,
            "type": type_,
        }
        return event

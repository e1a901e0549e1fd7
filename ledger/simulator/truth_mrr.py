"""The truth of recurring revenue: what each subscription was worth a month, and how customers' worth moved.

The rules are stripe-domain §5.1's, policy ``stripe-2026``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Literal

from ledger.simulator.calendar import DAY, HOUR
from ledger.simulator.catalog import Interval
from ledger.simulator.objects import Subscription

Kind = Literal["new", "reactivation", "expansion", "contraction", "churn"]
KINDS: Final[tuple[Kind, ...]] = ("new", "reactivation", "expansion", "contraction", "churn")
EARNS: Final = frozenset({"active", "past_due"})
MONTHLY: Final[dict[Interval, Fraction]] = {
    "month": Fraction(1),
    "year": Fraction(1, 12),
    "week": Fraction(365, 84),
}
"""How many months' worth one interval's price is."""


@dataclass(frozen=True, slots=True)
class NotedItem:
    """An item as it was: what it gives, and how many of it."""

    product: str
    features: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Noted:
    """A subscription as it was from ``at`` on; ``failed`` where it came to nothing because money did not come.

    ``ever_paid`` says that an invoice that asked for something was once paid.
    """

    at: int
    status: str
    org: str | None
    items: tuple[NotedItem, ...]
    monthly: int
    failed: bool
    ever_paid: bool


@dataclass(slots=True)
class Life:
    """All states of one subscription, oldest first; of one second only the last."""

    customer: str
    currency: str
    states: list[Noted] = field(default_factory=list)

    def at(self, moment: int) -> Noted | None:
        """Return the state at a moment; None before there was one."""
        found = bisect_right(self.states, moment, key=lambda state: state.at)
        return self.states[found - 1] if found else None

    def monthly(self, moment: int) -> int:
        """Return what it was worth a month at a moment."""
        state = self.at(moment)
        return state.monthly if state else 0


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement of a customer's worth in one currency, at its last change."""

    customer: str
    currency: str
    at: int
    kind: Kind
    amount: int
    involuntary: bool


def noted(at: int, one: Subscription) -> Noted:
    """Write down a subscription as it is."""
    failed = (
        one.status == "unpaid"
        or (one.status == "paused" and one.paused_by == "final_payment_failure")
        or (one.status == "canceled" and one.cancel_reason in {"payment_failed", "payment_disputed"})
    )
    items = tuple(
        NotedItem(item.price.product.id, item.price.product.features, item.quantity) for item in one.items
    )  # fmt: skip
    return Noted(at, one.status, one.org or one.customer.org, items, monthly_now(one), failed, one.ever_paid)


def monthly_now(one: Subscription) -> int:
    """Return what a subscription is worth a month as it is now, rounded half to even."""
    if one.status not in EARNS or one.pause_collection not in (None, "keep_as_draft"):
        return 0
    running = [item for item in one.items if item.trial_end is None]
    times = [MONTHLY[item.price.interval or "month"] for item in running]
    exact = sum(
        (often * item.price.amount(item.quantity, one.currency) for often, item in zip(times, running, strict=True)),
        Fraction(0),
    )
    if one.discount is not None and one.discount.coupon.duration == "forever":
        coupon = one.discount.coupon
        exact *= Fraction(100 - (coupon.percent_off or 0), 100)
        exact -= (coupon.amount_off or 0) * max(times, default=Fraction(0))
    if one.tax_rate is not None and one.tax_rate.inclusive:
        exact /= 1 + Fraction(one.tax_rate.percentage, 100)
    return round(max(exact, Fraction(0)))


def movements_of(lives: Iterable[Life]) -> Iterator[Movement]:
    """Give every movement, customer by customer: changes within an hour of a first one, on one day, are one."""
    by_customer: dict[str, list[Life]] = {}
    for life in lives:
        by_customer.setdefault(life.customer, []).append(life)
    for key in sorted(by_customer):
        yield from _of_customer(key, by_customer[key])


def _of_customer(customer: str, lives: list[Life]) -> Iterator[Movement]:
    worth = [state.at for life in lives for state in life.states if state.monthly]
    first = min(worth, default=0)
    for currency in sorted({life.currency for life in lives}):
        own = [life for life in lives if life.currency == currency]
        for group in _groups(list(_changes(own))):
            since, before = group[0][0], group[0][1]
            at, after = group[-1][0], group[-1][2]
            if before != after:
                kind = _kind(before, after, had=first < since)
                ended = [
                    life.at(at) for life in own if life.at(at) and not life.monthly(at) and life.monthly(since - 1)
                ]
                failed = kind == "churn" and bool(ended) and _last(ended).failed
                yield Movement(customer, currency, at, kind, abs(after - before), failed)


def _last(states: Iterable[Noted | None]) -> Noted:
    return max((state for state in states if state is not None), key=lambda state: state.at)


def _changes(lives: list[Life]) -> Iterator[tuple[int, int, int]]:
    before = 0
    for at in sorted({state.at for life in lives for state in life.states}):
        after = sum(life.monthly(at) for life in lives)
        if after != before:
            yield at, before, after
            before = after


def _groups(changes: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    group: list[tuple[int, int, int]] = []
    for change in changes:
        if group and (change[0] - group[0][0] > HOUR or change[0] // DAY != group[0][0] // DAY):
            yield group
            group = []
        group.append(change)
    if group:
        yield group


def _kind(before: int, after: int, *, had: bool) -> Kind:
    if before == 0:
        return "reactivation" if had else "new"
    if after == 0:
        return "churn"
    return "expansion" if after > before else "contraction"

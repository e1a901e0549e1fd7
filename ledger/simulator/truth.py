"""The truth beside the events: what was so, when, kept in the plainest way and answered by walking through it.

Nothing here reads an event. The model notes every state a subscription or purchase takes; questions are answered
from those notes alone, so that a projection of the events can be compared with an answer that was made without them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from ledger.simulator.catalog import Interval
from ledger.simulator.objects import Customer, Invoice, Subscription
from ledger.simulator.truth_cases import CLOSED, Cases

GIVES_ACCESS: Final = frozenset({"active", "trialing", "past_due"})
UNPAID_TRIAL_SECONDS: Final = 3 * 86_400
"""For how long what was never paid for gives access while it is past due."""

EARNS: Final = frozenset({"active", "past_due"})
MONTHLY: Final[dict[Interval, Fraction]] = {
    "month": Fraction(1),
    "year": Fraction(1, 12),
    "week": Fraction(365, 84),
}
"""How many months' worth one interval's price is (stripe-domain §5.1)."""


@dataclass(frozen=True, slots=True)
class NotedItem:
    """An item as it was: what it sells, how many, at what."""

    product: str
    features: str
    quantity: int
    unit_amount: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Noted:
    """A subscription as it was from ``at`` on."""

    at: int
    status: str
    org: str | None
    items: tuple[NotedItem, ...]
    percent_off_forever: int
    amount_off_forever: int
    contained_tax_percent: int
    earns_while_collection_is_paused: bool
    ever_paid: bool = True


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

    def unpaid_since(self, moment: int) -> int | None:
        """Return since when it is past due without ever having paid anything; None where it is not."""
        found = bisect_right(self.states, moment, key=lambda state: state.at)
        since: int | None = None
        for state in reversed(self.states[:found]):
            if state.status != "past_due" or state.ever_paid:
                break
            since = state.at
        return since


@dataclass(slots=True)
class Purchase:
    """Something bought once: from when to when it gave access, with gaps."""

    customer: str
    features: str
    product: str
    quantity: int
    switches: list[tuple[int, bool]] = field(default_factory=list)

    def holds_at(self, moment: int) -> bool:
        """Tell whether it gave access at a moment."""
        found = bisect_right(self.switches, moment, key=lambda switch: switch[0])
        return bool(found) and self.switches[found - 1][1]


class Truth:
    """What was so in one account and mode. ``keep`` False notes nothing, for when nobody will ask."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self.lives: dict[str, Life] = {}
        self.purchases: dict[str, Purchase] = {}
        self.deleted: dict[str, int] = {}
        self.cases = Cases()

    def subscription(self, at: int, one: Subscription) -> None:
        """Note a subscription as it is from ``at`` on."""
        if not self._keep:
            return
        life = self.lives.setdefault(one.id, Life(one.customer.id, one.currency))
        off = one.discount.coupon if one.discount and one.discount.coupon.duration == "forever" else None
        state = Noted(
            at=at,
            status=one.status,
            org=one.org or one.customer.org,
            items=tuple(
                NotedItem(item.price.product.id, item.price.product.features, item.quantity, item.price.unit_amount,
                          item.price.interval or "month")
                for item in one.items
            ),
            percent_off_forever=(off.percent_off or 0) if off else 0,
            amount_off_forever=(off.amount_off or 0) if off else 0,
            contained_tax_percent=one.tax_rate.percentage if one.tax_rate and one.tax_rate.inclusive else 0,
            earns_while_collection_is_paused=one.pause_collection in (None, "keep_as_draft"),
            ever_paid=one.ever_paid,
        )  # fmt: skip
        if life.states and life.states[-1].at == at:
            life.states.pop()
        life.states.append(state)

    def purchase(self, at: int, key: str, customer: Customer, product: Any, quantity: int, *, holds: bool) -> None:
        """Note that a purchase gives access from ``at`` on, or no longer does."""
        if self._keep:
            bought = self.purchases.setdefault(key, Purchase(customer.id, product.features, product.id, quantity))
            bought.switches.append((at, holds))

    def customer_deleted(self, at: int, customer: Customer) -> None:
        """Note that a customer is gone, and all access with it."""
        if self._keep:
            self.deleted[customer.id] = at

    def invoice(self, at: int, one: Invoice) -> None:
        """Note how an invoice stands from ``at`` on."""
        if self._keep:
            self.cases.note(at, one)

    def dunning(self, moment: int) -> list[dict[str, Any]]:
        """Return every case at a moment; one of a subscription carries the MRR that is at risk, its oldest open one."""
        found = self.cases.at(moment, self._status)
        carried: set[str] = set()
        for case in found:
            key, risks = case["subscription"], case["category"] != "initial" and case["state"] not in CLOSED
            case["at_risk_mrr"] = monthly(self.lives[key].at(moment)) if risks and key and key not in carried else 0
            if risks and key:
                carried.add(key)
        return found

    def at_risk(self, moment: int) -> dict[str, int]:
        """Return by currency the MRR of subscriptions with an open case at a moment."""
        total: dict[str, int] = {}
        for key in self.cases.at_risk(moment):
            life = self.lives[key]
            if amount := monthly(life.at(moment)):
                total[life.currency] = total.get(life.currency, 0) + amount
        return dict(sorted(total.items()))

    def _status(self, key: str, moment: int) -> str | None:
        state = self.lives[key].at(moment)
        return state.status if state else None

    def statuses(self, moment: int) -> dict[str, str]:
        """Return every subscription's status at a moment."""
        states = {key: life.at(moment) for key, life in self.lives.items()}
        return {key: state.status for key, state in sorted(states.items()) if state is not None}

    def entitlements(self, moment: int, *, purchases: bool = True) -> dict[str, dict[str, int | bool]]:
        """Return what each customer may use at a moment: feature to true, or to how much of it."""
        granted: dict[str, dict[str, int | bool]] = {}
        for customer, features, product, quantity in self._given(moment, purchases=purchases):
            if self.deleted.get(customer, moment + 1) <= moment:
                continue
            holder = granted.setdefault(customer, {})
            holder[product] = True
            for name, amount in _amounts(features, quantity):
                holder[name] = True if amount is None else int(holder.get(name, 0)) + amount
        return {customer: dict(sorted(granted[customer].items())) for customer in sorted(granted)}

    def _given(self, moment: int, *, purchases: bool) -> Iterator[tuple[str, str, str, int]]:
        for key, life in self.lives.items():
            state = life.at(moment)
            if state is not None and state.status in GIVES_ACCESS and not self._unpaid_too_long(key, life, moment):
                for item in state.items:
                    yield life.customer, item.features, item.product, item.quantity
        for bought in self.purchases.values() if purchases else ():
            if bought.holds_at(moment):
                yield bought.customer, bought.features, bought.product, bought.quantity

    def _unpaid_too_long(self, key: str, life: Life, moment: int) -> bool:
        """Tell whether days have passed since the first failure that is still open: no trial lasts that long."""
        since = life.unpaid_since(moment)
        if since is None:
            return False
        failed = self.cases.failed_since(key, moment)
        return moment >= (since if failed is None else failed) + UNPAID_TRIAL_SECONDS

    def mrr(self, moment: int) -> dict[str, int]:
        """Return monthly recurring revenue by currency at a moment (stripe-domain §5.1, policy stripe-2026)."""
        total: dict[str, int] = {}
        for life in self.lives.values():
            if amount := monthly(life.at(moment)):
                total[life.currency] = total.get(life.currency, 0) + amount
        return dict(sorted(total.items()))

    def movements(self, start: int, end: int) -> dict[str, dict[str, int]]:
        """Return by currency how MRR moved in ``[start, end)``, from one change of a customer to the next."""
        moved: dict[str, dict[str, int]] = {}
        for (_, currency), changes in self._by_customer().items():
            kinds = moved.setdefault(currency, dict.fromkeys(("opening", *KINDS, "closing"), 0))
            for at, before, after, ever in changes:
                if at < start:
                    kinds["opening"] += after - before
                if at < end:
                    kinds["closing"] += after - before
                if start <= at < end:
                    kinds[_kind(before, after, ever=ever)] += abs(after - before)
        return dict(sorted(moved.items()))

    def _by_customer(self) -> dict[tuple[str, str], list[tuple[int, int, int, bool]]]:
        """Return the changes of each customer and currency: when, from, to, and whether there had been any before."""
        lives: dict[tuple[str, str], list[Life]] = {}
        for life in self.lives.values():
            lives.setdefault((life.customer, life.currency), []).append(life)
        return {key: list(_changes(lives[key])) for key in sorted(lives)}


KINDS: Final = ("new", "reactivation", "expansion", "contraction", "churn")


def _kind(before: int, after: int, *, ever: bool) -> str:
    if before == 0:
        return "reactivation" if ever else "new"
    if after == 0:
        return "churn"
    return "expansion" if after > before else "contraction"


def _changes(lives: list[Life]) -> Iterator[tuple[int, int, int, bool]]:
    before, ever = 0, False
    for at in sorted({state.at for life in lives for state in life.states}):
        after = sum(monthly(life.at(at)) for life in lives)
        if after != before:
            yield at, before, after, ever
            before, ever = after, True


def monthly(state: Noted | None) -> int:
    """Return what a subscription in this state is worth a month, rounded half to even."""
    if state is None or state.status not in EARNS or not state.earns_while_collection_is_paused:
        return 0
    exact = sum((MONTHLY[item.interval] * item.unit_amount * item.quantity for item in state.items), Fraction(0))
    exact *= Fraction(100 - state.percent_off_forever, 100)
    per_month = MONTHLY[state.items[0].interval] if state.items else Fraction(0)
    exact = max(exact - state.amount_off_forever * per_month, Fraction(0))
    return round(exact / (1 + Fraction(state.contained_tax_percent, 100)))


def _amounts(features: str, quantity: int) -> Iterable[tuple[str, int | None]]:
    for part in features.split(","):
        name, _, amount = part.partition("=")
        _, _, times = amount.partition("*")
        yield name, quantity * int(times or 1) if amount else None

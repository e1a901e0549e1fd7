"""The truth beside the events: what was so, when, kept in the plainest way and answered by walking through it.

Nothing here reads an event. The model notes every state a subscription or purchase takes; questions are answered
from those notes alone, so that a projection of the events can be compared with an answer that was made without them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ledger.simulator.catalog import Product
from ledger.simulator.objects import Customer, Invoice, Subscription
from ledger.simulator.truth_books import Books
from ledger.simulator.truth_cases import CLOSED, Cases
from ledger.simulator.truth_mrr import KINDS, Life, Movement, movements_of, noted

GIVES_ACCESS: Final = frozenset({"active", "trialing", "past_due"})
UNPAID_TRIAL_SECONDS: Final = 3 * 86_400
"""For how long what was never paid for gives access while it is past due."""


@dataclass(slots=True)
class Purchase:
    """Something bought once: from when to when it gave access, with gaps."""

    customer: str
    features: str
    product: str
    quantity: int
    named: bool
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
        self.books = Books(keep=keep)
        self._movements: list[Movement] | None = None

    def subscription(self, at: int, one: Subscription) -> None:
        """Note a subscription as it is from ``at`` on."""
        if not self._keep:
            return
        life = self.lives.setdefault(one.id, Life(one.customer.id, one.currency))
        if life.states and life.states[-1].at == at:
            life.states.pop()
        life.states.append(noted(at, one))
        self._movements = None

    def purchase(
        self, at: int, key: str, customer: Customer, product: Product, quantity: int, *, holds: bool, named: bool = True
    ) -> None:
        """Note that a purchase gives access from ``at`` on, or no longer; ``named``: events say what was bought."""
        if self._keep:
            made = Purchase(customer.id, product.features, product.id, quantity, named)
            bought = self.purchases.setdefault(key, made)
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
        found = self.cases.at(moment, self._statuses)
        carried: set[str] = set()
        for case in found:
            key, risks = case["subscription"], case["category"] != "initial" and case["state"] not in CLOSED
            case["at_risk_mrr"] = self.lives[key].monthly(moment) if risks and key and key not in carried else 0
            if risks and key:
                carried.add(key)
        return found

    def at_risk(self, moment: int) -> dict[str, int]:
        """Return by currency the MRR of subscriptions with an open case at a moment."""
        total: dict[str, int] = {}
        for key in self.cases.at_risk(moment):
            life = self.lives[key]
            if amount := life.monthly(moment):
                total[life.currency] = total.get(life.currency, 0) + amount
        return dict(sorted(total.items()))

    def _statuses(self, key: str) -> list[tuple[int, str]]:
        return [(state.at, state.status) for state in self.lives[key].states]

    def statuses(self, moment: int) -> dict[str, str]:
        """Return every subscription's status at a moment."""
        states = {key: life.at(moment) for key, life in self.lives.items()}
        return {key: state.status for key, state in sorted(states.items()) if state is not None}

    def entitlements(
        self, moment: int, *, purchases: bool = True, unnamed: bool = False
    ) -> dict[str, dict[str, int | bool]]:
        """Return what each customer may use at a moment: feature to true, or to how much of it.

        ``unnamed``: also what was bought in a session that does not say what, as only Stripe's API can.
        """
        granted: dict[str, dict[str, int | bool]] = {}
        for customer, features, product, quantity in self._given(moment, purchases=purchases, unnamed=unnamed):
            if self.deleted.get(customer, moment + 1) <= moment:
                continue
            holder = granted.setdefault(customer, {})
            holder[product] = True
            for name, amount in _amounts(features, quantity):
                holder[name] = True if amount is None else int(holder.get(name, 0)) + amount
        return {customer: dict(sorted(granted[customer].items())) for customer in sorted(granted)}

    def _given(self, moment: int, *, purchases: bool, unnamed: bool) -> Iterator[tuple[str, str, str, int]]:
        for key, life in self.lives.items():
            state = life.at(moment)
            if state is not None and state.status in GIVES_ACCESS and not self._unpaid_too_long(key, life, moment):
                for item in state.items:
                    yield life.customer, item.features, item.product, item.quantity
        for bought in self.purchases.values() if purchases else ():
            if bought.holds_at(moment) and (bought.named or unnamed):
                yield bought.customer, bought.features, bought.product, bought.quantity

    def _unpaid_too_long(self, key: str, life: Life, moment: int) -> bool:
        """Tell whether days have passed since the first failure that is still open: no trial lasts that long."""
        since = unpaid_since(life, moment)
        if since is None:
            return False
        failed = self.cases.failed_since(key, moment)
        return moment >= (since if failed is None else failed) + UNPAID_TRIAL_SECONDS

    def mrr(self, moment: int) -> dict[str, int]:
        """Return monthly recurring revenue by currency at a moment (stripe-domain §5.1, policy stripe-2026)."""
        total: dict[str, int] = {}
        for life in self.lives.values():
            if amount := life.monthly(moment):
                total[life.currency] = total.get(life.currency, 0) + amount
        return dict(sorted(total.items()))

    def movements(self, start: int, end: int) -> dict[str, dict[str, int]]:
        """Return by currency how MRR moved in ``[start, end)``, both of them the beginning of a UTC day."""
        moved: dict[str, dict[str, int]] = {}
        for one in self.all_movements():
            kinds = moved.setdefault(one.currency, dict.fromkeys(("opening", *KINDS, "closing"), 0))
            signed = -one.amount if one.kind in {"contraction", "churn"} else one.amount
            kinds["opening"] += signed if one.at < start else 0
            kinds["closing"] += signed if one.at < end else 0
            kinds[one.kind] += one.amount if start <= one.at < end else 0
        return dict(sorted(moved.items()))

    def all_movements(self) -> list[Movement]:
        """Return every movement there ever was."""
        if self._movements is None:
            self._movements = list(movements_of(self.lives.values()))
        return self._movements


def _amounts(features: str, quantity: int) -> Iterable[tuple[str, int | None]]:
    for part in features.split(","):
        name, _, amount = part.partition("=")
        _, _, times = amount.partition("*")
        yield name, quantity * int(times or 1) if amount else None


def unpaid_since(life: Life, moment: int) -> int | None:
    """Return since when it is past due without ever having paid anything; None where it is not."""
    found = bisect_right(life.states, moment, key=lambda state: state.at)
    since: int | None = None
    for state in reversed(life.states[:found]):
        if state.status != "past_due" or state.ever_paid:
            break
        since = state.at
    return since

"""Subscriptions in a line each, and events of them, as the tests of worth write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from projections.causal import in_causal_order
from projections.facts import Fact
from projections.mrr import portfolio
from projections.mrr.portfolio import Portfolio
from projections.terms import KnownTerms

Json = dict[str, Any]


def at(text: str) -> datetime:
    """Read a time such as ``02-01`` or ``02-01 10:30``, in 2026."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


def unix(text: str) -> int:
    """Write a time of 2026 as Stripe does."""
    return int(at(text).timestamp())


def item(text: str, **more: Any) -> Json:
    """Write an item such as ``si_1 2 x 1500/month`` or ``si_1 10 x 400.5/2 week in eur``."""
    key, quantity, _, charge, *rest = text.split()
    unit, _, interval = charge.partition("/")
    interval_count = 1
    if interval.isdigit():
        interval_count, interval = int(interval), rest.pop(0)
    price = {
        "id": more.pop("price_id", f"price_{key}"),
        "currency": rest[1] if rest else "usd",
        "unit_amount_decimal": None if unit == "tiers" else unit,
        "billing_scheme": "tiered" if unit == "tiers" else "per_unit",
        "recurring": {"interval": interval, "interval_count": interval_count, "usage_type": "licensed", "meter": None},
        "product": f"prod_{key}",
    }
    return {
        "id": key,
        "object": "subscription_item",
        "quantity": int(quantity),
        "price": price | more.pop("price", {}),
        **more,
    }


def subscription(*items: str | Json, key: str = "sub_1", status: str = "active", **more: Any) -> Json:
    """Write a subscription with items, which may be in ``item``'s notation."""
    data = [one if isinstance(one, dict) else item(one) for one in items]
    base = {"id": key, "object": "subscription", "customer": "cus_1", "currency": "usd", "status": status}
    return base | {"items": {"object": "list", "data": data, "has_more": False}, "discounts": []} | more


class History:
    """Events of one customer, in the order of writing; ``portfolio`` folds them, in whatever order they came."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.references: list[Fact] = []
        self._numbers = count(1)

    def event(self, when: str, type_: str, subject: Json, previous: Json | None = None) -> str:
        """Add an event; its id is ``evt_`` and its number."""
        number = next(self._numbers)
        known = self.references if type_ in portfolio.REFERENCES else self.facts
        known.append(Fact(f"evt_{number}", type_, at(when), number, subject, previous or {}, {}))
        return f"evt_{number}"

    def says(self, when: str, subject: Json, kind: str = "updated") -> str:
        """Add an event about a subscription."""
        return self.event(when, f"customer.subscription.{kind}", subject)

    def portfolio(self, facts: Iterable[Fact] | None = None) -> Portfolio:
        """Fold the events, or some of them."""
        folded, terms = Portfolio(), KnownTerms(self.references)
        for fact in in_causal_order(self.facts if facts is None else facts):
            portfolio.step(folded, fact, terms)
        return folded


def line(item_id: str, amount: int, quantity: int = 1, *, proration: bool = False, tax: int = 0, **more: Any) -> Json:
    """Write an invoice line of an item; ``tax`` is contained in the amount."""
    taxes = [{"amount": tax, "tax_behavior": "inclusive"}] if tax else []
    details = {"subscription_item": item_id, "subscription": "sub_1", "proration": proration}
    base: Mapping[str, Any] = {
        "id": f"il_{item_id}_{amount}",
        "amount": amount,
        "quantity": quantity,
        "parent": {"type": "subscription_item_details", "subscription_item_details": details},
        "pricing": {"price_details": {"price": f"price_{item_id}"}},
        "taxes": taxes,
    }
    return {**base, **more}


def invoice(*lines: Json, reason: str = "subscription_cycle", **more: Any) -> Json:
    """Write an invoice of ``sub_1``."""
    total = sum(one["amount"] for one in lines)
    base = {"id": "in_1", "object": "invoice", "customer": "cus_1", "currency": "usd", "billing_reason": reason}
    parent = {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}
    return base | {"parent": parent, "total": total, "lines": {"object": "list", "data": list(lines)}} | more

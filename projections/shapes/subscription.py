"""Subscriptions and their items, whatever API version wrote them (stripe-domain §2.2)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from ledger.event import Json, identifier, mapping
from projections.facts import listing, number
from projections.shapes.common import moment, text
from projections.shapes.price import exact


class Item(NamedTuple):
    """One item of a subscription. ``quantity`` is None where usage is metered; ``trial_end`` is of its own trial."""

    item: str
    product: str | None
    price: str | None
    quantity: Decimal | None
    lookup_key: str | None = None
    trial_end: datetime | None = None


def items_of(subscription: Json) -> list[Item]:
    """Read the items; a subscription older than items has one, named after itself, from its own plan."""
    found = [_item(one) for one in listing(subscription.get("items"))]
    if not found and subscription.get("plan"):
        found = [_item(subscription)]
    return [item for item in found if item is not None]


def _item(source: Json) -> Item | None:
    key = identifier(source.get("id"))
    if key is None:
        return None
    price = source.get("price")
    named = price if isinstance(price, dict) else {}
    product = identifier(named.get("product"))
    quantity = source.get("quantity_decimal")
    trial = source.get("current_trial")
    return Item(
        item=key,
        product=product or identifier(mapping(source.get("plan")).get("product")),
        price=identifier(price) or identifier(source.get("plan")),
        quantity=exact(source.get("quantity") if number(quantity) is None else quantity),
        lookup_key=text(named.get("lookup_key")),
        trial_end=moment(trial.get("end_date")) if isinstance(trial, dict) else None,
    )


def planned_end(subscription: Json) -> datetime | None:
    """Return when the subscription is to end, or its trial: a plan, which revokes nothing by itself."""
    if subscription.get("cancel_at") is not None:
        return moment(subscription["cancel_at"])
    if subscription.get("cancel_at_period_end") is True:
        return _period_end(subscription)
    if subscription.get("status") == "trialing":
        return moment(subscription.get("trial_end"))
    return None


def must_have_paid(subscription: Json) -> bool:
    """Tell whether Stripe's own rules say that a subscription has paid, or owed nothing, whatever invoices are known.

    Charged by itself it is not active before its first invoice is paid; after a trial, not in a second period.
    """
    automatic = "send_invoice" not in (subscription.get("collection_method"), subscription.get("billing"))
    items = listing(subscription.get("items"))
    if not automatic or any(one.get("current_trial") for one in items):
        return False
    if (trial_end := moment(subscription.get("trial_end"))) is None:
        return subscription.get("status") in ("active", "past_due")
    starts = [moment(one.get("current_period_start")) for one in (*items, subscription)]
    begun = [start for start in starts if start is not None]
    return subscription.get("status") == "active" and bool(begun) and min(begun) > trial_end


def _period_end(subscription: Json) -> datetime | None:
    ends = [moment(one.get("current_period_end")) for one in listing(subscription.get("items"))]
    known = [end for end in ends if end is not None]
    return max(known) if known else moment(subscription.get("current_period_end"))

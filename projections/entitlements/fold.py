"""Events to sources: what each item of each subscription of a customer was, and when (stripe-domain §3).

A fold sees its subject's events in causal order and need not defend itself against disorder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ledger.event import Json, identifier
from projections.contract import Rows, Subject, Terms
from projections.entitlements.rows import ProductRow, SourceRow
from projections.facts import Fact
from projections.shapes.common import text_at
from projections.shapes.subscription import Item, items_of, planned_end

TERMINAL: Final = frozenset({"canceled", "incomplete_expired"})
"""Statuses a subscription never leaves. Its metadata may still change (stripe-domain §3.1)."""


@dataclass(slots=True)
class Subscription:
    """A subscription's open rows by item, and the event that first showed each item."""

    status: str = ""
    org: str | None = None
    ends_at: datetime | None = None
    open: dict[str, SourceRow] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """What has been folded of one subject so far: a customer's subscriptions, or a product's forms."""

    subject: Subject
    org_metadata_key: str
    org: str | None = None
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    closed: list[SourceRow] = field(default_factory=list)
    products: list[ProductRow] = field(default_factory=list)


def begin(subject: Subject, *, org_metadata_key: str) -> State:
    """Begin with nothing known of a subject; organisations are read from metadata under ``org_metadata_key``."""
    return State(subject, org_metadata_key)


def step(state: State, fact: Fact, _: Terms) -> None:
    """Let a subject see its next event."""
    if (change := STEPS.get(fact.type)) is not None:
        change(state, fact)


def rows(state: State) -> Rows:
    """Return what a subject's state comes to."""
    sources = sorted([*state.closed, *_open_rows(state)], key=_source_key)
    return {
        "entitlement_source": sources,
        "product": list(state.products),
    }


def settle(state: State) -> Rows:
    """Take out the rows that have ended: no later event changes them."""
    ended, state.closed = state.closed, []
    products, state.products = state.products[:-1], state.products[-1:]
    return {
        "entitlement_source": ended,
        "product": products,
    }


def _source_key(row: SourceRow) -> tuple[str, str, datetime]:
    return (row.source, row.item, row.valid_from)


def _open_rows(state: State) -> Iterable[SourceRow]:
    for subscription in state.subscriptions.values():
        yield from subscription.open.values()


def _subscription_changed(state: State, fact: Fact) -> None:
    snapshot = fact.subject
    key = identifier(snapshot)
    if key is None:
        return
    subscription = state.subscriptions.setdefault(key, Subscription())
    status = str(snapshot.get("status"))
    if subscription.status in TERMINAL and status not in TERMINAL:
        return  # a snapshot from before the end that was rendered late
    subscription.status = "canceled" if fact.type == "customer.subscription.deleted" else status
    subscription.org = text_at(snapshot.get("metadata"), state.org_metadata_key)
    subscription.ends_at = None if subscription.status in TERMINAL else planned_end(snapshot)
    items = items_of(snapshot)
    for gone in set(subscription.open) - {item.item for item in items}:
        _close(state, subscription, gone, fact.created)
    for item in items:
        _set(state, subscription, key, item, fact)


def _set(state: State, subscription: Subscription, key: str, item: Item, fact: Fact) -> None:
    origin = subscription.origin.setdefault(item.item, fact.event_id)
    org = subscription.org or state.org
    current = subscription.open.get(item.item)
    says = (item.product, item.price, item.quantity, subscription.status, org, subscription.ends_at)
    if current is not None and says == _says(current):
        return
    row = SourceRow(
        subject=state.subject.stream_id,
        book=state.subject.book,
        customer=state.subject.key,
        kind="subscription",
        source=key,
        item=item.item,
        product=item.product,
        price=item.price,
        quantity=item.quantity,
        status=subscription.status,
        org=org,
        ends_at=subscription.ends_at,
        valid_from=fact.created,
        valid_to=None,
        because=tuple(dict.fromkeys((origin, fact.event_id))),
    )
    _replace(state, subscription, row)


def _says(row: SourceRow) -> tuple[object, ...]:
    """Return what a row says beside when: one that says the same is not opened anew."""
    return (row.product, row.price, row.quantity, row.status, row.org, row.ends_at)


def _replace(state: State, subscription: Subscription, row: SourceRow) -> None:
    """Open ``row`` in place of its item's open one, unless it says the same."""
    current = subscription.open.get(row.item)
    if current is not None and _says(row) == _says(current):
        return
    _close(state, subscription, row.item, row.valid_from)
    subscription.open[row.item] = row


def _close(state: State, subscription: Subscription, item: str, at: datetime) -> None:
    row = subscription.open.pop(item, None)
    # What began and ended in one instant never held.
    if row is not None and row.valid_from < at:
        state.closed.append(row._replace(valid_to=at))


def _customer_changed(state: State, fact: Fact) -> None:
    org = text_at(fact.subject.get("metadata"), state.org_metadata_key)
    if org == state.org:
        return
    state.org = org
    _restate(state, fact, lambda subscription, row: row._replace(org=subscription.org or org))


def _customer_deleted(state: State, fact: Fact) -> None:
    """Deleting a customer cancels its subscriptions at once, whatever events follow (stripe-domain §3.4)."""
    for subscription in state.subscriptions.values():
        if subscription.status not in TERMINAL:
            subscription.status = "canceled"
    _restate(state, fact, lambda subscription, row: row._replace(status=subscription.status, ends_at=None))


def _restate(state: State, fact: Fact, change: Callable[[Subscription, SourceRow], SourceRow]) -> None:
    for subscription in state.subscriptions.values():
        for row in list(subscription.open.values()):
            origin = subscription.origin[row.item]
            because = tuple(dict.fromkeys((origin, fact.event_id)))
            restated = change(subscription, row)._replace(valid_from=fact.created, because=because)
            _replace(state, subscription, restated)


def _product_changed(state: State, fact: Fact) -> None:
    product = identifier(fact.subject)
    if product is None or product != state.subject.key:
        return
    features = _features_text(fact.subject)
    last = state.products[-1] if state.products else None
    if last is not None and last.features == features:
        return
    if last is not None:
        state.products.pop()
        if last.valid_from < fact.created:
            state.products.append(last._replace(valid_to=fact.created))
    state.products.append(
        ProductRow(
            subject=state.subject.stream_id,
            book=state.subject.book,
            product=product,
            features=features,
            valid_from=fact.created,
            valid_to=None,
            because=(fact.event_id,),
        )
    )


def _features_text(product: Json) -> str:
    return text_at(product.get("metadata"), "features") or ""


STEPS: Final[dict[str, Callable[[State, Fact], None]]] = {
    "customer.created": _customer_changed,
    "customer.updated": _customer_changed,
    "customer.deleted": _customer_deleted,
    "customer.subscription.created": _subscription_changed,
    "customer.subscription.updated": _subscription_changed,
    "customer.subscription.deleted": _subscription_changed,
    "customer.subscription.paused": _subscription_changed,
    "customer.subscription.resumed": _subscription_changed,
    "customer.subscription.pending_update_applied": _subscription_changed,
    "customer.subscription.pending_update_expired": _subscription_changed,
    "customer.subscription.trial_will_end": _subscription_changed,
    "product.created": _product_changed,
    "product.updated": _product_changed,
}
"""What each event type does. A type that is not here changes nothing."""

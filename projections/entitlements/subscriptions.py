"""Subscriptions to sources: what each item is, its own trial too (stripe-domain §3.1, §3.2)."""

from __future__ import annotations

from typing import Final

from ledger.event import identifier
from projections.entitlements.rows import SourceRow
from projections.entitlements.state import Held, State, Subscription, belong, note, put, remove, says
from projections.facts import Fact
from projections.shapes.common import has_more, text_at
from projections.shapes.subscription import Item, items_of, must_have_paid, planned_end

TERMINAL: Final = frozenset({"canceled", "incomplete_expired"})
"""Statuses a subscription never leaves. Its metadata may still change (stripe-domain §3.1)."""


def subscription_changed(state: State, fact: Fact) -> None:
    """Take a subscription as a snapshot shows it; updates that wait for their payment are not in its items."""
    snapshot = fact.subject
    key = identifier(snapshot)
    if key is None:
        return
    status = "canceled" if fact.type == "customer.subscription.deleted" else str(snapshot.get("status"))
    known = state.subscriptions.get(key)
    if known is None:
        known = state.subscriptions[key] = Subscription(status, fact.created)
    elif known.status in TERMINAL and status not in TERMINAL:
        return  # a snapshot from before the end that was rendered late
    elif known.status != status:
        known.status, known.since = status, fact.created
    _take_org(state, key, fact)
    _take_payment(state, key, known, fact)
    known.ends_at = None if status in TERMINAL else planned_end(snapshot)
    _take_items(state, key, known, items_of(snapshot), fact, partial=has_more(snapshot.get("items")))


def items_observed(state: State, fact: Fact) -> None:
    """Take all items of a subscription that showed only the first of them."""
    key = identifier(fact.subject.get("of"))
    known = state.subscriptions.get(key or "")
    if key is not None and known is not None:
        _take_items(state, key, known, items_of({"items": fact.subject.get("data")}), fact, partial=False)


def _take_items(state: State, key: str, known: Subscription, items: list[Item], fact: Fact, *, partial: bool) -> None:
    """Take what a subscription consists of; of a list's first page no item is gone that is not in it."""
    held = state.held.setdefault(key, Held())
    for other in sorted(set(held.open) - {item.item for item in items}):
        if partial:
            row = held.open[other]._replace(status=known.status, status_since=known.since, ends_at=known.ends_at)
            put(state, row._replace(valid_from=fact.created, because=(fact.event_id,)))
        else:
            remove(state, key, other, fact)
    for item in items:
        row = _row(state, known, key, item, fact)
        current = held.open.get(item.item)
        if current is None or says(current) != says(row):
            put(state, row)


def _row(state: State, known: Subscription, key: str, item: Item, fact: Fact) -> SourceRow:
    on_trial = item.trial_end is not None and known.status == "active"
    return SourceRow(
        state.subject.stream_id,
        state.subject.book,
        state.subject.key,
        "subscription",
        key,
        item.item,
        item.product,
        item.price,
        item.lookup_key,
        item.quantity,
        None,
        None,
        "trialing" if on_trial else known.status,
        known.since,
        (known.ends_at or item.trial_end) if on_trial else known.ends_at,
        None,
        None,
        fact.created,
        None,
        (fact.event_id,),
    )


def _take_payment(state: State, key: str, known: Subscription, fact: Fact) -> None:
    """Note that a subscription has paid before where its status says so: the log may begin after its first invoice."""
    known.trialed = known.trialed or known.status == "trialing"
    unsure = known.trialed and fact.subject.get("trial_end") is None
    began_owing = known.status == "past_due" and fact.type == "customer.subscription.created"
    if key not in state.free and not unsure and not began_owing and must_have_paid(fact.subject):
        note(state, "paid", key, key, fact.created, fact)


def _take_org(state: State, key: str, fact: Fact) -> None:
    own = text_at(fact.subject.get("metadata"), state.org_metadata_key)
    if own is None:
        state.orgs.own.pop(key, None)
    else:
        state.orgs.own[key] = own
    belong(state, fact, (key,))

"""Subscriptions to sources: what each item is, its own trial too (stripe-domain §3.1, §3.2)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ledger.event import identifier
from projections.entitlements.rows import SourceRow
from projections.entitlements.state import Held, State, Subscription, belong, close, put, says
from projections.facts import Fact
from projections.shapes.common import text_at
from projections.shapes.subscription import Item, items_of, planned_end

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
    ends_at = None if status in TERMINAL else planned_end(snapshot)
    held = state.held.setdefault(key, Held())
    items = items_of(snapshot)
    for gone in sorted(set(held.open) - {item.item for item in items}):
        close(state, key, gone, fact.created)
    for item in items:
        row = _row(state, known, key, item, fact, ends_at)
        current = held.open.get(item.item)
        if current is None or says(current) != says(row):
            put(state, row)


def _row(state: State, known: Subscription, key: str, item: Item, fact: Fact, ends_at: datetime | None) -> SourceRow:
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
        (ends_at or item.trial_end) if on_trial else ends_at,
        None,
        None,
        fact.created,
        None,
        (fact.event_id,),
    )


def _take_org(state: State, key: str, fact: Fact) -> None:
    own = text_at(fact.subject.get("metadata"), state.org_metadata_key)
    if own is None:
        state.orgs.own.pop(key, None)
    else:
        state.orgs.own[key] = own
    belong(state, fact, (key,))

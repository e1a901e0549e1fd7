"""Facts about a holder itself: its organisation, its deletion, Stripe's own entitlements, and grants by hand."""

from __future__ import annotations

from datetime import datetime

from ledger.event import Json, identifier
from ledger.times import parse_rfc3339, storable
from projections.entitlements.rows import SourceRow
from projections.entitlements.standing import ENDED
from projections.entitlements.state import State, belong_all, open_items, open_rows, put, remove
from projections.facts import Fact, listing
from projections.shapes.common import has_more, text, text_at

STRIPE_SOURCE = "stripe"


def customer_changed(state: State, fact: Fact) -> None:
    """Take the organisation a customer's metadata names."""
    org = text_at(fact.subject.get("metadata"), state.org_metadata_key)
    if org != state.orgs.customer:
        state.orgs.customer = org
        belong_all(state, fact)


def customer_deleted(state: State, fact: Fact) -> None:
    """End everything a deleted customer had, whatever events follow (stripe-domain §3.4)."""
    for row in list(open_rows(state)):
        if row.status not in ENDED:
            at, because = fact.created, (fact.event_id,)
            put(state, row._replace(status="canceled", status_since=at, ends_at=None, valid_from=at, because=because))
    state.deleted = True


def summary_changed(state: State, fact: Fact) -> None:
    """Take Stripe's own entitlements, all of them at once; a first page alone takes none away."""
    content = fact.subject.get("entitlements")
    _take_listed(state, listing(content), fact, partial=has_more(content) or has_more(fact.subject))


def entitlements_observed(state: State, fact: Fact) -> None:
    """Take all of Stripe's own entitlements where a summary showed only the first of them."""
    _take_listed(state, listing(fact.subject), fact, partial=False)


def _take_listed(state: State, entitlements: list[Json], fact: Fact, *, partial: bool) -> None:
    listed = {name for one in entitlements if (name := _feature_of(one)) is not None}
    if not partial:
        for gone in sorted(open_items(state, STRIPE_SOURCE) - listed):
            remove(state, STRIPE_SOURCE, gone, fact)
    kept = open_items(state, STRIPE_SOURCE) if partial else set()
    for feature in sorted(kept | listed):
        put(state, _given(state, fact, "stripe", STRIPE_SOURCE, feature, feature, "incomplete" if partial else None))


def _feature_of(entitlement: Json) -> str | None:
    return text(entitlement.get("lookup_key")) or identifier(entitlement.get("feature"))


def _given(
    state: State, fact: Fact, kind: str, source: str, item: str, feature: str | None, note: str | None
) -> SourceRow:
    return SourceRow(
        subject=state.subject.stream_id,
        book=state.subject.book,
        customer=state.subject.key,
        kind=kind,
        source=source,
        item=item,
        product=None,
        price=None,
        lookup_key=None,
        quantity=None,
        feature=feature,
        value=None,
        status="active",
        status_since=fact.created,
        ends_at=None,
        expires_at=None,
        note=note,
        valid_from=fact.created,
        valid_to=None,
        because=(fact.event_id,),
    )


def grant_made(state: State, fact: Fact) -> None:
    """Take a grant by hand: its times may lie before and after the moment it was made."""
    grant = fact.subject
    key, feature = identifier(grant), text(grant.get("feature"))
    if key is None or feature is None:
        return
    start, end = told_time(grant.get("valid_from")) or fact.created, told_time(grant.get("valid_until"))
    if end is not None and end <= start:
        return
    row = _given(state, fact, "grant", key, key, feature, text(grant.get("reason")))
    value = text(grant.get("value"))
    put(state, row._replace(status="granted", status_since=start, valid_from=start, expires_at=end, value=value))


def grant_revoked(state: State, fact: Fact) -> None:
    """Take a grant back; one that had not begun never was."""
    key = identifier(fact.subject)
    for row in [row for row in open_rows(state) if row.kind == "grant" and row.source == key]:
        at = max(row.valid_from, fact.created)
        put(state, row._replace(status="revoked", status_since=at, valid_from=at, because=(fact.event_id,)))


def told_time(value: object) -> datetime | None:
    """Return a time that one of our own events says."""
    try:
        return storable(parse_rfc3339(value)) if isinstance(value, str) else None
    except ValueError:
        return None

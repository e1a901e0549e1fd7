"""What is said of a holder itself: its organisation, its end, what Stripe lists it may use, and grants by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ledger.event import identifier
from ledger.times import parse_rfc3339
from projections.entitlements.rows import SourceRow
from projections.entitlements.standing import ENDED
from projections.entitlements.state import State, belong_all, close, open_items, open_rows, put
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
    """Take everything away: deleting a customer ends all it had, whatever events follow (stripe-domain §3.4)."""
    for row in list(open_rows(state)):
        if row.status not in ENDED:
            at, because = fact.created, (fact.event_id,)
            put(state, row._replace(status="canceled", status_since=at, ends_at=None, valid_from=at, because=because))
    state.deleted = True


def summary_changed(state: State, fact: Fact) -> None:
    """Take Stripe's own entitlements, all of them at once; a first page alone takes none away."""
    listed = {name: one for one in listing(fact.subject.get("entitlements")) if (name := _feature_of(one)) is not None}
    partial = has_more(fact.subject.get("entitlements")) or fact.subject.get("has_more") is True
    if not partial:
        for gone in sorted(open_items(state, STRIPE_SOURCE) - set(listed)):
            close(state, STRIPE_SOURCE, gone, fact.created)
    kept: Iterable[str] = open_items(state, STRIPE_SOURCE) | set(listed) if partial else listed
    for feature in sorted(kept):
        put(state, _given(state, fact, "stripe", STRIPE_SOURCE, feature, feature, "incomplete" if partial else None))


def _feature_of(entitlement: dict[str, object]) -> str | None:
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
        return parse_rfc3339(value) if isinstance(value, str) else None
    except ValueError:
        return None

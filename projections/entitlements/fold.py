"""Events to sources: what each customer had and when, and the evidence that affects it (stripe-domain §3).

A fold sees its subject's events in causal order and need not defend itself against disorder. Nothing that depends on
the clock or on a policy is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from ledger.catalogs import PUBLISHED
from ledger.event import identifier
from ledger.observation import OBSERVED
from projections.contract import Rows, Subject, Terms
from projections.entitlements.money import (
    charge_captured,
    charge_refunded,
    dispute_changed,
    invoice_changed,
    invoice_payment_paid,
    refund_changed,
)
from projections.entitlements.people import (
    customer_changed,
    customer_deleted,
    entitlements_observed,
    grant_made,
    grant_revoked,
    summary_changed,
    told_time,
)
from projections.entitlements.purchases import line_items_observed, lines_observed, session_changed
from projections.entitlements.rows import CatalogRow, EvidenceRow, ProductRow, SourceRow
from projections.entitlements.state import State, open_rows
from projections.entitlements.subscriptions import items_observed, subscription_changed
from projections.facts import Fact
from projections.shapes.common import amount, text, text_at


def begin(subject: Subject, *, org_metadata_key: str) -> State:
    """Begin with nothing known of a subject; organisations are read from metadata under ``org_metadata_key``."""
    return State(subject, org_metadata_key)


def step(state: State, fact: Fact, _: Terms) -> None:
    """Let a subject see its next event."""
    if (change := STEPS.get(fact.type)) is not None:
        change(state, fact)


def rows(state: State) -> Rows:
    """Return what a subject's state comes to."""
    sources: list[SourceRow] = sorted([*state.closed, *open_rows(state)], key=_source_key)
    evidence: list[EvidenceRow] = sorted([*state.past_evidence, *state.evidence.values()], key=_evidence_key)
    return {
        "entitlement_source": sources,
        "entitlement_evidence": evidence,
        "entitlement_org": [row for _, said in sorted(state.orgs.said.items()) for row in said],
        "product": list(state.products),
        "catalog": [row for _, row in sorted(state.catalogs.items())],
    }


def settle(state: State) -> Rows:
    """Take ended rows out of the state: no later event changes them."""
    ended, state.closed = state.closed, []
    evidence, state.past_evidence = state.past_evidence, []
    products, state.products = state.products[:-1], state.products[-1:]
    return {"entitlement_source": ended, "entitlement_evidence": evidence, "product": products}


def _source_key(row: SourceRow) -> tuple[str, str, datetime]:
    return (row.source, row.item, row.valid_from)


def _evidence_key(row: EvidenceRow) -> tuple[str, str, datetime]:
    return (row.kind, row.key, row.valid_from)


def _product_changed(state: State, fact: Fact) -> None:
    product = identifier(fact.subject)
    if product is None or product != state.subject.key:
        return
    features = text_at(fact.subject.get("metadata"), "features") or ""
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


def _catalog_published(state: State, fact: Fact) -> None:
    number, content = amount(fact.subject.get("number")), text(fact.subject.get("content"))
    if number is not None and content is not None:
        state.catalogs[number] = CatalogRow(
            subject=state.subject.stream_id,
            book=state.subject.book,
            version=number,
            content=content,
            effective_from=told_time(fact.subject.get("effective_from")),
            published_at=fact.created,
            because=(fact.event_id,),
        )


_OBSERVATIONS: Final[dict[str, Callable[[State, Fact], None]]] = {
    "checkout.session.line_items": line_items_observed,
    "customer.active_entitlements": entitlements_observed,
    "invoice.lines": lines_observed,
    "subscription.items": items_observed,
}


def _observed(state: State, fact: Fact) -> None:
    """Take what Stripe was asked for because no event shows the whole of it."""
    if (change := _OBSERVATIONS.get(str(fact.subject.get("kind")))) is not None:
        change(state, fact)


_SUBSCRIPTION: Final = (
    "created updated deleted paused resumed pending_update_applied pending_update_expired trial_will_end"
)
_INVOICE: Final = "finalized paid payment_failed voided marked_uncollectible"
_DISPUTE: Final = "created updated closed funds_withdrawn funds_reinstated"
_REFUNDS: Final = ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated")

STEPS: Final[dict[str, Callable[[State, Fact], None]]] = {
    "customer.created": customer_changed,
    "customer.updated": customer_changed,
    "customer.deleted": customer_deleted,
    **{f"customer.subscription.{name}": subscription_changed for name in _SUBSCRIPTION.split()},
    "checkout.session.completed": session_changed,
    "checkout.session.async_payment_succeeded": session_changed,
    "checkout.session.async_payment_failed": session_changed,
    OBSERVED: _observed,
    **{f"invoice.{name}": invoice_changed for name in _INVOICE.split()},
    "invoice_payment.paid": invoice_payment_paid,
    "charge.captured": charge_captured,
    "charge.refunded": charge_refunded,
    **dict.fromkeys(_REFUNDS, refund_changed),
    **{f"charge.dispute.{name}": dispute_changed for name in _DISPUTE.split()},
    "entitlements.active_entitlement_summary.updated": summary_changed,
    "ledger.grant.created": grant_made,
    "ledger.grant.deleted": grant_revoked,
    "product.created": _product_changed,
    "product.updated": _product_changed,
    PUBLISHED: _catalog_published,
}
"""What each event type does. A type that is not here changes nothing."""

JOINS: Final = frozenset(
    {
        "invoice_payment.paid",
        "charge.captured",
        "charge.refunded",
        *_REFUNDS,
        *(f"charge.dispute.{name}" for name in _DISPUTE.split()),
    }
)
"""The types whose objects may name no customer."""

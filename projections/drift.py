"""Where Stripe's present objects differ from what the log knows of them, field by field. Pure.

Only fields that some projection folds are compared; changed descriptions, addresses and the like do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ledger.event import Json, identifier, mapping
from ledger.observation import OBSERVATIONS
from projections.causal import in_causal_order
from projections.facts import Fact, number
from projections.observed import type_of
from projections.shapes.invoice import invoice_of
from projections.shapes.subscription import items_of, planned_end

Told = dict[str, Any]
"""What of an object is compared, by field."""


@dataclass(frozen=True, slots=True)
class Drift:
    """An object that differs between the log and Stripe: by field, our value and Stripe's."""

    kind: str
    id: str
    customer: str | None
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    missing_event: str = ""

    @property
    def unknown(self) -> bool:
        """Whether the log knows nothing of the object."""
        return self.missing_event.endswith(".created")


def newest(facts: Iterable[Fact]) -> dict[str, Json]:
    """Return the last state of every object that some facts are about, by its id."""
    by_object: dict[str, list[Fact]] = {}
    for fact in facts:
        if key := identifier(fact.subject.get("id")):
            by_object.setdefault(key, []).append(fact)
    last = {key: in_causal_order(some)[-1] for key, some in by_object.items()}
    return {key: fact.subject | _GONE if fact.type in _ENDS else fact.subject for key, fact in last.items()}


_ENDS: Final = frozenset({"customer.deleted", "product.deleted"})
_GONE: Final = {"deleted": True}


def drift_of(known: Json | None, theirs: Json) -> Drift | None:
    """Compare what the log knows of an object with Stripe's present one; None where they agree."""
    kind, key = str(theirs.get("object")), identifier(theirs) or ""
    customer = key if kind == "customer" else identifier(theirs.get("customer"))
    if known is None:
        created = type_of({"object": kind, "deleted": True}).removesuffix("deleted") + "created"
        return Drift(kind, key, customer, {}, created)
    told, tell = TELLING[kind](known), TELLING[kind](theirs)
    fields = {name: (told.get(name), value) for name, value in tell.items() if told.get(name) != value}
    return Drift(kind, key, customer, fields, type_of(theirs)) if fields else None


def _checkout_session(source: Json) -> Told:
    return {
        "status": source.get("status"),
        "payment_status": source.get("payment_status"),
        "customer": identifier(source.get("customer")),
        "subscription": identifier(source.get("subscription")),
        "client_reference_id": source.get("client_reference_id"),
    }


def _customer(source: Json) -> Told:
    if source.get("deleted") is True:
        return {"deleted": True}
    return {
        "deleted": False,
        "balance": source.get("balance") or 0,
        "metadata": _words(source),
    }


def _subscription(source: Json) -> Told:
    items = {
        item.item: (item.product, item.price, None if item.quantity is None else str(item.quantity.normalize()))
        for item in items_of(source)
    }
    return {
        "status": source.get("status"),
        "customer": identifier(source.get("customer")),
        "items": items,
        "ends": planned_end(source),
        "discounts": _discounts(source),
        "pause_collection": mapping(source.get("pause_collection")).get("behavior"),
        "metadata": _words(source),
    }


def _discounts(source: Json) -> list[str]:
    held = source.get("discounts")
    found = [identifier(one) for one in (held if isinstance(held, list) else [source.get("discount")])]
    return sorted(one for one in found if one is not None)


def _invoice(source: Json) -> Told:
    invoice = invoice_of(source)
    if invoice is None:
        return {}
    return {
        "status": invoice.status,
        "customer": invoice.customer,
        "subscription": invoice.subscription,
        "currency": invoice.currency,
        "total": invoice.total,
        "amount_due": invoice.amount_due,
        "amount_paid": invoice.amount_paid,
        "amount_remaining": invoice.amount_remaining,
        "post_payment_credit_notes": invoice.post_payment_credit_notes,
        "attempt_count": invoice.attempt_count,
        "next_payment_attempt": invoice.next_payment_attempt,
    }


def _product(source: Json) -> Told:
    return {"deleted": source.get("deleted") is True, "active": source.get("active", True), "metadata": _words(source)}


def _price(source: Json) -> Told:
    recurring = mapping(source.get("recurring"))
    amount = number(source.get("unit_amount_decimal") or source.get("unit_amount"))
    return {
        "product": identifier(source.get("product")),
        "currency": source.get("currency"),
        "unit_amount": None if amount is None else str(amount.normalize()),
        "interval": recurring.get("interval"),
        "interval_count": recurring.get("interval_count"),
        "lookup_key": source.get("lookup_key"),
        "metadata": _words(source),
    }


def _coupon(source: Json) -> Told:
    percent = number(source.get("percent_off"))
    return {
        "percent_off": None if percent is None else str(percent.normalize()),
        "amount_off": source.get("amount_off"),
        "currency": source.get("currency"),
        "duration": source.get("duration"),
        "duration_in_months": source.get("duration_in_months"),
    }


def _words(source: Json) -> Json:
    return {name: value for name, value in mapping(source.get("metadata")).items() if value not in (None, "")}


TELLING: Final[dict[str, Callable[[Json], Told]]] = {
    "checkout.session": _checkout_session,
    "coupon": _coupon,
    "customer": _customer,
    "invoice": _invoice,
    "price": _price,
    "product": _product,
    "subscription": _subscription,
}
"""What is compared of each kind of object."""

_CHANGES: Final = ("created", "updated", "deleted")

TYPES: Final[dict[str, frozenset[str]]] = {
    "checkout.session": frozenset({
        f"checkout.session.{told}"
        for told in ("completed", "async_payment_succeeded", "async_payment_failed", "expired")
    }) | OBSERVATIONS,
    "coupon": frozenset({f"coupon.{told}" for told in _CHANGES}) | OBSERVATIONS,
    "customer": frozenset({f"customer.{told}" for told in _CHANGES}) | OBSERVATIONS,
    "invoice": frozenset({
        f"invoice.{told}"
        for told in (
            *_CHANGES, "finalized", "finalization_failed", "marked_uncollectible", "overdue", "overpaid", "paid",
            "payment_action_required", "payment_attempt_required", "payment_failed", "payment_succeeded", "sent",
            "voided", "will_be_due",
        )
    }) | OBSERVATIONS,
    "price": frozenset({f"price.{told}" for told in _CHANGES}) | OBSERVATIONS,
    "product": frozenset({f"product.{told}" for told in _CHANGES}) | OBSERVATIONS,
    "subscription": frozenset({
        f"customer.subscription.{told}"
        for told in (
            *_CHANGES, "paused", "resumed", "pending_update_applied", "pending_update_expired", "trial_will_end",
        )
    }) | OBSERVATIONS,
}  # fmt: skip
"""The types of the events that show an object of each kind."""

"""How a fold sees an observation: as the event that would have reported the same, or as a supplement (decision 15).

An answer that is one of Stripe's objects is shown as an event about that object: ``subject`` is the snapshot, and the
type is that of an event for a change to that state. So a fold of snapshots folds observations without noticing. What no
event ever shows (a whole list, a balance transaction) keeps the observation's type.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.event import Json, mapping
from ledger.observation import NAMES, OBSERVED

_FAMILY: Final = {
    "charge": "charge",
    "checkout.session": "checkout.session",
    "coupon": "coupon",
    "credit_note": "credit_note",
    "customer": "customer",
    "dispute": "charge.dispute",
    "invoice": "invoice",
    "payment_intent": "payment_intent",
    "payment_method": "payment_method",
    "payout": "payout",
    "plan": "plan",
    "price": "price",
    "product": "product",
    "promotion_code": "promotion_code",
    "refund": "refund",
    "subscription": "customer.subscription",
    "tax_rate": "tax_rate",
}
"""What the types of an object's events begin with."""

_BY_STATUS: Final = {
    "charge": {"succeeded": "succeeded", "failed": "failed", "pending": "pending"},
    "checkout.session": {"complete": "completed", "expired": "expired"},
    "invoice": {
        "open": "finalized",
        "paid": "paid",
        "void": "voided",
        "uncollectible": "marked_uncollectible",
    },
    "payment_intent": {
        "canceled": "canceled",
        "processing": "processing",
        "requires_action": "requires_action",
        "succeeded": "succeeded",
    },
    "subscription": {"canceled": "deleted", "paused": "paused"},
}
"""The change that leads to a status; any other state is one that an update led to."""


class Seen(NamedTuple):
    """An observation as a fold sees it."""

    type: str
    subject: Json


def seen_in(body: Json) -> Seen:
    """Return what an observation's parsed body shows: the object it is of, or a list of what was answered."""
    observation = mapping(mapping(body.get("data")).get("object"))
    responses = observation.get("responses")
    answers = [mapping(one) for one in responses] if isinstance(responses, list) else []
    if len(answers) == 1 and answers[0].get("object") == observation.get("kind"):
        return Seen(type_of(answers[0]), answers[0])
    whole: Json = {name: observation[name] for name in ("kind", "of", *NAMES) if name in observation}
    return Seen(OBSERVED, whole | {"object": "list", "data": [one for answer in answers for one in _parts(answer)]})


def _parts(answer: Json) -> list[Json]:
    page = answer.get("data") if answer.get("object") == "list" else [answer]
    return [one for one in page if isinstance(one, dict)] if isinstance(page, list) else []


def type_of(subject: Json) -> str:
    """Return the type of the event that a change to this state of an object sends."""
    kind = str(subject.get("object"))
    family = _FAMILY.get(kind)
    if family is None:
        return OBSERVED
    if subject.get("deleted") is True:
        return f"{family}.deleted"
    return f"{family}.{_BY_STATUS.get(kind, {}).get(str(subject.get('status')), 'updated')}"

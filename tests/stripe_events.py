"""Stripe events for tests: the least an event needs, signed as Stripe signs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from stripe import WebhookSignature

from ledger.event import NewEvent, Source, parse_envelope, received_event
from tests.conftest import SECRET

Json = dict[str, Any]


def event(
    event_id: str, type_: str, subject: Json, *, created: int = 1_768_000_000, live: bool = True, **more: Any
) -> Json:
    """Make a snapshot event; ``previous`` becomes ``previous_attributes``, other names stand in the envelope."""
    data: Json = {"object": subject}
    if "previous" in more:
        data["previous_attributes"] = more.pop("previous")
    return {
        "id": event_id,
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": created,
        "data": data,
        "livemode": live,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": type_,
    } | more


def subscription(
    subscription_id: str = "sub_1",
    *,
    customer: str = "cus_1",
    status: str = "active",
    items: str = "si_1:prod_1*1",
    **more: Any,
) -> Json:
    """Make a subscription; ``items`` reads ``si_1:prod_1*8 si_2:prod_2*1``."""
    return {
        "id": subscription_id,
        "object": "subscription",
        "customer": customer,
        "status": status,
        "items": {"object": "list", "data": [_item(text) for text in items.split()], "has_more": False},
        "metadata": {},
    } | more


def _item(text: str) -> Json:
    item, _, rest = text.partition(":")
    product, _, quantity = rest.partition("*")
    price = {"id": product.replace("prod", "price"), "object": "price", "product": product}
    return {"id": item, "object": "subscription_item", "quantity": int(quantity or 1), "price": price}


def product(product_id: str = "prod_1", features: str = "sso,seats=quantity") -> Json:
    """Make a product whose metadata says what it gives."""
    return {"id": product_id, "object": "product", "metadata": {"features": features}}


def body_of(content: Any) -> bytes:
    """Write an event as Stripe does: indented JSON."""
    return orjson.dumps(content, option=orjson.OPT_INDENT_2)


def new_event(content: Json, *, received_at: datetime | None = None) -> NewEvent:
    """Make the event that a webhook with this content appends."""
    body = body_of(content)
    return received_event(
        parse_envelope(body),
        body,
        platform_account="self",
        source=Source.WEBHOOK,
        received_at=received_at or datetime(2026, 1, 15, 12, tzinfo=UTC),
        signature="t=1,v1=00",
    )


def signature(body: bytes, at: datetime, secret: str = SECRET) -> dict[str, str]:
    """Return the headers Stripe sends with ``body``."""
    header = WebhookSignature.generate_signature_header(body.decode(), secret, int(at.timestamp()))
    return {"Stripe-Signature": header}

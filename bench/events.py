"""Events for benchmarks: subscriptions and invoices of 4 to 7 kB as Stripe writes them, every id its own."""

from __future__ import annotations

import random
from typing import Any

import orjson

Json = dict[str, Any]

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789"


class EventSource:
    """Makes bodies from a seed: the same seed, the same bytes."""

    def __init__(self, seed: int, customers: int = 2_000) -> None:
        self._rng = random.Random(seed)
        self._customers = [self._id("cus", 14) for _ in range(customers)]
        self._subscriptions: dict[str, Json] = {}
        self._number = 0

    def body(self) -> bytes:
        """Make one event's body, indented as Stripe's."""
        self._number += 1
        customer = self._rng.choice(self._customers)
        created = 1_760_000_000 + self._number // 4
        if self._number % 3:
            return self._event("customer.subscription.updated", self._subscription(customer, created), created)
        return self._event("invoice.paid", self._invoice(customer, created), created)

    def bodies(self, count: int) -> list[bytes]:
        """Make some events' bodies."""
        return [self.body() for _ in range(count)]

    def _id(self, prefix: str, length: int = 24) -> str:
        return f"{prefix}_" + "".join(self._rng.choices(_LETTERS, k=length))

    def _event(self, type_: str, subject: Json, created: int) -> bytes:
        event = {
            "id": self._id("evt"),
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": created,
            "data": {"object": subject, "previous_attributes": {"metadata": {"seen": str(created - 60)}}},
            "livemode": True,
            "pending_webhooks": self._rng.randint(0, 3),
            "request": {"id": self._id("req", 14), "idempotency_key": self._id("key", 30)},
            "type": type_,
        }
        return orjson.dumps(event, option=orjson.OPT_INDENT_2)

    def _subscription(self, customer: str, created: int) -> Json:
        """Change the customer's subscription a little, as updates do."""
        if customer not in self._subscriptions:
            self._subscriptions[customer] = self._new_subscription(customer, created)
        status = self._rng.choice(["active", "active", "active", "past_due", "trialing"])
        changed = {"latest_invoice": self._id("in"), "status": status}
        return self._subscriptions[customer] | changed

    def _new_subscription(self, customer: str, created: int) -> Json:
        subscription = self._id("sub")
        return {
            "id": subscription,
            "object": "subscription",
            "application": None,
            "application_fee_percent": None,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": created,
            "billing_cycle_anchor_config": None,
            "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "cancellation_details": {"comment": None, "feedback": None, "reason": None},
            "collection_method": "charge_automatically",
            "created": created - 86_400 * 40,
            "currency": "usd",
            "customer": customer,
            "days_until_due": None,
            "default_payment_method": self._id("pm"),
            "default_source": None,
            "default_tax_rates": [],
            "description": None,
            "discounts": [],
            "ended_at": None,
            "items": {
                "object": "list",
                "data": [self._item(subscription, created) for _ in range(2)],
                "has_more": False,
                "total_count": 2,
                "url": f"/v1/subscription_items?subscription={subscription}",
            },
            "latest_invoice": self._id("in"),
            "livemode": True,
            "metadata": {"org_id": f"org-{self._rng.randrange(900)}", "seen": str(created)},
            "next_pending_invoice_item_invoice": None,
            "on_behalf_of": None,
            "pause_collection": None,
            "payment_settings": {
                "payment_method_options": None,
                "payment_method_types": None,
                "save_default_payment_method": "on_subscription",
            },
            "pending_invoice_item_interval": None,
            "pending_setup_intent": None,
            "pending_update": None,
            "schedule": None,
            "start_date": created - 86_400 * 40,
            "status": "active",
            "test_clock": None,
            "transfer_data": None,
            "trial_end": None,
            "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
            "trial_start": None,
        }

    def _item(self, subscription: str, created: int) -> Json:
        price, product = self._id("price"), self._id("prod", 14)
        amount = self._rng.randrange(100, 99_000)
        return {
            "id": self._id("si", 14),
            "object": "subscription_item",
            "billing_thresholds": None,
            "created": created - 86_400 * 40,
            "current_period_end": created + 86_400 * 20,
            "current_period_start": created - 86_400 * 10,
            "discounts": [],
            "metadata": {},
            "price": {
                "id": price,
                "object": "price",
                "active": True,
                "billing_scheme": "per_unit",
                "created": created - 86_400 * 400,
                "currency": "usd",
                "custom_unit_amount": None,
                "livemode": True,
                "lookup_key": None,
                "metadata": {},
                "nickname": None,
                "product": product,
                "recurring": {
                    "interval": "month",
                    "interval_count": 1,
                    "meter": None,
                    "trial_period_days": None,
                    "usage_type": "licensed",
                },
                "tax_behavior": "exclusive",
                "tiers_mode": None,
                "transform_quantity": None,
                "type": "recurring",
                "unit_amount": amount,
                "unit_amount_decimal": str(amount),
            },
            "quantity": self._rng.randrange(1, 40),
            "subscription": subscription,
            "tax_rates": [],
        }

    def _invoice(self, customer: str, created: int) -> Json:
        invoice, subscription = self._id("in"), self._id("sub")
        total = self._rng.randrange(1_000, 90_000)
        return {
            "id": invoice,
            "object": "invoice",
            "account_country": "US",
            "account_name": "Example",
            "amount_due": total,
            "amount_overpaid": 0,
            "amount_paid": total,
            "amount_remaining": 0,
            "attempt_count": 1,
            "attempted": True,
            "auto_advance": False,
            "billing_reason": "subscription_cycle",
            "collection_method": "charge_automatically",
            "created": created,
            "currency": "usd",
            "customer": customer,
            "customer_email": f"billing-{self._number}@example.com",
            "customer_name": f"Customer {self._number}",
            "default_payment_method": None,
            "discounts": [],
            "due_date": None,
            "effective_at": created,
            "ending_balance": 0,
            "footer": None,
            "lines": {
                "object": "list",
                "data": [self._line(invoice, subscription, total // 2, created) for _ in range(2)],
                "has_more": False,
                "total_count": 2,
                "url": f"/v1/invoices/{invoice}/lines",
            },
            "livemode": True,
            "metadata": {},
            "next_payment_attempt": None,
            "number": f"A1B2C3-{self._number:04}",
            "parent": {
                "quote_details": None,
                "subscription_details": {"metadata": {}, "subscription": subscription},
                "type": "subscription_details",
            },
            "period_end": created,
            "period_start": created - 86_400 * 30,
            "starting_balance": 0,
            "status": "paid",
            "status_transitions": {
                "finalized_at": created,
                "marked_uncollectible_at": None,
                "paid_at": created,
                "voided_at": None,
            },
            "subtotal": total,
            "subtotal_excluding_tax": total,
            "total": total,
            "total_discount_amounts": [],
            "total_excluding_tax": total,
            "total_taxes": [],
            "webhooks_delivered_at": created,
        }

    def _line(self, invoice: str, subscription: str, amount: int, created: int) -> Json:
        return {
            "id": self._id("il"),
            "object": "line_item",
            "amount": amount,
            "currency": "usd",
            "description": f"{self._rng.randrange(1, 30)} x Team (at $31.00 / month)",
            "discount_amounts": [],
            "discountable": True,
            "discounts": [],
            "invoice": invoice,
            "livemode": True,
            "metadata": {},
            "parent": {
                "invoice_item_details": None,
                "subscription_item_details": {
                    "invoice_item": None,
                    "proration": False,
                    "proration_details": {"credited_items": None},
                    "subscription": subscription,
                    "subscription_item": self._id("si", 14),
                },
                "type": "subscription_item_details",
            },
            "period": {"end": created + 86_400 * 30, "start": created},
            "pretax_credit_amounts": [],
            "pricing": {
                "price_details": {"price": self._id("price"), "product": self._id("prod", 14)},
                "type": "price_details",
                "unit_amount_decimal": str(amount),
            },
            "quantity": 1,
            "taxes": [],
        }

"""Subscriptions and their items as Stripe writes them."""

from __future__ import annotations

from typing import Final

from ledger.simulator.objects import Item, Json, PendingUpdate, Subscription
from ledger.simulator.render import AUTOMATIC_TAX, ISSUER, filled, listed, template
from ledger.simulator.render_catalog import discount, plan, price, tax_rate

_ITEM: Final = template(
    "subscription_item",
    "billed_until billing_thresholds created current_period_end current_period_start plan price quantity subscription",
    discounts=[],
    metadata={},
    tax_rates=[],
)
_SUBSCRIPTION: Final = template(
    "subscription",
    "application application_fee_percent billing_cycle_anchor billing_cycle_anchor_config billing_thresholds "
    "cancel_at canceled_at created currency customer customer_account days_until_due default_payment_method "
    "default_source description ended_at latest_invoice next_pending_invoice_item_invoice on_behalf_of "
    "pause_collection pending_invoice_item_interval pending_setup_intent pending_update schedule start_date status "
    "status_details test_clock transfer_data trial_end trial_start items livemode _older",
    automatic_tax=AUTOMATIC_TAX,
    billing_mode={"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": None},
    billing_schedules=[],
    cancel_at_period_end=False,
    cancellation_details={"comment": None, "feedback": None, "feedback_option": None, "reason": None},
    collection_method="charge_automatically",
    default_tax_rates=[],
    discounts=[],
    invoice_settings={
        "account_tax_ids": None,
        "custom_fields": None,
        "description": None,
        "footer": None,
        "issuer": ISSUER,
    },
    metadata={},
    payment_settings={
        "payment_method_options": None,
        "payment_method_types": None,
        "save_default_payment_method": "off",
    },
    trial_settings={"end_behavior": {"billing_cycle_anchor": None, "missing_payment_method": "create_invoice"}},
)


def subscription(one: Subscription, livemode: bool) -> Json:
    """Write a subscription with all of its items."""
    details = {"comment": None, "feedback": None, "feedback_option": None, "reason": one.cancel_reason}
    return filled(
        _SUBSCRIPTION,
        id=one.id,
        livemode=livemode,
        billing_cycle_anchor=one.anchor,
        cancel_at=one.cancel_at,
        cancel_at_period_end=one.cancel_at_period_end,
        canceled_at=one.canceled_at,
        cancellation_details=details,
        collection_method=one.collection_method,
        created=one.created,
        currency=one.currency,
        customer=one.customer.id,
        days_until_due=30 if one.collection_method == "send_invoice" else None,
        default_payment_method=one.customer.card,
        default_tax_rates=[tax_rate(one.tax_rate, livemode)] if one.tax_rate else [],
        discounts=[one.discount.id] if one.discount else [],
        ended_at=one.ended_at,
        items=listed(
            [item(each, one, livemode) for each in one.items], f"/v1/subscription_items?subscription={one.id}"
        ),
        latest_invoice=one.latest_invoice,
        metadata={"org_id": one.org} if one.org else {},
        pause_collection={"behavior": one.pause_collection, "resumes_at": None} if one.pause_collection else None,
        pending_update=_pending(one.pending_update, one, livemode) if one.pending_update else None,
        start_date=one.created,
        status=one.status,
        status_details=_paused(one) if one.status == "paused" else None,
        trial_end=one.trial_end,
        trial_settings={
            "end_behavior": {"billing_cycle_anchor": None, "missing_payment_method": one.missing_payment_method}
        },
        trial_start=one.trial_start,
        _older={"discount": discount(one.discount, one.customer.id, one.id) if one.discount else None},
    )


def item(one: Item, of: Subscription, livemode: bool) -> Json:
    """Write one item, in its own period, and the trial it is on, if any."""
    trial = {"end_date": one.trial_end, "start_date": one.period_start, "trial_offer": f"to_{one.id[3:]}"}
    on_trial = {} if one.trial_end is None else {"current_trial": trial}
    return on_trial | filled(
        _ITEM,
        id=one.id,
        created=one.created,
        current_period_end=one.period_end,
        current_period_start=one.period_start,
        plan=plan(one.price, livemode),
        price=price(one.price, livemode),
        quantity=one.quantity,
        subscription=of.id,
    )


def _paused(one: Subscription) -> Json:
    return {
        "paused": {
            "subscription": {"type": one.paused_by},
            "transitioned_at": one.paused_at,
            "type": "subscription",
        }
    }


def _pending(pending: PendingUpdate, of: Subscription, livemode: bool) -> Json:
    return {
        "billing_cycle_anchor": None,
        "cancel_at_period_end": None,
        "discount": None,
        "discounts": None,
        "expires_at": pending.expires_at,
        "metadata": None,
        "subscription_items": [item(one, of, livemode) for one in pending.items],
        "trial_end": None,
        "trial_from_plan": None,
    }

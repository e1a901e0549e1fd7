"""Objects as older API versions had them (stripe-domain §2): each release's change undone, newest first.

The pinned version's object goes in; what a version before a release lacked is taken off, what it had is put back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from ledger.simulator import catalog, render_catalog
from ledger.simulator.objects import Json

ENDIVE: Final = "2026-10-28.endive"
BASIL: Final = "2025-03-31.basil"
V2024: Final = "2024-06-20"
V2020: Final = "2020-08-27"
VERSIONS: Final = (V2020, V2024, BASIL, ENDIVE)

Undo = Callable[[Json], None]

_COUPONS: Final = {one.id: one for one in catalog.COUPONS}
_PRICES: Final = {one.id: one for one in catalog.prices()}


def as_of_version(made: Json, version: str) -> Json:
    """Return an object as ``version`` wrote it; raises ``KeyError`` for a version the simulator does not know."""
    releases = _RELEASES[version]
    if not releases:
        return {key: value for key, value in made.items() if key != "_older"}
    older = made.copy()
    for release in releases:
        if (undo := release.get(older["object"])) is not None:
            undo(older)
    older.pop("_older", None)
    return _in_order(older)


def exists_in(type_: str, version: str) -> bool:
    """Tell whether a version sends events of this type at all."""
    return version in _SINCE.get(type_, VERSIONS)


def _in_order(made: Json) -> Json:
    first = {"id": made["id"]} if "id" in made else {}
    return first | {"object": made["object"]} | dict(sorted(made.items()))


def _without(*names: str) -> Undo:
    def undo(made: Json) -> None:
        for name in names:
            made.pop(name, None)

    return undo


def _before_endive_subscription(made: Json) -> None:
    for name in ("customer_account", "status_details", "billing_schedules"):
        made.pop(name)
    details = made["cancellation_details"].copy()
    del details["feedback_option"]
    made["cancellation_details"] = details


def _before_endive_invoice(made: Json) -> None:
    del made["customer_account"], made["status_details"]
    made["lines"] = made["lines"] | {"data": [_before_endive_line(line) for line in made["lines"]["data"]]}


def _before_endive_line(line: Json) -> Json:
    return {key: value for key, value in line.items() if key not in {"quantity_decimal", "subtotal"}}


def _before_endive_discount(made: Json) -> None:
    made["coupon"] = _coupon(made.pop("source")["coupon"])


@cache
def _coupon(key: str) -> Json:
    return render_catalog.coupon(_COUPONS[key], livemode=True)


@cache
def _price(key: str) -> Json:
    return render_catalog.price(_PRICES[key], livemode=True)


@cache
def _plan(key: str) -> Json:
    return render_catalog.plan(_PRICES[key], livemode=True)


def _before_basil_subscription(made: Json) -> None:
    items = made["items"]["data"]
    made["current_period_start"] = min(item["current_period_start"] for item in items)
    made["current_period_end"] = max(item["current_period_end"] for item in items)
    made["discount"] = _old_discount(made)
    if len(items) == 1:
        made["plan"], made["quantity"] = items[0]["plan"], items[0]["quantity"]


def _before_basil_invoice(made: Json) -> None:
    details = (made.pop("parent") or {}).get("subscription_details") or {}
    taxes = made.pop("total_taxes")
    outside = made["_older"]["out_of_band"]
    del made["amount_overpaid"]
    made |= {
        "subscription": details.get("subscription"),
        "subscription_details": {"metadata": details.get("metadata")},
        "charge": made["_older"]["charge"],
        "payment_intent": made["_older"]["payment_intent"],
        "paid": made["status"] == "paid",
        "paid_out_of_band": outside > 0,
        "amount_paid": made["amount_paid"] - outside,
        "amount_remaining": made["amount_remaining"] + outside,
        "quote": None,
        "discount": _old_discount(made),
        "transfer_data": None,
        "application_fee_amount": None,
        "tax": sum(tax["amount"] for tax in taxes) if taxes else None,
        "total_tax_amounts": [_old_tax(tax) for tax in taxes],
        "lines": made["lines"] | {"data": [_before_basil_line(line) for line in made["lines"]["data"]]},
    }


def _old_discount(made: Json) -> Json | None:
    discount = made["_older"]["discount"]
    return None if discount is None else as_of_version(discount, V2024)


def _before_basil_line(line: Json) -> Json:
    made = line.copy()
    parent, pricing, taxes = made.pop("parent"), made.pop("pricing"), made.pop("taxes")
    one_off = parent["type"] == "invoice_item_details"
    details = parent["invoice_item_details"] if one_off else parent["subscription_item_details"]
    price = pricing["price_details"]["price"]
    inclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    made |= {
        "amount_excluding_tax": made["amount"] - inclusive,
        "invoice_item": details["invoice_item"],
        "plan": _plan(price) if _PRICES[price].interval else None,
        "price": _price(price),
        "proration": details["proration"],
        "proration_details": details["proration_details"],
        "subscription_item": details.get("subscription_item"),
        "tax_amounts": [_old_tax(tax) for tax in taxes],
        "tax_rates": [],
        "type": "invoiceitem" if one_off else "subscription",
        "unit_amount_excluding_tax": pricing["unit_amount_decimal"],
    }
    return _in_order(made)


def _old_tax(tax: Json) -> Json:
    return {
        "amount": tax["amount"],
        "inclusive": tax["tax_behavior"] == "inclusive",
        "tax_rate": tax["tax_rate_details"]["tax_rate"],
        "taxability_reason": tax["taxability_reason"],
        "taxable_amount": tax["taxable_amount"],
    }


def _before_basil_payment(made: Json) -> None:
    made["invoice"] = made["_older"]["invoice"]


def _list_charges(made: Json) -> None:
    charges = [as_of_version(charge, V2020) for charge in made["_older"]["charges"]]
    made["charges"] = _whole_list(charges, f"/v1/charges?payment_intent={made['id']}")


def _list_refunds(made: Json) -> None:
    refunds = [as_of_version(refund, V2020) for refund in made["_older"]["refunds"]]
    made["refunds"] = _whole_list(refunds, f"/v1/charges/{made['id']}/refunds")


def _whole_list(data: list[Json], url: str) -> Json:
    return {"object": "list", "data": data, "has_more": False, "total_count": len(data), "url": url}


def _before_basil_invoice_item(made: Json) -> None:
    parent, pricing = made.pop("parent"), made.pop("pricing")
    details = parent["subscription_details"] if parent else {"subscription": None, "subscription_item": None}
    key = pricing["price_details"]["price"]
    made |= {
        "plan": _plan(key) if _PRICES[key].interval else None,
        "price": _price(key),
        "subscription": details["subscription"],
        "subscription_item": details["subscription_item"],
        "unit_amount": int(pricing["unit_amount_decimal"]),
        "unit_amount_decimal": pricing["unit_amount_decimal"],
    }


def _before_endive_credit_note(made: Json) -> None:
    for name in ("customer_account", "pre_payment_amount", "post_payment_amount"):
        del made[name]
    if made["type"] == "mixed":
        made["type"] = "post_payment"


def _before_basil_credit_note(made: Json) -> None:
    made["refund"] = made["_older"]["refund"]
    made["tax_amounts"] = [_old_tax(tax) for tax in made.pop("total_taxes")]
    del made["refunds"]
    lines = [line | {"tax_amounts": [_old_tax(tax) for tax in line["taxes"]]} for line in made["lines"]["data"]]
    made["lines"] = made["lines"] | {
        "data": [_in_order({key: value for key, value in line.items() if key != "taxes"}) for line in lines]
    }


_SESSION_SINCE_2024 = ("branding_settings", "wallet_options", "permissions", "origin_context", "collected_information")

_BEFORE_ENDIVE: Final[dict[str, Undo]] = {
    "subscription": _before_endive_subscription,
    "invoice": _before_endive_invoice,
    "discount": _before_endive_discount,
    "invoiceitem": _without("customer_account", "net_amount", "proration_details", "quantity_decimal"),
    "customer": _without("customer_account", "business_name", "individual_name"),
    "payment_intent": _without("customer_account", "excluded_payment_method_types"),
    "refund": _without("customer_account", "customer", "payment_method"),
    "dispute": _without("intended_submission_method"),
    "checkout.session": _without("customer_account", *_SESSION_SINCE_2024),
    "credit_note": _before_endive_credit_note,
    "payment_method": _without("customer_account"),
}
_BEFORE_BASIL: Final[dict[str, Undo]] = {
    "subscription": _before_basil_subscription,
    "invoice": _before_basil_invoice,
    "invoiceitem": _before_basil_invoice_item,
    "charge": _before_basil_payment,
    "payment_intent": _before_basil_payment,
    "credit_note": _before_basil_credit_note,
}
_BEFORE_2022_11: Final[dict[str, Undo]] = {"charge": _list_refunds, "payment_intent": _list_charges}

_RELEASES: Final[dict[str, tuple[dict[str, Undo], ...]]] = {
    ENDIVE: (),
    BASIL: (_BEFORE_ENDIVE,),
    V2024: (_BEFORE_ENDIVE, _BEFORE_BASIL),
    V2020: (_BEFORE_ENDIVE, _BEFORE_BASIL, _BEFORE_2022_11),
}
_SINCE: Final[dict[str, tuple[str, ...]]] = {
    "invoice_payment.paid": (BASIL, ENDIVE),
    "refund.failed": (BASIL, ENDIVE),
}

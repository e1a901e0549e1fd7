"""Products, prices, coupons, tax rates, customers and discounts as Stripe writes them."""

from __future__ import annotations

from typing import Final

from ledger.simulator.catalog import Coupon, Price, Product, TaxRate
from ledger.simulator.objects import Customer, Discount, Invoice, Json, Summary
from ledger.simulator.render import filled, listed, template

OPENED: Final = 1_600_000_000
"""When everything in the catalogue was created."""

_PRODUCT: Final = template(
    "product",
    "default_price description package_dimensions shippable statement_descriptor tax_code unit_label url",
    active=True,
    images=[],
    marketing_features=[],
    type="service",
    created=OPENED,
    updated=OPENED,
    livemode=True,
    name=None,
    metadata={},
)
_RECURRING: Final[Json] = {
    "interval": "month",
    "interval_count": 1,
    "meter": None,
    "trial_period_days": None,
    "usage_type": "licensed",
}
_PRICE: Final = template(
    "price",
    "custom_unit_amount lookup_key nickname product recurring tiers_mode transform_quantity unit_amount "
    "unit_amount_decimal currency livemode type",
    active=True,
    billing_scheme="per_unit",
    created=OPENED,
    metadata={},
    tax_behavior="unspecified",
)
_PLAN: Final = template(
    "plan",
    "amount amount_decimal currency interval meter nickname product tiers_mode transform_usage trial_period_days "
    "livemode",
    active=True,
    billing_scheme="per_unit",
    created=OPENED,
    interval_count=1,
    metadata={},
    usage_type="licensed",
)
_COUPON: Final = template(
    "coupon",
    "amount_off currency duration duration_in_months max_redemptions name percent_off redeem_by livemode",
    created=OPENED,
    metadata={},
    times_redeemed=0,
    valid=True,
)
_TAX_RATE: Final = template(
    "tax_rate",
    "country description display_name effective_percentage flat_amount inclusive jurisdiction jurisdiction_level "
    "percentage state tax_type livemode",
    active=True,
    created=OPENED,
    metadata={},
    rate_type="percentage",
)
_CUSTOMER: Final = template(
    "customer",
    "address business_name currency default_source description discount email individual_name name phone shipping "
    "test_clock created livemode customer_account",
    balance=0,
    delinquent=False,
    invoice_prefix=None,
    invoice_settings={},
    metadata={},
    next_invoice_sequence=1,
    preferred_locales=[],
    tax_exempt="none",
)
_DISCOUNT: Final = template(
    "discount",
    "checkout_session customer customer_account end invoice invoice_item promotion_code source start subscription "
    "subscription_item",
)


def product(one: Product, livemode: bool) -> Json:
    """Write a product; its metadata says what it gives."""
    return filled(_PRODUCT, id=one.id, livemode=livemode, name=one.name, metadata={"features": one.features})


def price(one: Price, livemode: bool) -> Json:
    """Write a price."""
    return filled(
        _PRICE,
        id=one.id,
        livemode=livemode,
        currency=one.currency,
        lookup_key=one.lookup_key,
        product=one.product.id,
        recurring=None if one.interval is None else _RECURRING | {"interval": one.interval},
        type="one_time" if one.interval is None else "recurring",
        billing_scheme="tiered" if one.tiers else "per_unit",
        tiers_mode="volume" if one.tiers else None,
        unit_amount=None if one.tiers else one.unit_amount,
        unit_amount_decimal=None if one.tiers else str(one.unit_amount),
    )


def plan(one: Price, livemode: bool) -> Json:
    """Write the plan that a recurring price still has beside it."""
    return filled(
        _PLAN,
        id=one.id,
        livemode=livemode,
        amount=None if one.tiers else one.unit_amount,
        amount_decimal=None if one.tiers else str(one.unit_amount),
        billing_scheme="tiered" if one.tiers else "per_unit",
        tiers_mode="volume" if one.tiers else None,
        currency=one.currency,
        interval=one.interval,
        product=one.product.id,
    )


def coupon(one: Coupon, livemode: bool) -> Json:
    """Write a coupon with its terms."""
    return filled(
        _COUPON,
        id=one.id,
        livemode=livemode,
        amount_off=one.amount_off,
        currency=one.currency,
        duration=one.duration,
        duration_in_months=one.months,
        name=one.key,
        percent_off=one.percent_off,
    )


def tax_rate(one: TaxRate, livemode: bool) -> Json:
    """Write a tax rate."""
    return filled(
        _TAX_RATE,
        id=one.id,
        livemode=livemode,
        display_name=one.key,
        effective_percentage=one.percentage,
        inclusive=one.inclusive,
        percentage=one.percentage,
    )


def tax_of(of: Invoice, amount: int, taxable: int) -> Json:
    """Write an invoice's tax on an amount."""
    rate = of.tax_rate
    return {
        "amount": amount,
        "tax_behavior": "inclusive" if rate is not None and rate.inclusive else "exclusive",
        "tax_rate_details": {"tax_rate": rate.id} if rate else None,
        "taxability_reason": "standard_rated",
        "taxable_amount": taxable,
        "type": "tax_rate_details",
    }


def customer(one: Customer, livemode: bool) -> Json:
    """Write a customer; a deleted one is no more than its id."""
    if one.deleted:
        return {"id": one.id, "object": "customer", "deleted": True}
    return filled(
        _CUSTOMER,
        id=one.id,
        livemode=livemode,
        balance=one.balance,
        created=one.created,
        currency=one.currency if one.invoices else None,
        email=email(one),
        name=f"Customer {one.number}",
        invoice_prefix=f"C{one.number:07d}",
        invoice_settings={
            "custom_fields": None,
            "default_payment_method": one.card,
            "footer": None,
            "rendering_options": None,
        },
        metadata={"org_id": one.org} if one.org else {},
        next_invoice_sequence=one.invoices + 1,
    )


def email(one: Customer) -> str:
    """Return an address under a domain that is reserved for examples."""
    return f"customer{one.number}@example.com"


def discount(one: Discount, customer_id: str, subscription_id: str | None) -> Json:
    """Write a discount: a coupon in use, named by its id."""
    return filled(
        _DISCOUNT,
        id=one.id,
        customer=customer_id,
        end=one.end,
        source={"coupon": one.coupon.id, "type": "coupon"},
        start=one.start,
        subscription=subscription_id,
    )


def summary(one: Summary, livemode: bool) -> Json:
    """Write the list of active entitlements; it has no id of its own."""
    data = [
        {
            "id": f"ent_{one.customer.id[4:]}{number}",
            "object": "entitlements.active_entitlement",
            "feature": f"feat_{feature}",
            "livemode": livemode,
            "lookup_key": feature,
        }
        for number, feature in enumerate(one.features)
    ]
    return {
        "object": "entitlements.active_entitlement_summary",
        "customer": one.customer.id,
        "entitlements": listed(data, f"/v1/customer/{one.customer.id}/entitlements"),
        "livemode": livemode,
    }

"""Prices, coupons and discounts, whatever API version wrote them (stripe-domain §2.2, §5.1)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from ledger.event import Json, identifier, mapping
from projections.facts import listing, number
from projections.shapes.common import amount, currency, first_id, moment, remembered, text


class Tier(NamedTuple):
    """A band of a tiered price: up to how many (None: all), at how much each, and how much for being in it."""

    up_to: Decimal | None
    unit: Decimal
    flat: Decimal


class Price(NamedTuple):
    """What one unit costs for how long. ``unit`` is exact, in the currency's smallest unit; None where tiers say it.

    ``interval`` is empty for what is bought once. ``divide_by`` packs the quantity: so many make one.
    """

    id: str | None
    product: str | None
    currency: str
    unit: Decimal | None
    tiered: bool
    tiers_mode: str | None
    tiers: tuple[Tier, ...]
    interval: str
    interval_count: int
    metered: bool
    divide_by: int | None
    round_up: bool
    tax_inclusive: bool


class Option(NamedTuple):
    """What a price costs in one of its currencies: a unit, or bands."""

    unit: Decimal | None
    tiers: tuple[Tier, ...]


class Coupon(NamedTuple):
    """What a coupon takes off: a share in percent, or an amount by currency. ``products`` are all it applies to."""

    id: str
    duration: str
    percent_off: Decimal | None
    amounts_off: tuple[tuple[str, int], ...]
    products: tuple[str, ...]

    def amount_off(self, currency_: str) -> int | None:
        """Return the amount off in a currency; None where the coupon has none in it."""
        return dict(self.amounts_off).get(currency_)


class Discount(NamedTuple):
    """A coupon in use, until ``end`` where it has one. ``terms`` is None where the discount only names its coupon."""

    id: str
    coupon: str | None
    terms: Coupon | None
    subscription: str | None
    item: str | None
    end: datetime | None


_DIGITS_MAX: Final = 40


def exact(value: object) -> Decimal | None:
    """Return a number of a size that prices and quantities have; None for any other: it could fill all memory."""
    return sensible(number(value))


def sensible(found: Decimal | None) -> Decimal | None:
    """Return a number if it is of a size that prices and quantities have."""
    return found if found is not None and abs(found.adjusted()) < _DIGITS_MAX else None


def price_of(item: Json) -> Price:
    """Read the price of a subscription's item: of its ``price``, and of its ``plan`` what that does not say."""
    return _price_of({"price": item.get("price"), "plan": item.get("plan")})


@remembered(1_000)
def _price_of(item: Json) -> Price:
    price, plan = mapping(item.get("price")), mapping(item.get("plan"))
    recurring = mapping(price.get("recurring")) or plan
    package = mapping(price.get("transform_quantity")) or mapping(plan.get("transform_usage"))
    stated = (
        price.get("unit_amount_decimal"),
        price.get("unit_amount"),
        plan.get("amount_decimal"),
        plan.get("amount"),
    )
    count, divide_by = amount(recurring.get("interval_count")), amount(package.get("divide_by"))
    return Price(
        id=first_id(item.get("price"), item.get("plan")),
        product=first_id(price.get("product"), plan.get("product")),
        currency=currency(price) or currency(plan),
        unit=next((found for found in map(exact, stated) if found is not None), None),
        tiered="tiered" in (price.get("billing_scheme"), plan.get("billing_scheme")),
        tiers_mode=text(price.get("tiers_mode")) or text(plan.get("tiers_mode")),
        tiers=tiers_of(price) or tiers_of(plan),
        interval=text(recurring.get("interval")) or "",
        interval_count=count if count is not None and count > 0 else 1,
        metered=recurring.get("usage_type") == "metered" or identifier(recurring.get("meter")) is not None,
        divide_by=divide_by if divide_by is not None and divide_by > 0 else None,
        round_up=package.get("round") == "up",
        tax_inclusive=price.get("tax_behavior") == "inclusive",
    )


def tiers_of(price: Json) -> tuple[Tier, ...]:
    """Read the bands of a price that shows them: they are only there when they were asked for."""
    return tuple(
        Tier(
            up_to=exact(one.get("up_to")),
            unit=_either(one, "unit_amount_decimal", "unit_amount"),
            flat=_either(one, "flat_amount_decimal", "flat_amount"),
        )
        for one in listing(price.get("tiers"))
    )


def option_of(price: Json | None, wanted: str) -> Option | None:
    """Read what a price costs in a currency, its own or another; None where nothing says so."""
    shown = mapping(price)
    if currency(shown) not in ("", wanted):
        shown = mapping(mapping(shown.get("currency_options")).get(wanted))
    unit = exact(shown.get("unit_amount_decimal"))
    option = Option(exact(shown.get("unit_amount")) if unit is None else unit, tiers_of(shown))
    return None if option == (None, ()) else option


def _either(source: Json, precise: str, whole: str) -> Decimal:
    found = exact(source.get(precise))
    return (exact(source.get(whole)) or Decimal(0)) if found is None else found


def coupon_of(source: object) -> Coupon | None:
    """Read a coupon's terms; None where only its id is there."""
    coupon = mapping(source)
    key = identifier(coupon.get("id"))
    if key is None or "duration" not in coupon:
        return None
    amounts = {currency(coupon): amount(coupon.get("amount_off"))}
    for name, option in mapping(coupon.get("currency_options")).items():
        amounts.setdefault(name.lower(), amount(mapping(option).get("amount_off")))
    products = mapping(coupon.get("applies_to")).get("products")
    return Coupon(
        id=key,
        duration=text(coupon.get("duration")) or "",
        percent_off=exact(coupon.get("percent_off")),
        amounts_off=tuple((name, off) for name, off in amounts.items() if off is not None),
        products=tuple(one for one in products if isinstance(one, str)) if isinstance(products, list) else (),
    )


def discount_of(source: Json) -> Discount | None:
    """Read a discount; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    named = mapping(source.get("source")).get("coupon") or source.get("coupon")
    return Discount(
        id=key,
        coupon=identifier(named),
        terms=coupon_of(named),
        subscription=identifier(source.get("subscription")),
        item=identifier(source.get("subscription_item")),
        end=moment(source.get("end")),
    )


def inclusive_percent(*holders: Json) -> Decimal | None:
    """Return the share in percent that tax rates add to a net price that contains them: of the first with any rates."""
    for holder in holders:
        rates = listing(holder.get("tax_rates")) or listing(holder.get("default_tax_rates"))
        if rates:
            contained = [exact(rate.get("percentage")) for rate in rates if rate.get("inclusive") is True]
            return sum((share for share in contained if share is not None), Decimal(0)) or None
    return None

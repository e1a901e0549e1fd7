"""What an item costs a month, as an exact fraction of the currency's smallest unit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from projections.mrr.agreement import Sold
from projections.shapes.price import Option, Price, Tier

MONTHS: Final = {
    "month": Fraction(1),
    "year": Fraction(1, 12),
    "week": Fraction(365, 84),
    "day": Fraction(365, 12),
}
"""How many of an interval a month has (stripe-domain §5.1)."""


class Billed(NamedTuple):
    """What an invoice line charged for a whole period of an item, in the subscription's currency, and the tax in it."""

    price: str | None
    quantity: Decimal | None
    amount: int
    taxed: int
    contained_tax: int
    at: datetime
    event: str


class Monthly(NamedTuple):
    """An item's worth before discounts, and what of it is not known for sure."""

    amount: Fraction
    contained_tax: Fraction
    incomplete: tuple[str, ...] = ()


def a_month(price: Price) -> Fraction:
    """Return how often a price is charged in a month."""
    return _a_month(price.interval, price.interval_count)


@lru_cache(maxsize=1_000)
def _a_month(interval: str, count: int) -> Fraction:
    return MONTHS.get(interval, Fraction(0)) / count


def monthly(sold: Sold, currency: str, option: Option | None, billed: Billed | None) -> Monthly:
    """Return an item's worth a month: its price's, or where that does not say it what it was last billed at.

    ``option`` is what the price is known to cost in the subscription's currency, where the item does not show it.
    ``contained_tax`` is what the price contains for each unit of net price; the amount still has it in.
    """
    if sold.price.metered:
        return Monthly(Fraction(0), Fraction(0))
    if sold.price.interval not in MONTHS:
        return Monthly(Fraction(0), Fraction(0), ("price",))
    charge, incomplete = _charge(sold, currency, option, billed)
    tax, unsure_tax = _contained_tax(sold, billed)
    return Monthly(charge * a_month(sold.price), tax, incomplete + unsure_tax)


def _charge(
    sold: Sold, currency: str, option: Option | None, billed: Billed | None
) -> tuple[Fraction, tuple[str, ...]]:
    """Return what one interval costs, and what of it is not known."""
    price = sold.price
    foreign = price.currency not in ("", currency)
    shown = None if foreign else Option(price.unit, price.tiers)
    for one in (shown, option):
        if one is not None and one.tiers:
            return banded(packed(sold.quantity, price), one.tiers, volume=price.tiers_mode == "volume"), ()
        if one is not None and one.unit is not None:
            return Fraction(one.unit) * packed(sold.quantity, price), ()
    return _as_billed(sold, billed, "currency" if foreign else "tiers")


def packed(quantity: Decimal, price: Price) -> Fraction:
    """Return how many units are charged for a quantity: packages where the price is for so many at once."""
    if price.divide_by is None:
        return Fraction(quantity)
    rounding = ROUND_CEILING if price.round_up else ROUND_FLOOR
    return Fraction((quantity / price.divide_by).to_integral_value(rounding))


def banded(quantity: Fraction, tiers: Sequence[Tier], *, volume: bool) -> Fraction:
    """Return the price of a quantity in bands: each band's share at its own price, or all at the band of the whole."""
    total, below = Fraction(0), Fraction(0)
    for tier in sorted(tiers, key=lambda tier: (tier.up_to is None, tier.up_to or Decimal(0))):
        up_to = quantity if tier.up_to is None else Fraction(tier.up_to)
        last = quantity <= up_to
        if volume and last:
            return Fraction(tier.unit) * quantity + Fraction(tier.flat)
        if not volume and (quantity > below or below == 0):
            total += Fraction(tier.unit) * (min(quantity, up_to) - below) + Fraction(tier.flat)
        if last:
            break
        below = up_to
    return total


def _as_billed(sold: Sold, billed: Billed | None, missing: str) -> tuple[Fraction, tuple[str, ...]]:
    """Return what the item was last billed at; a fixed unit price scales with the quantity, bands do not."""
    if billed is None or billed.price != sold.price.id:
        return Fraction(0), (missing,)
    if billed.quantity in (None, sold.quantity):
        return Fraction(billed.amount), ()
    was = packed(billed.quantity or Decimal(0), sold.price)
    if sold.price.tiered or was == 0:
        return Fraction(billed.amount), (missing,)
    return billed.amount * packed(sold.quantity, sold.price) / was, ()


def _contained_tax(sold: Sold, billed: Billed | None) -> tuple[Fraction, tuple[str, ...]]:
    if billed is not None and billed.taxed > 0 and billed.contained_tax == 0:
        return Fraction(0), ()  # nobody taxed it, whatever its rates say
    if sold.contained_tax is not None:
        return Fraction(sold.contained_tax) / 100, ()
    if billed is not None and billed.taxed > billed.contained_tax:
        return Fraction(billed.contained_tax, billed.taxed - billed.contained_tax), ()
    return Fraction(0), ("tax",) if sold.price.tax_inclusive else ()

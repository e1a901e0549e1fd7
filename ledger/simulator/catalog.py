"""What the simulated company sells: products with their features, prices by currency and interval, coupons, tax."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final, Literal

Interval = Literal["week", "month", "year"]

CURRENCIES: Final = ("usd", "eur", "jpy", "kwd", "gbp")
PRICED_IN: Final = {"gbp": "usd"}
"""Currencies that have no prices of their own: they are an option of a price in another one."""


@dataclass(frozen=True, slots=True)
class Product:
    """Something sold. ``features`` is the metadata that says what it gives."""

    key: str
    name: str
    features: str

    @property
    def id(self) -> str:
        """Stripe's id of it."""
        return f"prod_{self.key}"


@dataclass(frozen=True, slots=True)
class Tier:
    """What each unit costs where there are up to so many; None: any number."""

    up_to: int | None
    unit_amount: int


@dataclass(frozen=True, slots=True)
class Price:
    """A price for one unit, in the currency's smallest unit; ``interval`` is None for what is bought once.

    With ``tiers`` the whole quantity costs what the tier says that it falls into. ``options`` are other currencies.
    """

    product: Product
    currency: str
    unit_amount: int
    interval: Interval | None
    tiers: tuple[Tier, ...] = ()
    options: tuple[tuple[str, int], ...] = ()

    @property
    def id(self) -> str:
        """Stripe's id of it."""
        return f"price_{self.lookup_key}"

    @property
    def lookup_key(self) -> str:
        """The name the company's own code knows it by."""
        return f"{self.product.key}_{self.interval or 'once'}_{self.currency}"

    def unit(self, quantity: int, currency: str) -> int:
        """Return what one of so many costs in a currency."""
        for tier in self.tiers:
            if tier.up_to is None or quantity <= tier.up_to:
                return tier.unit_amount
        return self.unit_amount if currency == self.currency else dict(self.options)[currency]

    def amount(self, quantity: int, currency: str) -> int:
        """Return what so many cost in a currency."""
        return self.unit(quantity, currency) * quantity


@dataclass(frozen=True, slots=True)
class Coupon:
    """Money off: a share or an amount, once, for some months, or for ever."""

    key: str
    duration: Literal["once", "repeating", "forever"]
    percent_off: int | None = None
    amount_off: int | None = None
    currency: str | None = None
    months: int | None = None

    @property
    def id(self) -> str:
        """Stripe's id of it."""
        return f"coupon_{self.key}"

    def off(self, amount: int) -> Fraction:
        """Return what it takes off an amount; never more than there is."""
        if self.percent_off is not None:
            return Fraction(amount * self.percent_off, 100)
        return Fraction(min(self.amount_off or 0, max(amount, 0)))


@dataclass(frozen=True, slots=True)
class TaxRate:
    """A tax, on top of the price or contained in it."""

    key: str
    percentage: int
    inclusive: bool

    @property
    def id(self) -> str:
        """Stripe's id of it."""
        return f"txr_{self.key}"


STARTER: Final = Product("starter", "Starter", "basic")
TEAM: Final = Product("team", "Team", "basic,sso,seats=quantity")
STORAGE: Final = Product("storage", "Extra storage", "storage_gb=quantity*10")
SUPPORT: Final = Product("support", "Priority support", "priority_support")
COURSE: Final = Product("course", "Course", "course")
ARCHIVE: Final = Product("archive", "Archive", "archive_gb=quantity*100")
SETUP: Final = Product("setup", "Setup by an expert", "setup_done")
PRODUCTS: Final = (STARTER, TEAM, STORAGE, SUPPORT, COURSE, ARCHIVE, SETUP)

_UNIT_AMOUNTS: Final[dict[tuple[Product, Interval | None], int]] = {
    (STARTER, "month"): 900,
    (STARTER, "year"): 9_000,
    (TEAM, "month"): 1_500,
    (TEAM, "year"): 15_000,
    (TEAM, "week"): 400,
    (STORAGE, "month"): 310,
    (SUPPORT, "year"): 12_100,
    (COURSE, None): 4_900,
    (ARCHIVE, "month"): 210,
    (SETUP, None): 14_900,
}
_TIERS: Final = ((5, Fraction(1)), (20, Fraction(9, 10)), (None, Fraction(2, 3)))
"""Up to how many, at what share of the first tier's price: an archive gets cheaper by its size."""

_FOR_A_CENT: Final = {"jpy": Fraction(3, 2), "kwd": Fraction(3), "gbp": Fraction(4, 5)}
SMALLEST: Final = {"kwd": 10}
"""The smallest step of an amount that can be charged, where it is not one."""

COUPONS: Final = (
    Coupon("launch", "once", percent_off=50),
    Coupon("friends", "repeating", percent_off=25, months=3),
    Coupon("founders", "forever", percent_off=20),
    Coupon("five_off", "forever", amount_off=500, currency="usd"),
)
TAX_RATES: Final = (TaxRate("sales", 8, inclusive=False), TaxRate("vat", 19, inclusive=True))


@cache
def price(product: Product, interval: Interval | None, currency: str) -> Price:
    """Return the price of a product; raises ``KeyError`` where it is not sold like that."""
    own = PRICED_IN.get(currency, currency)
    unit = _in(_UNIT_AMOUNTS[product, interval], own)
    tiers = tuple(Tier(up_to, round(unit * share)) for up_to, share in _TIERS) if product is ARCHIVE else ()
    others = [other for other, priced in PRICED_IN.items() if priced == own and not tiers]
    options = tuple((other, _in(_UNIT_AMOUNTS[product, interval], other)) for other in others)
    return Price(product, own, unit, interval, tiers, options)


def _in(cents: int, currency: str) -> int:
    return int(cents * _FOR_A_CENT.get(currency, Fraction(1)))


def charged(exact: Fraction, currency: str) -> int:
    """Round an amount to what can be charged, half to even."""
    step = SMALLEST.get(currency, 1)
    return round(exact / step) * step


def prices() -> Iterator[Price]:
    """List every price of the company."""
    for product, interval in _UNIT_AMOUNTS:
        for currency in CURRENCIES:
            if currency not in PRICED_IN:
                yield price(product, interval, currency)


def price_named(lookup_key: str) -> Price:
    """Return a price by its lookup key, such as ``team_month_usd``; raises ``KeyError``."""
    return {one.lookup_key: one for one in prices()}[lookup_key]

"""What the simulated company sells: products with their features, prices by currency and interval, coupons, tax."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

Interval = Literal["week", "month", "year"]

CURRENCIES: Final = ("usd", "eur", "jpy")


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
class Price:
    """A price for one unit, in the currency's smallest unit; ``interval`` is None for what is bought once."""

    product: Product
    currency: str
    unit_amount: int
    interval: Interval | None

    @property
    def id(self) -> str:
        """Stripe's id of it."""
        return f"price_{self.lookup_key}"

    @property
    def lookup_key(self) -> str:
        """The name the company's own code knows it by."""
        return f"{self.product.key}_{self.interval or 'once'}_{self.currency}"


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
PRODUCTS: Final = (STARTER, TEAM, STORAGE, SUPPORT, COURSE)

_UNIT_AMOUNTS: Final[dict[tuple[Product, Interval | None], int]] = {
    (STARTER, "month"): 900,
    (STARTER, "year"): 9_000,
    (TEAM, "month"): 1_500,
    (TEAM, "year"): 15_000,
    (TEAM, "week"): 400,
    (STORAGE, "month"): 310,
    (SUPPORT, "year"): 12_100,
    (COURSE, None): 4_900,
}
_JPY_PER_CENT: Final = Fraction(3, 2)

COUPONS: Final = (
    Coupon("launch", "once", percent_off=50),
    Coupon("friends", "repeating", percent_off=25, months=3),
    Coupon("founders", "forever", percent_off=20),
    Coupon("five_off", "forever", amount_off=500, currency="usd"),
)
TAX_RATES: Final = (TaxRate("sales", 8, inclusive=False), TaxRate("vat", 19, inclusive=True))


def price(product: Product, interval: Interval | None, currency: str) -> Price:
    """Return the price of a product; raises ``KeyError`` where it is not sold like that."""
    cents = _UNIT_AMOUNTS[product, interval]
    return Price(product, currency, int(cents * _JPY_PER_CENT) if currency == "jpy" else cents, interval)


def prices() -> Iterator[Price]:
    """List every price of the company."""
    for product, interval in _UNIT_AMOUNTS:
        for currency in CURRENCIES:
            yield price(product, interval, currency)


def price_named(lookup_key: str) -> Price:
    """Return a price by its lookup key, such as ``team_month_usd``; raises ``KeyError``."""
    return {one.lookup_key: one for one in prices()}[lookup_key]

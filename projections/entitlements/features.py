"""What a product gives while no catalog is published: its metadata's ``features`` and a feature named by its id."""

from __future__ import annotations

import functools
import re
from decimal import Decimal

from projections.catalog import Given
from projections.shapes.price import exact

_GIVEN = re.compile(
    r"\s*(?P<name>[^=]*[^=\s])\s*(?:=\s*(?P<amount>quantity|\d{1,15})(?:\s*\*\s*(?P<times>\d{1,15}))?\s*)?"
)


@functools.lru_cache(maxsize=4_096)
def features_given(features: str, product: str | None, price: str | None) -> tuple[Given, ...]:
    """Return what a product with this ``features`` text gives, each feature once.

    ``"sso,seats=quantity"`` gives sso, and as many seats as the item's quantity; ``seats=quantity*10`` and
    ``seats=5`` work too. Malformed parts are ignored. The product's own id (the price's, if only that is known) is a
    feature as well.
    """
    given: dict[str, Given] = {}
    for part in features.split(","):
        if match := _GIVEN.fullmatch(part):
            given.setdefault(match["name"], _given(match))
    if own := product or price:
        given.setdefault(own, Given(own, "boolean"))
    return tuple(given.values())


def _given(match: re.Match[str]) -> Given:
    amount, times = match["amount"], Decimal(match["times"] or 1)
    if amount is None:
        return Given(match["name"], "boolean")
    if amount == "quantity":
        return Given(match["name"], "quantity", times, per_unit=True)
    return Given(match["name"], "quantity", Decimal(amount) * times)


def granted_by_hand(feature: str, value: str | None) -> Given:
    """Return what a grant gives: a yes, an amount where the value is a number, else a choice."""
    if value is None:
        return Given(feature, "boolean")
    amount = exact(value)
    return Given(feature, "choice", choice=value) if amount is None else Given(feature, "quantity", amount)

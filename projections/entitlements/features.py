"""What a product gives while no catalog is published: its metadata's ``features`` and a feature named by its id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Kind = Literal["boolean", "quantity"]

_GIVEN = re.compile(
    r"\s*(?P<name>[^=]*[^=\s])\s*(?:=\s*(?P<amount>quantity|\d{1,15})(?:\s*\*\s*(?P<times>\d{1,15}))?\s*)?"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A feature as one source gives it: yes, an amount, or an amount for each unit of the item's quantity."""

    feature: str
    kind: Kind
    amount: Decimal | None = None
    per_unit: bool = False

    def value(self, quantity: Decimal | None) -> Decimal | None:
        """Return how much of the feature an item of ``quantity`` gives; None where that is metered."""
        if self.amount is None or not self.per_unit:
            return self.amount
        return None if quantity is None else self.amount * quantity


def features_given(features: str, product: str | None, price: str | None) -> list[Given]:
    """Return what a product with this ``features`` text gives, each feature once.

    ``"sso,seats=quantity"`` gives sso, and as many seats as the item's quantity; ``seats=quantity*10`` and
    ``seats=5`` work too. Parts that say nothing of the kind are passed over. The product's own id (the price's
    where only that is known) is a feature as well.
    """
    given: dict[str, Given] = {}
    for part in features.split(","):
        if match := _GIVEN.fullmatch(part):
            given.setdefault(match["name"], _given(match))
    if own := product or price:
        given.setdefault(own, Given(own, "boolean"))
    return list(given.values())


def _given(match: re.Match[str]) -> Given:
    amount, times = match["amount"], Decimal(match["times"] or 1)
    if amount is None:
        return Given(match["name"], "boolean")
    if amount == "quantity":
        return Given(match["name"], "quantity", times, per_unit=True)
    return Given(match["name"], "quantity", Decimal(amount) * times)

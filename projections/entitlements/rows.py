"""The rows of the entitlement projection, as the fold makes them and as readers get them back."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple


class SourceRow(NamedTuple):
    """What one item of one subscription was from ``valid_from`` until ``valid_to`` (None: until now).

    Half-open. A status that grants nothing is a row too: it is the reason for a no. ``ends_at`` is a planned end.
    """

    subject: str
    book: str
    customer: str
    kind: str
    source: str
    item: str
    product: str | None
    price: str | None
    quantity: Decimal | None
    status: str
    org: str | None
    ends_at: datetime | None
    valid_from: datetime
    valid_to: datetime | None
    because: tuple[str, ...]

    def holds_at(self, at: datetime) -> bool:
        """Tell whether the row describes the state at ``at``."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


class ProductRow(NamedTuple):
    """A product's ``features`` metadata from ``valid_from`` until ``valid_to`` (None: until now)."""

    subject: str
    book: str
    product: str
    features: str
    valid_from: datetime
    valid_to: datetime | None
    because: tuple[str, ...]

    def holds_at(self, at: datetime) -> bool:
        """Tell whether the row describes the product at ``at``."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)

"""The rows of the entitlement projection, as the fold makes them and as readers get them back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from projections.contract import Row


@dataclass(frozen=True, slots=True)
class SourceRow:
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

    def columns(self) -> Row:
        """Return the row's values in the order of its table's columns."""
        return tuple(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class ProductRow:
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

    def columns(self) -> Row:
        """Return the row's values in the order of its table's columns."""
        return tuple(getattr(self, name) for name in self.__slots__)

"""The rows of the entitlement projection, as the fold makes them and as readers get them back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

ORG_PREFIX = "org:"

NAME_CHARACTERS_MAX = 500
"""As long as a name that is asked for may be; Stripe takes no longer values of metadata."""

CUSTOMER_ITSELF = ""
"""Stands for the customer itself where an organisation is said of no single source."""


class SourceRow(NamedTuple):
    """What one source gave from ``valid_from`` until ``valid_to`` (None: until now), half-open.

    ``kind``: ``subscription`` (an item of one), ``purchase`` (``source`` is the Checkout session, or the invoice with
    its line as ``item``), ``grant`` (by hand) or ``stripe`` (its own entitlements; ``item`` is the feature). A status
    that grants nothing is a row too: it is the reason for a no. ``ends_at`` is a planned end, which takes nothing;
    ``expires_at`` is one that comes by time alone. ``feature`` and ``value`` are what a grant gives itself.
    """

    subject: str
    book: str
    customer: str
    kind: str
    source: str
    item: str
    product: str | None
    price: str | None
    lookup_key: str | None
    quantity: Decimal | None
    feature: str | None
    value: str | None
    status: str
    status_since: datetime
    ends_at: datetime | None
    expires_at: datetime | None
    note: str | None
    valid_from: datetime
    valid_to: datetime | None
    because: tuple[str, ...]

    def holds_at(self, at: datetime) -> bool:
        """Tell whether the row describes the state at ``at``."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


class EvidenceRow(NamedTuple):
    """What bears on a source's access or explains it, from ``valid_from`` until ``valid_to``.

    ``kind``: ``owed`` (``key`` is an invoice, not the first one, whose payment failed or is overdue), ``paid`` (it has
    once paid something), ``refunded`` and ``disputed`` (``key`` is the invoice, which covers a period), by policy
    alone; ``removed`` (``key`` is an item that is gone from its source).
    """

    subject: str
    book: str
    source: str
    kind: str
    key: str
    covers_from: datetime | None
    covers_to: datetime | None
    valid_from: datetime
    valid_to: datetime | None
    because: tuple[str, ...]

    def holds_at(self, at: datetime) -> bool:
        """Tell whether the row describes the state at ``at``."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


class OrgRow(NamedTuple):
    """Which organisation a source (or the customer itself) belonged to; None: to none any more."""

    subject: str
    book: str
    customer: str
    source: str
    org: str | None
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


class CatalogRow(NamedTuple):
    """A published catalog: its text, and from when it holds (None: from the beginning of time)."""

    subject: str
    book: str
    version: int
    content: str
    effective_from: datetime | None
    published_at: datetime
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holdings:
    """All there is to know of one holder, a customer or an organisation (``org:NAME``), whatever the moment.

    ``sources`` are its customers' and its own grants, and with a customer also the grants of every organisation that
    ``orgs`` names; which of them count at a moment is for the answer to say. ``products`` are those of the sources.
    """

    holder: str
    sources: tuple[SourceRow, ...] = ()
    evidence: tuple[EvidenceRow, ...] = ()
    orgs: tuple[OrgRow, ...] = ()
    products: tuple[ProductRow, ...] = ()

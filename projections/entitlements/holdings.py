"""What customers and organisations hold, many at a time: the rows that every answer about them is made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg

from projections.entitlements.answer import Answer, answer_all
from projections.entitlements.query import ORG_PREFIX, Moment, stream_of_customer
from projections.entitlements.rows import ProductRow, SourceRow

SOURCES: Final = """
SELECT subject, book, customer, kind, source, item, product, price, quantity, status, org, ends_at,
       valid_from, valid_to, because
FROM entitlement_source
WHERE subject = ANY ($1)
ORDER BY source, item, valid_from
"""

ORG_SOURCES: Final = """
SELECT subject, book, customer, kind, source, item, product, price, quantity, status, org, ends_at,
       valid_from, valid_to, because
FROM entitlement_source
WHERE book = $1 AND org = ANY ($2)
ORDER BY source, item, valid_from
"""

PRODUCTS: Final = """
SELECT subject, book, product, features, valid_from, valid_to, because
FROM product
WHERE subject = ANY ($1)
ORDER BY product, valid_from
"""


@dataclass(slots=True)
class Holding:
    """One customer's or organisation's rows."""

    sources: list[SourceRow] = field(default_factory=list)
    products: list[ProductRow] = field(default_factory=list)

    def answers(self, now: datetime) -> list[Answer]:
        """Answer for every feature at ``now``."""
        return answer_all(self.sources, self.products, Moment(now).among(self.sources))

    @property
    def orgs(self) -> frozenset[str]:
        """The organisations its rows are in, at any time."""
        return frozenset(row.org for row in self.sources if row.org)

    def next_after(self, now: datetime) -> datetime | None:
        """Return the next moment at which an answer may change by time alone."""
        at = Moment(now).among(self.sources)
        rows: list[SourceRow | ProductRow] = [*self.sources, *self.products]
        moments = [moment for row in rows for moment in (row.valid_from, row.valid_to) if moment and moment > at]
        return min(moments, default=None)


async def read_holdings(connection: asyncpg.Connection, book: str, customers: Iterable[str]) -> dict[str, Holding]:
    """Read what customers and organisations hold. The build's schema must be entered."""
    found = {customer: Holding() for customer in customers}
    orgs = [one.removeprefix(ORG_PREFIX) for one in found if one.startswith(ORG_PREFIX)]
    subjects = [stream_of_customer(book, one) for one in found if not one.startswith(ORG_PREFIX)]
    for row in await connection.fetch(SOURCES, subjects) if subjects else ():
        source = _source(row)
        found[source.subject.removeprefix(f"{book}/")].sources.append(source)
    for row in await connection.fetch(ORG_SOURCES, book, orgs) if orgs else ():
        found[f"{ORG_PREFIX}{row['org']}"].sources.append(_source(row))
    products = await _read_products(connection, book, found.values())
    for holding in found.values():
        held = sorted({row.product for row in holding.sources if row.product})
        holding.products = [row for product in held for row in products.get(product, ())]
    return found


async def _read_products(
    connection: asyncpg.Connection, book: str, holdings: Iterable[Holding]
) -> dict[str, list[ProductRow]]:
    held = {row.product for holding in holdings for row in holding.sources if row.product}
    products: dict[str, list[ProductRow]] = {}
    for row in await connection.fetch(PRODUCTS, sorted(stream_of_customer(book, one) for one in held)) if held else ():
        products.setdefault(row["product"], []).append(ProductRow(**{**row, "because": tuple(row["because"])}))
    return products


def _source(row: asyncpg.Record) -> SourceRow:
    return SourceRow(**{**row, "because": tuple(row["because"])})

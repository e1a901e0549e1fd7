"""Reading entitlements: the live rows of a customer or an organisation, or a fold over what was known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from projections.builds import Freshness, any_parked, enter_build
from projections.contract import Projection, Row, Subject
from projections.entitlements.answer import Answer, answer_all
from projections.entitlements.rows import ProductRow, SourceRow
from projections.folding import rows_of
from projections.reading import read_histories

ORG_PREFIX: Final = "org:"

CUSTOMER_SOURCES = """
SELECT subject, book, customer, kind, source, item, product, price, quantity, status, org, ends_at,
       valid_from, valid_to, because
FROM entitlement_source
WHERE subject = $1
ORDER BY source, item, valid_from
"""

ORG_SOURCES = """
SELECT subject, book, customer, kind, source, item, product, price, quantity, status, org, ends_at,
       valid_from, valid_to, because
FROM entitlement_source
WHERE book = $1 AND org = $2
ORDER BY source, item, valid_from
"""

PRODUCTS = """
SELECT subject, book, product, features, valid_from, valid_to, because
FROM product
WHERE subject = ANY ($1)
ORDER BY product, valid_from
"""

CUSTOMER_KNOWN = "SELECT EXISTS (SELECT FROM ledger.event WHERE stream_id = $1)"


@dataclass(frozen=True, slots=True)
class Entitlements:
    """Every feature that was ever given to a customer or organisation, answered for one moment."""

    customer: str
    org: str | None
    known: bool
    answers: list[Answer]
    freshness: Freshness
    parked: bool


def stream_of_customer(book: str, customer: str) -> str:
    """Name the stream of a customer."""
    return f"{book}/{customer}"


@dataclass(frozen=True, slots=True)
class Moment:
    """The moment asked about: a given one, or the present.

    The present is never before the newest fact: Stripe's clock may be ahead of ours, and a test clock far ahead.
    """

    now: datetime
    as_of: datetime | None = None

    def among(self, sources: Iterable[SourceRow]) -> datetime:
        """Return the instant at which to evaluate ``sources``."""
        return self.as_of or max([self.now, *(row.valid_from for row in sources)])


async def read_entitlements(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    customer: str,
    moment: Moment,
    build_id: str | None = None,
) -> Entitlements:
    """Answer from the live build's rows (or a kept one's).

    Needs a transaction, so that registry and rows are of one snapshot.
    """
    freshness = await enter_build(connection, projection.name, book, build_id)
    if freshness.build is None:
        return Entitlements(customer, None, False, [], freshness, False)
    if customer.startswith(ORG_PREFIX):
        rows = await connection.fetch(ORG_SOURCES, book, customer.removeprefix(ORG_PREFIX))
    else:
        rows = await connection.fetch(CUSTOMER_SOURCES, stream_of_customer(book, customer))
    sources = [_source(row) for row in rows]
    products = await connection.fetch(PRODUCTS, _product_streams(book, sources))
    subjects = sorted({source.subject for source in sources} | {stream_of_customer(book, customer)})
    parked = await any_parked(connection, freshness.build, subjects)
    known = bool(sources) or bool(await connection.fetchval(CUSTOMER_KNOWN, stream_of_customer(book, customer)))
    return _entitlements(customer, sources, [_product(row) for row in products], moment, freshness, known, parked)


async def fold_known(
    connection: asyncpg.Connection, projection: Projection, book: str, customer: str, moment: Moment, position: int
) -> Entitlements:
    """Answer with today's code from what had been recorded by ``position``: folds the customer's history now."""
    sources = await _fold_known(connection, projection, book, [stream_of_customer(book, customer)], position)
    found = [SourceRow(*row) for row in sources["entitlement_source"]]
    folded = await _fold_known(connection, projection, book, _product_streams(book, found), position)
    products = [ProductRow(*row) for row in folded["product"]]
    freshness = await enter_build(connection, projection.name, book)
    known = Freshness(book, freshness.build, position, freshness.head, None)
    return _entitlements(customer, found, products, moment, known, bool(found), False)


async def _fold_known(
    connection: asyncpg.Connection, projection: Projection, book: str, streams: list[str], position: int
) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {table.name: [] for table in projection.tables}
    histories = await read_histories(connection, projection.types, streams, position)
    for stream_id, facts in histories.items():
        for table, some in rows_of(projection, Subject(book, stream_id), facts).items():
            rows[table] += some
    return rows


def _entitlements(
    customer: str,
    sources: list[SourceRow],
    products: list[ProductRow],
    moment: Moment,
    freshness: Freshness,
    known: bool,
    parked: bool,
) -> Entitlements:
    at = moment.among(sources)
    if customer.startswith(ORG_PREFIX):
        org: str | None = customer.removeprefix(ORG_PREFIX)
    else:
        org = next((row.org for row in sources if row.org and row.holds_at(at)), None)
    return Entitlements(customer, org, known, answer_all(sources, products, at), freshness, parked)


def _product_streams(book: str, sources: Iterable[SourceRow]) -> list[str]:
    return sorted({stream_of_customer(book, row.product) for row in sources if row.product})


def _source(row: asyncpg.Record) -> SourceRow:
    columns = dict(row)
    columns["because"] = tuple(columns["because"])
    return SourceRow(**columns)


def _product(row: asyncpg.Record) -> ProductRow:
    columns = dict(row)
    columns["because"] = tuple(columns["because"])
    return ProductRow(**columns)

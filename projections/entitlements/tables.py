"""The tables of the entitlement projection, the view people read, and the projection itself."""

from __future__ import annotations

from functools import partial
from typing import Final

from ledger.observation import OBSERVED
from projections.contract import Projection, Table
from projections.entitlements import fold
from projections.entitlements.rows import ProductRow, SourceRow

NAME: Final = "entitlements"
VERSION: Final = 3

SOURCES: Final = Table(
    name="entitlement_source",
    columns=SourceRow._fields,
    create="""
    CREATE TABLE entitlement_source (
        subject    text        NOT NULL,
        book       text        NOT NULL,
        customer   text        NOT NULL,
        kind       text        NOT NULL,
        source     text        NOT NULL,
        item       text        NOT NULL,
        product    text,
        price      text,
        quantity   numeric,
        status     text        NOT NULL,
        org        text,
        ends_at    timestamptz,
        valid_from timestamptz NOT NULL,
        valid_to   timestamptz,
        because    text[]      NOT NULL,
        PRIMARY KEY (subject, source, item, valid_from),
        CHECK (valid_to > valid_from)
    );
    CREATE INDEX ON entitlement_source (book, org) WHERE org IS NOT NULL;
    CREATE INDEX ON entitlement_source (subject, valid_to);
    SELECT ledger.distribute('entitlement_source', 'subject');
    """,
    final="valid_to",
    month="valid_from",
)

PRODUCTS: Final = Table(
    name="product",
    columns=ProductRow._fields,
    create="""
    CREATE TABLE product (
        subject    text        NOT NULL,
        book       text        NOT NULL,
        product    text        NOT NULL,
        features   text        NOT NULL,
        valid_from timestamptz NOT NULL,
        valid_to   timestamptz,
        because    text[]      NOT NULL,
        PRIMARY KEY (subject, valid_from),
        CHECK (valid_to > valid_from)
    );
    SELECT ledger.distribute('product', 'subject');
    """,
    final="valid_to",
    month="valid_from",
)

ENTITLEMENT_SOURCES: Final = """
CREATE OR REPLACE VIEW ledger.entitlement_sources AS
SELECT book, customer, org, kind, source, item, product, price, quantity, status,
       valid_from, valid_to, ends_at, because
FROM entitlement_source
"""


def entitlements(org_metadata_key: str) -> Projection:
    """Make the entitlement projection; organisations are read from metadata under ``org_metadata_key``."""
    return Projection(
        name=NAME,
        version=VERSION,
        types=frozenset(fold.STEPS) | {OBSERVED},
        tables=(SOURCES, PRODUCTS),
        state=fold.State,
        begin=partial(fold.begin, org_metadata_key=org_metadata_key),
        step=fold.step,
        rows=fold.rows,
        settle=fold.settle,
        views={"entitlement_sources": ENTITLEMENT_SOURCES},
    )

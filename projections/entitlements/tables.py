"""The tables of the entitlement projection, the view people read, and the projection itself."""

from __future__ import annotations

from functools import partial
from typing import Final

from projections.contract import Projection, Table
from projections.entitlements import fold
from projections.entitlements.rows import CatalogRow, EvidenceRow, OrgRow, ProductRow, SourceRow
from projections.entitlements.state import State

NAME: Final = "entitlements"
VERSION: Final = 12

SOURCES: Final = Table(
    name="entitlement_source",
    columns=SourceRow._fields,
    create="""
    CREATE TABLE entitlement_source (
        subject      text        NOT NULL,
        book         text        NOT NULL,
        customer     text        NOT NULL,
        kind         text        NOT NULL,
        source       text        NOT NULL,
        item         text        NOT NULL,
        product      text,
        price        text,
        lookup_key   text,
        quantity     numeric,
        feature      text,
        value        text,
        status       text        NOT NULL,
        status_since timestamptz NOT NULL,
        ends_at      timestamptz,
        expires_at   timestamptz,
        note         text,
        valid_from   timestamptz NOT NULL,
        valid_to     timestamptz,
        because      text[]      NOT NULL,
        PRIMARY KEY (subject, source, item, valid_from),
        CHECK (valid_to > valid_from)
    );
    CREATE INDEX ON entitlement_source (subject, valid_to);
    CREATE INDEX ON entitlement_source (book) WHERE kind = 'purchase' AND product IS NULL AND price IS NULL;
    SELECT ledger.distribute('entitlement_source', 'subject');
    """,
    final="valid_to",
    month="valid_from",
)

EVIDENCE: Final = Table(
    name="entitlement_evidence",
    columns=EvidenceRow._fields,
    create="""
    CREATE TABLE entitlement_evidence (
        subject     text        NOT NULL,
        book        text        NOT NULL,
        source      text        NOT NULL,
        kind        text        NOT NULL,
        key         text        NOT NULL,
        covers_from timestamptz,
        covers_to   timestamptz,
        valid_from  timestamptz NOT NULL,
        valid_to    timestamptz,
        because     text[]      NOT NULL,
        PRIMARY KEY (subject, kind, key, valid_from),
        CHECK (valid_to > valid_from)
    );
    CREATE INDEX ON entitlement_evidence (subject, valid_to);
    SELECT ledger.distribute('entitlement_evidence', 'subject');
    """,
    final="valid_to",
    month="valid_from",
)

# The first organisation known of a source holds back to its start, so no row of these is ever final.
ORGS: Final = Table(
    name="entitlement_org",
    columns=OrgRow._fields,
    create="""
    CREATE TABLE entitlement_org (
        subject    text        NOT NULL,
        book       text        NOT NULL,
        customer   text        NOT NULL,
        source     text        NOT NULL,
        org        text,
        valid_from timestamptz NOT NULL,
        valid_to   timestamptz,
        because    text[]      NOT NULL,
        PRIMARY KEY (subject, source, valid_from),
        CHECK (valid_to > valid_from)
    );
    CREATE INDEX ON entitlement_org (book, org) WHERE org IS NOT NULL;
    SELECT ledger.distribute('entitlement_org', 'subject');
    """,
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

CATALOGS: Final = Table(
    name="catalog",
    columns=CatalogRow._fields,
    create="""
    CREATE TABLE catalog (
        subject        text        NOT NULL,
        book           text        NOT NULL,
        version        bigint      NOT NULL,
        content        text        NOT NULL,
        effective_from timestamptz,
        published_at   timestamptz NOT NULL,
        because        text[]      NOT NULL,
        PRIMARY KEY (subject, version)
    );
    SELECT ledger.distribute('catalog', 'subject');
    """,
)

ENTITLEMENT_SOURCES: Final = """
CREATE OR REPLACE VIEW ledger.entitlement_sources AS
SELECT s.book, s.customer, o.org, s.kind, s.source, s.item, s.product, s.price, s.quantity, s.status,
       greatest(s.valid_from, o.valid_from) AS valid_from, least(s.valid_to, o.valid_to) AS valid_to,
       s.ends_at, s.because, s.lookup_key, s.feature, s.value, s.expires_at, s.note
FROM entitlement_source AS s
LEFT JOIN entitlement_org AS o
    ON  o.subject = s.subject
    AND o.source = CASE WHEN s.kind IN ('subscription', 'purchase') THEN s.source ELSE '' END
    AND (o.valid_to IS NULL OR o.valid_to > s.valid_from)
    AND (s.valid_to IS NULL OR o.valid_from < s.valid_to)
"""


def entitlements(org_metadata_key: str) -> Projection:
    """Make the entitlement projection; organisations are read from metadata under ``org_metadata_key``."""
    return Projection(
        name=NAME,
        version=VERSION,
        types=frozenset(fold.STEPS),
        tables=(SOURCES, EVIDENCE, ORGS, PRODUCTS, CATALOGS),
        state=State,
        begin=partial(fold.begin, org_metadata_key=org_metadata_key),
        step=fold.step,
        rows=fold.rows,
        settle=fold.settle,
        views={"entitlement_sources": ENTITLEMENT_SOURCES},
        joins=fold.JOINS,
    )

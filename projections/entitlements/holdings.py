"""What customers and organisations hold, many at a time: the rows from which every answer is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import asyncpg

from ledger.catalogs import STREAM
from projections.builds import Freshness
from projections.catalog import Published, parse_catalog
from projections.entitlements.rows import (
    ORG_PREFIX,
    CatalogRow,
    EvidenceRow,
    Holdings,
    OrgRow,
    ProductRow,
    SourceRow,
)
from projections.entitlements.tables import NAME

CATALOG_STREAM: Final = STREAM

# Everything in one statement, so that one question is one way to the database and back, and one snapshot: whose rows
# these are (`entered` says that the tables are those of the build asked for), how fresh they are, and the rows.
HELD: Final = """
WITH build AS MATERIALIZED (
    SELECT b.build_id, b.phase, b.schema_name = current_schema() AS entered, c.position, h.position AS head,
           (SELECT e.recorded_at
            FROM ledger.event AS e
            WHERE e.book = $2 AND e.position = coalesce(c.position, 0) + 1) AS waiting_since,
           (SELECT f.touch
            FROM ledger.entitlement_feed AS f
            WHERE f.book = $2 AND f.build_id = b.build_id) AS touch
    FROM ledger.build AS b
    LEFT JOIN ledger.checkpoint AS c ON c.build_id = b.build_id AND c.book = $2
    LEFT JOIN ledger.head AS h ON h.book = $2
    WHERE b.projection = $3 AND CASE WHEN $4::text IS NULL THEN b.phase = 'live' ELSE b.build_id = $4 END
), member AS MATERIALIZED (
    SELECT DISTINCT org, subject
    FROM entitlement_org
    WHERE book = $2 AND org = ANY ($5)
), own AS MATERIALIZED (
    SELECT $1 || array(SELECT subject FROM member) AS names
), belonging AS MATERIALIZED (
    SELECT subject, book, customer, source, org, valid_from, valid_to, because
    FROM entitlement_org
    WHERE subject = ANY ((SELECT names FROM own)::text[])
), streams AS MATERIALIZED (
    SELECT names || array(SELECT DISTINCT $2 || '/org:' || org FROM belonging WHERE org IS NOT NULL) AS names
    FROM own
), held AS MATERIALIZED (
    SELECT subject, book, customer, kind, source, item, product, price, lookup_key, quantity, feature, value, status,
           status_since, ends_at, expires_at, note, valid_from, valid_to, because
    FROM entitlement_source
    WHERE subject = ANY ((SELECT names FROM streams)::text[])
)
SELECT (SELECT row(build.*) FROM build) AS build,
       array(SELECT row(member.*) FROM member ORDER BY org, subject) AS members,
       array(SELECT row(held.*) FROM held ORDER BY source, item, valid_from) AS sources,
       array(
           SELECT row(subject, book, source, kind, key, covers_from, covers_to, valid_from, valid_to, because)
           FROM entitlement_evidence
           WHERE subject = ANY ((SELECT names FROM own)::text[])
           ORDER BY source, kind, key, valid_from
       ) AS evidence,
       array(SELECT row(belonging.*) FROM belonging ORDER BY source, valid_from) AS orgs,
       array(
           SELECT row(subject, book, product, features, valid_from, valid_to, because)
           FROM product
           WHERE subject = ANY (array(SELECT DISTINCT $2 || '/' || product FROM held WHERE product IS NOT NULL))
           ORDER BY product, valid_from
       ) AS products,
       array(
           SELECT row(subject, book, version, content, effective_from, published_at, because)
           FROM catalog
           WHERE subject = $2 || '/catalog'
           ORDER BY version
       ) AS catalogs,
       array(
           SELECT name
           FROM streams, unnest(names) AS name
           WHERE EXISTS (SELECT FROM ledger.event AS e WHERE e.stream_id = name)
       ) AS known,
       array(
           SELECT row(subject, since)
           FROM ledger.parked
           WHERE build_id = (SELECT build_id FROM build) AND subject = ANY ((SELECT names FROM streams)::text[])
       ) AS parked,
       array(SELECT subject FROM dirty WHERE subject = ANY ((SELECT names FROM streams)::text[])) AS dirty
"""

CATALOGS: Final = """
SELECT subject, book, version, content, effective_from, published_at, because
FROM catalog
WHERE subject = $1
ORDER BY version
"""

SUBJECTS_OF_ORGS: Final = "SELECT DISTINCT org, subject FROM entitlement_org WHERE book = $1 AND org = ANY ($2)"

R = TypeVar("R", SourceRow, EvidenceRow, OrgRow, ProductRow, CatalogRow)


def stream_of_holder(book: str, holder: str) -> str:
    """Name the stream of a customer or an organisation."""
    return f"{book}/{holder}"


async def read_catalogs(connection: asyncpg.Connection, book: str) -> tuple[Published, ...]:
    """Return every catalog that a book has published, in that order. The build's schema must be entered."""
    rows = await connection.fetch(CATALOGS, stream_of_holder(book, CATALOG_STREAM))
    return published([_as(CatalogRow, row) for row in rows])


def published(rows: Iterable[CatalogRow]) -> tuple[Published, ...]:
    """Read published catalogs; the first holds from the beginning of time."""
    return tuple(Published(row.effective_from, parse_catalog(row.content)) for row in rows)


@dataclass(frozen=True, slots=True)
class Found:
    """What was read of some holders: their holdings, the catalogs, and of their streams those that are out of order.

    ``known`` are the streams that have events, ``parked`` those that could not be folded, since when, and ``dirty``
    those that wait to be folded anew. ``entered`` says that all of it is of the build that ``freshness`` names;
    ``touch`` is the number of that build's last commit that wrote rows, None while it has not spoken.
    """

    holdings: dict[str, Holdings]
    published: tuple[Published, ...]
    known: frozenset[str]
    parked: Mapping[str, datetime]
    dirty: frozenset[str]
    freshness: Freshness
    entered: bool = False
    touch: int | None = None


async def read_holdings(connection: asyncpg.Connection, book: str, holders: Iterable[str]) -> dict[str, Holdings]:
    """Read what customers and organisations hold, whatever the moment. The build's schema must be entered."""
    return (await read_found(connection, book, holders)).holdings


async def read_found(
    connection: asyncpg.Connection, book: str, holders: Iterable[str], build_id: str | None = None
) -> Found:
    """Read all there is of some holders in the live build (or a named one), whose schema should be entered."""
    subjects = {holder: [stream_of_holder(book, holder)] for holder in holders}
    own = [subject for some in subjects.values() for subject in some]
    row = await connection.fetchrow(HELD, own, book, NAME, build_id, _orgs_among(subjects))
    for org, subject in row["members"]:
        subjects[f"{ORG_PREFIX}{org}"].append(subject)
    holdings = gathered(
        book,
        subjects,
        _rows(SourceRow, row["sources"]),
        _rows(EvidenceRow, row["evidence"]),
        _rows(OrgRow, row["orgs"]),
        _rows(ProductRow, row["products"]),
    )
    build, phase, entered, position, head, waiting_since, touch = row["build"] or (None,) * 7
    kept = build is not None and phase != "live"
    return Found(
        holdings,
        published(_rows(CatalogRow, row["catalogs"])),
        frozenset(row["known"]),
        dict(map(tuple, row["parked"])),
        frozenset(row["dirty"]),
        Freshness(book, build, position or 0, head or 0, waiting_since, kept),
        bool(entered),
        touch,
    )


async def subjects_of(connection: asyncpg.Connection, book: str, holders: Sequence[str]) -> dict[str, list[str]]:
    """Return the subjects whose rows tell of each holder: of an organisation everybody who ever belonged to it."""
    found = {holder: [stream_of_holder(book, holder)] for holder in holders}
    orgs = _orgs_among(holders)
    for row in await connection.fetch(SUBJECTS_OF_ORGS, book, orgs) if orgs else ():
        found[f"{ORG_PREFIX}{row['org']}"].append(row["subject"])
    return found


def _orgs_among(holders: Iterable[str]) -> list[str]:
    return [holder.removeprefix(ORG_PREFIX) for holder in holders if holder.startswith(ORG_PREFIX)]


def gathered(
    book: str,
    subjects: Mapping[str, Sequence[str]],
    sources: Iterable[SourceRow],
    evidence: Iterable[EvidenceRow],
    orgs: Iterable[OrgRow],
    products: Iterable[ProductRow],
) -> dict[str, Holdings]:
    """Give every holder the rows that tell of it: of its subjects, and of the organisations these belonged to."""
    sources_of, evidence_of = _by_subject(sources), _by_subject(evidence)
    orgs_of, products_of = _by_subject(orgs), _by_subject(products)
    found: dict[str, Holdings] = {}
    for holder, own in subjects.items():
        belongs = [row for subject in own for row in orgs_of.get(subject, ())]
        granting: list[str] = []
        if not holder.startswith(ORG_PREFIX):
            granting = sorted({stream_of_holder(book, f"{ORG_PREFIX}{row.org}") for row in belongs if row.org})
        rows = [row for subject in (*own, *granting) for row in sources_of.get(subject, ())]
        sold = dict.fromkeys(stream_of_holder(book, row.product) for row in rows if row.product)
        found[holder] = Holdings(
            holder,
            tuple(rows),
            tuple(row for subject in own for row in evidence_of.get(subject, ())),
            tuple(belongs),
            tuple(row for subject in sold for row in products_of.get(subject, ())),
        )
    return found


def _by_subject(rows: Iterable[R]) -> dict[str, list[R]]:
    found: dict[str, list[R]] = {}
    for row in rows:
        found.setdefault(row.subject, []).append(row)
    return found


def _as(kind: type[R], record: Mapping[str, Any]) -> R:
    return kind(**{**record, "because": tuple(record["because"])})


def _rows(kind: type[R], records: Iterable[Sequence[Any]]) -> list[R]:
    """Read rows out of a list of records; the last column of each is a list."""
    return [kind._make((*columns, tuple(because))) for *columns, because in records]

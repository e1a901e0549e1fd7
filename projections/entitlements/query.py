"""Reading entitlements: the live rows of customers or organisations, or a fold over what was known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from ledger.errors import LogUnavailableError
from projections.builds import Freshness, enter_build
from projections.catalog import Published
from projections.contract import Projection, Row
from projections.entitlements.answer import Answer, answer_all, answer_feature
from projections.entitlements.belonging import org_at
from projections.entitlements.compared import Compared, compared
from projections.entitlements.holdings import (
    CATALOG_STREAM,
    Found,
    gathered,
    published,
    read_found,
    stream_of_holder,
    subjects_of,
)
from projections.entitlements.known import fold_subjects
from projections.entitlements.rows import (
    ORG_PREFIX,
    CatalogRow,
    EvidenceRow,
    Holdings,
    OrgRow,
    ProductRow,
    SourceRow,
)

STAY_IN_LIVE: Final = """
SELECT set_config('search_path', schema_name, false)
FROM ledger.build
WHERE projection = $1 AND phase = 'live'
"""

ORG_CUSTOMERS_MAX: Final = 500
"""How many customers of an organisation are folded for one question about what was known."""

PARKED_TOO_LONG: Final = timedelta(hours=24)

_PROMOTIONS_MAX: Final = 20
"""How many promotions in a row one question can be overtaken by; each takes longer than to ask again."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The moment asked about: a given one, or the present.

    The present is never before the newest fact: Stripe's clock may be ahead of ours, and a test clock far ahead.
    """

    now: datetime
    as_of: datetime | None = None

    def among(self, holdings: Holdings) -> datetime:
        """Return the instant at which to evaluate holdings. A grant may begin in the future; it is no fact before."""
        facts = (row.valid_from for row in holdings.sources if row.kind != "grant")
        return self.as_of or max([self.now, *facts])


@dataclass(frozen=True, slots=True)
class Entitlements:
    """Everything that bears on one holder, ready to be asked about one moment, ``at``.

    ``parked_since`` is when one of its subjects was parked, whose rows are its last good ones; ``dirty`` says that one
    waits to be folded anew.
    """

    holdings: Holdings
    published: Sequence[Published]
    at: datetime
    now: datetime
    known: bool
    freshness: Freshness
    parked_since: datetime | None = None
    dirty: bool = False

    @property
    def customer(self) -> str:
        """The holder that was asked about."""
        return self.holdings.holder

    @property
    def org(self) -> str | None:
        """The organisation it belongs to."""
        return org_at(self.holdings, self.at)

    @property
    def parked(self) -> bool:
        """Whether one of its subjects could not be folded."""
        return self.parked_since is not None

    @property
    def parked_too_long(self) -> bool:
        """Whether that was so long ago that its last answers can no longer be used."""
        return self.parked_since is not None and self.now - self.parked_since > PARKED_TOO_LONG

    @property
    def compared(self) -> Compared | None:
        """Where Stripe's own entitlements say otherwise."""
        return compared(self.holdings, self.published, self.at)

    @property
    def answers(self) -> list[Answer]:
        """The answer for every feature that was ever given."""
        return answer_all(self.holdings, self.published, self.at)

    def answer(self, feature: str) -> Answer:
        """Return the answer for one feature, whatever it is."""
        return answer_feature(self.holdings, self.published, feature, self.at, known=self.known)


async def read_entitlements(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    customer: str,
    moment: Moment,
    build_id: str | None = None,
) -> Entitlements:
    """Answer from the live build's rows (or a kept one's), for one holder.

    Needs a transaction, so that registry and rows are of one snapshot.
    """
    return (await read_many(connection, projection, book, [customer], moment, build_id))[customer]


async def read_many(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    holders: Sequence[str],
    moment: Moment,
    build_id: str | None = None,
) -> dict[str, Entitlements]:
    """Answer from the live build's rows (or a kept one's), for several holders in one snapshot."""
    freshness = await enter_build(connection, projection.name, book, build_id)
    none = freshness.build is None
    found = _nothing(holders, freshness) if none else await read_found(connection, book, holders, freshness.build)
    return {holder: entitlements_of(found, holder, moment) for holder in found.holdings}


async def read_live(connection: asyncpg.Connection, projection: Projection, book: str, holders: Sequence[str]) -> Found:
    """Read holders in the live build with one statement, which is one snapshot by itself and needs no transaction.

    The connection is in the schema of the build that was live when it last asked. The statement says whether that is
    still so in its own snapshot; if not, the result is discarded and the present live build is read. The tables it has
    opened cannot be dropped before it ends. Only for connections reserved for this. Raises ``LogUnavailableError`` if
    promotions, or another release's tables, keep it from succeeding.
    """
    is_strange = False
    for _ in range(_PROMOTIONS_MAX):
        try:
            found = await read_found(connection, book, holders)
            if found.entered:
                return found
            is_strange = False
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
            is_strange = True  # in no build yet, in one that was dropped, or in one of a release that knew less
        if await connection.fetchval(STAY_IN_LIVE, projection.name) is None:
            return _nothing(holders, Freshness(book, None, 0, 0, None))
    if is_strange:
        why = f"the live build of {projection.name} is of a release whose tables this one cannot read"
        raise LogUnavailableError(f"{why}: `ledger rebuild {projection.name}`, `ledger promote`")
    raise LogUnavailableError(f"builds of {projection.name} are promoted faster than they can be read")


def _nothing(holders: Iterable[str], freshness: Freshness) -> Found:
    return Found({holder: Holdings(holder) for holder in holders}, (), frozenset(), {}, frozenset(), freshness)


def entitlements_of(found: Found, holder: str, moment: Moment) -> Entitlements:
    """Make what was read of a holder ready to be asked about a moment."""
    holdings = found.holdings[holder]
    streams = _subjects(found.freshness.book, holdings)
    return Entitlements(
        holdings=holdings,
        published=found.published,
        at=moment.among(holdings),
        now=moment.now,
        known=bool(holdings.sources) or not found.known.isdisjoint(streams),
        freshness=found.freshness,
        parked_since=min((since for stream, since in found.parked.items() if stream in streams), default=None),
        dirty=not found.dirty.isdisjoint(streams),
    )


async def folded_position(connection: asyncpg.Connection, projection: Projection, book: str) -> int:
    """Return how far the live build has folded a book."""
    return (await enter_build(connection, projection.name, book)).position


def _subjects(book: str, holdings: Holdings) -> set[str]:
    own = {stream_of_holder(book, holdings.holder)}
    return own | {row.subject for row in holdings.sources} | {row.subject for row in holdings.orgs}


async def fold_known(
    connection: asyncpg.Connection, projection: Projection, book: str, holder: str, moment: Moment, position: int
) -> Entitlements | None:
    """Answer with today's code from what had been recorded by ``position``: folds the holder's history now.

    Returns None if an organisation has had too many customers for that.
    """
    freshness = await enter_build(connection, projection.name, book)
    if freshness.build is None:
        return Entitlements(Holdings(holder), (), moment.now, moment.now, False, freshness)
    subjects = await subjects_of(connection, book, [holder])
    if len(subjects[holder]) > ORG_CUSTOMERS_MAX:
        return None

    async def fold(streams: Iterable[str]) -> dict[str, list[Row]]:
        return await fold_subjects(connection, projection, book, sorted(set(streams)), position)

    rows = await fold(subjects[holder])
    orgs = [OrgRow(*row) for row in rows["entitlement_org"]]
    of_orgs = {stream_of_holder(book, f"{ORG_PREFIX}{row.org}") for row in orgs if row.org}
    also = await fold(of_orgs - set(subjects[holder]))
    sources = [SourceRow(*row) for row in (*rows["entitlement_source"], *also["entitlement_source"])]
    sold = {stream_of_holder(book, row.product) for row in sources if row.product}
    terms = await fold({*sold, stream_of_holder(book, CATALOG_STREAM)})
    evidence = [EvidenceRow(*row) for row in rows["entitlement_evidence"]]
    products = [ProductRow(*row) for row in terms["product"]]
    holdings = gathered(book, subjects, sources, evidence, orgs, products)[holder]
    catalogs = published(CatalogRow(*row) for row in terms["catalog"])
    then = Freshness(book, freshness.build, position, freshness.head, None)
    return Entitlements(holdings, catalogs, moment.among(holdings), moment.now, bool(sources), then)

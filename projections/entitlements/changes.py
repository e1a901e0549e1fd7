"""The change log: which answers each commit of the live build changed, written in that same commit.

Answers are compared with those last logged (``telling``), so no change is repeated or missed, across crashes, another
build or a catalog. A catalog or a promotion writes one marker; then all answers are rechecked in batches between the
build's steps, and so are those that time alone changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from projections.catalog import Published, catalog_at
from projections.entitlements.answer import answer_all, next_turn
from projections.entitlements.holdings import CATALOG_STREAM, read_catalogs, read_found, read_holdings, stream_of_holder
from projections.entitlements.query import Moment
from projections.entitlements.rows import NAME_CHARACTERS_MAX, ORG_PREFIX, Holdings
from projections.entitlements.saying import Feed, lock, move, read_told, write_told
from projections.entitlements.telling import NOTHING, Cause, Told, changes, granted_values

_log = structlog.get_logger()

ENTER_LIVE: Final = """
SELECT set_config('search_path', schema_name, false)
FROM ledger.build
WHERE build_id = $1 AND phase = 'live'
"""

STRANGE: Final = "SELECT book FROM ledger.entitlement_feed WHERE build_id <> $1 ORDER BY book"

ADOPT: Final = """
UPDATE ledger.entitlement_feed AS f
SET build_id = $2
FROM ledger.build AS b
WHERE f.book = $1 AND f.build_id <> $2 AND b.build_id = $2 AND b.phase = 'live'
RETURNING f.book
"""

DUE: Final = """
SELECT f.book,
       f.recheck_after IS NOT NULL AS recheck,
       f.catalog_at <= $2 AS catalog,
       EXISTS (SELECT FROM ledger.entitlement_told AS t WHERE t.book = f.book AND t.next_at <= $2) AS due
FROM ledger.entitlement_feed AS f
WHERE f.build_id = $1
ORDER BY f.book
"""

DUE_CUSTOMERS: Final = """
SELECT customer
FROM ledger.entitlement_told
WHERE book = $1 AND next_at <= $2
ORDER BY next_at, customer
LIMIT $3
"""

NEXT_CUSTOMERS: Final = """
SELECT customer
FROM (
    (SELECT customer
     FROM ledger.entitlement_told
     WHERE book = $1 AND customer > $2 AND NOT starts_with(customer, 'product:')
     ORDER BY customer
     LIMIT $3)
    UNION
    (SELECT DISTINCT ON (subject) substr(subject, length($1) + 2)
     FROM entitlement_source
     WHERE book = $1 AND subject > $1 || '/' || $2
     ORDER BY subject
     LIMIT $3)
) AS everybody
ORDER BY customer
LIMIT $3
"""

CUSTOMERS_OF: Final = """
SELECT DISTINCT substr(subject, length($1) + 2) AS customer
FROM entitlement_org
WHERE book = $1 AND org = ANY ($2)
"""

# What a product says matters to those who hold it; those whose rows are written as well are looked at anyway.
PRODUCTS_HELD: Final = """
SELECT substr(p.subject, length($1) + 2) AS product, jsonb_agg(to_jsonb(p) ORDER BY p.valid_from)::text AS says
FROM product AS p
WHERE p.subject = ANY ($2)
GROUP BY p.subject
HAVING EXISTS (
    SELECT FROM entitlement_source AS s
    WHERE s.book = $1 AND s.product = min(p.product) AND s.subject <> ALL ($3)
)
"""

FORGET_CHANGES: Final = "DELETE FROM ledger.entitlement_change WHERE book = $1 AND at < now() - interval '7 days'"

FORGET_TOUCHES: Final = "DELETE FROM ledger.entitlement_touch WHERE book = $1 AND at < now() - interval '10 minutes'"

_AT_ONCE: Final = 50
"""How many are looked at between two steps of the build: some milliseconds' worth."""
_HOLDERS_AT_ONCE: Final = 500
"""How many are in memory at a time, however long the step."""
_PRODUCT: Final = "product:"
_CUSTOMER: Final = "cus_"
_LOOK_SECONDS: Final = 0.2
_FORGET_SECONDS: Final = 60.0


class Changes:
    """Keeps the change log beside the live build's rows: the projection's consumer."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._looked: dict[str, float] = {}
        self._forgot: dict[str, float] = {}

    async def changed(
        self, connection: asyncpg.Connection, build_id: str, book: str, position: int, subjects: Sequence[str]
    ) -> None:
        """Log what changed for these subjects and their organisations; does nothing unless the build is live."""
        feed = await lock(connection, build_id, book)
        if feed is None:
            return
        feed.position = max(feed.position, position)
        keys = [subject.removeprefix(f"{book}/") for subject in subjects]
        if await self._terms_changed(connection, feed, keys):
            feed.mark("catalog")
        if orgs := [key.removeprefix(ORG_PREFIX) for key in keys if key.startswith(ORG_PREFIX)]:
            keys += [row["customer"] for row in await connection.fetch(CUSTOMERS_OF, book, orgs)]
        holders, touched = list(dict.fromkeys(keys)), set[str]()
        for start in range(0, len(holders), _HOLDERS_AT_ONCE):
            touched |= set(await self._look(connection, feed, holders[start : start + _HOLDERS_AT_ONCE], "event"))
        await move(connection, feed, None if feed.marked else sorted(touched))

    async def _terms_changed(self, connection: asyncpg.Connection, feed: Feed, keys: list[str]) -> bool:
        """Take catalog and products out of what was written; tell whether what they give may be other for anybody."""
        changed = CATALOG_STREAM in keys
        published = await read_catalogs(connection, feed.book) if changed else ()
        if changed:
            keys.remove(CATALOG_STREAM)
            feed.catalog_at = _next_catalog(published, self._clock())
        others = [stream_of_holder(feed.book, key) for key in keys if not key.startswith((_CUSTOMER, ORG_PREFIX))]
        written = [stream_of_holder(feed.book, key) for key in keys]
        rows = await connection.fetch(PRODUCTS_HELD, feed.book, others, written) if others else ()
        said = {f"{_PRODUCT}{row['product']}": Told({"says": row["says"]}) for row in rows}
        told = await read_told(connection, feed.book, list(said)) if said else {}
        new = {key: one for key, one in said.items() if told.get(key) != one}
        await write_told(connection, feed.book, new)
        if changed or not new:
            return changed
        # Where a catalog says what gives which features, the products' metadata counts for nothing.
        in_force = catalog_at(await read_catalogs(connection, feed.book), self._clock())
        return in_force is None or not in_force.says_features

    async def promoted(self, connection: asyncpg.Connection, build_id: str) -> None:
        """Let another build write changes from here on, in every book."""
        for row in await connection.fetch(STRANGE, build_id):
            await _adopt(connection, build_id, row["book"])

    async def turn(self, connection: asyncpg.Connection, build_id: str) -> int:
        """Recheck answers that time may have changed, and some of those left after a marker; return how many."""
        now = time.monotonic()
        if now - self._looked.get(build_id, -_LOOK_SECONDS) < _LOOK_SECONDS:
            return 0
        self._looked[build_id] = now
        if await connection.fetchval(ENTER_LIVE, build_id) is None:
            return 0
        await self.promoted(connection, build_id)
        done = 0
        for row in await connection.fetch(DUE, build_id, self._clock()):
            if row["catalog"]:
                done += await self._begin_catalog(connection, build_id, row["book"])
            if row["due"]:
                done += await self._look_at_due(connection, build_id, row["book"])
            if row["recheck"]:
                done += await self._look_again(connection, build_id, row["book"])
            await self._forget(connection, row["book"], now)
        if done:
            del self._looked[build_id]  # there may be more
        return done

    async def _forget(self, connection: asyncpg.Connection, book: str, now: float) -> None:
        """Now and then delete what is no longer kept."""
        if now - self._forgot.get(book, -_FORGET_SECONDS) >= _FORGET_SECONDS:
            self._forgot[book] = now
            await connection.execute(FORGET_CHANGES, book)
            await connection.execute(FORGET_TOUCHES, book)

    async def _begin_catalog(self, connection: asyncpg.Connection, build_id: str, book: str) -> int:
        """Say that a catalog which was published before holds from now on."""
        async with connection.transaction():
            feed = await lock(connection, build_id, book)
            if feed is None:
                return 0
            feed.catalog_at = _next_catalog(await read_catalogs(connection, book), self._clock())
            feed.mark("catalog")
            await move(connection, feed, None)
        return 1

    async def _look_at_due(self, connection: asyncpg.Connection, build_id: str, book: str) -> int:
        async with connection.transaction():
            feed = await lock(connection, build_id, book)
            if feed is None:
                return 0
            rows = await connection.fetch(DUE_CUSTOMERS, book, self._clock(), _AT_ONCE)
            await self._look(connection, feed, [row["customer"] for row in rows], "time", orgs=False)
            await move(connection, feed, [])
        return len(rows)

    async def _look_again(self, connection: asyncpg.Connection, build_id: str, book: str) -> int:
        async with connection.transaction():
            feed = await lock(connection, build_id, book)
            if feed is None or feed.recheck_after is None:
                return 0
            rows = await connection.fetch(NEXT_CUSTOMERS, book, feed.recheck_after, _AT_ONCE)
            customers = [row["customer"] for row in rows]
            await self._look(connection, feed, customers, feed.recheck_cause or "promotion")
            feed.recheck_after = customers[-1] if len(customers) == _AT_ONCE else None
            await move(connection, feed, [])
        return len(customers)

    async def _look(
        self, connection: asyncpg.Connection, feed: Feed, customers: Sequence[str], cause: Cause, *, orgs: bool = True
    ) -> list[str]:
        """Write down what is other than what was told; return whom was looked at, organisations among them."""
        if not customers:
            return []
        found = await read_found(connection, feed.book, customers)
        holdings = dict(found.holdings)
        told = await read_told(connection, feed.book, customers)
        if orgs:
            named = {org for one in holdings.values() for org in _orgs(one)}
            named |= {org for one in told.values() for org in one.orgs}
            also = sorted({f"{ORG_PREFIX}{org}" for org in named} - set(holdings))
            if also:
                holdings |= await read_holdings(connection, feed.book, also)
                told |= await read_told(connection, feed.book, also)
        await write_told(connection, feed.book, self._tell(feed, holdings, found.published, told, cause))
        return list(holdings)

    def _tell(
        self,
        feed: Feed,
        holdings: Mapping[str, Holdings],
        published: Sequence[Published],
        told: Mapping[str, Told],
        cause: Cause,
    ) -> dict[str, Told]:
        """Say what is other than what was told; return what is to be noted as told."""
        now, noted = Moment(self._clock()), {}
        for customer, one in holdings.items():
            before = told.get(customer, NOTHING)
            try:
                at = now.among(one)
                answers = answer_all(one, published, at)
                found = changes(customer, before.answers, answers)
                after = Told(granted_values(answers), _orgs(one), next_turn(one, published, at))
            except Exception as error:  # noqa: BLE001 - whatever one holder's answer does, the others are told theirs
                _log.error("answer_failed", holder=customer, error=error)
                after, found = replace(before, next_at=None), []
            feed.say(found, cause)
            if after != before:
                noted[customer] = after
        return noted


def _orgs(holdings: Holdings) -> frozenset[str]:
    """Return the organisations affected by a customer's changes, as far as their names can be asked for."""
    if holdings.holder.startswith(ORG_PREFIX):
        return frozenset()
    return frozenset(row.org for row in holdings.orgs if row.org and len(row.org) <= NAME_CHARACTERS_MAX)


def _next_catalog(published: Sequence[Published], now: datetime) -> datetime | None:
    coming = [one.effective_from for one in published if one.effective_from is not None and one.effective_from > now]
    return min(coming, default=None)


async def _adopt(connection: asyncpg.Connection, build_id: str, book: str) -> None:
    async with connection.transaction():
        if await connection.fetchval(ADOPT, book, build_id) is None:
            return
        feed = await lock(connection, build_id, book)
        if feed is not None:
            feed.mark("promotion")
            await move(connection, feed, None)

"""Compare what the log knows with what Stripe has now, object by object; record what is missing as observations.

Events older than 30 days are gone at Stripe, but its objects are not: so even a gap that no sweep can close is closed,
and is marked as observed. Starting on an existing account is the same with an empty log.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import asyncpg

from api.outward.access import Reply, StripeAccess
from api.outward.gather import accounts_to_ask
from api.outward.paging import FORBIDDEN, NoListError, Page, read_pages
from api.outward.refused import StripeRefusedError
from api.outward.standing import (
    caught_up,
    customers_with_stripes_own,
    features_differing,
    features_of,
    subscriptions_differing,
)
from ledger.appender import Appender
from ledger.books import book_of
from ledger.errors import MistakeError
from ledger.event import Json, NewEvent, identifier, stream_of
from ledger.observation import REFERENCES, Observation, names_of, observation_event, observation_id
from ledger.reader import read_head
from projections.contract import Projection
from projections.drift import TYPES, Drift, drift_of, newest
from projections.reading import read_histories

_NOT_FOUND: Final = 404

_ALL: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("/v1/products", {}),
    ("/v1/prices", {}),
    ("/v1/coupons", {}),
    ("/v1/customers", {}),
    ("/v1/subscriptions", {"status": "all", "expand": ["data.discounts"]}),
    ("/v1/invoices", {}),
    ("/v1/checkout/sessions", {"status": "complete"}),
)
"""Every list that is compared, what others refer to first and what is a customer's last."""

_OF_A_CUSTOMER: Final = 3

KNOWN_CUSTOMERS: Final = r"""
SELECT DISTINCT stream_id
FROM ledger.event
WHERE book = $1 AND stream_id LIKE $1 || '/cus\_%'
ORDER BY stream_id
"""


@dataclass(slots=True)
class Reconciled:
    """What a comparison came to: objects looked at, drift by book, and how many observations were recorded.

    ``rows`` is where the log agrees with Stripe and the entitlement projection does not: a subject to be replayed.
    ``refused`` is what Stripe said of connected accounts that could not be compared.
    """

    compared: int = 0
    recorded: int = 0
    drift: dict[str, list[Drift]] = field(default_factory=dict)
    rows: dict[str, list[Drift]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Shown:
    """One object as Stripe shows it: parsed, its exact bytes, and the reply it stood in."""

    subject: Json
    raw: bytes
    reply: Reply


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What reconciles. ``progress`` is told of objects compared."""

    access: StripeAccess
    pool: asyncpg.Pool
    appender: Appender
    platform_account: str
    clock: Callable[[], datetime]
    entitlements: Projection
    record: bool = False
    progress: Callable[[int], None] = lambda _: None

    async def run(self, customer: str | None = None) -> Reconciled:
        """Compare everything of every account, or one customer's objects where it is found.

        A connected account that refuses keeps no other from being compared. Raises ``MistakeError`` where no account
        has that customer.
        """
        done = Reconciled()
        for account in await accounts_to_ask(self.access, self.pool, self.platform_account):
            book = book_of(account or self.platform_account, livemode=self.access.livemode)
            try:
                await self._compare_account(account, book, customer, done)
            except StripeRefusedError as error:
                if account is None or error.status not in FORBIDDEN:
                    raise
                done.refused[book] = str(error)
        if customer is not None and not done.compared and not done.refused:
            raise MistakeError(f"Stripe has no customer {customer}")
        return done

    async def _compare_account(self, account: str | None, book: str, customer: str | None, done: Reconciled) -> None:
        async for page in self._shown(account, book, customer):
            drifted = await self._compare(book, page, done)
            await self._compare_rows(book, [one.subject for one in page if one not in drifted], done)
            if self.record:
                await self._append([self._observation(book, one) for one in drifted], done)
        await self._compare_features(book, account, customer, done)

    async def _shown(self, account: str | None, book: str, customer: str | None) -> AsyncIterator[list[_Shown]]:
        if customer is None:
            seen: set[str] = set()
            for path, params in _ALL:
                async for shown in self._pages(path, params, account):
                    if path == "/v1/customers":
                        seen |= {str(one.subject.get("id")) for one in shown}
                    yield shown
            for one in await self._unlisted(book, seen):
                yield await self._one(one, account)
            return
        found = await self._one(customer, account)
        yield found
        if found:
            for path, params in _ALL[-_OF_A_CUSTOMER:]:
                async for shown in self._pages(path, params | {"customer": customer}, account):
                    yield shown

    async def _pages(self, path: str, params: dict[str, Any], account: str | None) -> AsyncIterator[list[_Shown]]:
        async for page in read_pages(self.access, path, params, account=account):
            yield [_Shown(one, raw, page.reply) for one, raw in zip(page.elements, page.raw, strict=True)]

    async def _one(self, customer: str, account: str | None) -> list[_Shown]:
        """Ask for one customer: a deleted one is still told of."""
        try:
            reply = await self.access.get(f"/v1/customers/{quote(customer, safe='')}", account=account)
        except StripeRefusedError as error:
            if error.status == _NOT_FOUND:
                return []
            raise
        return [_Shown(reply.content, reply.answer.body, reply)]

    async def _unlisted(self, book: str, seen: set[str]) -> list[str]:
        async with self.pool.acquire() as connection:
            rows = await connection.fetch(KNOWN_CUSTOMERS, book)
        return [key for row in rows if (key := row["stream_id"].removeprefix(f"{book}/")) not in seen]

    async def _compare(self, book: str, shown: Sequence[_Shown], done: Reconciled) -> list[_Shown]:
        """Note where some objects of one kind differ from the log; return those."""
        if not shown:
            return []
        kind = str(shown[0].subject.get("object"))
        if kind not in TYPES:
            raise NoListError(shown[0].reply.answer.path)
        streams = sorted({stream_of(book, {"data": {"object": one.subject}}) for one in shown})
        async with self.pool.acquire() as connection:
            histories = await read_histories(connection, TYPES[kind], streams, await read_head(connection, book))
        known = newest(fact for facts in histories.values() for fact in facts if fact.subject.get("object") == kind)
        drifted = []
        for one in shown:
            drift = drift_of(known.get(identifier(one.subject) or ""), one.subject)
            if drift is not None:
                done.drift.setdefault(book, []).append(drift)
                drifted.append(one)
        done.compared += len(shown)
        self.progress(len(shown))
        return drifted

    async def _compare_rows(self, book: str, agreed: Sequence[Json], done: Reconciled) -> None:
        """Note where the projection's rows differ of subscriptions that the log knows as they are."""
        if not agreed or agreed[0].get("object") != "subscription":
            return
        async with self.pool.acquire() as connection, connection.transaction(readonly=True):
            if not await caught_up(connection, book):
                return
            found = await subscriptions_differing(connection, self.entitlements, book, agreed, self.clock())
        if found:
            done.rows.setdefault(book, []).extend(found)

    async def _compare_features(self, book: str, account: str | None, customer: str | None, done: Reconciled) -> None:
        """Compare Stripe's own entitlements of those for whom it ever told any."""
        async with self.pool.acquire() as connection, connection.transaction(readonly=True):
            if not await caught_up(connection, book):
                return
            customers = await customers_with_stripes_own(connection, book)
            ours = {one: await features_of(connection, book, one) for one in customers if customer in (None, one)}
        for one, features in ours.items():
            shown = await self._listed_for(one, account)
            if shown is None:
                continue
            drift = features_differing(one, features, [each for page in shown for each in page.elements])
            done.compared += 1
            if drift is not None:
                done.drift.setdefault(book, []).append(drift)
                if self.record:
                    await self._append([self._entitlements(book, one, [page.reply for page in shown])], done)

    async def _listed_for(self, customer: str, account: str | None) -> list[Page] | None:
        """Ask for a customer's active entitlements; None where Stripe has no such customer any more."""
        asked = {"customer": customer}
        try:
            pages = read_pages(self.access, "/v1/entitlements/active_entitlements", asked, account=account)
            return [page async for page in pages]
        except StripeRefusedError as error:
            if error.error.code == "resource_missing":
                return None
            raise

    async def _append(self, events: Sequence[NewEvent], done: Reconciled) -> None:
        places = await self.appender.append(events)
        done.recorded += sum(not place.duplicate for place in places)

    def _entitlements(self, book: str, customer: str, replies: Sequence[Reply]) -> NewEvent:
        """Make the observation of a customer's active entitlements, every page of them."""
        kind = "customer.active_entitlements"
        seen = Observation(
            book=book,
            kind=kind,
            of=customer,
            created=replies[0].at,
            observed_at=self.clock(),
            answers=[reply.answer for reply in replies],
            names={"customer": customer},
            event_id=observation_id(book, kind, customer, replies[0].at.isoformat()),
        )
        return observation_event(seen)

    def _observation(self, book: str, one: _Shown) -> NewEvent:
        kind, of = str(one.subject["object"]), str(one.subject["id"])
        version = f"{one.reply.at.isoformat()} {hashlib.sha256(one.raw).hexdigest()}"
        seen = Observation(
            book=book,
            kind=kind,
            of=of,
            created=one.reply.at,
            observed_at=self.clock(),
            answers=[replace(one.reply.answer, body=one.raw)],
            names={} if kind in REFERENCES else names_of(one.subject),
            event_id=observation_id(book, kind, of, version),
        )
        return observation_event(seen)

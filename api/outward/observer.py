"""Works through the list of wanted requests: asks Stripe, and appends each answer as an observation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import asyncpg
import structlog

from api.outward import wanted as wants
from api.outward.access import Reply, StripeAccess
from api.outward.paging import EndlessListError, NoListError, read_pages
from api.outward.refused import StripeRefusedError
from api.outward.wanted import Wanted
from ledger.appender import Appender
from ledger.errors import LedgerError
from ledger.observation import Observation, observation_event
from ledger.reader import read_event

_log = structlog.get_logger()

_AT_ONCE: Final = 8

_LISTS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "checkout.session.line_items": ("/v1/checkout/sessions/{of}/line_items", {}),
    "credit_note.lines": ("/v1/credit_notes/{of}/lines", {}),
    "customer.active_entitlements": ("/v1/entitlements/active_entitlements", {"customer": "{of}"}),
    "invoice.lines": ("/v1/invoices/{of}/lines", {}),
    "invoice_payments": (
        "/v1/invoice_payments",
        {"payment": {"type": "payment_intent", "payment_intent": "{of}"}},
    ),
    "subscription.items": ("/v1/subscription_items", {"subscription": "{of}"}),
}

_OBJECTS: Final[Mapping[str, tuple[str, list[str]]]] = {
    "balance_transaction": ("/v1/balance_transactions/{of}", []),
    "coupon": ("/v1/coupons/{of}", ["applies_to", "currency_options"]),
    "price": ("/v1/prices/{of}", ["tiers", "currency_options"]),
    "subscription.discounts": ("/v1/subscriptions/{of}", ["discounts"]),
}
"""What is asked for as one object, and what of it is only shown when asked for."""

_PASSES: Final = frozenset({401, 403, 409, 429})
"""Refusals that end when somebody mends the key, or by themselves; others of 4xx are for good."""

_SERVER_ERROR: Final = 500


@dataclass(slots=True)
class Observed:
    """What came of a turn: answers that were appended, failures that wait, and requests that were given up."""

    answered: int = 0
    waiting: int = 0
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class Observer:
    """Asks what events left to be asked."""

    access: StripeAccess
    pool: asyncpg.Pool
    appender: Appender
    platform_account: str
    clock: Callable[[], datetime]

    async def work_off(self) -> Observed:
        """Look at everything new in the log, and ask everything that is due; what answers want in turn too.

        The key is for one mode: what is wanted in the other's books waits for a key of that one.
        """
        total = Observed()
        while True:
            async with self.pool.acquire() as connection:
                looked = await wants.look(connection, self.clock())
                due = await wants.due(connection, self.clock(), _AT_ONCE, livemode=self.access.livemode)
            if not due and not looked:
                return total
            for one in await asyncio.gather(*map(self._answer, due)):
                total.answered += one.answered
                total.waiting += one.waiting
                total.given_up += one.given_up

    async def _answer(self, wanted: Wanted) -> Observed:
        async with self.pool.acquire() as connection:
            if await read_event(connection, wanted.book, wanted.event_id) is not None:
                await wants.answered(connection, wanted)
                return Observed()
        try:
            await self._observe(wanted)
        except (StripeRefusedError, EndlessListError, NoListError) as error:
            return await self._fail(wanted, error)
        async with self.pool.acquire() as connection:
            await wants.answered(connection, wanted)
        return Observed(answered=1)

    async def _observe(self, wanted: Wanted) -> None:
        replies = await self._ask(wanted)
        seen = Observation(
            book=wanted.book,
            kind=wanted.kind,
            of=wanted.of,
            created=wanted.created,
            observed_at=self.clock(),
            answers=[reply.answer for reply in replies],
            names=wanted.names,
            because=wanted.because,
            event_id=wanted.event_id,
        )
        await self.appender.append([observation_event(seen)])

    async def _ask(self, wanted: Wanted) -> list[Reply]:
        account = wanted.book.rpartition(":")[0]
        asked_of = None if account == self.platform_account else account
        if wanted.kind in _OBJECTS:
            path, expand = _OBJECTS[wanted.kind]
            params = {"expand": expand} if expand else {}
            return [await self.access.get(path.format(of=quote(wanted.of, safe="")), params, account=asked_of)]
        path, template = _LISTS[wanted.kind]
        pages = read_pages(
            self.access, path.format(of=quote(wanted.of, safe="")), _filled(template, wanted.of), account=asked_of
        )
        return [page.reply async for page in pages]

    async def _fail(self, wanted: Wanted, error: LedgerError) -> Observed:
        status = error.status if isinstance(error, StripeRefusedError) else None
        hopeless = status is not None and status < _SERVER_ERROR and status not in _PASSES
        async with self.pool.acquire() as connection:
            over = await wants.failed(connection, wanted, str(error), self.clock(), hopeless=hopeless)
        if over:
            _log.error("observation_given_up", book=wanted.book, kind=wanted.kind, of=wanted.of, error=error)
        return Observed(given_up=int(over), waiting=int(not over))


def _filled(template: Mapping[str, Any], of: str) -> dict[str, Any]:
    return {
        name: _filled(value, of) if isinstance(value, Mapping) else str(value).format(of=of)
        for name, value in template.items()
    }

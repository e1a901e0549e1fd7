"""Backfill and sweep: ask Stripe what happened in the hours that are not proven, and append what the log lacks.

It is the same work under two names. It starts at the oldest hour and records every completed hour, so it can be killed
at any point and resumes there. An event that the log already has is left alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

import asyncpg
import structlog

from api.outward.access import StripeAccess
from api.outward.coverage import (
    HOUR,
    KEPT,
    LATE,
    OVERLAP,
    Hour,
    covered_accounts,
    hour_of,
    read_hours,
    record,
    unproven_spans,
)
from api.outward.paging import FORBIDDEN, PAGE, read_accounts, read_events
from api.outward.refused import StripeRefusedError
from ledger.appender import Appender
from ledger.books import book_of
from ledger.errors import LedgerError, MalformedEventError
from ledger.event import NewEvent, Source, parse_envelope, received_event
from ledger.times import from_unix

_log = structlog.get_logger()

KNOWN: Final = """
SELECT k.event_id, e.source
FROM ledger.event_key AS k
JOIN ledger.event AS e ON e.stream_id = k.stream_id AND e.version = k.version
WHERE k.book = $1 AND k.event_id = ANY ($2)
"""

_WIDEST: Final = timedelta(days=7)
_NARROWING: Final = 8
_APPEND_AT_ONCE: Final = 500

By = Literal["backfill", "sweep"]


class WrongBookError(LedgerError):
    """Stripe listed an event of another mode or account than was asked for: nothing of it is kept."""


@dataclass(slots=True)
class Gathered:
    """The result, by book: events listed, those the log lacked, and what Stripe said if it refused."""

    listed: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)


async def accounts_to_ask(access: StripeAccess, pool: asyncpg.Pool, platform_account: str) -> list[str | None]:
    """Return the accounts to ask Stripe about: those it lists, else those that the log knows."""
    async with pool.acquire() as connection:
        known = await covered_accounts(connection, platform_account, livemode=access.livemode)
    return await read_accounts(access, known)


@dataclass(frozen=True, slots=True)
class Gathering:
    """What gathers events: Stripe, the log, and a clock. ``progress`` is told of seconds of history passed."""

    access: StripeAccess
    pool: asyncpg.Pool
    appender: Appender
    platform_account: str
    clock: Callable[[], datetime]
    progress: Callable[[timedelta], None] = lambda _: None

    async def backfill(self, since: datetime | None = None) -> Gathered:
        """Ask about every hour from ``since`` (at most 30 days back) that is not proven yet."""
        return await self._every("backfill", None, since, self.clock())

    async def sweep(self, *, leave: timedelta = timedelta()) -> Gathered:
        """Ask about every hour that is not proven, and once more about the latest ones; ``leave`` out the very last."""
        now = self.clock() - leave
        return await self._every("sweep", hour_of(now - OVERLAP), None, now)

    def book(self, account: str | None) -> str:
        """Name the book of an account, in the key's mode."""
        return book_of(account or self.platform_account, livemode=self.access.livemode)

    async def _every(self, by: By, again_from: datetime | None, since: datetime | None, now: datetime) -> Gathered:
        """Ask for every account; a connected one that refuses keeps no other from being asked for."""
        gathered = Gathered()
        for account in await accounts_to_ask(self.access, self.pool, self.platform_account):
            try:
                await self._gather(account, by, again_from, since, now, gathered)
            except StripeRefusedError as error:
                if account is None or error.status not in FORBIDDEN:
                    raise
                gathered.refused[self.book(account)] = str(error)
        return gathered

    async def _gather(
        self,
        account: str | None,
        by: By,
        again_from: datetime | None,
        since: datetime | None,
        now: datetime,
        gathered: Gathered,
    ) -> None:
        oldest = hour_of(now - KEPT)
        async with self.pool.acquire() as connection:
            [edge] = await read_hours(connection, self.book(account), oldest, oldest + HOUR)
            if edge.listed_at is not None:
                oldest += HOUR  # what Stripe still had of it was asked for, and grows less
            begin = max(oldest, hour_of(since)) if since else oldest
            spans = await unproven_spans(connection, self.book(account), begin, now, again_from=again_from)
        for start, end in spans:
            await _Span(self, account, by, gathered).read(start, end)


class _Span:
    """One stretch of unproven hours being read, from its beginning to its end."""

    def __init__(self, gathering: Gathering, account: str | None, by: By, gathered: Gathered) -> None:
        self._gathering = gathering
        self._account = account
        self._book = gathering.book(account)
        self._by: By = by
        self._gathered = gathered
        self._asked_at = gathering.clock()
        self._counts: dict[datetime, Counter[str]] = {}
        self._unreadable: set[datetime] = set()

    async def read(self, start: datetime, end: datetime) -> None:
        """Read in pieces as wide as a few pages fill."""
        at, hour, width = start, start, min(_WIDEST, end - start)
        while at < end:
            until = min(at + width, end)
            since, before = int(at.timestamp()), math.ceil(until.timestamp())
            events = await read_events(self._gathering.access, since, before, account=self._account)
            if events is None:
                width = max(timedelta(seconds=1), timedelta(seconds=(before - since) // _NARROWING))
                continue
            for first in range(0, len(events), _APPEND_AT_ONCE):
                await self._take(events[first : first + _APPEND_AT_ONCE])
            hour = await self._write_down(hour, until, last=until == end)
            self._gathering.progress(until - at)
            width = min(_WIDEST, width * 2) if len(events) < PAGE else width
            at = until

    async def _take(self, events: Sequence[tuple[int, bytes]]) -> None:
        """Append those of some events that the log lacks, in their order, and count them by their hour."""
        new = [event for created, raw in events if (event := self._readable(created, raw)) is not None]
        ids = [event.event_id for event in new]
        async with self._gathering.pool.acquire() as connection:
            known = {row["event_id"]: row["source"] for row in await connection.fetch(KNOWN, self._book, ids)}
        lacking = [event for event in new if event.event_id not in known]
        places = await self._gathering.appender.append(lacking)
        found = {event.event_id for event, place in zip(lacking, places, strict=True) if not place.duplicate}
        for event in new:
            counts = self._counts.setdefault(hour_of(event.created), Counter())
            counts["listed"] += 1
            counts["found"] += event.event_id in found
            counts["webhooks"] += known.get(event.event_id) == Source.WEBHOOK
        self._gathered.listed[self._book] += len(new)
        self._gathered.found[self._book] += len(found)

    def _readable(self, created: int, raw: bytes) -> NewEvent | None:
        try:
            event = received_event(
                parse_envelope(raw),
                raw,
                platform_account=self._account or self._gathering.platform_account,
                source=Source.API,
                received_at=self._gathering.clock(),
                signature=None,
            )
        except MalformedEventError as error:
            _log.error("listed_event_unreadable", book=self._book, error=error)
            self._gathered.unreadable[self._book] += 1
            self._unreadable.add(hour_of(from_unix(created)))
            return None
        if event.book != self._book:
            raise WrongBookError(f"Stripe listed {event.event_id} of {event.book} among the events of {self._book}")
        return event

    async def _write_down(self, hour: datetime, until: datetime, *, last: bool) -> datetime:
        """Write down the hours that are read to their end, or as far as there is; return the first one left.

        Proven is one that Stripe still had whole, asked for late enough, with nothing in it that could not be read.
        """
        done = []
        while hour + HOUR <= until or (last and hour < until):
            end = min(hour + HOUR, until)
            counts = self._counts.pop(hour, Counter())
            whole = end == hour + HOUR and hour >= self._asked_at - KEPT
            done.append(
                Hour(
                    hour,
                    end,
                    whole and self._asked_at >= end + LATE and hour not in self._unreadable,
                    self._by,
                    self._asked_at,
                    counts["listed"],
                    counts["found"],
                    counts["webhooks"],
                )
            )
            hour += HOUR
        async with self._gathering.pool.acquire() as connection:
            await record(connection, self._book, self._by, done)
        return hour

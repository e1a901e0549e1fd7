"""Sources of effective movements: a build's rows, or one customer's as known at a time, which are folded now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

import asyncpg

from projections.mrr.known import Known
from projections.mrr.query import SumsOfKinds, Wanted, read_movements, read_opening, read_sums
from projections.mrr.rows import MovementRow
from projections.periods.moved import Place

LAST: Final = """
SELECT DISTINCT ON (subject, currency)
       subject, book, customer, policy, currency, kind, since, at, before, after, amount, paid_at, reason, involuntary,
       subscriptions, because
FROM mrr_movement
WHERE subject = ANY ($1) AND policy = $2 AND at < $3
ORDER BY subject, currency, at DESC
"""


class Movements(Protocol):
    """Effective movements, whatever their source."""

    async def single(self, wanted: Wanted, after: Place | None, limit: int) -> list[MovementRow]:
        """Return single movements, oldest first, from after a given one on."""

    async def opening(self, wanted: Wanted) -> dict[str, int]:
        """Return by currency what everything was worth before the first interval."""

    async def sums(self, wanted: Wanted) -> SumsOfKinds:
        """Return how much moved in which interval, by currency and kind."""

    async def last(self, wanted: Wanted, subjects: Sequence[str], until: datetime) -> list[MovementRow]:
        """Return the last movement of each of some before a time, in each currency."""


@dataclass(frozen=True, slots=True)
class OfBuild:
    """A build's rows; the connection has entered it."""

    connection: asyncpg.Connection

    async def single(self, wanted: Wanted, after: Place | None, limit: int) -> list[MovementRow]:
        """Return single movements, oldest first, from after a given one on."""
        return await read_movements(self.connection, wanted, after, limit)

    async def opening(self, wanted: Wanted) -> dict[str, int]:
        """Return what was worth how much before."""
        return await read_opening(self.connection, wanted)

    async def sums(self, wanted: Wanted) -> SumsOfKinds:
        """Return how much moved in which interval."""
        return await read_sums(self.connection, wanted)

    async def last(self, wanted: Wanted, subjects: Sequence[str], until: datetime) -> list[MovementRow]:
        """Return the last movement of each before a time."""
        rows = await self.connection.fetch(LAST, subjects, wanted.policy, until)
        return [MovementRow(**dict(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class AsKnown:
    """One customer's movements as they were known."""

    known: Known

    async def single(self, wanted: Wanted, after: Place | None, limit: int) -> list[MovementRow]:
        """Return single movements, oldest first, from after a given one on."""
        return replace(self.known, wanted=wanted).single(after, limit)

    async def opening(self, wanted: Wanted) -> dict[str, int]:
        """Return what was worth how much before."""
        return replace(self.known, wanted=wanted).opening()

    async def sums(self, wanted: Wanted) -> SumsOfKinds:
        """Return how much moved in which interval."""
        return replace(self.known, wanted=wanted).sums()

    async def last(self, wanted: Wanted, subjects: Sequence[str], until: datetime) -> list[MovementRow]:
        """Return the last movement of each before a time."""
        theirs = (one for one in self.known.movements if one.subject in subjects and one.at < until)
        return list({one.currency: one for one in theirs}.values())

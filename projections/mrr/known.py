"""How one customer's worth moved, by what had been recorded of it: the same answers, from rows that were folded now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from projections.contract import Projection
from projections.mrr.query import SIGNS, SumsOfKinds, Wanted, as_far_as, key_of
from projections.mrr.rows import MOVEMENTS, SPANS, MovementRow, SpanRow
from projections.recall import rows_known


@dataclass(frozen=True, slots=True)
class Known:
    """Everything of one customer that is asked for, up to ``as_of``: movements of one policy, and spans of worth."""

    wanted: Wanted
    movements: Sequence[MovementRow]
    spans: Sequence[SpanRow]

    def opening(self) -> dict[str, int]:
        """Return by currency what everything was worth before the first interval."""
        found: dict[str, int] = {}
        for one in self.movements:
            if one.at < self.wanted.bounds.start:
                found[one.currency] = found.get(one.currency, 0) + SIGNS[one.kind] * one.amount
        return found

    def sums(self) -> SumsOfKinds:
        """Return how much moved in which interval, by currency and kind."""
        bounds = self.wanted.bounds
        found: SumsOfKinds = {}
        for one in self.movements:
            if bounds.start <= one.at < bounds.end:
                key = (bounds.start_of(one.at), one.currency, one.kind)
                found[key] = found.get(key, 0) + one.amount
        return found

    def single(self, after: tuple[datetime, str, str] | None, limit: int) -> list[MovementRow]:
        """Return single movements within the bounds, oldest first, from after a given one on."""
        bounds = self.wanted.bounds
        within = (one for one in self.movements if bounds.start <= one.at < bounds.end)
        return [one for one in within if after is None or key_of(one) > after][:limit]

    def about(self, movement: MovementRow) -> list[SpanRow]:
        """Return what a movement's subscriptions were worth before its group of changes, in it, and after it."""
        return [
            one
            for one in self.spans
            if one.subscription in movement.subscriptions
            and one.since <= movement.at
            and (one.until is None or one.until >= movement.since)
        ]


async def read_known(connection: asyncpg.Connection, projection: Projection, wanted: Wanted, position: int) -> Known:
    """Fold a customer's history up to a position. Needs a transaction in which the build was entered."""
    return known_of(wanted, await rows_known(connection, projection, wanted.book, wanted.customer or "", position))


def known_of(wanted: Wanted, rows: Mapping[str, Sequence[Any]]) -> Known:
    """Take what is asked for out of a customer's rows; a group of changes that was not over, as far as it had come."""
    whole: list[MovementRow] = [one for one in rows[MOVEMENTS.name] if one.policy == wanted.policy]
    spans: list[SpanRow] = [one for one in rows[SPANS.name] if one.since <= wanted.as_of]
    begun = {(one.currency, one.since) for one in whole if one.since <= wanted.as_of < one.at}
    found = [one for one in whole if one.at <= wanted.as_of]
    if begun:
        begins = {(one.subject, one.since) for one in whole if (one.currency, one.since) in begun}
        found += [one for one in as_far_as(spans, wanted.policy, begins) if (one.currency, one.since) in begun]
    return Known(wanted, sorted(found, key=key_of), sorted(spans, key=lambda one: (one.subscription, one.since)))

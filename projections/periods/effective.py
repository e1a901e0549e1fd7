"""What is so now, out of a build of revenue: entries and movements before a time, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from projections.mrr.rows import MovementRow
from projections.periods.seal import SealedLine, SealedMovement

MOVEMENTS: Final = """
SELECT subject, book, customer, policy, currency, kind, since, at, before, after, amount, paid_at, reason, involuntary,
       subscriptions, because
FROM mrr_movement
WHERE book = $1 AND at < $2
ORDER BY subject, policy, currency, at
"""

PARKED: Final = "SELECT subject FROM ledger.parked WHERE build_id = $1 AND book = $2 ORDER BY subject"

UNKNOWN_WORTH: Final = """
SELECT subscription, incomplete
FROM mrr_span
WHERE book = $1 AND since < $2 AND (until IS NULL OR until >= $2) AND incomplete <> '{}'
ORDER BY subscription
"""


@dataclass(frozen=True, slots=True)
class Objection:
    """Something that stands against closing a month: which check, in words, and whom or what it is about."""

    check: str
    detail: str
    about: list[Any]

    @property
    def content(self) -> dict[str, Any]:
        """As it is sealed, and answered."""
        return {"check": self.check, "detail": self.detail, "about": self.about}


async def read_lines(connection: asyncpg.Connection, book: str, before: datetime) -> list[SealedLine]:
    """Return every posting before a time."""
    return []


async def read_movements(connection: asyncpg.Connection, book: str, before: datetime) -> list[SealedMovement]:
    """Return every movement before a time, as every policy counts it."""
    return [_movement(MovementRow(**dict(row))) for row in await connection.fetch(MOVEMENTS, book, before)]


def _movement(row: MovementRow) -> SealedMovement:
    return SealedMovement(
        owner=row.subject,
        policy=row.policy,
        currency=row.currency,
        kind=row.kind,
        at=row.at,
        before=row.before,
        after=row.after,
        prior_period=False,
        paid=row.paid_at is not None,
        involuntary=row.involuntary,
        reason=row.reason,
        because=tuple(row.because),
    )


async def read_objections(
    connection: asyncpg.Connection, build: str | None, book: str, before: datetime
) -> list[Objection]:
    """Return what a build cannot stand for: subjects that are parked, and what events have not told yet."""
    found = []
    parked = [row["subject"] for row in await connection.fetch(PARKED, build, book)]
    if parked:
        found.append(Objection("parked", f"{len(parked)} subjects could not be folded", parked))
    unknown = await connection.fetch(UNKNOWN_WORTH, book, before)
    if unknown:
        about = [{"subscription": row["subscription"], "incomplete": list(row["incomplete"])} for row in unknown]
        found.append(Objection("worth", f"{len(unknown)} subscriptions are not fully known", about))
    return found

"""Reported worth and its movements: closed months as sealed, then the effective movements.

What changed in closed months since they were sealed appears as movements at the start of the first open month.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import asyncpg

from projections.builds import enter_both, enter_build
from projections.mrr.intervals import Bounds
from projections.mrr.query import Moved, SumsOfKinds, Wanted, intervals_of, read_movements
from projections.mrr.rows import MovementRow
from projections.periods.effective import movement_of
from projections.periods.kept import fetch_kept
from projections.periods.months import month_end, month_start
from projections.periods.moved import Place, read_last, read_sealed, read_sealed_single
from projections.periods.movements import Movements, OfBuild
from projections.periods.query import Closed, enter_closed
from projections.periods.reported import prior_movements
from projections.periods.tables import NAME

_ALL: Final = 2**62

DIFFERING: Final = """
SELECT DISTINCT owner
FROM (
    SELECT owner, currency, -changed AS amount
    FROM sealed_last
    CROSS JOIN LATERAL unnest(owners, amounts) AS was (owner, changed)
    WHERE book = $1 AND digest = ANY ($2) AND policy = $3
    UNION ALL
    SELECT subject, currency, after - before
    FROM mrr_movement
    WHERE book = $1 AND policy = $3 AND at < $4
) AS sealed_and_so
GROUP BY owner, currency
HAVING sum(amount) <> 0
"""
"""Who is worth something else at the end of the closed months than was sealed: seldom many, so theirs alone is read."""


@dataclass(frozen=True, slots=True)
class Reported:
    """How worth moved as reported, and whether any of it was sealed or corrects a seal."""

    moved: list[Moved]
    single: list[MovementRow]
    is_sealed: bool


async def read_reported(
    connection: asyncpg.Connection,
    revenue: str,
    build: str | None,
    wanted: Wanted,
    *,
    known: int | None,
    detail: int,
    after: Place | None,
    movements: Movements | None = None,
) -> Reported:
    """Return how worth moved, with up to ``detail`` single movements from after a given one on.

    The connection has entered a build of revenue (None: the live one), and is back in it afterwards: its are the
    movements as they are, where no others are given.
    """
    closed = await enter_closed(connection, wanted.book, known)
    until, movements = closed.until, movements or OfBuild(connection)
    if until is None or until < wanted.bounds.start:  # what changed in closed months came to be before
        await enter_build(connection, revenue, wanted.book, build)
        return await as_they_are(movements, wanted, detail=detail, after=after)
    sealed = await read_sealed(connection, wanted, closed)
    single = await read_sealed_single(connection, wanted, closed, after, detail) if detail else []
    changed = await _changed(connection, revenue, build, wanted, closed, movements)
    await enter_build(connection, revenue, wanted.book, build)
    start, end, interval = wanted.bounds
    sums = dict(sealed.sums)
    if end > until:
        later = replace(wanted, bounds=Bounds(max(start, until), end, interval))
        _add(sums, wanted.bounds, await movements.sums(later))
        if len(single) < detail:
            single += [row for row in changed if after is None or _place(row) > after]
            single += await movements.single(later, after, detail)
            single = sorted(single, key=_place)[:detail]
    for row in changed:
        _add(sums, wanted.bounds, {(row.at, row.currency, row.kind): row.amount})
    return Reported(intervals_of(wanted.bounds, sealed.opening, sums), single, is_sealed=True)


async def as_they_are(movements: Movements, wanted: Wanted, *, detail: int, after: Place | None) -> Reported:
    """Return how worth moved, ignoring closes."""
    single = await movements.single(wanted, after, detail) if detail else []
    opening = await movements.opening(wanted)
    return Reported(intervals_of(wanted.bounds, opening, await movements.sums(wanted)), single, is_sealed=False)


def _add(sums: SumsOfKinds, bounds: Bounds, more: SumsOfKinds) -> None:
    for (since, currency, kind), amount in more.items():
        key = (bounds.start_of(since), currency, kind)
        sums[key] = sums.get(key, 0) + amount


async def movements_as_reported(
    connection: asyncpg.Connection, revenue: str, wanted: Wanted, closed: Closed, limit: int
) -> AsyncIterator[list[MovementRow]]:
    """Yield single movements, oldest first: month by month as sealed, what changed since, then the effective ones.

    The connection is in the live build of revenue before, and whenever movements are given.
    """
    start, end, interval = wanted.bounds
    for period in closed.periods:
        since, until = max(start, month_start(period.month)), min(end, month_end(period.month))
        if since < until:
            await enter_build(connection, NAME, wanted.book)
            month = replace(wanted, bounds=Bounds(since, until))
            rows = await read_sealed_single(connection, month, closed, None, _ALL)
            await enter_build(connection, revenue, wanted.book)
            yield rows
    changed = await _changed(connection, revenue, None, wanted, closed, OfBuild(connection))
    await enter_build(connection, revenue, wanted.book)
    rest = replace(wanted, bounds=Bounds(max(start, closed.until or start), end, interval))
    after: Place | None = None
    while rest.bounds.start < end and (rows := await read_movements(connection, rest, after, limit)):
        after = _place(rows[-1])
        yield sorted([*changed, *rows], key=_place)
        changed = []
    if changed:
        yield changed


def _place(row: MovementRow) -> Place:
    return (row.at, row.customer, row.currency)


async def _changed(
    connection: asyncpg.Connection,
    revenue: str,
    build: str | None,
    wanted: Wanted,
    closed: Closed,
    movements: Movements,
) -> list[MovementRow]:
    """Return what changed in closed months since, as movements at the start of the first open one.

    None where that moment is not wanted. The connection is in one build or the other afterwards.
    """
    until = closed.until
    if until is None or not wanted.bounds.start <= until < wanted.bounds.end or until > wanted.as_of:
        return []
    customers = await _differing(connection, revenue, build, wanted, closed, until)
    if not customers:
        return []
    await enter_build(connection, NAME, wanted.book)
    last = await read_last(connection, wanted, closed, customers)
    await enter_build(connection, revenue, wanted.book, build)
    subjects = [f"{wanted.book}/{customer}" for customer in customers]
    ours = [movement_of(one) for one in await movements.last(wanted, subjects, until)]
    now = {(one.owner, one.policy, one.currency): one for one in ours}
    return [
        MovementRow(
            one.owner, wanted.book, one.owner.removeprefix(f"{wanted.book}/"), one.policy, one.currency, one.kind,
            one.at, one.at, one.before, one.after, abs(one.after - one.before), one.at if one.paid else None,
            "prior_period", False, [], list(one.because),
        )
        for one in prior_movements(now, last, closed.first_open or "")
    ]  # fmt: skip


async def _differing(
    connection: asyncpg.Connection, revenue: str, build: str | None, wanted: Wanted, closed: Closed, until: datetime
) -> list[str]:
    """Return the wanted customers whose movements changed."""
    if wanted.customer is not None:
        return [wanted.customer]
    await enter_both(connection, revenue, build, NAME)
    rows = await fetch_kept(connection, DIFFERING, wanted.book, closed.digests(), wanted.policy, until)
    return [row["owner"].removeprefix(f"{wanted.book}/") for row in rows]

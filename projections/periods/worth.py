"""Worth and its movements as they are reported: sealed in closed months, from then on what is so and what changed.

What changed in closed months since they were sealed stands as movements at the start of the first open month.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import asyncpg

from projections.builds import enter_build
from projections.mrr.intervals import Bounds
from projections.mrr.query import (
    Moved,
    SumsOfKinds,
    Wanted,
    intervals_of,
    read_movements,
    read_opening,
    read_sums,
)
from projections.mrr.rows import MovementRow
from projections.periods.months import month_end, month_start
from projections.periods.query import Closed, enter_closed
from projections.periods.reported import prior_movements
from projections.periods.seal import SealedMovement
from projections.periods.tables import NAME

_ALL: Final = 2**62

SEALED_OPENING: Final = """
SELECT currency, sum(after - before)::numeric AS total
FROM sealed_movement
WHERE book = $1 AND digest = ANY ($2) AND policy = $3 AND at < $4 AND ($5::text IS NULL OR customer = $5)
GROUP BY currency
"""

SEALED_MOVED: Final = """
SELECT currency, kind, greatest(date_trunc($6, at, 'UTC'), $4) AS since, sum(abs(after - before))::numeric AS total
FROM sealed_movement
WHERE book = $1 AND digest = ANY ($2) AND policy = $3 AND at >= $4 AND at < $5 AND ($7::text IS NULL OR customer = $7)
GROUP BY 1, 2, 3
"""

SEALED_DETAIL: Final = """
SELECT owner AS subject, book, customer, policy, currency, kind, at AS since, at, before, after,
       abs(after - before) AS amount, CASE WHEN paid THEN at END AS paid_at,
       CASE WHEN prior_period THEN 'prior_period' ELSE reason END AS reason, involuntary, '{}'::text[] AS subscriptions,
       because
FROM sealed_movement
WHERE book = $1 AND digest = ANY ($2) AND policy = $3 AND at >= $4 AND at < $5 AND ($6::text IS NULL OR customer = $6)
  AND ($7::timestamptz IS NULL OR (at, customer, currency) > ($7, $8, $9))
ORDER BY at, customer, currency
LIMIT $10
"""

SEALED_LAST: Final = """
SELECT owner, policy, currency, sum(after - before)::bigint AS total,
       (array_remove(array_agg(because[1] ORDER BY at DESC), NULL))[1:1] AS because
FROM sealed_movement
WHERE book = $1 AND digest = ANY ($2) AND policy = $3 AND ($4::text IS NULL OR customer = $4)
GROUP BY owner, policy, currency
"""

LAST: Final = """
SELECT DISTINCT ON (subject, currency) subject, currency, kind, at, before, after, paid_at, because
FROM mrr_movement
WHERE book = $1 AND policy = $2 AND at < $3 AND ($4::text IS NULL OR customer = $4)
ORDER BY subject, currency, at DESC
"""


@dataclass(frozen=True, slots=True)
class Reported:
    """How worth moved as it is reported, and whether any of it was sealed or corrects what was."""

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
    after: tuple[datetime, str, str] | None,
) -> Reported:
    """Return how worth moved, with up to ``detail`` single movements from after a given one on.

    The connection has entered a build of revenue (None: the live one), and is back in it afterwards.
    """
    closed = await enter_closed(connection, wanted.book, known)
    until = closed.until
    if until is None or until < wanted.bounds.start:  # what changed in closed months came to be before
        await enter_build(connection, revenue, wanted.book, build)
        single = await read_movements(connection, wanted, after, detail) if detail else []
        opening = await read_opening(connection, wanted)
        return Reported(intervals_of(wanted.bounds, opening, await read_sums(connection, wanted)), single, False)
    sealed = await _sealed(connection, wanted, closed, until, detail, after)
    last = await _sealed_last(connection, wanted, closed)
    await enter_build(connection, revenue, wanted.book, build)
    prior = await _prior(connection, wanted, closed, last, until)
    return await _joined(connection, wanted, until, sealed, prior, detail, after)


async def movements_as_reported(
    connection: asyncpg.Connection, revenue: str, wanted: Wanted, closed: Closed, limit: int
) -> AsyncIterator[list[MovementRow]]:
    """Give single movements, oldest first: month by month as sealed, what changed since, then as they are.

    The connection is in the live build of revenue before, and whenever movements are given.
    """
    start, end, interval = wanted.bounds
    for period in closed.periods:
        since, until = max(start, month_start(period.month)), min(end, month_end(period.month))
        if since < until:
            await enter_build(connection, NAME, wanted.book)
            of = (wanted.book, [period.digest], wanted.policy, since, until, wanted.customer)
            rows = await connection.fetch(SEALED_DETAIL, *of, None, None, None, _ALL)
            await enter_build(connection, revenue, wanted.book)
            yield [MovementRow(**dict(row)) for row in rows]
    changed: list[MovementRow] = []
    if closed.until is not None and start <= closed.until < end:
        await enter_build(connection, NAME, wanted.book)
        last = await _sealed_last(connection, wanted, closed)
        await enter_build(connection, revenue, wanted.book)
        changed = await _prior(connection, wanted, closed, last, closed.until)
    rest = replace(wanted, bounds=Bounds(max(start, closed.until or start), end, interval))
    after: tuple[datetime, str, str] | None = None
    while rest.bounds.start < end and (rows := await read_movements(connection, rest, after, limit)):
        after = _place(rows[-1])
        yield sorted([*changed, *rows], key=_place)
        changed = []
    if changed:
        yield changed


def _place(row: MovementRow) -> tuple[datetime, str, str]:
    return (row.at, row.customer, row.currency)


@dataclass(frozen=True, slots=True)
class _Sealed:
    opening: dict[str, int]
    sums: SumsOfKinds
    single: list[MovementRow]


async def _sealed(
    connection: asyncpg.Connection,
    wanted: Wanted,
    closed: Closed,
    until: datetime,
    detail: int,
    after: tuple[datetime, str, str] | None,
) -> _Sealed:
    """Read what the seals hold of what is wanted."""
    start, end, interval = wanted.bounds
    of = (wanted.book, closed.digests(), wanted.policy)
    rows = await connection.fetch(SEALED_OPENING, *of, start, wanted.customer)
    opening = {row["currency"]: int(row["total"]) for row in rows}
    rows = await connection.fetch(SEALED_MOVED, *of, start, min(end, until), interval, wanted.customer)
    sums = {(row["since"], row["currency"], row["kind"]): int(row["total"]) for row in rows}
    single: list[MovementRow] = []
    if detail:
        place = after or (None, None, None)
        rows = await connection.fetch(SEALED_DETAIL, *of, start, min(end, until), wanted.customer, *place, detail)
        single = [MovementRow(**dict(row)) for row in rows]
    return _Sealed(opening, sums, single)


async def _sealed_last(connection: asyncpg.Connection, wanted: Wanted, closed: Closed) -> list[SealedMovement]:
    """Return what each customer was last reported to be worth, as one movement from nothing."""
    rows = await connection.fetch(SEALED_LAST, wanted.book, closed.digests(), wanted.policy, wanted.customer)
    at = datetime.min.replace(tzinfo=UTC)
    return [
        SealedMovement(row["owner"], row["policy"], row["currency"], "new", at, 0, row["total"], False, True, False,
                       None, tuple(row["because"]))
        for row in rows
    ]  # fmt: skip


async def _prior(
    connection: asyncpg.Connection, wanted: Wanted, closed: Closed, last: Sequence[SealedMovement], until: datetime
) -> list[MovementRow]:
    """Return what changed in closed months since, as movements at the start of the first open one."""
    rows = await connection.fetch(LAST, wanted.book, wanted.policy, until, wanted.customer)
    now: dict[tuple[str, str, str], SealedMovement] = {
        (row["subject"], wanted.policy, row["currency"]): SealedMovement(
            row["subject"], wanted.policy, row["currency"], row["kind"], row["at"], row["before"], row["after"], False,
            row["paid_at"] is not None, False, None, tuple(row["because"]),
        )
        for row in rows
    }  # fmt: skip
    found = prior_movements(now, last, closed.first_open or "")
    return [
        MovementRow(
            one.owner, wanted.book, one.owner.removeprefix(f"{wanted.book}/"), one.policy, one.currency, one.kind,
            one.at, one.at, one.before, one.after, abs(one.after - one.before), one.at if one.paid else None,
            "prior_period", False, [], list(one.because),
        )
        for one in found
        if wanted.bounds.start <= one.at < wanted.bounds.end and one.at <= wanted.as_of
    ]  # fmt: skip


async def _joined(
    connection: asyncpg.Connection,
    wanted: Wanted,
    until: datetime,
    sealed: _Sealed,
    prior: Sequence[MovementRow],
    detail: int,
    after: tuple[datetime, str, str] | None,
) -> Reported:
    start, end, interval = wanted.bounds
    sums, single = dict(sealed.sums), list(sealed.single)
    if end > until:
        later = replace(wanted, bounds=Bounds(max(start, until), end, interval))
        opened = await read_sums(connection, later)
        for (since, currency, kind), amount in opened.items():
            key = (wanted.bounds.start_of(since), currency, kind)
            sums[key] = sums.get(key, 0) + amount
        single += await read_movements(connection, later, after, detail) if detail else []
    for row in prior:
        key = (wanted.bounds.start_of(row.at), row.currency, row.kind)
        sums[key] = sums.get(key, 0) + row.amount
    if detail:
        single += [row for row in prior if after is None or _place(row) > after]
        single = sorted(single, key=_place)[:detail]
    return Reported(intervals_of(wanted.bounds, sealed.opening, sums), single, is_sealed=True)

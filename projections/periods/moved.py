"""Worth and its movements in seals: totals, from sums kept beside the rows, and the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from projections.mrr.intervals import month_after
from projections.mrr.query import SIGNS, SumsOfKinds, Wanted
from projections.mrr.rows import MovementRow
from projections.periods.kept import fetch_kept
from projections.periods.months import month_end, month_start
from projections.periods.query import Closed, read_sealed_worth
from projections.periods.seal import SealedMovement

BY_MONTH: Final = """
SELECT digest, currency, kind, 1 AS day, sum(amount) AS amount
FROM sealed_moved
WHERE book = $1 AND digest = ANY ($2) AND policy = $3
GROUP BY digest, currency, kind
"""

BY_DAY: Final = """
SELECT digest, currency, kind, day::int AS day, sum(moved) AS amount
FROM sealed_moved
CROSS JOIN LATERAL unnest(days) WITH ORDINALITY AS on_day (moved, day)
WHERE book = $1 AND digest = ANY ($2) AND policy = $3 AND moved <> 0
GROUP BY digest, currency, kind, day
"""

OF_CUSTOMER: Final = """
SELECT digest, currency, kind, extract(day FROM at AT TIME ZONE 'UTC')::int AS day,
       sum(abs(after - before))::numeric AS amount
FROM sealed_movement
WHERE book = $1 AND digest = ANY ($2) AND policy = $3 AND customer = $4
GROUP BY digest, currency, kind, day
"""

SINGLE: Final = """
SELECT owner AS subject, book, customer, policy, currency, kind, at AS since, at, before, after,
       abs(after - before) AS amount, CASE WHEN paid THEN at END AS paid_at,
       CASE WHEN prior_period THEN 'prior_period' ELSE reason END AS reason, involuntary, '{}'::text[] AS subscriptions,
       because
FROM sealed_movement
WHERE book = $1 AND digest = $2 AND policy = $3 AND at >= $4 AND at < $5 AND ($6::text IS NULL OR customer = $6)
  AND ($7::timestamptz IS NULL OR (at, customer COLLATE "C", currency COLLATE "C") > ($7, $8, $9))
ORDER BY at, customer COLLATE "C", currency COLLATE "C"
LIMIT $10
"""

LAST: Final = """
SELECT owner, currency, sum(after - before)::bigint AS total,
       (array_remove(array_agg(because[1] ORDER BY at DESC), NULL))[1:1] AS because
FROM sealed_movement
WHERE book = $1 AND digest = ANY ($2) AND policy = $3 AND customer = ANY ($4)
GROUP BY owner, currency
"""

Place = tuple[datetime, str, str]
"""What single movements are ordered by: when, whose and in which currency."""

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Sealed:
    """As sealed: the worth before the first interval, and how much moved in each interval."""

    opening: dict[str, int]
    sums: SumsOfKinds


async def read_sealed(connection: asyncpg.Connection, wanted: Wanted, closed: Closed) -> Sealed:
    """Return what the seals hold of what is wanted; the connection has entered a build of periods."""
    months = {one.digest: month_start(one.month) for one in closed.periods}
    if wanted.customer is not None:
        of = (wanted.book, list(months), wanted.policy, wanted.customer)
        return _sorted(wanted, months, {}, await connection.fetch(OF_CUSTOMER, *of))
    start, end, interval = wanted.bounds
    ends = {digest: month_after(month) for digest, month in months.items()}
    inside = [digest for digest, month in months.items() if ends[digest] > start and month < end]
    whole = [one for one in inside if interval == "month" and months[one] >= start and ends[one] <= end]
    cut = [one for one in inside if one not in whole]
    before = [digest for digest, ended in ends.items() if ended <= start]
    worth = await read_sealed_worth(connection, wanted.book, before, wanted.policy)
    rows = await fetch_kept(connection, BY_MONTH, wanted.book, whole, wanted.policy) if whole else []
    rows += await fetch_kept(connection, BY_DAY, wanted.book, cut, wanted.policy) if cut else []
    return _sorted(wanted, months, {currency: total for currency, (total, _) in worth.items()}, rows)


def _sorted(
    wanted: Wanted, months: Mapping[str, datetime], opening: dict[str, int], rows: Iterable[asyncpg.Record]
) -> Sealed:
    """Sort what moved on days by the intervals that are wanted; what moved before them is in what they open with."""
    start, end, _ = wanted.bounds
    found = Sealed(opening, {})
    for row in rows:
        at = months[row["digest"]] + (row["day"] - 1) * _DAY
        currency, kind, amount = row["currency"], row["kind"], int(row["amount"])
        if at < start:
            opening[currency] = opening.get(currency, 0) + SIGNS[kind] * amount
        elif at < end:
            key = (wanted.bounds.start_of(at), currency, kind)
            found.sums[key] = found.sums.get(key, 0) + amount
    return found


async def read_sealed_single(
    connection: asyncpg.Connection, wanted: Wanted, closed: Closed, after: Place | None, limit: int
) -> list[MovementRow]:
    """Return single movements as they were sealed, oldest first, from after a given one on: month by month, by key."""
    start, end, _ = wanted.bounds
    begin = start if after is None else max(start, after[0])
    found: list[MovementRow] = []
    for one in closed.periods:
        if month_end(one.month) > begin and month_start(one.month) < end and len(found) < limit:
            of = (wanted.book, one.digest, wanted.policy, start, end, wanted.customer)
            rows = await connection.fetch(SINGLE, *of, *(after or (None, None, None)), limit - len(found))
            found += [MovementRow(**dict(row)) for row in rows]
    return found


async def read_last(
    connection: asyncpg.Connection, wanted: Wanted, closed: Closed, customers: Sequence[str]
) -> list[SealedMovement]:
    """Return what some customers were last reported to be worth, each as one movement from nothing."""
    rows = await connection.fetch(LAST, wanted.book, closed.digests(), wanted.policy, customers)
    at = datetime.min.replace(tzinfo=UTC)
    return [
        SealedMovement(row["owner"], wanted.policy, row["currency"], "new", at, 0, row["total"], False, True, False,
                       None, tuple(row["because"]))
        for row in rows
    ]  # fmt: skip

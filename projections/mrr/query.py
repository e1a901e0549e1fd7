"""Reading worth and its movements out of a build's rows: totals at a moment, and sums over intervals of UTC days."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from projections.contract import Subject
from projections.dunning.case import OVER
from projections.mrr.intervals import Bounds
from projections.mrr.movements import KINDS
from projections.mrr.rows import MovementRow, SpanRow, movement_rows, span_of
from projections.mrr.worth import Policy

TOTALS: Final = """
SELECT currency, sum(total)::numeric AS total, sum(customers)::bigint AS customers,
       sum(incomplete)::bigint AS incomplete
FROM (
    SELECT currency, sum(total) AS total, count(*) FILTER (WHERE counts) AS customers, 0 AS incomplete
    FROM (
        SELECT currency, sum(CASE $3 WHEN 'all-discounts' THEN net_all ELSE net_forever END) AS total,
               bool_or(CASE $3 WHEN 'all-discounts' THEN net_all ELSE net_forever END > 0) AS counts
        FROM mrr_span
        WHERE book = $1 AND since <= $2 AND (until IS NULL OR until > $2) AND gross > 0
        GROUP BY subject, currency
    ) AS of_subject
    GROUP BY currency
    UNION ALL
    SELECT currency, coalesce(sum(CASE $3 WHEN 'all-discounts' THEN net_all ELSE net_forever END)
                              FILTER (WHERE gross <= 0), 0), 0, count(*)
    FROM mrr_span
    WHERE book = $1 AND since <= $2 AND (until IS NULL OR until > $2) AND incomplete <> '{}'
    GROUP BY currency
) AS part
GROUP BY currency
ORDER BY currency
"""
"""Subject by subject first, in the order of an index that holds all of it: to count the different ones, PostgreSQL
would sort them. Those that are not fully known are few, and have an index of their own."""

AT_RISK: Final = """
SELECT DISTINCT subject, subscription
FROM dunning_case
WHERE book = $1 AND valid_from <= $2 AND (valid_to IS NULL OR valid_to > $2) AND subscription IS NOT NULL
  AND category <> 'initial' AND state <> ALL ($3)
"""

AT_RISK_TOTALS: Final = """
SELECT s.currency, sum(CASE $3 WHEN 'all-discounts' THEN s.net_all ELSE s.net_forever END)::numeric AS total
FROM unnest($1::text[], $4::text[]) AS r(subject, subscription)
CROSS JOIN LATERAL (
    SELECT currency, net_forever, net_all
    FROM mrr_span
    WHERE subject = r.subject AND subscription = r.subscription AND since <= $2 AND (until IS NULL OR until > $2)
    OFFSET 0
) AS s
GROUP BY s.currency
"""
"""OFFSET 0 keeps the planner from reading every span: those at risk are few among them, and found by key."""

NEWEST: Final = "SELECT max(newest) FROM dunning_newest WHERE book = $1"

OPENING: Final = """
SELECT currency, sum(after - before)::numeric AS total
FROM mrr_movement
WHERE book = $1 AND policy = $2 AND at < $3 AND ($4::text IS NULL OR customer = $4)
GROUP BY currency
"""

MOVED: Final = """
SELECT currency, kind, greatest(date_trunc($5, at, 'UTC'), $3) AS since, sum(amount)::numeric AS total
FROM mrr_movement
WHERE book = $1 AND policy = $2 AND at >= $3 AND at < $4 AND ($6::text IS NULL OR customer = $6) AND at <= $7
GROUP BY 1, 2, 3
"""

DETAIL: Final = """
SELECT subject, book, customer, policy, currency, kind, since, at, before, after, amount, paid_at, reason, involuntary,
       subscriptions, because
FROM mrr_movement
WHERE book = $1 AND policy = $2 AND at >= $3 AND at < $4 AND ($5::text IS NULL OR customer = $5) AND at <= $6
  AND ($7::timestamptz IS NULL OR (at, customer COLLATE "C", currency COLLATE "C") > ($7, $8, $9))
ORDER BY at, customer COLLATE "C", currency COLLATE "C"
LIMIT $10
"""

BEGUN: Final = """
SELECT subject, currency, since
FROM mrr_movement
WHERE book = $1 AND policy = $2 AND since <= $3 AND at > $3 AND ($4::text IS NULL OR customer = $4)
"""

SPANS: Final = """
SELECT subject, book, customer, subscription, currency, since, until, gross, net_forever, net_all, reason, involuntary,
       flags, incomplete, paid_at, items, products, item_amounts, because
FROM mrr_span
WHERE subject = ANY ($1) AND since <= $2
ORDER BY subject, subscription, since
"""


SIGNS: Final = {"new": 1, "reactivation": 1, "expansion": 1, "contraction": -1, "churn": -1}
"""Which way each kind moves the total."""


SumsOfKinds = dict[tuple[datetime, str, str], int]
"""Amounts by the start of an interval, currency and kind."""


@dataclass(frozen=True, slots=True)
class Total:
    """What everything in one currency is worth at a moment. ``incomplete`` counts subscriptions not fully known."""

    currency: str
    total: int
    customers: int
    incomplete: int


@dataclass(frozen=True, slots=True)
class Moved:
    """How worth moved in one interval and currency: by kind, and what it was before and after."""

    since: datetime
    until: datetime
    currency: str
    opening: int
    by_kind: dict[str, int]
    closing: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which movements are asked for: of a book or one customer, in ``[start, end)``, as far as known at ``as_of``."""

    book: str
    policy: Policy
    bounds: Bounds
    customer: str | None
    as_of: datetime


async def read_totals(connection: asyncpg.Connection, book: str, at: datetime, policy: Policy) -> list[Total]:
    """Return what everything is worth at a moment, by currency."""
    rows = await connection.fetch(TOTALS, book, at, policy)
    return [Total(row["currency"], int(row["total"]), row["customers"], row["incomplete"]) for row in rows]


async def read_newest(connection: asyncpg.Connection, book: str) -> datetime | None:
    """Return the time of a book's newest fact; the connection has entered a build of dunning."""
    found: datetime | None = await connection.fetchval(NEWEST, book)
    return found


async def read_subscriptions_at_risk(connection: asyncpg.Connection, book: str, at: datetime) -> list[tuple[str, str]]:
    """Name the subscriptions with an open case at a moment; the connection has entered a build of dunning."""
    rows = await connection.fetch(AT_RISK, book, at, list(OVER))
    return [(row["subject"], row["subscription"]) for row in rows]


async def read_at_risk(
    connection: asyncpg.Connection, named: Sequence[tuple[str, str]], at: datetime, policy: Policy
) -> dict[str, int]:
    """Return by currency what the subscriptions that are named are worth at a moment."""
    subjects, subscriptions = [one for one, _ in named], [one for _, one in named]
    rows = await connection.fetch(AT_RISK_TOTALS, subjects, at, policy, subscriptions)
    return {row["currency"]: int(row["total"]) for row in rows}


async def read_opening(connection: asyncpg.Connection, wanted: Wanted) -> dict[str, int]:
    """Return by currency what everything was worth before the first interval."""
    rows = await connection.fetch(OPENING, wanted.book, wanted.policy, wanted.bounds.start, wanted.customer)
    return {row["currency"]: int(row["total"]) for row in rows}


async def read_sums(connection: asyncpg.Connection, wanted: Wanted) -> SumsOfKinds:
    """Return how much moved in which interval, by currency and kind."""
    start, end, interval = wanted.bounds
    rows = await connection.fetch(
        MOVED, wanted.book, wanted.policy, start, end, interval, wanted.customer, wanted.as_of
    )  # fmt: skip
    sums = {(row["since"], row["currency"], row["kind"]): int(row["total"]) for row in rows}
    for row in await _begun(connection, wanted):
        key = (wanted.bounds.start_of(row.at), row.currency, row.kind)
        sums[key] = sums.get(key, 0) + row.amount
    return sums


def intervals_of(bounds: Bounds, opening: Mapping[str, int], sums: SumsOfKinds) -> list[Moved]:
    """Return what moved interval by interval, in every currency that was or came to be worth something."""
    found: list[Moved] = []
    at = dict(opening)
    currencies = sorted({currency for currency, total in opening.items() if total} | {key[1] for key in sums})
    for since, until in bounds.intervals():
        for currency in currencies:
            before = at.get(currency, 0)
            kinds: dict[str, int] = {kind: sums.get((since, currency, kind), 0) for kind in KINDS}
            after = before + sum(SIGNS[kind] * amount for kind, amount in kinds.items())
            at[currency] = after
            found.append(Moved(since, until, currency, before, kinds, after))
    return found


async def read_movements(
    connection: asyncpg.Connection, wanted: Wanted, after: tuple[datetime, str, str] | None, limit: int
) -> list[MovementRow]:
    """Return single movements, oldest first, from after a given one on."""
    at, customer, currency = after or (None, None, None)
    rows = await connection.fetch(
        DETAIL, wanted.book, wanted.policy, wanted.bounds.start, wanted.bounds.end, wanted.customer, wanted.as_of,
        at, customer, currency, limit,
    )  # fmt: skip
    found = [MovementRow(**dict(row)) for row in rows]
    begun = [row for row in await _begun(connection, wanted) if after is None or key_of(row) > after]
    return sorted([*found, *begun], key=key_of)[:limit]


def key_of(row: MovementRow) -> tuple[datetime, str, str]:
    """Return what movements are in the order of."""
    return (row.at, row.customer, row.currency)


async def read_spans(connection: asyncpg.Connection, movement: MovementRow) -> list[SpanRow]:
    """Return what a movement's subscriptions were worth before its group of changes, in it, and after it."""
    rows = await connection.fetch(SPANS, [movement.subject], movement.at)
    found = [SpanRow(**dict(row)) for row in rows if row["subscription"] in movement.subscriptions]
    return [one for one in found if one.until is None or one.until >= movement.since]


async def _begun(connection: asyncpg.Connection, wanted: Wanted) -> list[MovementRow]:
    """Return the movements that had begun by ``as_of`` and were not over, as far as they had come."""
    begun = await connection.fetch(BEGUN, wanted.book, wanted.policy, wanted.as_of, wanted.customer)
    which = {(row["subject"], row["currency"], row["since"]) for row in begun}
    spans: dict[str, list[SpanRow]] = {}
    if which:
        for row in await connection.fetch(SPANS, sorted({key[0] for key in which}), wanted.as_of):
            spans.setdefault(row["subject"], []).append(SpanRow(**dict(row)))
    begins = {(subject, since) for subject, _, since in which}
    found = [one for some in spans.values() for one in as_far_as(some, wanted.policy, begins)]
    return [
        one for one in found
        if (one.subject, one.currency, one.since) in which and wanted.bounds.start <= one.at < wanted.bounds.end
    ]  # fmt: skip


def as_far_as(
    some: Sequence[SpanRow], policy: Policy, begins: Collection[tuple[str, datetime]]
) -> Iterable[MovementRow]:
    """Return how one's worth moved up to now. A group that has begun has all that came since: it is not over."""
    subject = Subject(some[0].book, some[0].subject)

    def grouping(at: datetime) -> timedelta:
        return timedelta(days=(subject.stream_id, at) in begins)

    paid = {row.subscription: row.paid_at for row in some if row.paid_at is not None}
    return (
        one for one in movement_rows(subject, [span_of(row) for row in some], paid, grouping) if one.policy == policy
    )

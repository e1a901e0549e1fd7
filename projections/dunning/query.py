"""Reading dunning: the rows of a build that hold at a moment, or a fold over what was known of one customer.

Which span a moment lies in is all that SQL decides; what the spans come to, ``standing`` and ``summary`` say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from projections.contract import Projection
from projections.dunning.case import OVER
from projections.dunning.rows import CaseRow, ChurnRow, MomentRow, NewestRow, WorthRow
from projections.dunning.standing import NEEDS_A_PERSON, Standing, holding, present, standings
from projections.dunning.summary import Sums, Tally, Wanted, summarise
from projections.recall import rows_known

CASES: Final = """
SELECT c.*
FROM dunning_case AS c
JOIN dunning_newest AS n ON n.subject = c.subject
CROSS JOIN LATERAL (SELECT coalesce($3::timestamptz, greatest($2::timestamptz, n.newest)) AS at) AS asked
WHERE c.book = $1 AND c.valid_from <= asked.at AND (c.valid_to IS NULL OR asked.at < c.valid_to)
"""

CASES_PAGE: Final = """
SELECT c.*
FROM dunning_case AS c
JOIN dunning_newest AS n ON n.subject = c.subject
CROSS JOIN LATERAL (SELECT coalesce($3::timestamptz, greatest($2::timestamptz, n.newest)) AS at) AS asked
WHERE c.book = $1 AND c.valid_from <= asked.at AND (c.valid_to IS NULL OR asked.at < c.valid_to)
  AND ($4::text IS NULL OR c.state = $4)
  AND ($5::timestamptz IS NULL OR c.opened_at >= $5)
  AND ($6::timestamptz IS NULL OR c.opened_at < $6)
  AND ($7::timestamptz IS NULL OR (c.opened_at, c.case_id) > ($7, $8))
ORDER BY c.opened_at, c.case_id
LIMIT $9
"""

ATTENTION_PAGE: Final = """
SELECT c.*
FROM dunning_case AS c
JOIN dunning_newest AS n ON n.subject = c.subject
CROSS JOIN LATERAL (SELECT coalesce($3::timestamptz, greatest($2::timestamptz, n.newest)) AS at) AS asked
WHERE c.book = $1 AND c.valid_from <= asked.at AND (c.valid_to IS NULL OR asked.at < c.valid_to)
  AND c.state = ANY ($4) AND c.category <> 'initial'
  AND ($5::text IS NULL OR c.currency = $5)
  AND ($6::text IS NULL OR (c.currency, -c.open_amount, c.case_id) > ($6, -$7::bigint, $8))
ORDER BY c.currency, -c.open_amount, c.case_id
LIMIT $9
"""

OPEN_CASES: Final = """
SELECT c.*
FROM dunning_case AS c
JOIN dunning_newest AS n ON n.subject = c.subject
CROSS JOIN LATERAL (SELECT coalesce($3::timestamptz, greatest($2::timestamptz, n.newest)) AS at) AS asked
WHERE c.subject = ANY ($1) AND c.valid_from <= asked.at AND (c.valid_to IS NULL OR asked.at < c.valid_to)
  AND c.closed_at IS NULL
"""

WORTH: Final = """
SELECT w.subject, w.book, w.customer, w.subscription, w.currency, w.mrr, w.reason, w.involuntary, w.incomplete,
       w.because, w.valid_from, w.valid_to
FROM dunning_worth AS w
JOIN dunning_newest AS n ON n.subject = w.subject
CROSS JOIN LATERAL (SELECT coalesce($3::timestamptz, greatest($2::timestamptz, n.newest)) AS at) AS asked
WHERE w.book = $1 AND w.valid_from <= asked.at AND (w.valid_to IS NULL OR asked.at < w.valid_to)
  AND ($4::text[] IS NULL OR w.subject = ANY ($4))
"""

CHURNS: Final = """
SELECT subject, book, customer, currency, at, mrr, involuntary, reason, because
FROM dunning_churn
WHERE book = $1 AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::timestamptz IS NULL OR at < $3)
"""

BOARD: Final = """
SELECT c.currency, c.state, count(*) AS cases, sum(c.open_amount)::bigint AS open_amount
FROM dunning_case AS c
JOIN dunning_newest AS n ON n.subject = c.subject
CROSS JOIN LATERAL (SELECT coalesce($3::timestamptz, greatest($2::timestamptz, n.newest)) AS at) AS asked
WHERE c.book = $1 AND c.valid_from <= asked.at AND (c.valid_to IS NULL OR asked.at < c.valid_to)
GROUP BY c.currency, c.state
"""

AT_RISK: Final = """
SELECT w.currency, sum(w.mrr)::bigint AS mrr
FROM (
    SELECT DISTINCT c.subject, c.subscription, asked.at
    FROM dunning_case AS c
    JOIN dunning_newest AS n ON n.subject = c.subject
    CROSS JOIN LATERAL (SELECT coalesce($3::timestamptz, greatest($2::timestamptz, n.newest)) AS at) AS asked
    WHERE c.book = $1 AND c.valid_from <= asked.at AND (c.valid_to IS NULL OR asked.at < c.valid_to)
      AND c.state <> ALL ($4) AND c.category <> 'initial' AND c.subscription IS NOT NULL
) AS risky
JOIN dunning_worth AS w ON w.subject = risky.subject AND w.subscription = risky.subscription
WHERE w.valid_from <= risky.at AND (w.valid_to IS NULL OR risky.at < w.valid_to)
GROUP BY w.currency
"""

CUSTOMER_OF: Final = "SELECT subject FROM dunning_case WHERE book = $1 AND case_id = $2 LIMIT 1"

NEWEST: Final = "SELECT max(newest) FROM dunning_newest WHERE book = $1"

CUSTOMER_ROWS: Final = {
    "dunning_case": "SELECT c.* FROM dunning_case AS c WHERE c.subject = $1",
    "dunning_worth": """
        SELECT subject, book, customer, subscription, currency, mrr, reason, involuntary, incomplete, because,
               valid_from, valid_to
        FROM dunning_worth
        WHERE subject = $1
    """,
    "dunning_moment": """
        SELECT subject, book, customer, at, place, kind, case_id, event, amount, currency, decline_code, failure_class,
               failure_confidence, next_attempt_at, method
        FROM dunning_moment
        WHERE subject = $1
        ORDER BY at, place
    """,
    "dunning_newest": "SELECT subject, book, newest FROM dunning_newest WHERE subject = $1",
}


class Moment(NamedTuple):
    """The moment asked about: a given one, or the present by our clock."""

    now: datetime
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class CustomerDunning:
    """One customer's cases, oldest first, and what happened, as of a moment."""

    cases: list[Standing]
    timeline: list[MomentRow]


class Board(NamedTuple):
    """One currency's cases by state, with what is open of them, and the worth of the subscriptions at risk."""

    states: dict[str, Tally]
    at_risk_mrr: int


class Filter(NamedTuple):
    """Which cases to list: in one state, opened in ``[opened_from, opened_to)``."""

    state: str | None = None
    opened_from: datetime | None = None
    opened_to: datetime | None = None


def stream_of_customer(book: str, customer: str) -> str:
    """Name the stream of a customer."""
    return f"{book}/{customer}"


async def read_customer(connection: asyncpg.Connection, book: str, customer: str, moment: Moment) -> CustomerDunning:
    """Read one customer's cases and timeline. The build must be entered."""
    subject = stream_of_customer(book, customer)
    rows = {table: await connection.fetch(statement, subject) for table, statement in CUSTOMER_ROWS.items()}
    return customer_dunning(rows, moment)


def customer_dunning(rows: dict[str, Any], moment: Moment) -> CustomerDunning:
    """Evaluate one customer's rows at a moment."""
    at = present(moment.now, moment.as_of, [NewestRow(*row).newest for row in rows["dunning_newest"]])
    cases = sorted(holding(map(_case, rows["dunning_case"]), at), key=lambda row: (row.opened_at, row.case_id))
    worth = holding(map(_worth, rows["dunning_worth"]), at)
    timeline = [one for one in (MomentRow(*row) for row in rows["dunning_moment"]) if one.at <= at]
    return CustomerDunning(standings(cases, worth), timeline)


async def fold_known(
    connection: asyncpg.Connection, projection: Projection, book: str, customer: str, moment: Moment, position: int
) -> CustomerDunning:
    """Answer with today's code from what had been recorded by ``position``: folds the customer's history now.

    The build must be entered.
    """
    rows = await rows_known(connection, projection, book, customer, position)
    return customer_dunning(rows, moment)


async def read_cases(
    connection: asyncpg.Connection,
    book: str,
    moment: Moment,
    wanted: Filter,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Standing]:
    """Read a page of a book's cases, in order of opening. The build must be entered."""
    rows = await connection.fetch(CASES_PAGE, book, *moment, *wanted, *(after or (None, None)), limit)
    return await _beside_worth(connection, book, moment, [_case(row) for row in rows])


async def read_attention(
    connection: asyncpg.Connection,
    book: str,
    moment: Moment,
    currency: str | None,
    after: tuple[str, int, str] | None,
    limit: int,
) -> list[Standing]:
    """Read a page of the cases that nothing ends by itself, by currency, the largest first."""
    states = sorted(NEEDS_A_PERSON)
    rows = await connection.fetch(
        ATTENTION_PAGE, book, *moment, states, currency, *(after or (None, None, None)), limit
    )
    return await _beside_worth(connection, book, moment, [_case(row) for row in rows])


async def _beside_worth(
    connection: asyncpg.Connection, book: str, moment: Moment, page: list[CaseRow]
) -> list[Standing]:
    subjects = sorted({row.subject for row in page})
    others = [_case(row) for row in await connection.fetch(OPEN_CASES, subjects, *moment)] if subjects else []
    worth = await connection.fetch(WORTH, book, *moment, subjects) if subjects else []
    shown = {row.case_id for row in page}
    every = [*page, *(row for row in others if row.case_id not in shown)]
    return standings(every, map(_worth, worth))[: len(page)]


async def read_board(connection: asyncpg.Connection, book: str, moment: Moment) -> dict[str, Board]:
    """Count a book's cases by currency and state. The build must be entered."""
    found: dict[str, Board] = {}
    for row in await connection.fetch(BOARD, book, *moment):
        tally = Tally(row["cases"], row["open_amount"])
        found.setdefault(row["currency"], Board({}, 0)).states[row["state"]] = tally
    for row in await connection.fetch(AT_RISK, book, *moment, sorted(OVER)):
        found[row["currency"]] = found.get(row["currency"], Board({}, 0))._replace(at_risk_mrr=row["mrr"])
    return found


async def read_customer_of(connection: asyncpg.Connection, book: str, case: str) -> str | None:
    """Name the customer whose case it is, at whatever moment; None for no case. The build must be entered."""
    subject = await connection.fetchval(CUSTOMER_OF, book, case)
    return None if subject is None else str(subject).removeprefix(f"{book}/")


def told_of(found: CustomerDunning, case: str) -> tuple[Standing, list[MomentRow]] | None:
    """Return one of a customer's cases, with what happened to it and, while it was open, to what could pay it."""
    standing = next((one for one in found.cases if one.case.case_id == case), None)
    if standing is None:
        return None
    own = [one for one in found.timeline if one.case_id == case]
    since = min([standing.case.opened_at, *(one.at for one in own)])
    until = standing.case.closed_at
    return standing, [
        one
        for one in found.timeline
        if one.case_id == case or (not one.case_id and since <= one.at and (until is None or one.at <= until))
    ]


async def read_summary(connection: asyncpg.Connection, book: str, moment: Moment, wanted: Wanted) -> dict[str, Sums]:
    """Sum a book's cases. The build must be entered."""
    newest = await connection.fetchval(NEWEST, book)
    at = present(moment.now, moment.as_of, [] if newest is None else [newest])
    cases = [_case(row) for row in await connection.fetch(CASES, book, *moment)]
    worth = [_worth(row) for row in await connection.fetch(WORTH, book, *moment, None)]
    churns = [_churn(row) for row in await connection.fetch(CHURNS, book, wanted.since, wanted.until)]
    return summarise(standings(cases, worth), worth, churns, wanted, at)


def _case(row: Iterable[Any]) -> CaseRow:
    made = CaseRow(*row)
    return made._replace(because=tuple(made.because))


def _worth(row: Iterable[Any]) -> WorthRow:
    return WorthRow(*row)


def _churn(row: Iterable[Any]) -> ChurnRow:
    return ChurnRow(*row)

"""Reads over closed months and those after them, from sums and a piece at a time, are what is so one by one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import orjson
import pytest

from api.services import Services
from ledger.postgres import Database
from ledger.simulator.company import MIXED, Arguments, Company
from ledger.times import rfc3339
from projections.builds import enter_build
from projections.mrr.intervals import INTERVALS, Bounds
from projections.mrr.movements import KINDS
from projections.mrr.query import SIGNS
from projections.mrr.rows import MovementRow
from projections.mrr.worth import POLICIES
from projections.periods.closing import Asked, close_month
from projections.periods.effective import MOVEMENTS, movement_of
from projections.periods.kept import ROWS
from projections.periods.months import month_after, month_of
from projections.periods.query import read_closed, sealed_movement_of
from projections.periods.reported import reported_movements
from projections.periods.seal import SealedMovement
from projections.revenue import pieces
from projections.revenue.pages import subjects_of
from tests.conftest import ManualClock
from tests.periods.test_close import fold_all
from tests.periods.test_company import Json, ask
from tests.projections.histories import new_events

BOOK = "self:live"
ARGUMENTS = Arguments(customers=16, months=4, seed=5, api_version=MIXED)

ALL_SEALED = """
SELECT m.owner, m.policy, m.currency, m.kind, m.at, m.before, m.after, m.prior_period, m.paid, m.involuntary, m.reason,
       m.because
FROM sealed_movement AS m
WHERE m.book = $1 AND m.digest = ANY ($2)
ORDER BY m.at
"""


class Question(NamedTuple):
    """What is asked of the movements, at random."""

    start: datetime
    days: int
    interval: Any
    policy: str
    customer: str | None
    limit: int

    @property
    def parameters(self) -> dict[str, str]:
        found = {"from": rfc3339(self.start), "to": rfc3339(self.start + timedelta(days=self.days))}
        found |= {"interval": self.interval, "policy": self.policy, "detail": "true", "limit": str(self.limit)}
        return found | ({} if self.customer is None else {"customer": self.customer})


async def test_what_seals_keep_of_movements_answers_as_the_movements_do(
    client: httpx.AsyncClient, database: Database, services: Services, clock: ManualClock
) -> None:
    """Also of days, weeks, one customer and a page at a time, and in a build that keeps no sums."""
    dice = random.Random(3)
    await closed_months(database, services, clock, dice)
    story = await reported(database, services)
    changed = {one.owner for one in story if one.prior_period and month_of(one.at) == "2024-02"}
    assert 3 < len(changed) < len({one.owner for one in story}), "what changed is some customers' worth"
    questions = [question(dice, story) for _ in range(30)]
    answers = [await every_page(client, one) for one in questions]
    assert [(len(one["movements"]), one["intervals"]) for one in answers] == [
        (len(wanted(one, story)), intervals(one, story)) for one in questions
    ]
    for one, found in zip(questions, answers, strict=True):
        assert [shown_of(row) for row in found["movements"]] == [shown(row) for row in wanted(one, story)]
    connection = await database.as_role("ledger_builder").connect()
    async with connection.transaction():
        await enter_build(connection, "periods", BOOK)
        await connection.execute(f"DROP TABLE sealed_total, {', '.join(ROWS)}")
    await connection.close()
    assert [await every_page(client, one) for one in questions[:10]] == answers[:10]


async def test_everybodys_journal_a_piece_at_a_time_is_that_of_each(
    client: httpx.AsyncClient,
    database: Database,
    services: Services,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Page by page, through closed months and open ones, from any moment to any other, with and without an account."""
    dice = random.Random(5)
    await closed_months(database, services, clock, dice)
    monkeypatch.setattr(pieces, "_FEW", 2)
    monkeypatch.setattr(pieces, "_MANY", 5)
    connection = await database.as_role("ledger_app").connect()
    async with connection.transaction():
        await enter_build(connection, services.revenue.name, BOOK)
        subjects = await subjects_of(connection, BOOK, 1_000)
    await connection.close()
    for basis, about in (("sealed", {}), ("restated", {"account": "deferred_revenue"})):
        start = datetime(2023, 12, 1, tzinfo=UTC) + timedelta(seconds=dice.randrange(50 * 86_400))
        until = start + timedelta(seconds=dice.randrange(35 * 86_400, 60 * 86_400))
        asked = {"from": rfc3339(start), "to": rfc3339(until), "basis": basis, **about}
        each = [
            one
            for subject in subjects
            if subject.startswith(f"{BOOK}/cus_")
            for one in await journal(client, **asked, customer=subject.removeprefix(f"{BOOK}/"), limit="500")
        ]
        everybodys = [one for one in await journal(client, **asked, limit="25") if one["customer"] is not None]
        assert [(one["at"], one["entry"]) for one in everybodys] == sorted((one["at"], one["entry"]) for one in each)
        assert sorted(map(orjson.dumps, everybodys)) == sorted(map(orjson.dumps, each))
        assert len(everybodys) > 10


async def journal(client: httpx.AsyncClient, **asked: str) -> list[Json]:
    found: list[Json] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ask(client, "revenue/journal", **asked, **cursor)
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def closed_months(database: Database, services: Services, clock: ManualClock, dice: random.Random) -> None:
    """Close three months of five, while some of what happened in them is still to come."""
    clock.now = datetime.fromtimestamp(ARGUMENTS.end, UTC) + timedelta(days=1)
    bodies = [orjson.dumps(event) for event in Company(ARGUMENTS).events()]
    late: list[list[bytes]] = [[], [], [], []]
    which: dict[str, int] = {}
    for body in bodies:
        customer = str(orjson.loads(body)["data"]["object"].get("customer"))
        late[dice.randrange(4) if dice.random() < 0.1 else which.setdefault(customer, dice.randrange(4))].append(body)
    await services.appender.append(new_events(late[0]))
    first = month_of(datetime.fromtimestamp(ARGUMENTS.start, UTC))
    for number in range(3):
        await fold_all(database, services)
        asked = Asked(BOOK, month_after(first, number), "test", "month end", clock.now, force=True)
        await close_month(services.pool, services.appender, services.revenue, asked)
        await services.appender.append(new_events(late[number + 1]))
    await fold_all(database, services)


async def reported(database: Database, services: Services) -> list[SealedMovement]:
    """Return every movement as it is reported: sealed, or in months that are open."""
    connection = await database.as_role("ledger_app").connect()
    async with connection.transaction():
        await enter_build(connection, "periods", BOOK)
        closed = await read_closed(connection, BOOK)
        sealed = [sealed_movement_of(row) for row in await connection.fetch(ALL_SEALED, BOOK, closed.digests())]
        await enter_build(connection, services.revenue.name, BOOK)
        rows = await connection.fetch(MOVEMENTS, BOOK, datetime.max.replace(tzinfo=UTC))
    await connection.close()
    effective = [movement_of(MovementRow(**dict(row))) for row in rows]
    return [*sealed, *reported_movements(effective, sealed, closed.first_open or "")]


def question(dice: random.Random, story: Sequence[SealedMovement]) -> Question:
    start = datetime(2023, 10, 25, tzinfo=UTC) + timedelta(days=dice.randrange(130))
    if dice.random() < 0.4:
        start = start.replace(day=1)
    customer = dice.choice(story).owner.removeprefix(f"{BOOK}/") if dice.random() < 0.2 else None
    days = dice.choice([1, 31, 61, dice.randrange(1, 200), 181])
    return Question(start, days, dice.choice(INTERVALS), dice.choice(POLICIES), customer, dice.choice([9, 30, 500]))


async def every_page(client: httpx.AsyncClient, one: Question) -> Json:
    found: Json = {"movements": []}
    cursor: dict[str, str] = {}
    while True:
        page = await ask(client, "revenue/mrr/movements", **one.parameters, **cursor)
        assert len(page["movements"]) <= one.limit
        found = {**page, "movements": [*found["movements"], *page["movements"]]}
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def wanted(one: Question, story: Sequence[SealedMovement]) -> list[SealedMovement]:
    until = one.start + timedelta(days=one.days)
    found = [row for row in asked_of(one, story) if one.start <= row.at < until]
    return sorted(found, key=lambda row: (row.at, row.owner, row.currency))


def asked_of(one: Question, story: Sequence[SealedMovement]) -> list[SealedMovement]:
    owner = None if one.customer is None else f"{BOOK}/{one.customer}"
    return [row for row in story if row.policy == one.policy and owner in (None, row.owner)]


def intervals(one: Question, story: Sequence[SealedMovement]) -> list[Json]:
    """Add up what moved, movement by movement."""
    bounds = Bounds(one.start, one.start + timedelta(days=one.days), one.interval)
    at: Counter[str] = Counter()
    for row in asked_of(one, story):
        at[row.currency] += (row.after - row.before) * (row.at < one.start)
    currencies = {currency for currency, total in at.items() if total} | {row.currency for row in wanted(one, story)}
    found = []
    for since, until in bounds.intervals():
        for currency in sorted(currencies):
            moved: dict[str, int] = dict.fromkeys(KINDS, 0)
            for row in wanted(one, story):
                if since <= row.at < until and row.currency == currency:
                    moved[row.kind] += abs(row.after - row.before)
            opening = at[currency]
            at[currency] += sum(SIGNS[kind] * amount for kind, amount in moved.items())
            found.append({"from": rfc3339(since), "to": rfc3339(until), "currency": currency, "opening": opening,
                          **moved, "closing": at[currency]})  # fmt: skip
    return found


def shown(row: SealedMovement) -> tuple[object, ...]:
    reason = "prior_period" if row.prior_period else row.reason
    return (row.owner.removeprefix(f"{BOOK}/"), rfc3339(row.at), row.currency, row.kind, row.before, row.after, reason)


def shown_of(found: Json) -> tuple[object, ...]:
    return tuple(found[name] for name in ("customer", "at", "currency", "kind", "before", "after", "reason"))

"""A company's books in PostgreSQL, kept live while webhooks come as they do, rebuilt, and asked about any moment:
trial balance, recognition, worth and its movements are the truth, which never read an event."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from api.revenue import roll_forward
from ledger.appender import Appender
from ledger.postgres import Database
from ledger.simulator.calendar import month_ends
from ledger.simulator.company import Arguments, Company
from ledger.simulator.faults import with_faults
from ledger.simulator.truth import Truth
from ledger.simulator.truth_mrr import Life, movements_of
from projections.builds import Build, ensure_live, enter
from projections.certify import digest_of
from projections.follower import follow
from projections.mrr import query as mrr
from projections.mrr.intervals import Bounds
from projections.mrr.rows import MovementRow
from projections.periods.bridge import read_earned
from projections.periods.lines import read_earned_by_line
from projections.revenue import query
from projections.revenue.accounts import CLASSES
from projections.revenue.documents import time_of
from projections.revenue.owed import receivable, receivable_by_entry
from projections.revenue.schedule import month_of
from projections.revenue.tables import revenue
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.projections.histories import new_events
from tests.projections.test_engine_database import rebuilt

PROJECTION = revenue()
ALL_MOVEMENTS = 1_000_000
CHANGED = """
SELECT DISTINCT extract(epoch FROM at)::bigint AS at
FROM invoice CROSS JOIN LATERAL unnest(owed_at) AS at
WHERE book = $1
ORDER BY at LIMIT 50
"""


@dataclass(slots=True)
class Compared:
    """How many answers of each kind were the truth."""

    balances: int = 0
    months: int = 0
    worth: int = 0
    movements: int = 0
    earned: int = 0
    owed: int = 0
    fallen: int = 0


def batches(company: Company, seed: int) -> Iterator[list[bytes]]:
    """Give the bodies of webhooks as a bad network delivers them, twice, late and mixed up, so many at a time."""
    dice = random.Random(seed)
    batch: list[bytes] = []
    size = 1
    for delivery in with_faults(company.deliveries(), "all", seed):
        batch.append(delivery.body)
        if len(batch) >= size:
            yield batch
            batch, size = [], dice.choice((1, 20, 1_000, 8_000))
    yield batch


async def kept_and_rebuilt(
    connection: asyncpg.Connection, database: Database, clock: ManualClock, company: Company
) -> tuple[Build, Build]:
    """Follow a company's webhooks as they come, and fold all of them again."""
    live = await ensure_live(connection, PROJECTION)
    async with Appender(database, clock=clock) as appender:
        for batch in batches(company, seed=3):
            await appender.append(new_events(batch))
            await follow(connection, PROJECTION, live, limit=16_000)
    while await follow(connection, PROJECTION, live):
        pass
    again = await rebuilt(connection, database, PROJECTION)
    while await follow(connection, PROJECTION, again):
        pass
    assert await connection.fetchval("SELECT count(*) FROM ledger.parked") == 0
    return live, again


async def compare(database: Database, clock: ManualClock, arguments: Arguments, instants: int) -> Compared:
    """Compare everything a company's books answer with its truth, at every month's end and at random instants."""
    company = Company(arguments)
    connection = await connect_runner(database)
    live, again = await kept_and_rebuilt(connection, database, clock, company)
    dice = random.Random(arguments.seed)
    assert await digest_of(connection, PROJECTION, live) == await digest_of(connection, PROJECTION, again)
    moments = sorted(dice.randrange(arguments.start, arguments.end) for _ in range(instants))
    ends = [arguments.start, *month_ends(arguments.start, arguments.end)]
    compared = Compared()
    for book, truth in company.truth.items():
        for build in (live, again):
            await enter(connection, build.schema_name)
            await Asking(connection, book, truth, compared).all(ends, moments)
    await connection.close()
    return compared


@dataclass(slots=True)
class Asking:
    """One book in one build, which the connection has entered, and what is true of it."""

    connection: asyncpg.Connection
    book: str
    truth: Truth
    compared: Compared

    async def all(self, ends: list[int], moments: list[int]) -> None:
        months = await self.months(ends)
        for start, end in pairwise(ends):
            await self.balances(end - 1, self.truth.books.trial_balance(end, whole=False))
            await self.recognition(months, start, end)
            await self.worth(end - 1)
            await self.earned(start, end)
            await self.owed(end - 1)
        await self.fallen(ends[1], ends[-1] - 1)
        for row in await self.connection.fetch(CHANGED, self.book):
            await self.owed(row["at"] - 1)
            await self.owed(row["at"])
        await self.movements(ends)
        for at in moments:
            await self.balances(at, self.truth.books.trial_balance(at))
            start = max(end for end in ends if end <= at)
            await self.recognition(await self.months([start, start + 1], at), start, at)
            await self.worth(at)
            await self.moved_by(at, start)
            await self.owed(at)
        await self.fallen(ends[0], moments[-1])

    async def balances(self, at: int, wanted: dict[str, dict[str, int]]) -> None:
        found = await query.balances(self.connection, self.book, at)
        assert nonzero(found) == nonzero(wanted), (self.book, at)
        assert all(sum(amounts.get(account, 0) for account in CLASSES) == 0 for amounts in found.values())
        self.compared.balances += 1

    async def months(self, ends: list[int], at: int | None = None) -> dict[str, Any]:
        first, until = month_of(ends[0]), month_of(ends[-1]) if at is None else _after(month_of(ends[0]))
        opening = await query.opening(self.connection, self.book, first)
        return roll_forward(opening, await query.months(self.connection, self.book, first, until, at), first, until)

    async def recognition(self, months: dict[str, Any], start: int, until: int) -> None:
        """Compare a month, or what of it there is by ``until``, with the truth, and see that it rolls forward."""
        found = months[f"{time_of(start):%Y-%m}"]
        wanted = self.truth.books.recognition(start, until)
        assert {currency: one for currency, one in found.items() if filled(one)} == {
            currency: one for currency, one in wanted.items() if filled(one)
        }, (self.book, start, until)
        for one in found.values():
            moved = one["billed"] - one["recognized"] - sum(one["released"].values()) + one["reinstated"]
            opening = one["deferred_opening"] - one["unbilled_opening"]
            assert opening + moved == one["deferred_closing"] - one["unbilled_closing"]
        self.compared.months += 1

    async def worth(self, at: int) -> None:
        totals = await mrr.read_totals(self.connection, self.book, time_of(at), "stripe-2026")
        assert not any(one.incomplete for one in totals)
        assert {one.currency: one.total for one in totals if one.total} == self.truth.mrr(at)
        self.compared.worth += 1

    async def earned(self, start: int, end: int) -> None:
        """Compare what sums say that a month earned on subscriptions with what every line says."""
        asked = (self.connection, self.book, time_of(start), time_of(end))
        found, by_line = await read_earned(*asked), await read_earned_by_line(*asked)
        assert {one: found[one] for one in found if any(found[one])} == {
            one: by_line[one] for one in by_line if any(by_line[one])
        }, (self.book, start)
        self.compared.earned += sum(any(one) for one in found.values())

    async def fallen(self, since: int, until: int) -> None:
        """Compare in which month each month's invoices were earned with what every entry says."""
        of_sums, of_entries = [
            await query.waterfall(self.connection, version, self.book, since, until)
            for version in (PROJECTION.version, query.FALLEN_SINCE - 1)
        ]
        assert of_sums == of_entries, (self.book, since, until)
        self.compared.fallen += len(of_sums)

    async def owed(self, at: int) -> None:
        """Compare what invoices say was owed on them with what every entry says, and with the trial balance."""
        found = await receivable(self.connection, PROJECTION.version, self.book, time_of(at))
        assert sorted(found) == sorted(await receivable_by_entry(self.connection, self.book, time_of(at)))
        totals = {currency: amounts.get("accounts_receivable", 0) for currency, amounts in
                  (await query.balances(self.connection, self.book, at)).items()}  # fmt: skip
        for currency, total in totals.items():
            assert sum(one.amount for one in found if one.currency == currency) == total, (self.book, at)
        self.compared.owed += len(found)

    async def movements(self, ends: list[int]) -> None:
        """Compare each month's sums, and every single movement, with the truth."""
        wanted = self.asked(ends[0], ends[-1])
        opening = await mrr.read_opening(self.connection, wanted)
        moved = mrr.intervals_of(wanted.bounds, opening, await mrr.read_sums(self.connection, wanted))
        found = {
            (int(one.since.timestamp()), one.currency): {"opening": one.opening, **one.by_kind, "closing": one.closing}
            for one in moved
        }
        for start, end in pairwise(ends):
            for currency, one in self.truth.movements(start, end).items():
                assert found.get((start, currency), dict.fromkeys(one, 0)) == one, (self.book, start, currency)
                self.compared.movements += 1
        single = await mrr.read_movements(self.connection, wanted, None, ALL_MOVEMENTS)
        assert told(single) == told_truly(self.truth.lives.values())

    async def moved_by(self, at: int, start: int) -> None:
        """Compare the movements of a month as far as they had come at a moment inside it."""
        end = int(datetime.combine(_after(month_of(start)), datetime.min.time(), UTC).timestamp())
        wanted = replace(self.asked(start, end), as_of=time_of(at))
        found = await mrr.read_movements(self.connection, wanted, None, ALL_MOVEMENTS)
        lives = [
            replace(life, states=[one for one in life.states if one.at <= at]) for life in self.truth.lives.values()
        ]
        assert told(found) == [one for one in told_truly(lives) if one[0] >= start], (self.book, at)

    def asked(self, start: int, end: int) -> mrr.Wanted:
        bounds = Bounds(time_of(start), time_of(end), "month")
        return mrr.Wanted(self.book, "stripe-2026", bounds, None, time_of(end))


def told(rows: list[MovementRow]) -> list[tuple[Any, ...]]:
    return sorted(
        (int(one.at.timestamp()), one.customer, one.currency, one.kind, one.amount, one.involuntary) for one in rows
    )


def told_truly(lives: Any) -> list[tuple[Any, ...]]:
    some: list[Life] = list(lives)
    return sorted(
        (one.at, one.customer, one.currency, one.kind, one.amount, one.involuntary) for one in movements_of(some)
    )


def nonzero(sums: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    shown = {
        currency: {name: amount for name, amount in amounts.items() if amount and name in CLASSES}
        for currency, amounts in sums.items()
    }
    return {currency: amounts for currency, amounts in shown.items() if amounts}


def filled(month: dict[str, Any]) -> bool:
    return any(any(one.values()) if isinstance(one, dict) else one for one in month.values())


def _after(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


async def test_live_rebuilt_and_as_of(database: Database, clock: ManualClock) -> None:
    compared = await compare(database, clock, Arguments(customers=20, months=6, seed=4), instants=6)
    assert min(compared.balances, compared.months, compared.worth, compared.movements) > 40
    assert (compared.earned > 40, compared.owed > 10, compared.fallen > 40) == (True, True, True)


@pytest.mark.slow
@pytest.mark.timeout(3_000)
async def test_live_rebuilt_and_as_of_for_the_default_company(database: Database, clock: ManualClock) -> None:
    compared = await compare(database, clock, Arguments(), instants=40)
    assert (compared.balances, compared.months, compared.worth) == ((36 + 40) * 3 * 2,) * 3

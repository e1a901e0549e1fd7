"""The simulated company's access is what is true: at every month's end and at many moments, live, rebuilt and as of.

The truth is kept by the simulator, which knows nothing of the projection.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import asyncpg
import orjson
import pytest

from ledger.appender import Appender
from ledger.postgres import Database
from ledger.simulator.calendar import month_ends
from ledger.simulator.company import Arguments, Company
from ledger.simulator.truth import Truth
from projections.builds import Build, ensure_live, enter
from projections.entitlements.answer import Answer, answer_all
from projections.entitlements.holdings import read_holdings
from projections.entitlements.query import Moment, read_entitlements
from projections.entitlements.rows import Holdings, ProductRow
from projections.folding import rows_of
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.projections.histories import PROJECTION, disordered, held, joined, new_events
from tests.projections.test_engine_database import rebuilt

Access = dict[str, dict[str, int | bool]]


def instants(arguments: Arguments, more: int) -> list[int]:
    chance = random.Random(str(arguments))
    ends = [at - 1 for at in month_ends(arguments.start, arguments.end)]
    return [*ends, *(chance.randrange(arguments.start, arguments.end) for _ in range(more))]


def granted(answers: Iterable[Answer]) -> dict[str, int | bool]:
    return {one.feature: True if one.kind == "boolean" else int(one.value or 0) for one in answers if one.granted}


def assert_true(holdings: Mapping[str, Holdings], truth: Truth, at: int) -> None:
    moment = datetime.fromtimestamp(at, UTC)
    found: Access = {key: access for key, one in holdings.items() if (access := granted(answer_all(one, (), moment)))}
    assert found == truth.entitlements(at), moment


def test_the_default_company_has_what_is_true() -> None:
    company = Company(Arguments())
    subjects = joined(orjson.dumps(event) for event in company.events())
    chance = random.Random(3)
    products = [
        ProductRow(*row)
        for subject, facts in subjects.items()
        for row in rows_of(PROJECTION, subject, facts)["product"]
    ]
    holdings: dict[str, dict[str, Holdings]] = {}
    for subject, facts in subjects.items():
        arrived = list(facts)
        chance.shuffle(arrived)
        own = [row for row in products if row.book == subject.book]
        holdings.setdefault(subject.book, {})[subject.key] = held(PROJECTION, subject, arrived, own)
    assert sum(map(len, holdings.values())) > 300
    for at in instants(company.arguments, 20):
        for book, truth in company.truth.items():
            assert_true(holdings[book], truth, at)


EVERYBODY = "SELECT DISTINCT customer FROM entitlement_source WHERE book = $1"


async def holdings_in(connection: asyncpg.Connection, build: Build, book: str) -> dict[str, Holdings]:
    await enter(connection, build.schema_name)
    return await read_holdings(connection, book, [row["customer"] for row in await connection.fetch(EVERYBODY, book)])


async def compare(database: Database, clock: ManualClock, arguments: Arguments, more: int, samples: int) -> None:
    """Append a company's events as a bad network would, follow and rebuild, and ask at many moments."""
    company = Company(arguments)
    bodies = [orjson.dumps(event) for event in company.events()]
    connection = await connect_runner(database)
    live = await ensure_live(connection, PROJECTION)
    async with Appender(database, clock=clock) as appender:
        for batch in disordered(bodies, 7):
            await appender.append(new_events(batch))
            await follow(connection, PROJECTION, live)
    while await follow(connection, PROJECTION, live):
        pass
    build = await rebuilt(connection, database)
    for book, truth in company.truth.items():
        for one in (live, build):
            holdings = await holdings_in(connection, one, book)
            for at in instants(arguments, more):
                assert_true(holdings, truth, at)
        chance = random.Random(book)
        for at in instants(arguments, samples)[-samples:]:
            customer, moment = chance.choice(sorted(holdings) or ["cus_nobody"]), datetime.fromtimestamp(at, UTC)
            for build_id in (None, build.build_id):
                async with connection.transaction():
                    found = await read_entitlements(
                        connection, PROJECTION, book, customer, Moment(clock.now, moment), build_id
                    )
                assert granted(found.answers) == truth.entitlements(at).get(customer, {})
    await connection.close()


async def test_live_rebuilt_and_as_of(database: Database, clock: ManualClock) -> None:
    await compare(database, clock, Arguments(customers=24, months=9, seed=4, api_version="mixed"), more=25, samples=25)


@pytest.mark.slow
@pytest.mark.timeout(3_000)
async def test_live_rebuilt_and_as_of_for_the_default_company(database: Database, clock: ManualClock) -> None:
    await compare(database, clock, Arguments(), more=100, samples=500)

"""Dunning kept live through disorder is what a rebuild makes, and both are the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import pytest

from ledger.appender import Appender
from ledger.postgres import Database
from ledger.simulator.company import Arguments, Company
from projections.builds import Build, Request, ensure_live, enter_build, start_build
from projections.dunning.query import Filter, Moment, read_attention, read_cases, read_customer, read_summary
from projections.dunning.standing import NEEDS_A_PERSON, Standing
from projections.dunning.summary import LEFT_OUT, Wanted
from projections.dunning.tables import DUNNING
from projections.follower import clean, follow
from projections.rebuild import finish, fold_piece, folding_ahead, plan, read_all_terms
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.dunning.companies import as_truth, by_case, truth_of
from tests.dunning.test_company import moments
from tests.projections.histories import disordered, new_events

TABLES = tuple(table.name for table in DUNNING.tables)


async def rows_in(connection: asyncpg.Connection, build: Build) -> dict[str, list[Any]]:
    """Return everything a build holds."""
    found = {}
    for table in TABLES:
        rows = await connection.fetch(f"SELECT * FROM {build.schema_name}.{table}")
        found[table] = sorted((tuple(row) for row in rows), key=repr)
    return found


async def rebuilt(connection: asyncpg.Connection, database: Database) -> Build:
    heads = await connection.fetch("SELECT book, position FROM ledger.head WHERE book <> 'ledger:control'")
    targets = {row["book"]: row["position"] for row in heads}
    build = await start_build(connection, DUNNING, Request("test", None, targets))
    await plan(connection, DUNNING, build)
    terms = await read_all_terms(connection, DUNNING, build)
    reading = await connect_runner(database)
    async with folding_ahead(reading, DUNNING, build, terms) as ahead:
        while await fold_piece(connection, DUNNING, build, ahead):
            pass
    await reading.close()
    assert await finish(connection, build)
    for book in build.targets:
        while await clean(connection, DUNNING, build, book):
            pass
    return build


async def every_case(connection: asyncpg.Connection, book: str, moment: Moment) -> list[Standing]:
    """Read a book's cases page by page."""
    found: list[Standing] = []
    after = None
    while page := await read_cases(connection, book, moment, Filter(), after, 7):
        found += page
        after = (page[-1].case.opened_at, page[-1].case.case_id)
    return found


@pytest.mark.parametrize("seed", [8])
async def test_live_through_disorder_equals_a_rebuild_and_the_truth(
    database: Database, clock: ManualClock, seed: int
) -> None:
    company = Company(Arguments(customers=24, months=14, seed=seed))
    bodies = [orjson.dumps(event) for event in company.events()]
    connection = await connect_runner(database)
    live = await ensure_live(connection, DUNNING)
    async with Appender(database, clock=clock) as appender:
        for batch in disordered(bodies, seed):
            await appender.append(new_events(batch))
            while await follow(connection, DUNNING, live):
                pass
    fresh = await rebuilt(connection, database)
    assert await rows_in(connection, live) == await rows_in(connection, fresh)
    compared = 0
    for at in moments(company.arguments, 6):
        moment = Moment(clock.now, datetime.fromtimestamp(at, UTC))
        for book, truth in company.truth.items():
            async with connection.transaction():
                await enter_build(connection, DUNNING.name, book)
                found = await every_case(connection, book, moment)
                sums = await read_summary(connection, book, moment, Wanted())
                urgent = await read_attention(connection, book, moment, None, None, 1_000)
                customers = {one.case.customer: await read_customer(connection, book, one.case.customer, moment)
                             for one in found}  # fmt: skip
            assert by_case(map(as_truth, found)) == truth_of(truth.dunning(at), found)
            shown = [one for one in found if one.case.category not in LEFT_OUT]
            assert sum(one.opened.count for one in sums.values()) == len(shown)
            assert sum(one.open.volume for one in sums.values()) == sum(one.case.open_amount for one in shown)
            assert {one.case.case_id for one in urgent} == {
                one.case.case_id for one in found if one.case.state in NEEDS_A_PERSON and one.case.category != "initial"
            }
            assert sorted(one for each in customers.values() for one in each.cases) == sorted(found)
            compared += len(found)
    assert compared > 30
    await connection.close()

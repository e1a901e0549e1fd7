"""Every projection's builds can be compared, whatever its tables call their columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from api.operations import Operations
from api.services import projections_of
from api.settings import Settings
from ledger.appender import Appender
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.contract import Projection, Rows
from projections.entitlements.tables import entitlements
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.projections.histories import company, new_events

BY = "cli:engineer"


@pytest.mark.parametrize("projection", projections_of(Settings()), ids=lambda one: one.name)
async def test_a_build_beside_one_that_folded_nothing(
    database: Database, clock: ManualClock, projection: Projection
) -> None:
    """And that was made by a release which did not have the last of its tables yet."""
    nothing = replace(
        projection, version=0, step=lambda *_: None, tables=projection.tables[:-1], views={}, consumer=None
    )
    async with Appender(database, clock=clock) as appender:
        await appender.append(new_events(company(5)[0]))
        connection = await connect_runner(database)
        live = await ensure_live(connection, nothing)
        while await follow(connection, nothing, live):
            pass
        await connection.close()
        ready = Operations(database, projection, appender, clock)
        build = await ready.request_rebuild(by=BY, reason="it folds nothing", until=None)
        await ready.fold(build.build_id)
        await ready.complete(build.build_id)
        summary = (await ready.compare(build.build_id, by=BY)).summary(projection)
    assert set(summary["tables"]) <= {table.name for table in nothing.tables}
    # Months are closed by people: a company that only pays has none.
    assert (summary["added"] > 0) == (projection.name != "periods")


async def test_a_build_of_a_release_that_knew_less_is_compared_while_events_come(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    """It stands still, and has neither the last table nor a column: what both have is the same."""
    projection = entitlements("org_id")
    tables = projection.tables[:-1]
    names = {table.name for table in tables}

    def rows(state: Any) -> Rows:
        return {name: some for name, some in projection.rows(state).items() if name in names}

    before = replace(projection, version=0, tables=tables, rows=rows, settle=None, views={})
    events = new_events(company(5)[0])
    async with Appender(database, clock=clock) as appender:
        await appender.append(events[: len(events) // 2])
        connection = await connect_runner(database)
        live = await ensure_live(connection, before)
        while await follow(connection, before, live):
            pass
        await connection.close()
        await owner.execute(f"ALTER TABLE {live.schema_name}.entitlement_source DROP COLUMN note")
        await appender.append(events[len(events) // 2 :])
        ready = Operations(database, projection, appender, clock)
        build = await ready.request_rebuild(by=BY, reason="an upgrade")
        await ready.fold(build.build_id)
        await ready.complete(build.build_id)
        comparison = await ready.compare(build.build_id, by=BY)
    assert 0 < comparison.positions["self:live"] < sum(one.book == "self:live" for one in events)
    assert comparison.differences == []

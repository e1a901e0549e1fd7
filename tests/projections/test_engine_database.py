"""The engine on PostgreSQL: live following of disordered histories, and rebuilds, hold the same rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from ledger.appender import Appender
from ledger.postgres import Database
from projections import folding, refold
from projections.ahead import READ_BY_KEYS, SUBJECTS, Place
from projections.builds import Build, Request, ensure_live, read_build, start_build
from projections.certify import digest_of
from projections.contract import Projection
from projections.follower import follow, step
from projections.links import customers_of
from projections.rebuild import finish, fold_piece, folding_ahead, plan, read_all_terms
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.projections.histories import PROJECTION, company, disordered, new_events


@pytest.fixture(autouse=True)
def states_are_kept_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "KEEP_FROM", 4)
    monkeypatch.setattr(folding, "KEEP_EVERY", 7)
    monkeypatch.setattr(folding, "_RECENT_EVERY", 2)
    monkeypatch.setattr(refold, "PIECE_EVENTS", 25)


async def rows_of_build(connection: asyncpg.Connection, build: Build) -> dict[str, list[Any]]:
    found = {}
    for table in PROJECTION.tables:
        rows = await connection.fetch(f"SELECT * FROM {build.schema_name}.{table.name}")
        found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


async def rebuilt(connection: asyncpg.Connection, database: Database, projection: Projection = PROJECTION) -> Build:
    """Make another build of everything the log has."""
    heads = {row["book"]: row["position"] for row in await connection.fetch("SELECT book, position FROM ledger.head")}
    heads.pop("ledger:control", None)
    build = await start_build(connection, projection, Request("test", None, heads))
    await plan(connection, projection, build)
    terms = await read_all_terms(connection, projection, build)
    reading = await connect_runner(database)
    async with folding_ahead(reading, projection, build, terms) as ahead:
        while await fold_piece(connection, projection, build, ahead):
            pass
    await reading.close()
    assert await finish(connection, build)
    return await read_build(connection, build.build_id)


@pytest.mark.parametrize("seed", range(30))
async def test_live_through_disorder_equals_a_rebuild(database: Database, clock: ManualClock, seed: int) -> None:
    chance = random.Random(seed)
    bodies = company(seed % 10, 3)[0]
    connection = await connect_runner(database)
    live = await ensure_live(connection, PROJECTION)
    async with Appender(database, clock=clock) as appender:
        for batch in disordered(bodies, seed):
            await appender.append(new_events(batch))
            for row in await connection.fetch("SELECT book FROM ledger.head WHERE book <> 'ledger:control'"):
                limit = chance.choice((1, 3, 50, 1_000))
                while await step(connection, PROJECTION, live, row["book"], limit):
                    pass
    while await follow(connection, PROJECTION, live):
        pass
    build = await rebuilt(connection, database)
    assert await rows_of_build(connection, live) == await rows_of_build(connection, build)
    assert (await digest_of(connection, PROJECTION, live))[0] == (await digest_of(connection, PROJECTION, build))[0]
    assert await connection.fetchval(f"SELECT count(*) FROM {live.schema_name}.subject_state") > 0
    assert await connection.fetchval("SELECT count(*) FROM ledger.parked") == 0
    await connection.close()


async def test_what_was_known_is_what_was_answered(database: Database, clock: ManualClock) -> None:
    """Answers folded from what was known at a position equal the answers given live when that was the head."""
    from projections.entitlements.query import Moment, fold_known, read_entitlements

    chance = random.Random(5)
    bodies = company(3, 30)[0]
    connection = await connect_runner(database)
    live = await ensure_live(connection, PROJECTION)
    recorded: list[tuple[str, int, datetime, Any]] = []
    customers: set[str] = set()
    batches = disordered(bodies, 11)
    async with Appender(database, clock=clock) as appender:
        for batch in batches:
            await appender.append(new_events(batch))
            streams = [event.stream_id for event in new_events(batch)]
            customers |= {stream.partition("/")[2] for stream in streams if "self:live/cus_" in stream}
            while await follow(connection, PROJECTION, live):
                pass
            for _ in range(1 + 900 // len(batches)):
                if customers:
                    customer = chance.choice(sorted(customers))
                    moment = datetime(2023, 11, 1, tzinfo=UTC) + timedelta(days=chance.randrange(250))
                    async with connection.transaction():
                        found = await read_entitlements(
                            connection, PROJECTION, "self:live", customer, Moment(moment, moment)
                        )
                    recorded.append((customer, found.freshness.position, moment, found.answers))
    assert len(recorded) >= 500
    for customer, position, moment, answers in recorded:
        known = await fold_known(connection, PROJECTION, "self:live", customer, Moment(moment, moment), position)
        assert known is not None
        assert known.answers == answers
    await connection.close()


async def test_a_part_of_one_book_passes_over_no_other(database: Database, owner: asyncpg.Connection) -> None:
    await owner.execute(
        """
        INSERT INTO ledger.event
        SELECT book || '/cus_' || n, 1, book, n, 'evt_' || n, 'customer.created', now(), now(), now(), 'import', NULL,
               NULL, 0, NULL, '', '', sha256(''), sha256('')
        FROM unnest(ARRAY ['a:live', 'b:live', 'c:live']) AS book, generate_series(1, 2000) AS n
        """
    )
    await owner.execute("ANALYZE ledger.event")
    runner = await connect_runner(database)
    targets = dict.fromkeys(("a:live", "b:live", "c:live"), 2_000)
    await plan(runner, PROJECTION, await start_build(runner, PROJECTION, Request("test", None, targets)))
    await runner.close()
    await owner.execute(READ_BY_KEYS)
    for part in await owner.fetch("SELECT book, after_stream, until_stream FROM ledger.build_part"):
        place = Place(part["after_stream"], part["until_stream"], part["book"], 2_000, ("nothing",), True)
        asked = (*place, customers_of(place.book), 3_000)
        shown = "\n".join(row[0] for row in await owner.fetch(f"EXPLAIN (ANALYZE) {SUBJECTS}", *asked))
        assert "Rows Removed by Filter: 2000\n" in shown, shown

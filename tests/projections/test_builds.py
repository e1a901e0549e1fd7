"""The engineer's story: a bug in a fold, a build beside the live one, what it changes, the swap and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from api.operations import Operations, Until
from api.services import Services
from ledger.appender import Appender
from ledger.errors import MistakeError
from ledger.postgres import Database
from ledger.reader import Filter, read_page
from projections.builds import Build, ensure_live, live_build, positions_of, read_build
from projections.compare import NotComparableError
from projections.contract import Projection, Rows, Terms
from projections.entitlements.query import Moment, read_entitlements
from projections.entitlements.rows import SourceRow
from projections.facts import Fact
from projections.follower import follow, step
from projections.leases import fence, give_back, take
from projections.promotion import PromotionRefusedError
from projections.rebuild import Progress, finish
from projections.runner import Runner, connect_runner
from tests.conftest import Before, ManualClock
from tests.following import follow_to_the_head
from tests.projections.histories import PROJECTION, company, facts_by_subject, new_events

SEED, CUSTOMERS = 9, 40
BY = "cli:engineer"


def forgetful(state: Any, fact: Fact, terms: Terms) -> None:
    """Fold with a bug: past due counts as canceled."""
    if fact.subject.get("status") == "past_due":
        fact = fact._replace(subject=fact.subject | {"status": "canceled"})
    PROJECTION.step(state, fact, terms)


BUGGY = replace(PROJECTION, version=1, step=forgetful)


def affected() -> set[str]:
    """Find in the events themselves whom the bug concerns: whoever was past due, with what came after it."""
    return {
        subject.stream_id
        for subject, facts in facts_by_subject(SEED, CUSTOMERS).items()
        if any(fact.subject.get("status") == "past_due" for fact in facts)
    }


@pytest.fixture(scope="module")
def told_before() -> Before:
    """A company's history, folded live with the bug."""

    async def happens(services: Services) -> None:
        await services.appender.append(new_events(company(SEED, CUSTOMERS)[0]))
        await follow_to_the_head(services.database, [BUGGY])

    return happens


@pytest.fixture
async def history(database: Database, clock: ManualClock) -> AsyncIterator[tuple[Database, Appender]]:
    async with Appender(database, clock=clock) as appender:
        yield database, appender


def operations(
    history: tuple[Database, Appender], clock: ManualClock, projection: Projection = PROJECTION
) -> Operations:
    return Operations(history[0], projection, history[1], clock)


async def built(ready: Operations, until: Until | None = None) -> Build:
    build = await ready.request_rebuild(by=BY, reason="past due is not canceled", until=until)
    await ready.fold(build.build_id)
    return await ready.complete(build.build_id)


async def test_the_story(history: tuple[Database, Appender], clock: ManualClock, owner: asyncpg.Connection) -> None:
    ready = operations(history, clock)
    build = await built(ready)
    assert (build.build_id, build.phase, build.version) == ("entitlements-2", "ready", PROJECTION.version)

    comparison = await ready.compare(build.build_id, by=BY)
    assert {one.subject for one in comparison.differences} == affected()
    assert len(affected()) > 3
    for one in comparison.differences:
        assert (one.old or {}).get("status", "canceled") == "canceled" or (one.new or {}).get("status") != "canceled"
        assert one.first_event in {*(one.old or {}).get("because", ()), *(one.new or {}).get("because", ())}
    summary = comparison.summary(PROJECTION)
    assert sum(summary["customers"].values()) == len(comparison.differences) == sum(summary["months"].values())
    assert set(summary["customers"]) == affected()

    statuses = await reading_all_the_while(history[0], lambda: swap_back_and_forth(ready, build.build_id))
    assert statuses == {"entitlements-1", "entitlements-2"}
    assert await owner.fetchval("SELECT count(*) FROM ledger.build WHERE phase = 'live'") == 1
    assert (await live_build(owner, "entitlements") or build).build_id == build.build_id
    page = await read_page(owner, "ledger:control", Filter(stream_id="ledger:control/entitlements-2"), 100)
    assert [event.type.removeprefix("ledger.build.") for event in page] == [
        "requested", "certified", "promoted", "promoted",
    ]  # fmt: skip


async def swap_back_and_forth(ready: Operations, build_id: str) -> None:
    await ready.promote(build_id, by=BY, reason="it is right")
    await asyncio.sleep(0.05)
    await ready.roll_back(by=BY, reason="wait", stale=True)
    await asyncio.sleep(0.05)
    # Back on the shelf it is retired; what was compared before may be promoted again.
    await ready.promote(build_id, by=BY, reason="it is right after all")


async def reading_all_the_while(database: Database, work: Any) -> set[str]:
    """Ask as an app does while ``work`` runs; each answer is of one build, whole. Return the builds seen."""
    customer = min(affected()).partition("/")[2]
    seen: dict[str, Any] = {}
    stop = asyncio.Event()

    async def read() -> None:
        connection = await database.as_role("ledger_app").connect()
        while not stop.is_set():
            moment = Moment(datetime(2024, 7, 1, tzinfo=UTC))
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                found = await read_entitlements(connection, PROJECTION, "self:live", customer, moment)
            assert found.known
            assert found.answers
            assert seen.setdefault(str(found.freshness.build), found.answers) == found.answers
        await connection.close()

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.sleep(0.05)
    await work()
    await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*readers)
    return set(seen)


async def test_a_view_held_open_delays_nobody_who_reads(history: tuple[Database, Appender], clock: ManualClock) -> None:
    ready = operations(history, clock)
    build = await built(ready)
    await ready.compare(build.build_id, by=BY)
    analyst = await history[0].as_role("ledger_builder").connect()
    transaction = analyst.transaction()
    await transaction.start()
    await analyst.fetch("SELECT * FROM ledger.entitlement_sources LIMIT 1")
    promotion = asyncio.create_task(ready.promote(build.build_id, by=BY, reason="it is right"))
    seen = await reading_all_the_while(history[0], lambda: asyncio.sleep(0.7))
    assert seen == {"entitlements-1"}
    assert not promotion.done()
    await transaction.rollback()
    swapped = await promotion
    assert (swapped.build, swapped.previous) == ("entitlements-2", "entitlements-1")
    columns = await analyst.fetch("SELECT DISTINCT status FROM ledger.entitlement_sources")
    assert "past_due" in {row["status"] for row in columns}
    await analyst.close()


async def test_what_is_not_promoted(
    history: tuple[Database, Appender], clock: ManualClock, owner: asyncpg.Connection
) -> None:
    ready = operations(history, clock)
    with pytest.raises(PromotionRefusedError, match="no build to go back to"):
        await ready.roll_back(by=BY, reason="hm")
    build = await ready.request_rebuild(by=BY, reason=None)
    with pytest.raises(PromotionRefusedError, match="folding, not ready"):
        await ready.promote(build.build_id, by=BY, reason="too early", force=True)
    await ready.fold(build.build_id)
    await ready.complete(build.build_id)
    with pytest.raises(PromotionRefusedError, match="has not compared it"):
        await ready.promote(build.build_id, by=BY, reason="unseen")
    await ready.compare(build.build_id, by="cli:somebody_else")
    with pytest.raises(PromotionRefusedError, match="has not compared it"):
        await ready.promote(build.build_id, by=BY, reason="seen by another")
    await ready.compare(build.build_id, by=BY)
    await owner.execute(
        "INSERT INTO ledger.parked (build_id, subject, book, event_id, error) VALUES ($1, 'x', 'self:live', 'e', '')",
        build.build_id,
    )
    with pytest.raises(PromotionRefusedError, match="1 subjects are parked"):
        await ready.promote(build.build_id, by=BY, reason="parked")
    assert (await ready.promote(build.build_id, by=BY, reason="anyway", force=True)).previous == "entitlements-1"
    with pytest.raises(PromotionRefusedError, match="live already"):
        await ready.promote(build.build_id, by=BY, reason="again", force=True)
    with pytest.raises(MistakeError, match="is live"):
        await ready.drop(build.build_id, by=BY)
    with pytest.raises(MistakeError, match="no build nowhere-1"):
        await ready.promote("nowhere-1", by=BY, reason="?")
    await ready.drop("entitlements-1", by=BY, reason="tidy")
    assert await owner.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'build_entitlements_1'") == 0


async def test_a_build_of_another_release_is_neither_finished_nor_promoted(
    history: tuple[Database, Appender], clock: ManualClock, owner: asyncpg.Connection
) -> None:
    before = operations(history, clock, BUGGY)
    begun = await before.request_rebuild(by=BY, reason="begun by the release before")
    ready = operations(history, clock)
    for finishing in (ready.fold, ready.complete):
        with pytest.raises(
            MistakeError, match=f"begun for version 1 and this release folds version {PROJECTION.version}"
        ):
            await finishing(begun.build_id)
    assert await owner.fetchval("SELECT count(*) FROM ledger.build_part WHERE build_id = $1", begun.build_id) == 0
    await before.fold(begun.build_id)
    await before.complete(begun.build_id)
    with pytest.raises(
        PromotionRefusedError, match=f"it is of version 1, and this release folds version {PROJECTION.version}"
    ):
        await ready.promote(begun.build_id, by=BY, reason="it was ready", force=True)
    assert (await ready.request_rebuild(by=BY, reason=None)).build_id == "entitlements-3"


async def test_a_build_that_lags_is_gone_back_to_only_knowingly(
    history: tuple[Database, Appender], clock: ManualClock
) -> None:
    ready = operations(history, clock)
    build = await built(ready)
    await ready.compare(build.build_id, by=BY)
    await ready.promote(build.build_id, by=BY, reason="it is right")
    await history[1].append(new_events(company(3, 5)[0]))
    clock.forward(seconds=61)
    with pytest.raises(PromotionRefusedError, match="cannot be made live: it is 61 s behind"):
        await ready.roll_back(by=BY, reason="hm")
    swapped = await ready.roll_back(by=BY, reason="hm", stale=True)
    assert swapped.lag_seconds == 61


async def test_an_audit_copy_stays_where_it_is(
    history: tuple[Database, Appender], clock: ManualClock, owner: asyncpg.Connection
) -> None:
    head = await owner.fetchval("SELECT position FROM ledger.head WHERE book = 'self:live'")
    ready = operations(history, clock)
    copy = await built(ready, Until(position=head // 2, book="self:live"))
    assert (copy.phase, copy.bounded, dict(copy.targets)) == ("ready", True, {"self:live": head // 2})
    again = await built(ready, Until(position=head // 2, book="self:live"))
    assert copy.certificate is not None
    assert again.certificate is not None
    assert copy.certificate["digest"] == again.certificate["digest"]
    assert copy.certificate["books"] == again.certificate["books"]
    with pytest.raises(PromotionRefusedError, match="audit copy"):
        await ready.promote(copy.build_id, by=BY, reason="no", force=True)
    with pytest.raises(MistakeError, match="there is no position"):
        await ready.request_rebuild(by=BY, reason=None, until=Until(position=head + 1, book="self:live"))
    everything = await built(ready, Until(moment=clock.now + timedelta(days=1)))
    assert everything.targets["self:live"] == head


async def test_builds_at_different_positions_are_compared_at_the_lower_one(
    history: tuple[Database, Appender], clock: ManualClock
) -> None:
    """The live build, of the old release, stands still while the new one has gone on: only the code's doing shows."""
    await history[1].append(new_events(company(4, 5)[0]))
    ready = operations(history, clock)
    build = await built(ready)
    comparison = await ready.compare(build.build_id, by=BY)
    assert {one.subject for one in comparison.differences} == affected()
    # The other way round nobody knows how to fold what the old release folded.
    connection = await connect_runner(history[0])
    copy = await built(ready, Until(position=50, book="self:live"))
    with pytest.raises(NotComparableError, match=f"folds version {PROJECTION.version}, not 1"):
        await ready.compare(copy.build_id, by=BY)
    await connection.close()


class StoppedError(Exception):
    pass


async def test_a_rebuild_goes_on_where_it_was_stopped(
    history: tuple[Database, Appender], clock: ManualClock, owner: asyncpg.Connection
) -> None:
    ready = operations(history, clock)
    build = await ready.request_rebuild(by=BY, reason=None)

    def stop(progress: Progress) -> None:
        if progress.done:
            raise StoppedError

    with pytest.raises(StoppedError):
        await ready.fold(build.build_id, stop)
    assert (await ready.request_rebuild(by=BY, reason=None)).build_id == build.build_id
    await asyncio.gather(ready.fold(build.build_id), ready.fold(build.build_id))
    finished = await ready.complete(build.build_id)
    other = await built(ready)
    assert finished.certificate is not None
    assert other.certificate is not None
    assert finished.certificate["digest"] == other.certificate["digest"]
    assert await owner.fetchval("SELECT count(*) FROM ledger.build") == 3


async def test_a_part_of_many_pieces_is_folded_piece_by_piece_to_its_end(
    history: tuple[Database, Appender], clock: ManualClock
) -> None:
    """Stopped after each piece, it comes to what was followed live: nothing is left out, nothing folded again."""
    ready = operations(history, clock, replace(BUGGY, step_events=100))
    build = await ready.request_rebuild(by=BY, reason=None)
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        raise StoppedError

    while not (seen and seen[-1].finished):
        with pytest.raises(StoppedError):
            await ready.fold(build.build_id, stop)
        assert len(seen) < 50, "it goes on for ever"
    assert [one.events for one in seen] == sorted(one.events for one in seen)
    assert len(seen) > 2 * seen[-1].parts
    await ready.complete(build.build_id)
    assert (await ready.compare(build.build_id, by=BY)).differences == []


@pytest.mark.parametrize("failure", ["fold", "nul"])
async def test_what_was_parked_folds_again_after_the_fix(
    history: tuple[Database, Appender], clock: ManualClock, owner: asyncpg.Connection, failure: str
) -> None:
    victim = min(affected())

    def failing(state: Any) -> Rows:
        rows = PROJECTION.rows(state)
        if state.subject.stream_id != victim:
            return rows
        if failure == "fold":
            raise RuntimeError("not today")
        return {
            **rows,
            "entitlement_source": [SourceRow(*row)._replace(status="a\x00b") for row in rows["entitlement_source"]],
        }

    broken = operations(history, clock, replace(PROJECTION, rows=failing))
    build = await built(broken)
    parked = await broken.parked()
    assert [(row["build_id"], row["subject"]) for row in parked] == [(build.build_id, victim)]
    assert ("not today" if failure == "fold" else "0x00") in parked[0]["error"]
    assert await broken.replay(victim) == (0, 1)
    assert await broken.replay(victim.partition("/")[2]) == (0, 1), "without its book it is found too"
    with pytest.raises(MistakeError, match="not parked"):
        await broken.replay("self:live/cus_nobody")
    ready = operations(history, clock)
    assert await ready.replay() == (1, 0)
    assert await ready.parked() == []
    fresh = await built(ready)
    assert {one.subject for one in (await ready.compare(build.build_id, by=BY)).differences} == affected()
    assert fresh.certificate is not None
    connection = await connect_runner(history[0])
    mended, new = (f"{one.schema_name}.entitlement_source" for one in (build, fresh))
    left = await connection.fetch(f"SELECT * FROM {mended} EXCEPT SELECT * FROM {new}")
    assert left == []
    await connection.close()


async def test_an_old_leader_is_fenced_off(history: tuple[Database, Appender], owner: asyncpg.Connection) -> None:
    """A leader that stood still while another took over writes nothing when it wakes, and moves nothing back."""
    from projections.follower import CheckpointMovedError
    from projections.leases import fence, take

    database, appender = history
    old, new = await connect_runner(database), await connect_runner(database)
    live = await ensure_live(old, BUGGY)
    first = await take(old, live.build_id, "old")
    assert first is not None
    assert await take(new, live.build_id, "new") is None
    assert await take(old, live.build_id, "old") == first
    await owner.execute("UPDATE ledger.lease SET expires_at = now()")
    second = await take(new, live.build_id, "new")
    assert second is not None
    assert second.term == first.term + 1
    await fence(new, second)
    await appender.append(new_events(company(4, 5)[0]))
    before = await owner.fetchval("SELECT position FROM ledger.checkpoint WHERE book = 'self:live'")
    with pytest.raises(CheckpointMovedError):
        await step(old, BUGGY, live, "self:live", term=first.term)
    assert await owner.fetchval("SELECT position FROM ledger.checkpoint WHERE book = 'self:live'") == before
    assert await step(new, BUGGY, live, "self:live", term=second.term) > 0
    for connection in (old, new):
        await connection.close()


async def test_a_build_is_ready_once_it_took_what_there_was_whatever_has_come_since(
    history: tuple[Database, Appender], clock: ManualClock
) -> None:
    """Under webhooks without a pause there is no moment without news."""
    ready = operations(history, clock)
    build = await ready.request_rebuild(by=BY, reason="while events come in")
    await ready.fold(build.build_id)
    connection = await connect_runner(history[0])
    assert await finish(connection, build)
    runner = Runner(connection, PROJECTION, holder="test/1", only=build.build_id)
    await history[1].append(new_events(company(SEED + 1, 2)[0]))
    assert await runner.turn() > 0
    assert (await read_build(connection, build.build_id)).phase == "ready"
    await connection.close()


async def test_a_follower_whose_steps_outlast_its_lease_takes_shorter_ones(
    history: tuple[Database, Appender], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is busy enough two would otherwise take the lease from each other, and no step would count."""
    ready = operations(history, clock)
    build = await ready.request_rebuild(by=BY, reason="on a busy machine")
    await ready.fold(build.build_id)
    places = await history[1].append(new_events(company(SEED + 1, 2)[0]))
    connection = await connect_runner(history[0])
    assert await finish(connection, build)

    async def slow(
        connection: asyncpg.Connection, projection: Projection, build: Build, term: int, **known: Any
    ) -> int:
        if known["limit"] > 50:
            await connection.execute("UPDATE ledger.lease SET expires_at = now() WHERE name = $1", build.build_id)
            rival = await take(connection, build.build_id, "test/2")
            assert rival is not None
            await fence(connection, rival)
            await give_back(connection, rival)
        return await follow(connection, projection, build, term, **known)

    monkeypatch.setattr("projections.runner.follow", slow)
    runner = Runner(connection, PROJECTION, holder="test/1", only=build.build_id)
    for _ in range(40):
        await runner.turn()
        is_ready = (await read_build(connection, build.build_id)).phase == "ready"
        reached = max((await positions_of(connection, build.build_id)).values())
        assert is_ready == (reached == places[-1].position), reached
    assert is_ready
    await connection.close()


async def test_a_build_thrown_away_under_its_follower_stops_nobody(
    history: tuple[Database, Appender], clock: ManualClock
) -> None:
    ready = operations(history, clock)
    build = await built(ready)
    connection = await connect_runner(history[0])
    runner = Runner(connection, PROJECTION, holder="test/1")
    while await runner.turn():
        pass
    await ready.drop(build.build_id, by=BY)
    await history[1].append(new_events(company(SEED + 1, 2)[0]))
    while await runner.turn():
        pass
    await runner.give_back()
    await connection.close()

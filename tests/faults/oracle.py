"""What must hold after every schedule, whatever happened in it. A violation is an ``AssertionError`` that names it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from api.clock import wall_clock
from api.operations import PARKED, Operations
from api.outward.access import Patience, open_access
from api.outward.coverage import KEPT, ROWS, hour_of
from api.outward.gather import Gathering
from api.secrets import digest_of as key_digest
from api.services import Services, open_services, projections_of
from api.settings import Settings
from ledger.embedded import SUPERUSER
from ledger.outside import Outside
from ledger.times import from_unix
from ledger.verify import verify_log
from projections.builds import Build, builds_of, enter, live_build, positions_of
from projections.certify import digest_of
from projections.contract import Projection
from projections.runner import connect_runner
from tests.conftest import KEY, SECRET, SIGNING_KEY
from tests.faults.storm import History
from tests.faults.world import World
from tests.standin import API_KEY

PLACES: Final = "SELECT event_id, position FROM ledger.event WHERE book = $1 ORDER BY position"

HEADS: Final = "SELECT book, position FROM ledger.head WHERE position > 0 AND book <> 'ledger:control'"

CONFLICTS: Final = "SELECT count(*) FROM ledger.event_conflict"

CHANGES_WITH_GAPS: Final = """
SELECT f.book, f.seq, count(c.seq) AS kept, coalesce(max(c.seq), 0) AS newest, coalesce(min(c.seq), 1) AS oldest
FROM ledger.entitlement_feed AS f
LEFT JOIN ledger.entitlement_change AS c USING (book)
GROUP BY f.book, f.seq
HAVING count(c.seq) <> f.seq OR coalesce(max(c.seq), 0) <> f.seq
"""

UNTOLD: Final = """
SELECT book, recheck_after
FROM ledger.entitlement_feed
WHERE recheck_after IS NOT NULL
"""

DIRTY: Final = "SELECT count(*) FROM dirty"

LEFT_OPEN: Final = """
SELECT pid, state, query
FROM pg_stat_activity
WHERE usename = 'ledger_service' AND xact_start < clock_timestamp() - interval '20 seconds'
"""

_SETTLE_SECONDS: Final = 60.0
_QUICK: Final = Patience(attempts=6, seconds=20, wait_seconds_min=0.01, wait_seconds_max=0.1, answer_seconds=5)


@dataclass(frozen=True, slots=True)
class Oracle:
    """Judges a world after the schedule of ``seed``, whose webhooks were ``history``'s."""

    world: World
    history: History
    seed: int

    async def judge(self) -> int:
        """Demand everything; return how many events the schedule's book has."""
        world = self.world
        settings = Settings(
            data_dir=world.folder / "oracle",
            database_url=world.postgres.url(),
            stripe_webhook_secrets=SECRET,
            api_keys=f"fire:admin:{key_digest(KEY)}",
            signing_key=SIGNING_KEY,
            stripe_api_key=API_KEY,
            stripe_api_base=world.standin.url,
        )
        async with open_services(settings) as services:
            owner = await asyncpg.connect(world.postgres.url(SUPERUSER))
            try:
                await self._coverage_is_honest(owner)
                await self._sweep(services)
                await self._coverage_is_honest(owner, whole=True)
                events = await self._every_acknowledged_event_is_there_once(owner)
                await self._log_is_true(owner, services)
                await self._live_rows_are_a_fresh_rebuild(services, settings)
                await self._nothing_is_left(owner)
                return events
            finally:
                await owner.close()

    async def _coverage_is_honest(self, owner: asyncpg.Connection, *, whole: bool = False) -> None:
        """Every event of an hour that is called proven is in the log; after a sweep, of every hour that is over."""
        now = wall_clock()
        rows = await owner.fetch(ROWS, self.history.book, hour_of(now - KEPT), hour_of(now))
        proven = {row["hour"] for row in rows if row["proven"]}
        known = {row["event_id"] for row in await owner.fetch(PLACES, self.history.book)}
        for one in self.history.events:
            hour = hour_of(from_unix(one["created"]))
            assert hour not in proven or one["id"] in known, f"{hour} is called proven, and {one['id']} is not there"
            recent = hour > hour_of(now - KEPT)
            assert not (whole and recent) or one["id"] in known, f"a sweep has not found {one['id']} of {hour}"

    async def _sweep(self, services: Services) -> None:
        self.world.standin.faults = iter(())
        async with open_access(services.settings, services.clock, _QUICK) as access:
            parts = (access, services.pool, services.appender, services.settings.account, services.clock)
            await Gathering(*parts).sweep()

    async def _every_acknowledged_event_is_there_once(self, owner: asyncpg.Connection) -> int:
        books = {book for book, _ in self.world.storm.acknowledged} | {self.history.book}
        places: dict[str, dict[str, int]] = {}
        for book in books:
            rows = await owner.fetch(PLACES, book)
            assert [row["position"] for row in rows] == list(range(1, len(rows) + 1)), f"{book} has a gap"
            places[book] = {row["event_id"]: row["position"] for row in rows}
            assert len(places[book]) == len(rows), f"{book} has an event twice"
        for (book, event_id), told in self.world.storm.acknowledged.items():
            where = places[book].get(event_id)
            assert told == {where}, f"{event_id} of {book} was acknowledged at {told} and stands at {where}"
        return len(places[self.history.book])

    async def _log_is_true(self, owner: asyncpg.Connection, services: Services) -> None:
        await services.notary.sign_all()
        folders = [*(service.folder for service in self.world.services), services.settings.data_dir]
        outside = Outside(folders)
        async with owner.transaction(isolation="repeatable_read", readonly=True):
            report = await verify_log(owner, outside.keys(), outside.notes(), full=True)
        assert report.true, report.problems
        assert report.checkpoints > 0
        assert not report.lost
        assert await owner.fetchval(CONFLICTS) == 0

    async def _live_rows_are_a_fresh_rebuild(self, services: Services, settings: Settings) -> None:
        dice = random.Random(f"promote {self.seed}")
        connection = await connect_runner(services.database)
        try:
            for projection in projections_of(settings):
                ready = Operations(services.database, projection, services.appender, wall_clock)
                await self._folded(connection, projection)
                fresh = await self._rebuilt(connection, ready)
                if dice.random() < 0.3:
                    await ready.promote(fresh, by="fire", reason="a schedule says so")
                for one in await builds_of(connection, projection.name):
                    if one.phase != "live":
                        await ready.drop(one.build_id, by="fire")
        finally:
            connection.terminate()

    async def _rebuilt(self, connection: asyncpg.Connection, ready: Operations) -> str:
        """Finish what rebuild was killed, then make a fresh one: each holds exactly the rows that live has."""
        begun = wall_clock()
        while True:
            build = await ready.request_rebuild(by="fire", reason="the oracle")
            await ready.fold(build.build_id)
            await ready.complete(build.build_id)
            await self._equals_live(connection, ready, build)
            if build.created_at >= begun or build.requested_by == "fire":
                return build.build_id

    async def _equals_live(self, connection: asyncpg.Connection, ready: Operations, build: Build) -> None:
        comparison = await ready.compare(build.build_id, by="fire")
        assert not comparison.differences, f"{build.build_id} differs from live: {comparison.differences[:3]}"
        live = await live_build(connection, ready.projection.name)
        assert live is not None
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            ours, theirs = [await digest_of(connection, ready.projection, one) for one in (build, live)]
            if ours[1] == theirs[1]:
                break
            # One that was ready before the last events is brought up to them by the services, in their own time.
            assert time.monotonic() < deadline, f"{build.build_id} is not followed: {ours}, {live.build_id} {theirs}"
            await asyncio.sleep(0.05)
        assert ours == theirs, f"{build.build_id} and {live.build_id} have other digests: {ours}, {theirs}"

    async def _folded(self, connection: asyncpg.Connection, projection: Projection) -> None:
        """Wait until the services have folded the live build up to the head, and nothing is dirty in it."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not await self._is_folded(connection, projection):
            assert time.monotonic() < deadline, f"{projection.name} is not folded; {self.world.said()}"
            await asyncio.sleep(0.05)

    async def _is_folded(self, connection: asyncpg.Connection, projection: Projection) -> bool:
        live = await live_build(connection, projection.name)
        if live is None:
            return False
        heads: Mapping[str, Any] = dict(await connection.fetch(HEADS))
        reached = await positions_of(connection, live.build_id)
        if any(reached.get(book, 0) < head for book, head in heads.items()):
            return False
        await enter(connection, live.schema_name)
        return int(await connection.fetchval(DIRTY)) == 0

    async def _nothing_is_left(self, owner: asyncpg.Connection) -> None:
        parked = [tuple(row) for row in await owner.fetch(PARKED, None)]
        assert not parked, f"parked: {parked[:3]}"
        deadline = time.monotonic() + _SETTLE_SECONDS
        while await owner.fetch(UNTOLD):
            assert time.monotonic() < deadline, "the answers were never looked at again after a marker"
            await asyncio.sleep(0.05)
        gaps = [tuple(row) for row in await owner.fetch(CHANGES_WITH_GAPS)]
        assert not gaps, f"the log of changed answers has gaps: {gaps}"
        opened = [tuple(row) for row in await owner.fetch(LEFT_OPEN)]
        assert not opened, f"transactions were left open: {opened}"

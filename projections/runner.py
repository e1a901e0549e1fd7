"""The runner: leads the builds of one projection, each under a lease, and keeps them at the head of the log.

Any number of processes may run one; each build is led by one of them. A leader that is gone or stalls loses its lease
after some seconds, and PostgreSQL ends any transaction it left open.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Final

import asyncpg
import structlog

from ledger.postgres import Database
from projections.builds import Build, builds_of, set_phase
from projections.contract import Projection
from projections.follower import NOTHING_DIRTY, STEP_EVENTS, CheckpointMovedError, follow
from projections.leases import LEASE_SECONDS, Lease, fence, give_back, is_free, take
from projections.stored_terms import TermsReader
from projections.warm import Warm

_log = structlog.get_logger()

_RENEW_SECONDS: Final = LEASE_SECONDS / 3
_STEP_SECONDS: Final = LEASE_SECONDS / 5
_STEP_EVENTS_MIN: Final = 16
_STEP_EVENTS_MAX: Final = 16_000
_FOLLOWED: Final = frozenset({"live", "catching_up", "ready", "retired"})


async def connect_runner(database: Database) -> asyncpg.Connection:
    """Connect as the role that makes builds. PostgreSQL ends a transaction that this connection leaves idle."""
    return await _fenced(await database.as_role("ledger_builder").connect())


async def connect_follower(database: Database) -> asyncpg.Connection:
    """Connect like ``connect_runner``, for following only, whose statements all read by key.

    Use one connection per projection: one that switches between schemas has its statements planned again each time.
    """
    return await _fenced(await database.as_role("ledger_builder").connect_by_key())


async def _fenced(connection: asyncpg.Connection) -> asyncpg.Connection:
    await connection.execute(f"SET idle_in_transaction_session_timeout = '{LEASE_SECONDS}s'")
    return connection


class Runner:
    """Leads what it can of one projection's builds over one connection."""

    def __init__(
        self, connection: asyncpg.Connection, projection: Projection, *, holder: str, only: str | None = None
    ) -> None:
        """``holder`` names this process; ``only`` is the one build to lead."""
        self._connection = connection
        self._projection = projection
        self._holder = holder
        self._only = only
        self._leases: dict[str, Lease] = {}
        self._step_events = STEP_EVENTS
        self._terms: defaultdict[str, TermsReader] = defaultdict(TermsReader)
        self._warm: defaultdict[str, Warm] = defaultdict(Warm)
        self._builds: list[Build] = []
        self._standing: list[Build] = []
        self._renewed: float | None = None
        self._strange: set[str] = set()
        self.unfinished: list[Build] = []
        """Builds of this release's version that are not finished yet, as of the last ``renew``."""

    async def turn(self) -> int:
        """Take a step in every build it leads; return how much was done. 0 means that all have caught up."""
        await self.renew()
        passed = 0
        for build in self._builds:
            lease = self._leases.get(build.build_id)
            if lease is None:
                continue
            began = asyncio.get_running_loop().time()
            try:
                done = await follow(
                    self._connection,
                    self._projection,
                    build,
                    lease.term,
                    terms=self._terms[build.build_id],
                    limit=self._step_events,
                    warm=self._warm[build.build_id],
                )
            except CheckpointMovedError:
                _log.info("another_runner_leads", build=build.build_id)
                self._renewed = None
                self._shorten()
                continue
            except asyncpg.UndefinedTableError:
                if await self._is_there(build):
                    raise
                # Somebody deleted it since the last ``renew``.
                _log.info("build_is_gone", build=build.build_id)
                self._renewed = None
                continue
            if build.phase == "catching_up" and await self._reached_the_head(done):
                await set_phase(self._connection, build, "ready")
                self._renewed = None
            passed += done
            self._adapt(done, asyncio.get_running_loop().time() - began)
            if self._projection.consumer is not None:
                passed += await self._projection.consumer.turn(self._connection, build.build_id)
        return passed + await self._speak_for_what_stands_still()

    async def _speak_for_what_stands_still(self) -> int:
        """Let the consumer log what time or a promotion changes in a live build folded by another release."""
        consumer, passed = self._projection.consumer, 0
        if consumer is None:
            return 0
        for build in self._standing:
            try:
                passed += await consumer.turn(self._connection, build.build_id)
            except (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError) as error:
                _log.warning("build_cannot_be_read", build=build.build_id, error=error)
                self._standing = []
        return passed

    async def _is_there(self, build: Build) -> bool:
        return any(one.build_id == build.build_id for one in await builds_of(self._connection, self._projection.name))

    async def _reached_the_head(self, done: int) -> bool:
        """Whether the last step took all there was when it began: under load there is always one more event."""
        took_all = done < min(self._step_events, STEP_EVENTS)
        return done == 0 or (took_all and await self._connection.fetchval(NOTHING_DIRTY))

    def _adapt(self, done: int, seconds: float) -> None:
        """Take longer steps while behind: a subject with several events in a step is folded once for all of them."""
        if seconds > 2 * _STEP_SECONDS and self._step_events > STEP_EVENTS:
            self._shorten()
        elif done >= self._step_events and seconds < _STEP_SECONDS:
            self._step_events = min(self._step_events * 2, _STEP_EVENTS_MAX)

    def _shorten(self) -> None:
        """Take shorter steps: one that outlasts the lease is lost to another leader, who may lose it the same way."""
        self._step_events = max(self._step_events // 2, _STEP_EVENTS_MIN)

    async def give_back(self) -> None:
        """Give the leases back, so that others can lead at once."""
        for lease in self._leases.values():
            await give_back(self._connection, lease)

    async def renew(self) -> None:
        """Look which builds there are and take or renew their leases, when it is time to; every turn begins with it."""
        now = asyncio.get_running_loop().time()
        if self._renewed is not None and now - self._renewed < _RENEW_SECONDS:
            return
        self._renewed = now
        builds = await builds_of(self._connection, self._projection.name)
        self.unfinished = [one for one in builds if one.unfinished and one.version == self._projection.version]
        retired = sorted((one for one in builds if one.phase == "retired"), key=lambda one: one.changed_at)
        # Of the builds that were live before, only the last is kept up to date: a rollback goes to that one.
        self._builds = [one for one in builds if one not in retired[:-1] and self._may_fold(one)]
        self._standing = [
            one
            for one in builds
            if one.phase == "live" and self._only is None and one not in self._builds
            if await is_free(self._connection, one.build_id)
        ]
        for gone in self._warm.keys() - {one.build_id for one in self._builds}:
            del self._warm[gone]
        for build in self._builds:
            before = self._leases.get(build.build_id)
            lease = await take(self._connection, build.build_id, self._holder)
            if lease is None:
                self._leases.pop(build.build_id, None)
                self._warm.pop(build.build_id, None)
                continue
            if before is None or before.term != lease.term:
                await fence(self._connection, lease)
            self._leases[build.build_id] = lease

    def _may_fold(self, build: Build) -> bool:
        if build.phase not in _FOLLOWED or build.bounded or self._only not in (None, build.build_id):
            return False
        if build.version == self._projection.version:
            return True
        if build.phase == "live" and build.build_id not in self._strange:
            self._strange.add(build.build_id)
            _log.warning(
                "build_of_another_version",
                build=build.build_id,
                version=build.version,
                this_release_folds=self._projection.version,
                do=f"ledger rebuild {build.projection}, ledger diff, ledger promote",
            )
        return False

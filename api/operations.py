"""What engineers do to projections, for both the command line and HTTP: rebuild, compare, promote, roll back, replay.

Each is a decision with a name and a reason, recorded in the control book.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import asyncpg

from api import outbox
from ledger.appender import Appender
from ledger.books import CONTROL_BOOK
from ledger.calls import KeyedCall, call_name
from ledger.decisions import decide, restore
from ledger.errors import KeyUsedError, MistakeError
from ledger.postgres import Database
from ledger.reader import position_at, read_books
from ledger.times import rfc3339
from projections import certify, rebuild
from projections.builds import (
    Build,
    Request,
    builds_of,
    drop_build,
    ensure_live,
    live_build,
    positions_of,
    read_build,
    start_build,
)
from projections.compare import Comparison, compare, note
from projections.contract import Projection
from projections.follower import clean, replay
from projections.leases import take, this_process
from projections.life import BuildLife, KeyedRebuild
from projections.promotion import Swapped, previous_build, promote, roll_back
from projections.runner import Runner, connect_runner

PARKED: Final = """
SELECT b.projection, p.build_id, p.subject, p.book, p.event_id, p.error, p.since
FROM ledger.parked AS p
JOIN ledger.build AS b USING (build_id)
WHERE $1::text IS NULL OR p.subject = $1 OR p.subject = p.book || '/' || $1
ORDER BY p.since, p.subject COLLATE "C", p.build_id COLLATE "C"
"""

BY_HTTP: Final = "key:"
"""What the name of who asked over HTTP begins with: `serve` does that work, the command line does its own."""

_LONG_LOG: Final = 5_000
"""A log of so many events is folded more quickly subject by subject than by following it."""

_CATCH_UP_PAUSE_SECONDS: Final = 0.1
_CATCH_UP_TRIES: Final = 100
_OTHERS_WORK_SECONDS: Final = 0.5

Report = Callable[[rebuild.Progress], None]


@dataclass(frozen=True, slots=True)
class Until:
    """How far a bounded rebuild goes: a moment of recording, or a position of one book."""

    moment: datetime | None = None
    position: int | None = None
    book: str | None = None

    @property
    def bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self.moment is not None or self.position is not None

    @property
    def described(self) -> str | None:
        """The bound as text; None where there is none."""
        if self.moment is not None:
            return rfc3339(self.moment)
        return f"{self.book} {self.position}" if self.position is not None else None


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations on one projection of one database; clock and appender are for recording decisions."""

    database: Database
    projection: Projection
    appender: Appender
    clock: Callable[[], datetime]

    @contextlib.asynccontextmanager
    async def _builder(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await connect_runner(self.database)
        try:
            yield connection
        finally:
            connection.terminate()

    async def request_rebuild(self, *, by: str, reason: str | None, until: Until | None = None) -> Build:
        """Register a new build, or return an unfinished one of the same kind."""
        until = until or Until()
        async with self._builder() as connection:
            await ensure_live(connection, self.projection)
            targets = await _targets(connection, until)
            for one in reversed(await builds_of(connection, self.projection.name)):
                same = one.version == self.projection.version and one.bounded == until.bounded
                if one.unfinished and same and (not until.bounded or one.targets == targets):
                    return one
            request = Request(by, reason, targets, until.bounded)
            build = await start_build(connection, self.projection, request)
        await self._record(
            build.build_id,
            lambda life: life.request(build.projection, build.version, build.bounded, targets, by, reason),
        )
        return build

    async def request_once(self, idempotency_key: str, *, by: str, reason: str | None, until: Until) -> Build:
        """Register a new build, or return the one that the same request registered before.

        Raises ``KeyUsedError`` if the key was used for another request.
        """
        name = call_name("rebuild", self.projection.name, by, idempotency_key)
        wanted = {"until": until.described, "reason": reason}
        async with self._builder() as connection:
            known = await restore(connection, KeyedRebuild, CONTROL_BOOK, name)
            if known.build is not None and known.wanted != wanted:
                raise KeyUsedError("rebuild")
            if known.build is not None:
                return await read_build(connection, known.build)
            build = await self.request_rebuild(by=by, reason=reason, until=until)
            await decide(
                connection, self.appender, KeyedRebuild, CONTROL_BOOK, name,
                lambda call: call.answer(build.build_id, wanted) if call.build is None else None, now=self.clock(),
            )  # fmt: skip
        return build

    async def begin(self, *, by: str) -> bool:
        """Rebuild at once if the log is long and the live build has folded none of it; return whether that was so.

        So a log that was imported, or existed before its projection, is not followed step by step from its beginning.
        """
        await self.publish_swaps()
        async with self._builder() as connection:
            live = await ensure_live(connection, self.projection)
            reached = await positions_of(connection, live.build_id)
            waiting = sum((await _targets(connection, Until())).values())
        if live.version != self.projection.version or sum(reached.values()) > 0 or waiting < _LONG_LOG:
            return False
        reason = "the log was there before this projection"
        build = await self.request_rebuild(by=by, reason=reason)
        await self.fold(build.build_id)
        await self.complete(build.build_id)
        await self.promote(build.build_id, by=by, reason=reason, force=True)
        await self.drop(live.build_id, by=by, reason="it had folded nothing")
        return True

    async def fold(self, build_id: str, report: Report = lambda _: None) -> None:
        """Fold parts of a rebuild that nobody else works on, and wait until all are done."""
        async with self._builder() as connection, self._builder() as reading:
            build = self._foldable(await self._own(connection, build_id))
            await rebuild.plan(connection, self.projection, build)
            terms = await rebuild.read_all_terms(connection, self.projection, build)
            async with rebuild.folding_ahead(reading, self.projection, build, terms) as ahead:
                while True:
                    worked = await rebuild.fold_piece(connection, self.projection, build, ahead)
                    progress = await rebuild.read_progress(connection, build)
                    report(progress)
                    if progress.finished:
                        return
                    if not worked:
                        await asyncio.sleep(_OTHERS_WORK_SECONDS)

    async def complete(self, build_id: str) -> Build:
        """Bring a folded build up to the head (a bounded one stays where it is), certify it and write that down."""
        async with self._builder() as connection:
            build = self._foldable(await self._own(connection, build_id))
            await rebuild.finish(connection, build)
            for book in build.targets if build.bounded else ():
                while await clean(connection, self.projection, build, book):
                    pass
            await self._catch_up(connection, build_id)
            build = await read_build(connection, build_id)
            certificate = await certify.certificate_of(connection, self.projection, build)
            await certify.keep_certificate(connection, build, certificate)
            await self._record(build_id, lambda life: life.certify(**certificate))
            return await read_build(connection, build_id)

    async def _catch_up(self, connection: asyncpg.Connection, build_id: str) -> None:
        """Follow the log until the build is ready, beside a service that may be doing the same."""
        runner = Runner(connection, self.projection, holder=this_process(), only=build_id)
        while (await read_build(connection, build_id)).phase == "catching_up":
            if await runner.turn() == 0:
                await asyncio.sleep(_CATCH_UP_PAUSE_SECONDS)
        await runner.give_back()

    async def work_off(self) -> None:
        """Fold and complete the builds that were asked for over HTTP, unless another process does."""
        holder = f"rebuilder/{this_process()}"
        async with self._builder() as connection:
            builds = await builds_of(connection, self.projection.name)
            lease = None
            for build in builds:
                ours = build.version == self.projection.version and build.requested_by.startswith(BY_HTTP)
                if lease is None and build.unfinished and ours:
                    lease = await take(connection, f"rebuild:{build.build_id}", holder)
        if lease is not None:
            build_id = lease.name.partition(":")[2]
            await self.fold(build_id)
            await self.complete(build_id)

    async def _to_the_head(self, connection: asyncpg.Connection, build: Build) -> None:
        """Fold what a build lacks, if this release can, whoever else does; not for longer than some seconds."""
        if build.version != self.projection.version or build.bounded or build.phase == "folding":
            return
        heads = await _targets(connection, Until())
        runner = Runner(connection, self.projection, holder=this_process(), only=build.build_id)
        for _ in range(_CATCH_UP_TRIES):
            passed = await runner.turn()
            reached = await positions_of(connection, build.build_id)
            if all(reached.get(book, 0) >= head for book, head in heads.items()):
                break
            if passed == 0:
                await asyncio.sleep(_CATCH_UP_PAUSE_SECONDS)
        await runner.give_back()

    async def compare(self, build_id: str, *, by: str, customer: str | None = None) -> Comparison:
        """Compare a build with the live one, and note who has seen it (whole, not one customer's part)."""
        async with self._builder() as connection:
            build = await self._own(connection, build_id)
            live = await live_build(connection, self.projection.name)
            if live is None or live.build_id == build_id:
                raise MistakeError(f"{build_id} is live: there is nothing to compare it with")
            comparison = await compare(connection, self.projection, build, live, customer=customer)
            if customer is None:
                await note(connection, comparison, self.projection, by)
            return comparison

    async def note(self, comparison: Comparison, *, by: str) -> None:
        """Note that somebody else has seen a comparison too."""
        async with self._builder() as connection:
            await note(connection, comparison, self.projection, by)

    async def live(self) -> Build | None:
        """Return the build that is live."""
        async with self._builder() as connection:
            return await live_build(connection, self.projection.name)

    async def promote(
        self, build_id: str, *, by: str, reason: str, force: bool = False, call: KeyedCall | None = None
    ) -> Swapped:
        """Make a build the live one; ``call`` is the request, if it came under an Idempotency-Key."""

        def message(swapped: Swapped) -> Mapping[str, Any]:
            return outbox.message("promote", swapped, swapped.content(by=by, reason=reason, forced=force), call)

        async with self._builder() as connection:
            build = await self._own(connection, build_id)
            await self._to_the_head(connection, build)
            swapped = await promote(connection, self.projection, build, self.clock(), message, by=by, force=force)
        await self.publish_swaps()
        return swapped

    async def roll_back(self, *, by: str, reason: str, stale: bool = False, call: KeyedCall | None = None) -> Swapped:
        """Make the previous live build live again; ``call`` is the request, if it came under an Idempotency-Key."""

        def message(swapped: Swapped) -> Mapping[str, Any]:
            return outbox.message("roll_back", swapped, swapped.content(by=by, reason=reason, forced=stale), call)

        async with self._builder() as connection:
            await self._to_the_head(connection, await previous_build(connection, self.projection))
            swapped = await roll_back(connection, self.projection, self.clock(), message, stale=stale)
        await self.publish_swaps()
        return swapped

    async def publish_swaps(self) -> None:
        """Append to the log what the outbox has of swaps, since the process that swapped may have been killed."""
        async with self._builder() as connection:
            await outbox.publish(connection, self.appender)

    async def drop(self, build_id: str, *, by: str, reason: str | None = None) -> None:
        """Delete a build; refuses the live one."""
        async with self._builder() as connection:
            await drop_build(connection, await self._own(connection, build_id))
        await self._record(build_id, lambda life: life.drop(by, reason))

    async def read(self, build_id: str) -> tuple[Build, rebuild.Progress]:
        """Return a build and how far it is."""
        async with self._builder() as connection:
            build = await self._own(connection, build_id)
            return build, await rebuild.read_progress(connection, build)

    async def parked(self, subject: str | None = None) -> list[asyncpg.Record]:
        """Return what is parked, with the event and the error; a subject given without its book is searched in all."""
        async with self._builder() as connection:
            return list(await connection.fetch(PARKED, subject))

    async def replay(self, subject: str | None = None) -> tuple[int, int]:
        """Fold parked subjects (or one) again; return how many are no longer parked, and how many still are."""
        parked = [row for row in await self.parked(subject) if row["projection"] == self.projection.name]
        if subject is not None and not parked:
            raise MistakeError(f"{subject} is not parked")
        cleared = 0
        async with self._builder() as connection:
            for row in parked:
                build = await read_build(connection, row["build_id"])
                if build.version != self.projection.version:
                    continue
                refolding = await replay(connection, self.projection, build, row["book"], [row["subject"]])
                cleared += not refolding.failed
        return cleared, len(parked) - cleared

    async def _own(self, connection: asyncpg.Connection, build_id: str) -> Build:
        build = await read_build(connection, build_id)
        if build.projection != self.projection.name:
            raise MistakeError(f"{build_id} is a build of {build.projection}, not of {self.projection.name}")
        return build

    def _foldable(self, build: Build) -> Build:
        if build.version != self.projection.version:
            raise MistakeError(
                f"{build.build_id} was begun for version {build.version} and this release folds version "
                f"{self.projection.version}: drop it and begin another"
            )
        return build

    async def _record(self, build_id: str, decision: Callable[[BuildLife], None]) -> None:
        async with self._builder() as connection:
            await decide(connection, self.appender, BuildLife, CONTROL_BOOK, build_id, decision, now=self.clock())


async def replay_parked(
    ready: Operations, projections: Iterable[Projection], subject: str | None = None
) -> tuple[int, int]:
    """Fold parked subjects (or one) of several projections again; return as ``Operations.replay`` does.

    Raises ``MistakeError`` for a subject that none of them has parked.
    """
    parked = {row["projection"] for row in await ready.parked(subject)}
    concerned = [one for one in projections if one.name in parked]
    if subject is not None and not concerned:
        raise MistakeError(f"{subject} is not parked")
    done = [await replace(ready, projection=one).replay(subject) for one in concerned]
    return sum(cleared for cleared, _ in done), sum(still for _, still in done)


async def _targets(connection: asyncpg.Connection, until: Until) -> dict[str, int]:
    """Return by book how far a rebuild's first pass goes. Raises ``MistakeError`` for a position that is not there."""
    heads = {one.book: one.position for one in await read_books(connection) if one.is_stripe}
    if until.moment is not None:
        return {book: await position_at(connection, book, until.moment) for book in heads}
    if until.position is None:
        return heads
    book = str(until.book)
    if not 0 <= until.position <= heads.get(book, 0):
        raise MistakeError(f"{book} has {heads.get(book, 0)} events: there is no position {until.position}")
    return {book: until.position}

"""The processes of ``serve``: ``python -m api.processes web FD``, ``… follower PLACE`` and ``… outward`` (asks Stripe);
``… rebuild BUILD``, ``… fold BUILD`` and ``… rebuilder PLACE`` work. All but the first give way to it.

Where several processes follow, each keeps the projections that fall to its place among them.

A child lives as long as its standard input is open: when the supervisor ends, however it ends, so do they.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Sequence

import asyncpg
import structlog

from api.children import fast_loop, supervisor_gone
from api.clock import wall_clock
from api.database import database_of
from api.logs import configure_logging
from api.operations import BY_HTTP, Operations
from api.services import Services, find_projection, open_services, projections_of
from api.settings import Settings, load_settings
from ledger.appender import Appender
from ledger.errors import LogUnavailableError
from ledger.migrate import check_schema
from ledger.notary import ForkNeededError
from ledger.postgres import AWAY, Database
from ledger.priority import give_way, lower_priority, weigh_session
from ledger.tasks import end
from ledger.wakeup import Listener
from projections.builds import ensure_live
from projections.contract import Projection
from projections.follower import CheckpointMovedError
from projections.leases import this_process
from projections.runner import Runner, connect_follower, connect_runner

_log = structlog.get_logger()

_POLL_SECONDS = 0.5
_RETRY_SECONDS = 0.5
_SIGN_SECONDS = 60
_LISTENER_FD_ARGUMENT = 2
_FAST_EVENTS_A_SECOND = 500
_LOOK_SECONDS = 0.25
_PAUSE_SECONDS_MAX = 5.0

APPENDED = "SELECT coalesce(sum(position), 0)::bigint FROM ledger.head"


def share_of(projections: Sequence[Projection], place: int, processes: int) -> Sequence[Projection]:
    """Return the projections that fall to one of several processes: the first ones to one each, the rest to the last.

    Entitlements are the first: with two processes already, no other fold keeps an app waiting for its answer.
    """
    return projections[place:] if place == processes - 1 else projections[place : place + 1]


def _share(settings: Settings, place: int) -> Sequence[Projection]:
    return share_of(projections_of(settings), place, settings.follower_processes)


async def run_follower(settings: Settings, place: int) -> None:
    """Keep live builds at the head of the log until the supervisor ends or says so; the first also signs that head."""
    database = database_of(settings).as_role("ledger_builder")
    stop = asyncio.create_task(supervisor_gone())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.cancel)
    signing = [asyncio.create_task(_sign_on_a_timer(settings))] if place == 0 else []
    try:
        await _follow_until(settings, place, database, stop)
    finally:
        await end(*signing)


async def _follow_until(settings: Settings, place: int, database: Database, stop: asyncio.Task[None]) -> None:
    projections = _share(settings, place)
    async with Listener(database) as listener:
        while not stop.done():
            try:
                await _begin_or_stop(settings, projections, stop)
                await _follow_while_connected(settings, projections, listener, _Rebuilder(place), stop)
            except AWAY as error:
                _log.warning("follower_away", error=error)
            except CheckpointMovedError:
                _log.info("another_follower_is_faster")
            if not stop.done():
                await asyncio.sleep(_RETRY_SECONDS)


async def _begin_or_stop(settings: Settings, projections: Sequence[Projection], stop: asyncio.Task[None]) -> None:
    """Fold a log that was there before its projections, unless the supervisor ends meanwhile: it is gone on with."""
    beginning = asyncio.create_task(begin_projections(settings, projections))
    await asyncio.wait({beginning, stop}, return_when=asyncio.FIRST_COMPLETED)
    await end(beginning)


async def begin_projections(settings: Settings, projections: Sequence[Projection]) -> None:
    """Fold a long log at once for each of these projections that has folded nothing yet."""
    database = database_of(settings)
    connection = await connect_runner(database)
    try:
        await check_schema(connection)
    finally:
        connection.terminate()
    async with Appender(database, clock=wall_clock) as appender:
        for projection in projections:
            if await Operations(database, projection, appender, wall_clock).begin(by="serve"):
                _log.info("log_folded_at_once", projection=projection.name)


async def _sign_on_a_timer(settings: Settings) -> None:
    """Sign every book's head once a minute, starting at once."""
    while True:
        try:
            async with open_services(settings) as services:
                while True:
                    await _sign(services)
                    await asyncio.sleep(_SIGN_SECONDS)
        except (LogUnavailableError, *AWAY) as error:
            _log.warning("notary_away", error=error)
        except Exception:  # noqa: BLE001 - signing must not stop unnoticed
            _log.exception("notary_failed")
        await asyncio.sleep(_RETRY_SECONDS)


async def _sign(services: Services) -> None:
    try:
        await services.notary.sign_all()
    except ForkNeededError as error:
        _log.error("notary_refuses", book=error.book, error=error)


async def _follow_while_connected(
    settings: Settings,
    projections: Sequence[Projection],
    listener: Listener,
    rebuilder: _Rebuilder,
    stop: asyncio.Task[None],
) -> None:
    connections: list[asyncpg.Connection] = []
    try:
        runners, stream = [], Stream(settings.follower_processes)
        for projection in projections:
            connection = await connect_follower(database_of(settings))
            connections.append(connection)
            await check_schema(connection)
            await ensure_live(connection, projection)
            runners.append(Runner(connection, projection, holder=this_process()))
        while not stop.done():
            await rebuilder.keep_running(runners)
            passed = 0
            for runner, connection in zip(runners, connections, strict=True):
                began = time.monotonic()
                passed += await runner.turn()
                await stream.look(connection)
                await _hold_back(runners, stream, connection, stop, stream.pause_seconds(time.monotonic() - began))
            if passed == 0:
                news = asyncio.create_task(listener.wait(_POLL_SECONDS))
                await asyncio.wait({news, stop}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        for runner in runners:
            await runner.give_back()
    finally:
        await rebuilder.stop()
        for connection in connections:
            connection.terminate()


async def _hold_back(
    runners: Sequence[Runner], stream: Stream, connection: asyncpg.Connection, stop: asyncio.Task[None], seconds: float
) -> None:
    """Fold nothing for so long, or until events come in slower; what is led stays led."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stop.done():
        await asyncio.wait({stop}, timeout=min(left, _LOOK_SECONDS))
        for runner in runners:
            await runner.renew()
        if not await stream.look(connection):
            break


class Stream:
    """How fast events come in. When it is very fast, folding gives way to those who acknowledge them.

    The faster they come, the longer it pauses between steps, and whatever else wants the processors goes first. Events
    gather meanwhile: the more of them a subject has, the less it costs to fold each. At any other time folding weighs
    as much as all else.
    """

    def __init__(self, processes: int) -> None:
        """``processes`` fold beside each other: together they pause as much as one would."""
        self._processes = processes
        self._looked, self._events = time.monotonic(), 0
        self._a_second = 0.0
        self._gives_way = False

    async def look(self, connection: asyncpg.Connection) -> bool:
        """Tell whether more than five hundred a second have come since the last look, and give way if so.

        A look covers a quarter of a second at least: in less, a few events are very fast.
        """
        seconds = time.monotonic() - self._looked
        if seconds >= _LOOK_SECONDS:
            before, self._looked = self._events, self._looked + seconds
            self._events = int(await connection.fetchval(APPENDED))
            self._a_second = (self._events - before) / seconds
        is_fast = self._is_fast
        if is_fast != self._gives_way and weigh_session(down=is_fast):
            self._gives_way = is_fast
        return is_fast

    @property
    def _is_fast(self) -> bool:
        return self._a_second > _FAST_EVENTS_A_SECOND

    def pause_seconds(self, worked: float) -> float:
        """Return how long to pause after so many seconds of work: of two thousand a second, for three times as long.

        So folding takes as large a part of one core as five hundred is of what comes in a second.
        """
        times = self._processes * self._a_second / _FAST_EVENTS_A_SECOND - 1
        return min(worked * times, _PAUSE_SECONDS_MAX) if self._is_fast else 0.0


async def fold_build(settings: Settings, build_id: str, *, complete: bool) -> None:
    """Fold parts of one rebuild until all are done, and complete it if told so; or until whoever asked for it ends."""
    async with open_services(settings) as services:
        projection = find_projection(settings, build_id.rpartition("-")[0])
        operations = Operations(database_of(settings), projection, services.appender, wall_clock)
        gone = asyncio.create_task(supervisor_gone())
        work = asyncio.create_task(_rebuild(operations, build_id) if complete else operations.fold(build_id))
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        await end(gone, work)


async def _rebuild(operations: Operations, build_id: str) -> None:
    await operations.fold(build_id)
    await operations.complete(build_id)


async def rebuild_requested(settings: Settings, place: int) -> None:
    """Fold the builds that were asked for over HTTP, one after the other, then end."""
    async with open_services(settings) as services:
        work = asyncio.create_task(_work_off(settings, _share(settings, place), services))
        gone = asyncio.create_task(supervisor_gone())
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        await end(gone, work)


async def _work_off(settings: Settings, projections: Sequence[Projection], services: Services) -> None:
    for projection in projections:
        await Operations(database_of(settings), projection, services.appender, wall_clock).work_off()


class _Rebuilder:
    """The process that folds what was asked for over HTTP: started when there is something, and again if it died."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._process: asyncio.subprocess.Process | None = None

    async def keep_running(self, runners: Sequence[Runner]) -> None:
        """Start it where a build waits and it does not run. It ends with this process, whose hand is on its input."""
        waits = any(one.requested_by.startswith(BY_HTTP) for runner in runners for one in runner.unfinished)
        if waits and (self._process is None or self._process.returncode is not None):
            command = (sys.executable, "-m", "api.processes", "rebuilder", str(self._place))
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, start_new_session=True
            )

    async def stop(self) -> None:
        """End it; what it has folded stays."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


async def ask_stripe(settings: Settings) -> None:
    """Ask Stripe what the log lacks until the supervisor ends or says so."""
    from api.outward.worker import run_outward

    stop = asyncio.create_task(supervisor_gone())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.cancel)
    await run_outward(settings, stop)


def main() -> None:
    """Run the child named by the first argument."""
    settings = load_settings()
    configure_logging(settings)
    if sys.argv[1] == "follower":
        lower_priority()  # and gives way altogether when events come in very fast
    elif sys.argv[1] != "web":
        give_way()
    loop_factory = fast_loop()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        if sys.argv[1] == "web":
            from api.web import serve_web

            listening = socket.socket(fileno=int(sys.argv[_LISTENER_FD_ARGUMENT]))
            runner.run(serve_web(settings, listening))
        elif sys.argv[1] in ("fold", "rebuild"):
            try:
                runner.run(fold_build(settings, sys.argv[2], complete=sys.argv[1] == "rebuild"))
            except (LogUnavailableError, *AWAY) as error:
                _log.warning("worker_away", error=error)  # the command that started it says what to do
                sys.exit(1)
        elif sys.argv[1] == "outward":
            runner.run(ask_stripe(settings))
        elif sys.argv[1] == "rebuilder":
            runner.run(rebuild_requested(settings, int(sys.argv[2])))
        else:
            with contextlib.suppress(asyncio.CancelledError):
                runner.run(run_follower(settings, int(sys.argv[2])))


if __name__ == "__main__":
    main()

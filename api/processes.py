"""The processes of ``serve``: ``python -m api.processes web``, ``… follower`` and ``… outward`` (asks Stripe);
``… fold`` and ``… rebuilder`` work.

A child lives as long as its standard input is open: when the supervisor ends, however it ends, so do they.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

import asyncpg
import structlog
import uvicorn
from starlette.applications import Starlette

from api.app import create_app
from api.logs import configure_logging
from api.operations import BY_HTTP, Operations
from api.outward.worker import run_outward
from api.services import Services, database_of, find_projection, open_services, projections_of, wall_clock
from api.settings import Settings, load_settings
from ledger.appender import Appender
from ledger.errors import LogUnavailableError
from ledger.migrate import check_schema
from ledger.notary import ForkNeededError
from ledger.postgres import AWAY, Database
from ledger.tasks import end
from ledger.wakeup import Listener
from projections.builds import ensure_live
from projections.follower import CheckpointMovedError
from projections.runner import Runner, connect_runner

_log = structlog.get_logger()

_POLL_SECONDS = 0.5
_RETRY_SECONDS = 0.5
_SIGN_SECONDS = 60
_LISTENER_FD_ARGUMENT = 2
_FOLLOWER_NICENESS = 10
_FAST_EVENTS_A_SECOND = 500
_COLLECTED_AFTER = 20_000
"""Objects. Python looks for cycles after 700, which few requests make: a fifth of what an uncached check costs."""

_SHORTEST_LOOK_SECONDS = 0.01
_GATHER_SECONDS = 1.0

APPENDED = "SELECT coalesce(sum(position), 0)::bigint FROM ledger.head"


async def serve_web(settings: Settings, listening: socket.socket) -> None:
    """Answer HTTP on a socket the supervisor has bound."""

    app = create_app(lambda: open_services(settings))
    config = uvicorn.Config(
        app,
        log_level="warning",
        log_config=None,  # its lines go where ours go, in the same form
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody's word about where a request came from is used
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
    )
    server = _Server(config, app)
    gc.freeze()  # modules and routes stay: no collection need look at them
    gc.set_threshold(_COLLECTED_AFTER)
    watcher = asyncio.create_task(_stop_when_orphaned(server))
    try:
        await server.serve(sockets=[listening])
    finally:
        await end(watcher)


class _Server(uvicorn.Server):
    """A server that ends the streams before it waits for its connections: they would go on for ever."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else in its order."""
        if (serving := getattr(self._app.state, "services", None)) is not None:
            serving.live.end()
        await super().shutdown(sockets)


async def _stop_when_orphaned(server: uvicorn.Server) -> None:
    await _supervisor_gone()
    server.should_exit = True


async def run_follower(settings: Settings) -> None:
    """Keep the live builds at the head of the log, and its head signed, until the supervisor ends or says so."""
    database = database_of(settings).as_role("ledger_builder")
    stop = asyncio.create_task(_supervisor_gone())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.cancel)
    signing = asyncio.create_task(_sign_on_a_timer(settings))
    try:
        await _follow_until(settings, database, stop)
    finally:
        await end(signing)


async def _follow_until(settings: Settings, database: Database, stop: asyncio.Task[None]) -> None:
    async with Listener(database) as listener:
        while not stop.done():
            try:
                await _begin_or_stop(settings, stop)
                await _follow_while_connected(settings, listener, stop)
            except AWAY as error:
                _log.warning("follower_away", error=error)
            except CheckpointMovedError:
                _log.info("another_follower_is_faster")
            if not stop.done():
                await asyncio.sleep(_RETRY_SECONDS)


async def _begin_or_stop(settings: Settings, stop: asyncio.Task[None]) -> None:
    """Fold a log that was there before its projections, unless the supervisor ends meanwhile: it is gone on with."""
    beginning = asyncio.create_task(begin_projections(settings))
    await asyncio.wait({beginning, stop}, return_when=asyncio.FIRST_COMPLETED)
    await end(beginning)


async def begin_projections(settings: Settings, *, by: str = "serve") -> None:
    """Fold a long log at once for every projection that has folded nothing yet."""
    database = database_of(settings)
    connection = await connect_runner(database)
    try:
        await check_schema(connection)
    finally:
        connection.terminate()
    async with Appender(database, clock=wall_clock) as appender:
        for projection in projections_of(settings):
            if await Operations(database, projection, appender, wall_clock).begin(by=by):
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


async def _follow_while_connected(settings: Settings, listener: Listener, stop: asyncio.Task[None]) -> None:
    connection = await connect_runner(database_of(settings))
    rebuilder = _Rebuilder()
    try:
        await check_schema(connection)
        runners, stream = [], _Stream()
        for projection in projections_of(settings):
            await ensure_live(connection, projection)
            runners.append(Runner(connection, projection, holder=f"{socket.gethostname()}/{os.getpid()}"))
        while not stop.done():
            await rebuilder.keep_running(runners)
            began = time.monotonic()
            passed = max([await runner.turn() for runner in runners])
            if passed == 0:
                news = asyncio.create_task(listener.wait(_POLL_SECONDS))
                await asyncio.wait({news, stop}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
            elif await stream.is_fast(connection):
                await asyncio.wait({stop}, timeout=min(time.monotonic() - began, _GATHER_SECONDS))
        for runner in runners:
            await runner.give_back()
    finally:
        await rebuilder.stop()
        connection.terminate()


class _Stream:
    """How fast events come in. When it is very fast, folding leaves half of the time to those who acknowledge them.

    They gather meanwhile: the more events a subject has, the less it costs to fold each of them.
    """

    def __init__(self) -> None:
        self._looked, self._events = time.monotonic(), 0

    async def is_fast(self, connection: asyncpg.Connection) -> bool:
        """Tell whether more than five hundred a second have come since this was last asked."""
        before, self._looked = self._looked, time.monotonic()
        events, self._events = self._events, int(await connection.fetchval(APPENDED))
        return (self._events - events) / max(self._looked - before, _SHORTEST_LOOK_SECONDS) > _FAST_EVENTS_A_SECOND


async def fold_build(settings: Settings, build_id: str) -> None:
    """Fold parts of one rebuild until all are done, or the process that asked for it ends."""
    async with open_services(settings) as services:
        projection = find_projection(settings, build_id.rpartition("-")[0])
        operations = Operations(database_of(settings), projection, services.appender, wall_clock)
        gone = asyncio.create_task(_supervisor_gone())
        folding = asyncio.create_task(operations.fold(build_id))
        await asyncio.wait({gone, folding}, return_when=asyncio.FIRST_COMPLETED)
        await end(gone, folding)


async def rebuild_requested(settings: Settings) -> None:
    """Fold the builds that were asked for over HTTP, one after the other, then end."""
    async with open_services(settings) as services:
        work = asyncio.create_task(_work_off(settings, services))
        gone = asyncio.create_task(_supervisor_gone())
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        await end(gone, work)


async def _work_off(settings: Settings, services: Services) -> None:
    for projection in projections_of(settings):
        await Operations(database_of(settings), projection, services.appender, wall_clock).work_off()


class _Rebuilder:
    """The process that folds what was asked for over HTTP: started when there is something, and again if it died."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def keep_running(self, runners: Sequence[Runner]) -> None:
        """Start it where a build waits and it does not run. It ends with this process, whose hand is on its input."""
        waits = any(one.requested_by.startswith(BY_HTTP) for runner in runners for one in runner.unfinished)
        if waits and (self._process is None or self._process.returncode is not None):
            command = (sys.executable, "-m", "api.processes", "rebuilder")
            self._process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)

    async def stop(self) -> None:
        """End it; what it has folded stays."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


async def ask_stripe(settings: Settings) -> None:
    """Ask Stripe what the log lacks until the supervisor ends or says so."""
    stop = asyncio.create_task(_supervisor_gone())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.cancel)
    await run_outward(settings, stop)


async def _supervisor_gone() -> None:
    """Return when standard input ends: the supervisor holds its other end and never writes."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def main() -> None:
    """Run the child named by the first argument."""
    settings = load_settings()
    configure_logging(settings)
    loop_factory = _fast_loop()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        if sys.argv[1] == "web":
            listening = socket.socket(fileno=int(sys.argv[_LISTENER_FD_ARGUMENT]))
            runner.run(serve_web(settings, listening))
        elif sys.argv[1] == "fold":
            os.nice(_FOLLOWER_NICENESS)
            runner.run(fold_build(settings, sys.argv[2]))
        elif sys.argv[1] == "outward":
            os.nice(_FOLLOWER_NICENESS)
            runner.run(ask_stripe(settings))
        elif sys.argv[1] == "rebuilder":
            os.nice(_FOLLOWER_NICENESS)
            runner.run(rebuild_requested(settings))
        else:
            # Where the processors are all busy, a webhook is acknowledged before it is folded.
            os.nice(_FOLLOWER_NICENESS)
            with contextlib.suppress(asyncio.CancelledError):
                runner.run(run_follower(settings))


def _fast_loop() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for every platform
        return None
    return uvloop.Loop


if __name__ == "__main__":
    main()

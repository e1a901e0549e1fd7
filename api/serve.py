"""``ledger serve``: prepare the database, then supervise web processes, followers, and one that asks Stripe."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

import asyncpg
import structlog
from prometheus_client.multiprocess import mark_process_dead

from api.credentials import Credentials, load_credentials, publish_url
from api.database import database_of, prepare_embedded, refuse_half_restored
from api.metrics import SHARED
from api.settings import WEBHOOKS, Settings
from api.signing import load_signer, open_checkpoint_dir
from ledger.embedded import EmbeddedPostgres
from ledger.errors import LedgerError, SettingError
from ledger.migrate import check_schema, migrate
from ledger.postgres import AWAY, ROLES, Database, said_by

_log = structlog.get_logger()

_TICK_SECONDS: Final = 0.2
_TICK_SECONDS_AT_FIRST: Final = 0.05
_READY_SECONDS: Final = 60
_STOP_SECONDS: Final = 15
_BACKOFF_SECONDS_MIN: Final = 0.2
_BACKOFF_SECONDS_MAX: Final = 5.0
_HEALTHY_SECONDS: Final = 30

_POOLED: Final = "a pooler there drops what a connection asks for (its role, its time zone): connect without it"

_CHILD: Final = (sys.executable, "-m", "api.processes")


@dataclass(slots=True)
class Child:
    """A supervised process: how it is started, and since when it has been failing."""

    name: str
    command: Sequence[str]
    pass_fds: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ended: Callable[[int], None] = lambda _: None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    not_before: float = 0.0
    backoff_seconds: float = _BACKOFF_SECONDS_MIN

    def keep_running(self, now: float) -> None:
        """Start the process when it is not running; after failures, not at once."""
        if self.process is not None and self.process.poll() is not None:
            _log.warning("child_ended", child=self.name, status=self.process.returncode)
            self.ended(self.process.pid)
            self.process = None
            if now - self.started > _HEALTHY_SECONDS:
                self.backoff_seconds = _BACKOFF_SECONDS_MIN
            self.not_before = now + self.backoff_seconds
            self.backoff_seconds = min(self.backoff_seconds * 2, _BACKOFF_SECONDS_MAX)
        if self.process is None and now >= self.not_before:
            self.started = now
            # A session of its own: Ctrl-C is for us, and we tell the children in order.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                pass_fds=self.pass_fds,
                start_new_session=True,
                env=os.environ | self.environment,
            )

    def stop(self) -> None:
        """Ask the process to end, and end it when it does not."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(
    settings: Settings,
    *,
    migrate_first: bool,
    say: Callable[[str], None],
    ready_seconds: float = _READY_SECONDS,
    greet: Callable[[dict[str, str]], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. ``say`` prints what a person needs to know, once all is ready, or so late.

    ``greet`` is told it instead, by name.

    Raises ``LedgerError`` when the service cannot start as it is configured.
    """
    refuse_half_restored(settings)
    listening = bind(settings)
    embedded = EmbeddedPostgres(settings.data_dir) if settings.embedded else None
    try:
        with _stop_on_signals() as stopping:
            credentials = load_credentials(settings)
            load_signer(settings)
            open_checkpoint_dir(settings)
            if settings.stripe_api_key is not None:
                from api.outward.access import livemode_of

                livemode_of(settings.stripe_api_key)
            if embedded is not None:
                publish_url(settings)
                prepare_embedded(embedded)
            else:
                asyncio.run(_check_external(settings, migrate_first=migrate_first))
            deadline = time.monotonic() + ready_seconds
            greet = greet or (lambda told: _greet(told, say))
            with _web(settings, listening) as web:
                _supervise(settings, web, embedded, stopping, lambda: greet(_told(settings, credentials)), deadline)
    finally:
        listening.close()
        if embedded is not None:
            embedded.release()
    say("stopped")


def bind(settings: Settings) -> socket.socket:
    """Take the address that is served. Raises ``SettingError`` naming what hinders it."""
    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:
        listening.close()
        port_is_wrong = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)
        name = "LEDGER_PORT" if port_is_wrong else "LEDGER_HOST"
        why = getattr(error, "strerror", None) or "it is not a host name"
        raise SettingError(name, f"cannot listen on {settings.host}:{settings.port}: {why}") from error
    listening.listen(1024)
    listening.set_inheritable(True)
    return listening


async def _check_external(settings: Settings, *, migrate_first: bool) -> None:
    try:
        if migrate_first:
            owner = await Database(settings.owner_database_url or database_of(settings).url).connect()
            await migrate(owner)
            await owner.close()
        for role in ROLES:
            connection = await database_of(settings).as_role(role).connect()
            try:
                if await connection.fetchval("SELECT current_user") != role:
                    raise SettingError("LEDGER_DATABASE_URL", _POOLED)
                await check_schema(connection)
            finally:
                await connection.close()
    except AWAY as error:
        raise LedgerError(f"LEDGER_DATABASE_URL: the database cannot be reached: {said_by(error)}") from error
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError) as error:
        raise SettingError("LEDGER_DATABASE_URL", _POOLED) from error
    except asyncpg.PostgresError as error:
        needed = "its login needs ledger_app and ledger_builder, which `ledger migrate` makes"
        raise LedgerError(f"LEDGER_DATABASE_URL: {error}; {needed}") from error


@contextlib.contextmanager
def _web(settings: Settings, listening: socket.socket) -> Iterator[list[Child]]:
    """Give the web processes: they share the socket, and where they are several what they count."""
    one = Child("web", [*_CHILD, "web", str(listening.fileno())], pass_fds=(listening.fileno(),))
    if settings.web_processes == 1:
        yield [one]
        return
    # Named after the port, which no other service has: replace what a killed one left there.
    folder = settings.data_dir.absolute() / f"metrics-{settings.port}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        why = f"several web processes count in files there: {folder}: {error.strerror}"
        raise SettingError("LEDGER_DATA_DIR", why) from error
    try:
        shared = {SHARED: str(folder)}
        yield [
            replace(one, environment=shared, ended=lambda pid: mark_process_dead(pid, str(folder)))  # type: ignore[no-untyped-call]
            for _ in range(settings.web_processes)
        ]
    finally:
        shutil.rmtree(folder)


def _supervise(
    settings: Settings,
    web: Sequence[Child],
    embedded: EmbeddedPostgres | None,
    stopping: Callable[[], bool],
    greet: Callable[[], None],
    deadline: float,
) -> None:
    others = [Child("follower", [*_CHILD, "follower", str(place)]) for place in range(settings.follower_processes)]
    if settings.stripe_api_key is not None:
        others.append(Child("outward", [*_CHILD, "outward"]))
    greeted = False
    try:
        while not stopping():
            now = time.monotonic()
            for one in (*web, *others):
                one.keep_running(now)
            if not greeted and (_answers(settings) or now > deadline):
                greeted = True
                greet()
            if embedded is not None:
                _keep_postgres_running(embedded)
            time.sleep(_TICK_SECONDS if greeted else _TICK_SECONDS_AT_FIRST)
    finally:
        # The web processes first: they finish the requests that they have accepted.
        for one in (*web, *others):
            one.stop()


def _keep_postgres_running(embedded: EmbeddedPostgres) -> None:
    try:
        embedded.ensure_running()
    except LedgerError as error:
        _log.error("postgres_does_not_start", error=error)
        time.sleep(1)


def _answers(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(settings.reachable_host, settings.port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _told(settings: Settings, credentials: Credentials) -> dict[str, str]:
    told = {"console": f"{settings.url}/", "webhook": f"{settings.url}{WEBHOOKS}"}
    if credentials.generated_secret:
        told["webhook secret"] = credentials.generated_secret
    if credentials.generated_key:
        told["API key"] = credentials.generated_key
    if settings.embedded:
        told["data"] = f"{settings.data_dir}/"
    return told


def _greet(told: dict[str, str], say: Callable[[str], None]) -> None:
    say("Ledger is serving. Ctrl-C stops it; nothing is lost.")
    for name, value in told.items():
        say(f"  {name:14}  {value}")


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    stopped: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda received, _frame: stopped.append(received))
    try:
        yield lambda: bool(stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

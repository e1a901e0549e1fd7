"""A real PostgreSQL for every test: one server a run, one migrated template, one copy of it for whoever writes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio
import structlog
from hypothesis import Phase
from hypothesis import settings as settings_of_hypothesis

from api.app import create_app
from api.credentials import Credentials
from api.database import create_login
from api.secrets import ApiKey, WebhookSecret, digest_of
from api.services import Services, open_services
from api.settings import Settings
from api.signing import signer_of
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.migrate import migrate
from ledger.postgres import Database
from tests.areas import pytest_collection_modifyitems, pytest_terminal_summary, pytest_xdist_make_scheduler

__all__ = ["pytest_collection_modifyitems", "pytest_terminal_summary", "pytest_xdist_make_scheduler"]

TEMPLATE = "ledger_template"
SECRET = "whsec_test_secret"
KEY = "lk_test_admin"
SIGNING_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CORPUS = Path(__file__).parents[2] / "shared" / "corpus"

# The gate tries the same examples each time; at a desk and in the bench others are looked for.
settings_of_hypothesis.register_profile("gate", derandomize=True)
# Whoever only asks whether a test notices something (`bench.mutants`) wants no smaller example.
settings_of_hypothesis.register_profile("noticing", derandomize=True, phases=(Phase.explicit, Phase.generate))
if os.environ.get("CI"):
    settings_of_hypothesis.load_profile("gate")

_SERVER = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "autovacuum": "off",
}

END_SESSIONS = """
SELECT coalesce(bool_and(pg_terminate_backend(pid, 5000)), true)
FROM pg_stat_activity
WHERE datname = $1
"""

_numbers = itertools.count(1)


class _Server(EmbeddedPostgres):
    """The embedded server, or one of another release: of the programs in the folder ``LEDGER_TEST_POSTGRES``."""

    def program(self, name: str) -> list[str]:
        command = super().program(name)
        folder = os.environ.get("LEDGER_TEST_POSTGRES")
        return [*command[:-1], f"{folder}/{name}"] if folder else command


class ManualClock:
    """A clock that tests set: it stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 15, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


_PLAINLY = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


@pytest.fixture(autouse=True)
def logging_as_nobody_set_it_up() -> Iterator[None]:
    """Forget how a command that ran in this process wanted its lines: the next test's go where they always go.

    Tracebacks are plain: one with all its local values takes a second to draw.
    """
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _PLAINLY])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """A server for the whole run, without fsync: the tests of durability start one of their own."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-tests-"))
    embedded = _Server(folder, _SERVER)
    embedded.start()
    asyncio.run(_make_template(embedded))
    yield embedded
    embedded.release()
    shutil.rmtree(folder)


async def _make_template(embedded: EmbeddedPostgres) -> None:
    maintaining = await asyncpg.connect(embedded.url(SUPERUSER, "postgres"))
    # Such as "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'": nothing may depend on how a database sorts.
    how = os.environ.get("LEDGER_TEST_DATABASE", "")
    await maintaining.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0 {how}")
    await maintaining.close()
    owner = await asyncpg.connect(embedded.url(SUPERUSER, TEMPLATE))
    await migrate(owner)
    await create_login(owner)
    await owner.close()


class Copies:
    """Copies of templates, made and dropped over one connection. What nobody wrote to is lent again."""

    def __init__(self, maintaining: asyncpg.Connection) -> None:
        self._maintaining = maintaining
        self._untouched: defaultdict[str, list[str]] = defaultdict(list)

    @contextlib.asynccontextmanager
    async def lent(self, template: str = TEMPLATE) -> AsyncIterator[str]:
        """A copy: migrated and empty, or as another template is."""
        untouched = self._untouched[template]
        name = untouched.pop() if untouched else await self._made(template)
        before = await self._transactions()
        yield name
        ended = await self.left_alone(name)
        if ended and await self._transactions() == before:
            untouched.append(name)
        else:
            await self._maintaining.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def left_alone(self, name: str) -> bool:
        """End whatever sessions a database still has; tell whether none is left."""
        return bool(await self._maintaining.fetchval(END_SESSIONS, name))

    async def _made(self, template: str) -> str:
        name = f"test_{next(_numbers)}"
        await self._maintaining.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        # A copy keeps everything but what is granted on the database itself.
        await self._maintaining.execute(f"GRANT CREATE ON DATABASE {name} TO ledger_owner, ledger_builder")
        return name

    async def _transactions(self) -> int:
        """The number of the next transaction of this server that writes anything at all: only those have one."""
        return int(await self._maintaining.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def copies(server: EmbeddedPostgres) -> AsyncIterator[Copies]:
    maintaining = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
    yield Copies(maintaining)
    await maintaining.close()


Before = Callable[[Services], Awaitable[object]]


@pytest.fixture(scope="module")
def told_before() -> Before | None:
    """What has happened in the databases of a module's tests, where it says so: once, and each has a copy of it."""
    return None


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def template(
    server: EmbeddedPostgres, copies: Copies, told_before: Before | None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """What the databases of a module's tests are copies of."""
    if told_before is None:
        yield TEMPLATE
        return
    async with copies.lent() as name:
        settings = Settings(data_dir=tmp_path_factory.mktemp("before"))
        async with _opened(settings, Database(server.url(database=name)), ManualClock(), _credentials()) as serving:
            await told_before(serving)
        while not await copies.left_alone(name):
            pass  # a session that ended by itself meanwhile is said not to have been ended
        yield name


@pytest_asyncio.fixture(loop_scope="session")
async def database_name(copies: Copies, template: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The name of this test's own database, migrated and empty, or as its module's are before a test."""
    empty = request.node.get_closest_marker("empty")
    async with copies.lent(TEMPLATE if empty else template) as name:
        yield name


@pytest.fixture
async def database(server: EmbeddedPostgres, database_name: str) -> Database:
    """This test's own database, as the service logs in to it."""
    return Database(server.url(database=database_name))


@pytest.fixture
async def owner(server: EmbeddedPostgres, database_name: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to this test's database."""
    connection = await asyncpg.connect(server.url(SUPERUSER, database_name))
    yield connection
    await connection.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def credentials() -> Credentials:
    return _credentials()


def _credentials() -> Credentials:
    keys = (ApiKey("admin", frozenset({"admin"}), None, digest_of(KEY)),)
    return Credentials((WebhookSecret(SECRET),), keys, None, None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
async def services(
    settings: Settings, database: Database, clock: ManualClock, credentials: Credentials
) -> AsyncIterator[Services]:
    async with _opened(settings, database, clock, credentials) as serving:
        yield serving


def _opened(
    settings: Settings, database: Database, clock: ManualClock, credentials: Credentials
) -> AbstractAsyncContextManager[Services]:
    signer = signer_of(SIGNING_KEY)
    return open_services(settings, clock=clock, database=database, credentials=credentials, signer=signer)


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """The application in this process, asked with the administrator's key."""
    async with client_of(services) as asking:
        yield asking


@contextlib.asynccontextmanager
async def client_of(services: Services, key: str | None = KEY) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(lambda: contextlib.nullcontext(services))
    app.state.services = services
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger.test", headers=headers) as asking:
        yield asking

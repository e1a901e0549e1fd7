"""The embedded database from nothing to ready: cluster, database, schema, and the login the service uses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import asyncpg

from api.settings import Settings
from ledger.embedded import DATABASE, SERVICE_LOGIN, SUPERUSER, EmbeddedPostgres
from ledger.errors import MistakeError
from ledger.migrate import migrate
from ledger.postgres import Database

UNFINISHED: Final = "restore.unfinished"
"""Stands in a data folder while a backup is being restored to it, and names the backup."""

LOGIN_EXISTS = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_service')"

DATABASE_EXISTS = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'ledger')"


def database_of(settings: Settings) -> Database:
    """Return the service's database: the configured one, or the embedded one (which must be running)."""
    return Database(settings.database_url or EmbeddedPostgres(settings.data_dir).url())


def refuse_half_restored(settings: Settings) -> None:
    """Raise ``MistakeError`` after an interrupted restore: keys it had not restored yet would be generated again."""
    unfinished = settings.data_dir / UNFINISHED
    if unfinished.is_file():
        backup = unfinished.read_text().partition("\n")[0]
        raise MistakeError(
            f"a restore was stopped: `ledger restore {backup}` goes on; or begin with nothing in another data folder"
            f"{'' if settings.embedded else ' and another database'}"
        )


def prepare_embedded(embedded: EmbeddedPostgres) -> None:
    """Start the embedded server and bring its database up to this release. Raises ``EmbeddedPostgresError``."""
    embedded.start()
    asyncio.run(_prepare(embedded))


@contextlib.contextmanager
def running_database(settings: Settings) -> Iterator[Database]:
    """Provide a running database for a command, starting (and stopping) the embedded one if needed."""
    refuse_half_restored(settings)
    if settings.database_url is not None:
        yield Database(settings.database_url)
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    try:
        prepare_embedded(embedded)
        yield Database(embedded.url())
    finally:
        embedded.release()


async def _prepare(embedded: EmbeddedPostgres) -> None:
    server = await asyncpg.connect(embedded.url(SUPERUSER, "postgres"))
    try:
        if not await server.fetchval(DATABASE_EXISTS):
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await server.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await server.close()
    owner = await asyncpg.connect(embedded.url(SUPERUSER))
    try:
        await migrate(owner)
        await create_login(owner)
    finally:
        await owner.close()


async def create_login(owner: asyncpg.Connection) -> None:
    """Make the login of the service: a member of two roles, and no superuser."""
    if not await owner.fetchval(LOGIN_EXISTS):
        with contextlib.suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            await owner.execute(f"CREATE ROLE {SERVICE_LOGIN} LOGIN NOINHERIT")
    await owner.execute(f"GRANT ledger_app, ledger_builder TO {SERVICE_LOGIN}")

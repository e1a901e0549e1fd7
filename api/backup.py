"""Backup and restore with PostgreSQL's own tools: one folder with the dump, the keys and the checkpoints.

What is backed up is the log and what nobody could make again: views are in the dump for speed, and can be refolded.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg

from api.credentials import FILE as CREDENTIALS_FILE
from api.database import DATABASE_EXISTS, UNFINISHED, create_login
from api.settings import Settings
from api.signing import FILE as SIGNING_FILE
from api.tools import Tools
from ledger.embedded import DATABASE, SUPERUSER, EmbeddedPostgres
from ledger.errors import LedgerError, MistakeError
from ledger.migrate import migrate
from ledger.outside import CHECKPOINTS_FILE, KEYS_FILE
from ledger.postgres import Database

DUMP: Final = "database.dump"
KEPT_FILES: Final = (CREDENTIALS_FILE, SIGNING_FILE, CHECKPOINTS_FILE, KEYS_FILE)
"""What a data folder holds beside the database."""

ROLES: Final = """
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['ledger_owner', 'ledger_app', 'ledger_builder'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
    FOREACH wanted IN ARRAY ARRAY['ledger_owner', 'ledger_builder'] LOOP
        IF NOT pg_has_role(current_user, wanted, 'USAGE') THEN
            EXECUTE format('GRANT %I TO %I', wanted, current_user);
        END IF;
    END LOOP;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO ledger_owner, ledger_builder', current_database());
END
$$
"""
"""What a dump of one database leaves out: roles, and what is granted on the database itself."""

NEVER_SAID: Final = """
WITH said AS (DELETE FROM ledger.entitlement_change)
UPDATE ledger.entitlement_feed
SET seq = greatest(seq, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
"""
"""Readers of the change stream may have heard what this history never said, or said otherwise: the next numbers are
beyond any they know (none was said in so many milliseconds), so that all of them are told to begin anew."""

IS_EMPTY: Final = "SELECT to_regnamespace('ledger') IS NULL"


def backup(settings: Settings, folder: Path) -> None:
    """Write a backup to ``folder``, which must not exist yet. The service may go on meanwhile.

    Raises ``MistakeError`` when the folder exists, ``LedgerError`` when PostgreSQL's tool fails.
    """
    if folder.exists():
        raise MistakeError(f"{folder} exists: a backup never overwrites another")
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, mode=0o700)
    try:
        _write(settings, unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # keys are in it
        raise


def _write(settings: Settings, folder: Path) -> None:
    # Before the dump: what is signed while it runs is not in it, and a restore would seem to have lost it.
    for name in KEPT_FILES:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(settings.data_dir / name, folder / name)
    embedded = EmbeddedPostgres(settings.data_dir)
    with _owner_url(settings, embedded) as url:
        _tools(settings, embedded, url).dump(folder / DUMP)


def restore(settings: Settings, folder: Path) -> None:
    """Fill an empty database (and, where they are missing, keys and checkpoints) from a backup.

    Checkpoints that are there already stay: they may be newer than the backup, and then say what it lost.
    Stopped, it goes on when it is asked for the same again; until then nothing else is done with that data folder.
    Raises ``MistakeError`` when the database is not empty or the folder holds no backup.
    """
    if not (folder / DUMP).is_file():
        raise MistakeError(f"{folder} holds no {DUMP}")
    embedded = EmbeddedPostgres(settings.data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = settings.data_dir / UNFINISHED
    with _owner_url(settings, embedded, create=True) as url:
        # Into this database, and no other that the settings may name by now.
        begun = f"{folder.absolute()}\n{hashlib.sha256(url.encode()).hexdigest()}\n"
        goes_on = unfinished.is_file() and unfinished.read_text() == begun
        if asyncio.run(_prepare(url, goes_on=goes_on)):
            unfinished.write_text(begun)
            try:
                _restore(_tools(settings, embedded, url), folder / DUMP)
            except LedgerError:
                unfinished.unlink()  # nothing of it is there
                raise
        asyncio.run(_finish(url, embedded=settings.embedded))
    for name in KEPT_FILES:
        if (folder / name).exists() and not (settings.data_dir / name).exists():
            part = settings.data_dir / f".{name}.part"
            shutil.copy2(folder / name, part)
            part.rename(settings.data_dir / name)
    unfinished.unlink()


def _restore(tools: Tools, dump: Path) -> None:
    tools.restore(dump)


def _tools(settings: Settings, embedded: EmbeddedPostgres, url: str) -> Tools:
    return Tools(embedded, url, None if settings.embedded else asyncio.run(_release(url)))


async def _release(url: str) -> int:
    owner = await Database(url).connect()
    try:
        return int(owner.get_server_version().major)
    finally:
        await owner.close()


@contextlib.contextmanager
def _owner_url(settings: Settings, embedded: EmbeddedPostgres, *, create: bool = False) -> Iterator[str]:
    if not settings.embedded:
        yield settings.owner_database_url or str(settings.database_url)
        return
    embedded.start()
    try:
        if create:
            asyncio.run(_create_database(embedded))
        yield embedded.url(SUPERUSER)
    finally:
        embedded.release()


async def _create_database(embedded: EmbeddedPostgres) -> None:
    server = await asyncpg.connect(embedded.url(SUPERUSER, "postgres"))
    if not await server.fetchval(DATABASE_EXISTS):
        await server.execute(f"CREATE DATABASE {DATABASE}")
    await server.close()


async def _prepare(url: str, *, goes_on: bool) -> bool:
    """Return whether the dump is still to be restored: it is there whole or not at all."""
    owner = await Database(url).connect()
    try:
        if not await owner.fetchval(IS_EMPTY):
            if goes_on:
                return False
            raise MistakeError("the database holds a ledger already: restore only into an empty one")
        await owner.execute(ROLES)
        return True
    finally:
        await owner.close()


async def _finish(url: str, *, embedded: bool) -> None:
    owner = await Database(url).connect()
    try:
        await migrate(owner)
        await owner.execute(NEVER_SAID)
        if embedded:
            await create_login(owner)
    finally:
        await owner.close()

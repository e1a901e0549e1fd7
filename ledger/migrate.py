"""Bring a database to this release's schema: each migration once, in order, each in a transaction of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

import asyncpg

from ledger.errors import SchemaError


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``ledger/migrations``: its number, its name and the SQL it runs."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """Read the shipped migrations, lowest number first."""
    files = resources.files("ledger.migrations").iterdir()
    named = [(re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name), file) for file in files]
    found = [Migration(int(match[1]), match[2], file.read_text("utf-8")) for match, file in named if match]
    return sorted(found, key=lambda migration: migration.number)


OLDEST = 15
"""The first release of PostgreSQL that has everything used here."""

SERVER = """
SELECT current_setting('server_version_num')::int / 10000 AS release, pg_encoding_to_char(encoding) AS encoding
FROM pg_database
WHERE datname = current_database()
"""

APPLIED = "SELECT max(number) FROM ledger.migration"

RECORD = "INSERT INTO ledger.migration (number, name) VALUES ($1, $2)"


async def schema_version(connection: asyncpg.Connection) -> int:
    """Return the number of the newest migration the database has seen; 0 for an empty database."""
    if await connection.fetchval("SELECT to_regclass('ledger.migration')") is None:
        return 0
    return int(await connection.fetchval(APPLIED) or 0)


async def migrate(connection: asyncpg.Connection) -> list[Migration]:
    """Apply what is missing and return it. Several processes may ask at once: one works, the others wait.

    Raises ``SchemaError`` when the database is newer than this release, or is none that can hold a ledger.
    """
    await _check_server(connection)
    applied = []
    for migration in migrations():
        async with connection.transaction():
            # One key for the whole ledger; held to the end of this migration's transaction.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('ledger.migrate'))")
            if await schema_version(connection) >= migration.number:
                continue
            await connection.execute(migration.sql)
            await connection.execute(RECORD, migration.number, migration.name)
            applied.append(migration)
    await check_schema(connection)
    return applied


async def check_schema(connection: asyncpg.Connection) -> None:
    """Raise ``SchemaError`` unless the database can hold a ledger, and its schema is exactly this release's."""
    await _check_server(connection)
    found, wanted = await schema_version(connection), migrations()[-1].number
    if found < wanted:
        raise SchemaError(f"the database's schema is {found}, this release needs {wanted}: run `ledger migrate`")
    if found > wanted:
        raise SchemaError(f"the database's schema is {found}, newer than this release's {wanted}: upgrade the ledger")


async def _check_server(connection: asyncpg.Connection) -> None:
    release, encoding = await connection.fetchrow(SERVER)
    if release < OLDEST:
        raise SchemaError(f"this is PostgreSQL {release}, and the ledger needs {OLDEST} or newer")
    if encoding != "UTF8":
        raise SchemaError(
            f"the database's encoding is {encoding}, in which not every letter can be kept: make one with "
            "`CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`"
        )

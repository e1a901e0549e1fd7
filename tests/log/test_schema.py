"""``schema.sql`` and the migrations lead to the same database, and the roles may do what they are for and no more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncpg
import pytest

from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.errors import SchemaError
from ledger.migrate import check_schema, migrate, migrations
from ledger.postgres import Database

SCHEMA = Path(__file__).parents[2] / "schema.sql"


def dump(server: EmbeddedPostgres, database: str) -> str:
    arguments = ["--schema-only", "--restrict-key=tests", "-h", str(server.socket_folder), "-U", SUPERUSER, database]
    return subprocess.run([*server.program("pg_dump"), *arguments], capture_output=True, text=True, check=True).stdout


async def test_schema_and_migrations_agree(server: EmbeddedPostgres, database_name: str) -> None:
    name = f"{database_name}_from_schema"
    maintenance = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
    await maintenance.execute(f"CREATE DATABASE {name}")
    whole = await asyncpg.connect(server.url(SUPERUSER, name))
    async with whole.transaction():
        await whole.execute(SCHEMA.read_text())
    await whole.close()
    try:
        assert dump(server, name) == dump(server, database_name)
    finally:
        await maintenance.execute(f"DROP DATABASE {name}")
        await maintenance.close()


async def test_migrating_again_changes_nothing(server: EmbeddedPostgres, database_name: str) -> None:
    before = dump(server, database_name)
    connection = await asyncpg.connect(server.url(SUPERUSER, database_name))
    assert await migrate(connection) == []
    await connection.close()
    assert dump(server, database_name) == before


async def test_migrations_are_numbered_each_once() -> None:
    numbers = [one.number for one in migrations()]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 1


async def test_another_releases_schema_is_refused(owner: asyncpg.Connection) -> None:
    await owner.execute("INSERT INTO ledger.migration (number, name) VALUES (999, 'from_the_future')")
    with pytest.raises(SchemaError, match="newer"):
        await check_schema(owner)
    await owner.execute("DELETE FROM ledger.migration")
    with pytest.raises(SchemaError, match="ledger migrate"):
        await check_schema(owner)


async def test_the_service_is_no_owner(database: Database) -> None:
    connection = await database.connect()
    for forbidden in (
        "SET ROLE ledger_owner",
        "SELECT * FROM ledger.event",  # not before it takes a role
        "ALTER TABLE ledger.event DISABLE TRIGGER ALL",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(forbidden)
    await connection.close()


@pytest.mark.parametrize(
    ("role", "forbidden"),
    [
        ("ledger_app", "DELETE FROM ledger.head"),
        ("ledger_app", "CREATE SCHEMA build_x"),
        ("ledger_app", "UPDATE ledger.checkpoint SET position = 0"),
        ("ledger_builder", "INSERT INTO ledger.head VALUES ('a', 0, now(), '', '')"),
        ("ledger_builder", "INSERT INTO ledger.event_key VALUES ('a', 'b', 'c', 1, 1)"),
        ("ledger_builder", f"SELECT ledger.append_batch({', '.join(['NULL'] * 24)})"),
        ("ledger_builder", "DROP TABLE ledger.event"),
    ],
)
async def test_each_role_does_its_own_work_only(database: Database, role: str, forbidden: str) -> None:
    connection = await database.connect()
    await connection.execute(f"SET ROLE {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(forbidden)
    await connection.close()

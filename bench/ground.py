"""Where benchmarks run: a durable PostgreSQL in a scratch folder, and a fresh ledger in it for every row."""

from __future__ import annotations

import itertools
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from api.database import create_login
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.migrate import migrate
from ledger.postgres import Database

MADE = r"SELECT datname FROM pg_database WHERE datname LIKE 'bench\_%'"


class Ground:
    """One embedded server with its ordinary, durable settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.embedded = EmbeddedPostgres(folder / "pg")
        self._numbers = itertools.count(1)
        self._name = ""

    async def fresh(self) -> Database:
        """Make an empty ledger."""
        self._name = f"bench_{next(self._numbers)}"
        server = await asyncpg.connect(self.embedded.url(SUPERUSER, "postgres"))
        await server.execute(f"CREATE DATABASE {self._name}")
        await server.close()
        owner = await self.owner()
        await migrate(owner)
        await create_login(owner)
        await owner.close()
        return Database(self.embedded.url(database=self._name))

    async def clear(self) -> None:
        """Forget every ledger made so far, and have nothing left to be written: what is measured next is alone."""
        server = await asyncpg.connect(self.embedded.url(SUPERUSER, "postgres"))
        for row in await server.fetch(MADE):
            await server.execute(f"DROP DATABASE {row['datname']} WITH (FORCE)")
        await server.execute("CHECKPOINT")
        await server.close()

    def back_to(self, database: Database) -> None:
        """Work on an earlier ledger again."""
        self._name = urlsplit(database.url).path.strip("/")

    async def owner(self) -> asyncpg.Connection:
        """Connect to the newest ledger as a superuser."""
        return await asyncpg.connect(self.embedded.url(SUPERUSER, self._name))

    @property
    def url(self) -> str:
        """The newest ledger's address, as the service logs in to it."""
        return self.embedded.url(database=self._name)

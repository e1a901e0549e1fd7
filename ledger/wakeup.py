"""Telling followers that there is something new: NOTIFY, debounced, and never inside the append's transaction.

A wake-up is a hint and may be lost (with a connection, or on a cluster); followers poll as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Self

import asyncpg

from ledger.postgres import AWAY, Database
from ledger.tasks import end

CHANNEL: Final = "ledger_appended"

NOTIFY = "SELECT pg_notify('ledger_appended', '')"

_DEBOUNCE_SECONDS: Final = 0.005
_RECONNECT_SECONDS: Final = 0.5


class Notifier:
    """Sends at most one wake-up in five milliseconds, on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database.as_role("ledger_app")
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def appended(self) -> None:
        """Say that something was appended; returns at once."""
        self._news.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._notify_forever(), name="ledger-notifier")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await end(self._task)

    async def _notify_forever(self) -> None:
        while True:
            with contextlib.suppress(*AWAY, asyncpg.PostgresError):
                # A hint that may be lost waits for no disk, and nobody's commit behind it does.
                connection = await self._database.connect(command_timeout=5, synchronous_commit="off")
                try:
                    await self._notify_while_connected(connection)
                finally:
                    connection.terminate()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _notify_while_connected(self, connection: asyncpg.Connection) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(_DEBOUNCE_SECONDS)
            self._news.clear()
            await connection.execute(NOTIFY)


class Listener:
    """Waits for wake-ups; keeps (and renews) a listening connection."""

    def __init__(self, database: Database, channel: str = CHANNEL) -> None:
        self._database = database
        self._channel = channel
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen_forever(), name="ledger-listener")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await end(self._task)

    async def wait(self, seconds: float) -> None:
        """Return when there may be something new, at the latest after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    async def _listen_forever(self) -> None:
        while True:
            with contextlib.suppress(*AWAY, asyncpg.PostgresError):
                connection = await self._database.connect(command_timeout=5)
                try:
                    lost = asyncio.Event()
                    connection.add_termination_listener(lambda _, lost=lost: lost.set())
                    await connection.add_listener(self._channel, lambda *_: self._news.set())
                    self._news.set()  # something may have been appended while nobody listened
                    await lost.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(_RECONNECT_SECONDS)

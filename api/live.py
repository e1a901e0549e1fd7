"""What a web process keeps up to date: the tail of the change log, the streams, and answers in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from api.memory import Memory
from api.readers import Streams
from api.tail import Tail
from ledger.postgres import Database


@dataclass(frozen=True, slots=True)
class Live:
    """The parts that follow the change log."""

    tail: Tail
    streams: Streams
    memory: Memory

    def end(self) -> None:
        """End what would otherwise go on for ever, so that the process can."""
        self.streams.end()


@contextlib.asynccontextmanager
async def open_live(database: Database, pool: asyncpg.Pool) -> AsyncIterator[Live]:
    """Open them; the log is followed only while somebody asks."""
    streams, memory = Streams(), Memory()
    async with Tail(database, pool, memory, streams.publish, streams.listened_to) as tail:
        yield Live(tail, streams, memory)

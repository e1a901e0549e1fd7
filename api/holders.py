"""Reads holders (customers, organisations) of the live build from the database, batching concurrent questions.

One statement reads thirty holders in about the time of one, so questions that arrive while two statements are running
are collected and share the next, as waiting events share a commit. While fewer than two are running, a question is sent
at once. Every answer is read after its question arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from ledger.postgres import Database
from ledger.tasks import end
from projections.contract import Projection
from projections.entitlements.holdings import Found
from projections.entitlements.query import read_live
from projections.entitlements.rows import ORG_PREFIX

_CONNECTIONS: Final = 8
_COMMAND_SECONDS: Final = 15
_UNDER_WAY_MAX: Final = 2
_TOGETHER_MAX: Final = 100


@dataclass(slots=True)
class _Group:
    """Holders of one book that are read together, and the callers waiting for them, any of which may be cancelled."""

    book: str
    holders: dict[str, None] = field(default_factory=dict)
    waiting: list[asyncio.Future[Found]] = field(default_factory=list)

    def answer(self, found: Found) -> None:
        """Give the result to every caller still waiting."""
        for one in self._still_waiting():
            one.set_result(found)

    def fail(self, error: Exception) -> None:
        """Raise the error in every caller still waiting."""
        for one in self._still_waiting():
            one.set_exception(error)

    def cancel(self) -> None:
        """Cancel every caller still waiting."""
        for one in self._still_waiting():
            one.cancel()

    def _still_waiting(self) -> Iterator[asyncio.Future[Found]]:
        return (one for one in self.waiting if not one.done())


class HolderReader:
    """Reads holders from the live build, over connections that stay in its schema."""

    def __init__(self, pool: asyncpg.Pool, projection: Projection) -> None:
        self._pool = pool
        self._projection = projection
        self._waiting: deque[_Group] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def one(self, book: str, holder: str) -> Found:
        """Read one holder together with others, except an organisation, which may be large."""
        if holder.startswith(ORG_PREFIX):
            return await self.many(book, [holder])
        group = next((one for one in self._waiting if one.book == book and len(one.holders) < _TOGETHER_MAX), None)
        if group is None:
            group = _Group(book)
            self._waiting.append(group)
        read: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        group.holders[holder] = None
        group.waiting.append(read)
        self._leave()
        return await read

    async def many(self, book: str, holders: Sequence[str]) -> Found:
        """Read several holders in one snapshot."""
        async with self._pool.acquire() as connection:
            return await read_live(connection, self._projection, book, holders)

    def _leave(self) -> None:
        while self._waiting and len(self._under_way) < _UNDER_WAY_MAX:
            task = asyncio.create_task(self._read(self._waiting.popleft()), name="ledger-holders")
            self._under_way.add(task)
            task.add_done_callback(self._came_back)

    def _came_back(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            self._leave()

    async def _read(self, group: _Group) -> None:
        try:
            group.answer(await self.many(group.book, list(group.holders)))
        except Exception as error:  # noqa: BLE001 - it is raised in the waiting callers
            group.fail(error)
        finally:
            group.cancel()  # if this task was cancelled before it could answer or fail

    async def close(self) -> None:
        """Stop reading; callers still waiting are cancelled."""
        for group in self._waiting:
            group.cancel()
        self._waiting.clear()
        for task in list(self._under_way):
            await end(task)


@contextlib.asynccontextmanager
async def open_holders(database: Database, projection: Projection) -> AsyncIterator[HolderReader]:
    """Provide ``HolderReader`` over a pool of its own; connections are opened when needed."""
    async with database.pool_by_key(max_size=_CONNECTIONS, command_timeout=_COMMAND_SECONDS) as pool:
        holders = HolderReader(pool, projection)
        try:
            yield holders
        finally:
            await holders.close()

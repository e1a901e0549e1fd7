"""Following the change log in a web process, for whoever needs to know: the answers in memory, and the streams.

Nothing is read while nobody asks. Else a wake-up from the follower, or a quarter of a second, leads to one read of
how far every book is; what was written since is forgotten, what was said since is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self

import asyncpg
import structlog

from ledger.postgres import AWAY, Database
from ledger.tasks import end
from ledger.wakeup import Listener
from projections.entitlements.feed import (
    CHANNEL,
    BookState,
    LoggedChange,
    read_changes,
    read_states,
    read_touched,
)

_log = structlog.get_logger()

_POLL_SECONDS: Final = 0.25
_PAUSE_SECONDS: Final = 0.01
_RETRY_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 60.0
_CHANGES_AT_ONCE: Final = 1_000
_EVERY_TOUCH: Final = 2**63 - 1


class Keeper(Protocol):
    """Who keeps answers and must forget them."""

    def forget(self, book: str, holders: set[str] | None, touch: int) -> None:
        """Forget what is known of these holders (None: of everybody) from before commit ``touch``."""

    def forget_all(self) -> None:
        """Forget everything."""


class Tail:
    """How far every book's live answers are, as of the last confirmed read."""

    def __init__(
        self,
        database: Database,
        pool: asyncpg.Pool,
        keeper: Keeper,
        publish: Callable[[str, list[LoggedChange]], None],
        listened_to: Callable[[], bool],
    ) -> None:
        """``publish`` passes changes on; ``listened_to`` tells whether anybody waits for them."""
        self._database = database.as_role("ledger_app")
        self._pool = pool
        self._keeper = keeper
        self._publish = publish
        self._listened_to = listened_to
        self._states: Mapping[str, BookState] = {}
        self._confirmed: float | None = None
        self._passed: dict[str, int] = {}
        self._wanted_at = 0.0
        self._wanted = asyncio.Event()
        self._read = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow_forever(), name="ledger-tail")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await end(self._task)

    def want(self) -> None:
        """Say that somebody asks: the log is followed from here on, until nobody has for a while."""
        self._wanted_at = asyncio.get_running_loop().time()
        self._wanted.set()

    def states(self) -> Mapping[str, BookState]:
        """Return how far every book was at the last confirmed read."""
        return self._states

    def age_seconds(self) -> float | None:
        """Return how long ago the last confirmed read began; None before the first."""
        return None if self._confirmed is None else asyncio.get_running_loop().time() - self._confirmed

    def passed_on(self, book: str) -> int:
        """Return the number of the last change that was passed on, or would have been."""
        return self._passed.get(book, 0)

    async def reach(self, book: str, position: int, seconds: float) -> None:
        """Wait until a position is confirmed, at most so long; not at all while the log is not followed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Polling is enough: the wait is some milliseconds.
                while (state := self._states.get(book)) is not None and state.freshness.position < position:  # noqa: ASYNC110
                    await asyncio.sleep(_PAUSE_SECONDS)

    async def first_read(self) -> None:
        """Wait until the log is followed."""
        self.want()
        await self._read.wait()

    async def _follow_forever(self) -> None:
        while True:
            await self._wanted.wait()
            async with Listener(self._database, CHANNEL) as listener:
                while self._in_use():
                    try:
                        await self._look()
                    except (*AWAY, asyncpg.PostgresError) as error:
                        _log.warning("tail_away", error=error)
                        await asyncio.sleep(_RETRY_SECONDS)
                        continue
                    await asyncio.sleep(_PAUSE_SECONDS)
                    await listener.wait(_POLL_SECONDS)
            self._wanted.clear()
            self._read.clear()
            self._states, self._confirmed, self._passed = {}, None, {}
            self._keeper.forget_all()

    def _in_use(self) -> bool:
        asked = asyncio.get_running_loop().time() - self._wanted_at < _IDLE_SECONDS
        return asked or self._listened_to()

    async def _look(self) -> None:
        began = asyncio.get_running_loop().time()
        async with self._pool.acquire() as connection:
            states = await read_states(connection)
            for book, state in states.items():
                await self._forget_touched(connection, book, state)
                await self._pass_on(connection, book, state)
        # Switched at once, so that no answer after this one is older.
        self._states, self._confirmed = states, began
        self._read.set()

    async def _forget_touched(self, connection: asyncpg.Connection, book: str, state: BookState) -> None:
        before = self._states.get(book)
        if state.touch is None or before is None or before.touch is None:
            self._keeper.forget(book, None, _EVERY_TOUCH if state.touch is None else state.touch)
        elif before.freshness.build != state.freshness.build:
            self._keeper.forget(book, None, state.touch)
        elif before.touch < state.touch:
            touched = await read_touched(connection, book, before.touch, state.touch)
            self._keeper.forget(book, touched, state.touch)

    async def _pass_on(self, connection: asyncpg.Connection, book: str, state: BookState) -> None:
        if not self._read.is_set():
            self._passed[book] = state.seq
        while self._listened_to() and self.passed_on(book) < state.seq:
            changes = await read_changes(connection, book, self.passed_on(book), state.seq, _CHANGES_AT_ONCE)
            if not changes:
                break
            self._publish(book, changes)
            self._passed[book] = changes[-1].seq
        self._passed[book] = state.seq

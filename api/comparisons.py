"""Comparisons of builds for paging: made once in the background, and kept while somebody reads their pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from api.operations import Operations
from ledger import tasks
from projections.builds import Build
from projections.compare import Comparison

KEPT_FOR: Final = timedelta(minutes=10)
_KEPT_AT_MOST: Final = 4


@dataclass(frozen=True, slots=True)
class Made:
    """A comparison of a build, when it was made, and who has seen it."""

    build: Build
    comparison: Comparison
    summary: dict[str, Any]
    made_at: datetime
    seen_by: set[str]


class Comparisons:
    """The newest comparison of each build with the live one, for builds this process was asked about."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._making: dict[str, tuple[datetime, asyncio.Task[Made]]] = {}

    async def read(self, ready: Operations, build_id: str, by: str, *, again: bool, wait_seconds: float) -> Made | None:
        """Return how a build differs from the live one; None if that takes longer than ``wait_seconds``.

        Notes that the caller has seen the comparison. Raises what ``Operations.compare`` raises.
        """
        task = self._making.get(build_id, (None, None))[1]
        if task is None or (task.done() and (again or not await self._holds(ready, task))):
            task = self._begin(ready, build_id, by)
        done, _ = await asyncio.wait({task}, timeout=wait_seconds)
        if not done:
            return None
        try:
            made = task.result()
        except Exception:
            self._making.pop(build_id, None)
            raise
        if by not in made.seen_by:
            await ready.note(made.comparison, by=by)
            made.seen_by.add(by)
        return made

    def since(self, build_id: str) -> datetime | None:
        """Return since when a comparison is being made."""
        since, task = self._making.get(build_id, (None, None))
        return since if task is not None and not task.done() else None

    def _begin(self, ready: Operations, build_id: str, by: str) -> asyncio.Task[Made]:
        done = [one for one, (_, task) in self._making.items() if task.done() and one != build_id]
        for one in done[: max(0, len(self._making) - _KEPT_AT_MOST + 1)]:
            del self._making[one]
        task = asyncio.create_task(self._make(ready, build_id, by))
        self._making[build_id] = (self._clock(), task)
        return task

    async def _make(self, ready: Operations, build_id: str, by: str) -> Made:
        build, _ = await ready.read(build_id)
        comparison = await ready.compare(build_id, by=by)
        return Made(build, comparison, comparison.summary(ready.projection), self._clock(), {by})

    async def _holds(self, ready: Operations, task: asyncio.Task[Made]) -> bool:
        """Return whether a comparison is recent, and its builds still exist under these names."""
        if task.cancelled() or task.exception() is not None:
            return False
        made = task.result()
        if self._clock() - made.made_at > KEPT_FOR:
            return False
        build, _ = await ready.read(made.build.build_id)
        live = await ready.live()
        return build.created_at == made.build.created_at and live is not None and live.build_id == made.comparison.live

    async def end(self) -> None:
        """Stop comparing."""
        with contextlib.suppress(Exception):
            await tasks.end(*(task for _, task in self._making.values()))


@contextlib.asynccontextmanager
async def open_comparisons(clock: Callable[[], datetime]) -> AsyncIterator[Comparisons]:
    """Keep comparisons for as long as the service is open."""
    comparisons = Comparisons(clock)
    try:
        yield comparisons
    finally:
        await comparisons.end()

"""One batch on its way into the log: numbered on top of the heads it extends, and again if those have moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from ledger.append_call import Answer, Place, append_batch
from ledger.batch import Head, Key, Numbered, Prepared, number
from ledger.errors import VersionConflictError
from ledger.event import NewEvent

_OPTIMISTIC_TRIES: Final = 2


class Appended(NamedTuple):
    """An event's position in its book; ``duplicate`` if the log had it already."""

    position: int
    duplicate: bool


@dataclass(eq=False, slots=True)
class Waiting:
    """One caller: its events are written all or none."""

    events: list[Prepared]
    size: int
    answer: asyncio.Future[list[Appended]]

    @property
    def books(self) -> set[str]:
        """The books it writes to."""
        return {one.event.book for one in self.events}


class Flush:
    """One batch on its way into the log: who is in it, what is known of its events, and what came of it."""

    def __init__(
        self,
        callers: list[Waiting],
        heads: dict[str, Head],
        recorded_at: Callable[[], Callable[[NewEvent], datetime]],
    ) -> None:
        self._callers = callers
        self._heads = heads
        self._recorded_at = recorded_at
        self._places: dict[Key, Place] = {}
        self._known: set[Key] = set()
        self._refused: dict[int, VersionConflictError] = {}
        self.copies: list[tuple[Prepared, Place]] = []
        self.wrote = False
        self._refuse_rivals()

    async def is_written_at_once(self, connection: asyncpg.Connection) -> bool:
        """Write on top of the heads as last seen, learning from each miss; False if others kept writing first."""
        for _ in range(_OPTIMISTIC_TRIES):
            if await self._attempt(connection):
                return True
        return False

    async def write_on(self, connection: asyncpg.Connection, heads: Mapping[str, Head]) -> bool:
        """Write on top of locked heads; return whether another process had moved them since they were last seen."""
        overtaken = any(self._heads.get(book) != head for book, head in heads.items())
        self._heads.update(heads)
        while not await self._attempt(connection):
            pass  # under the locks each miss reveals more duplicates or taken versions, and there are finitely many
        return overtaken

    def answer(self) -> None:
        """Tell every caller the positions of its events, or which version was taken."""
        first_seen: set[Key] = set(self._known)
        for index, caller in enumerate(self._callers):
            if caller.answer.done():
                continue
            if index in self._refused:
                caller.answer.set_exception(self._refused[index])
                continue
            places = []
            for one in caller.events:
                places.append(Appended(self._places[one.key].position, one.key in first_seen))
                first_seen.add(one.key)
            caller.answer.set_result(places)

    async def _attempt(self, connection: asyncpg.Connection) -> bool:
        rows, advanced = number(self._first_copies(), self._heads, self._recorded_at())
        if rows:
            believed = {book: self._heads.get(book, Head()) for book in advanced}
            answer = await append_batch(connection, believed, advanced, rows)
            if not answer.appended:
                self._learn(answer)
                return False
            self.wrote = True
            self._heads.update(advanced)
        self._settle(rows)
        return True

    def _refuse_rivals(self) -> None:
        """If two callers of this batch want the same version of a stream, refuse the second."""
        claims: dict[tuple[str, int], Key] = {}
        for index, caller in enumerate(self._callers):
            for one in caller.events:
                stream_id, version = one.event.stream_id, one.event.version
                if version is not None and claims.setdefault((stream_id, version), one.key) != one.key:
                    self._refused[index] = VersionConflictError(stream_id, version)

    def _first_copies(self) -> list[Prepared]:
        """The events to write: each identity once, if not yet in the log and its caller is not refused."""
        wanted: dict[Key, Prepared] = {}
        for index, caller in enumerate(self._callers):
            if index not in self._refused:
                for one in caller.events:
                    if one.key not in self._known:
                        wanted.setdefault(one.key, one)
        return list(wanted.values())

    def _own(self, key: Key) -> set[tuple[str, int]]:
        """The version a known event itself takes: appending it again is no conflict."""
        place = self._places.get(key)
        return {(place.stream_id, place.version)} if place else set()

    def _learn(self, answer: Answer) -> None:
        self._heads.update(answer.heads)
        self._places.update(answer.duplicates)
        self._known.update(answer.duplicates)
        for index, caller in enumerate(self._callers):
            for one in caller.events:
                version = one.event.version
                if version is not None and (one.event.stream_id, version) in answer.taken - self._own(one.key):
                    self._refused[index] = VersionConflictError(one.event.stream_id, version)

    def _settle(self, rows: Sequence[Numbered]) -> None:
        written: dict[Key, Prepared] = {}
        for prepared, position, version, _, _ in rows:
            self._places[prepared.key] = Place(position, prepared.event.stream_id, version)
            written[prepared.key] = prepared
        for index, caller in enumerate(self._callers):
            if index not in self._refused:
                self.copies += [
                    (one, self._places[one.key]) for one in caller.events if written.get(one.key) is not one
                ]

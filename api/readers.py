"""The readers of this process's streams, and what waits to be sent to each: bounded, and encoded once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import orjson

from api.problems import Problem
from projections.entitlements.feed import LoggedChange

_WAITING_MAX: Final = 1_000
_READERS_MAX: Final = 1_000

Numbered = tuple[int, bytes]


class Reader:
    """One connected reader of a book: what waits to be sent to it, bounded."""

    def __init__(self, book: str) -> None:
        self.book = book
        self.ended = asyncio.Event()
        self._waiting: list[Numbered] = []
        self._news = asyncio.Event()

    def offer(self, some: list[Numbered]) -> None:
        """Let it have changes; one that does not keep up is ended, and may come back where it was."""
        if len(self._waiting) + len(some) > _WAITING_MAX:
            self._waiting = []
            self.ended.set()
        else:
            self._waiting += some
        self._news.set()

    async def take(self, seconds: float) -> list[Numbered]:
        """Return what waits; nothing after so many seconds, or when it has ended."""
        if not self._waiting and not self.ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        self._news.clear()
        taken, self._waiting = self._waiting, []
        return taken

    def end(self) -> None:
        """End it in an orderly way."""
        self.ended.set()
        self._news.set()


class Streams:
    """The readers of this process."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()
        self._closed = False

    def open(self, book: str) -> Reader:
        """Admit a reader. Raises 503 when there are too many, or the process is about to end."""
        if self._closed or len(self._readers) >= _READERS_MAX:
            raise Problem(503, "too many streams are open here", headers={"Retry-After": "1"})
        reader = Reader(book)
        self._readers.add(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """Forget a reader."""
        self._readers.discard(reader)

    def publish(self, book: str, changes: list[LoggedChange]) -> None:
        """Offer changes to every reader of a book; they are encoded once."""
        some = encoded(changes)
        for reader in self._readers:
            if reader.book == book:
                reader.offer(some)

    @property
    def count(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    def listened_to(self) -> bool:
        """Tell whether there is any reader."""
        return bool(self._readers)

    def end(self) -> None:
        """End every reader, and admit no more."""
        self._closed = True
        for reader in self._readers:
            reader.end()


def encoded(changes: Iterable[LoggedChange]) -> list[Numbered]:
    """Write changes as events, each with its number."""
    return [(one.seq, b"id: %d\ndata: %b\n\n" % (one.seq, _data(one))) for one in changes]


def _data(change: LoggedChange) -> bytes:
    return orjson.dumps(
        {
            "seq": change.seq,
            "customer": change.customer,
            "feature": change.feature,
            "granted": change.granted,
            "value": None if change.value is None else orjson.Fragment(change.value),
            "position": change.position,
            "cause": change.cause,
        }
    )

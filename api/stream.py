"""``/v1/entitlements/stream``: server-sent events of every answer that changes, from one tail to many readers.

The format is three fields, so it is written here and no library is used: what matters, one encoding for all readers,
a bound on what a slow one may hold, and an orderly end at shutdown, would be ours to add to one anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import asyncpg
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import book_of_request, require, services
from api.problems import Problem
from api.readers import Streams, encoded
from api.tail import Tail
from ledger.tasks import end
from projections.entitlements.feed import can_resume, read_changes

_HEARTBEAT_SECONDS: Final = 2.0
_CONFIRMED_SECONDS: Final = 1.0
"""So old may be what is known, as in an answer that is not ``stale``, for a heartbeat to say that nothing changed."""

_STUCK_SECONDS: Final = 30.0
_BACKLOG_AT_ONCE: Final = 500
_RETRY_MILLISECONDS: Final = 1_000
_FIRST_READ_SECONDS: Final = 5.0
_HEARTBEAT: Final = b":\n\n"
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


async def follow(request: Request) -> ASGIApp:
    """Stream what changes from now on, or from after ``Last-Event-ID`` where that is still kept."""
    book = await book_of_request(request, require(request, "entitlements:read"))
    serving = services(request)
    if request.method == "HEAD":
        return _begin_only
    try:
        async with asyncio.timeout(_FIRST_READ_SECONDS):
            await serving.live.tail.first_read()
    except TimeoutError as error:
        raise Problem(503, "the change log cannot be followed now", headers={"Retry-After": "1"}) from error
    return EventStream(
        serving.live.streams, serving.live.tail, serving.pool, book, request.headers.get("last-event-id")
    )


class EventStream:
    """The answer that goes on: a beginning, what was missed, what comes, and a heartbeat in between."""

    def __init__(self, streams: Streams, tail: Tail, pool: asyncpg.Pool, book: str, last_event_id: str | None) -> None:
        self._streams = streams
        self._tail = tail
        self._pool = pool
        self._book = book
        self._last = last_event_id
        # What is published from here on comes to the reader; what was before is read from the log.
        self._reader = streams.open(book)
        self._from = tail.passed_on(book)
        self._given = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes, does not keep up, or the process ends."""
        sending = asyncio.create_task(self._send_all(send))
        gone = asyncio.create_task(_disconnected(receive))
        dropped = asyncio.create_task(self._reader.ended.wait())
        try:
            await asyncio.wait({sending, gone, dropped}, return_when=asyncio.FIRST_COMPLETED)
            if dropped.done() and not sending.done():
                # In an orderly shutdown the sender returns by itself; a stuck one is not waited for.
                await asyncio.wait({sending}, timeout=1)
        finally:
            self._streams.close(self._reader)
            with suppress(Exception):  # the reader is gone: nobody is told
                await end(sending, gone, dropped)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async for some in self._backlog():
            await _send(send, some)
        while not self._reader.ended.is_set():
            taken = await self._reader.take(_HEARTBEAT_SECONDS)
            news = b"".join(text for number, text in taken if number > self._given)
            if news or self._is_confirmed():
                await _send(send, news or _HEARTBEAT)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _is_confirmed(self) -> bool:
        """Whether nothing can have changed unheard: who keeps answers takes a heartbeat for just that."""
        age_seconds = self._tail.age_seconds()
        return age_seconds is not None and age_seconds <= _CONFIRMED_SECONDS

    async def _backlog(self) -> AsyncIterator[bytes]:
        yield f"retry: {_RETRY_MILLISECONDS}\n".encode()
        after = await self._resumed_after()
        if after is None:
            # An id without data sets the position of the stream without being an event.
            begins = "" if self._last is None else f'event: reset\ndata: {{"seq":{self._from}}}\n'
            yield f"{begins}id: {self._from}\n\n".encode()
            return
        # Another process may have been ahead of this one: skip what it sent already.
        self._given = after
        while after < self._from:
            async with self._pool.acquire() as connection:
                changes = await read_changes(connection, self._book, after, self._from, _BACKLOG_AT_ONCE)
            if not changes:
                break
            yield b"".join(text for _, text in encoded(changes))
            after = changes[-1].seq
        # Only now: clients that cache answers trust them again from here on.
        yield f"id: {after}\n\n".encode()

    async def _resumed_after(self) -> int | None:
        if self._last is None or not self._last.isascii() or not self._last.isdigit() or len(self._last) > 18:
            return None
        after = int(self._last)
        async with self._pool.acquire() as connection:
            return after if await can_resume(connection, self._book, after) else None


async def _begin_only(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer HEAD: nothing goes on that nobody could read, or would be found to have left."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, body: bytes) -> None:
    async with asyncio.timeout(_STUCK_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    message: Message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()

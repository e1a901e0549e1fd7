"""The client for event loops: the stream is followed by a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx

from ledger.client.answers import Answer, UnreachableError
from ledger.client.core import STREAM_PATH, Question, Reply, Request, reconnect_seconds
from ledger.client.options import STREAM_TIMEOUT, headers_of, make_core
from ledger.client.policy import DENY, Policy

T = TypeVar("T")


class AsyncClient:
    """Asks a ledger. As a context manager it follows the stream and keeps answers; else it asks every time."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        book: str | None = None,
        unreachable: Mapping[str, Policy] | None = None,
        otherwise: Policy = DENY,
        timeout: float = 2.0,
        entries_max: int = 10_000,
        stale_after: float = 5.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """``unreachable`` are policies by feature, ``otherwise`` is that of all others; seconds are seconds."""
        self._core = make_core(book, unreachable, otherwise, timeout, entries_max, stale_after)
        self._http = httpx.AsyncClient(base_url=url, headers=headers_of(key), timeout=timeout, transport=transport)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._core.cache is not None:
            self._task = asyncio.create_task(self._follow(), name="ledger-stream")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of every connection."""
        if self._task is not None:
            while not self._task.done():  # before Python 3.12 waiting with a timeout may swallow a cancellation
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=0.5)
        await self._http.aclose()

    async def check(self, customer: str, feature: str, *, min_position: int | None = None) -> Answer:
        """Answer for one feature; ``min_position`` waits for what is known to have been recorded by then."""
        kept = self._core.kept(customer, feature, min_position)
        return kept if kept is not None else await self._run(self._core.check(customer, feature, min_position))

    async def check_many(self, checks: Sequence[tuple[str, str]], *, min_position: int | None = None) -> list[Answer]:
        """Answer for many pairs of customer and feature, in order."""
        return await self._run(self._core.check_many(checks, min_position))

    async def list(self, customer: str, *, denied: bool = False, min_position: int | None = None) -> Sequence[Answer]:
        """Answer for every feature a customer has, or (``denied``) ever had. Raises ``UnreachableError``."""
        return await self._run(self._core.list(customer, denied=denied, min_position=min_position))

    async def _run(self, question: Question[T]) -> T:
        try:
            request = next(question)
            while True:
                try:
                    reply = await self._send(request)
                except httpx.TransportError as error:
                    request = question.throw(UnreachableError(repr(error)))
                else:
                    request = question.send(reply)
        except StopIteration as answered:
            value: T = answered.value
            return value

    async def _send(self, request: Request) -> Reply:
        sent: dict[str, Any] = {"params": request.params, "content": request.content}
        response = await self._http.request(request.method, request.path, **sent)
        return Reply(response.status_code, response.content)

    async def _follow(self) -> None:
        failures = 0
        while True:
            failures = 0 if await self._hear() else failures + 1
            await asyncio.sleep(reconnect_seconds(max(failures, 1)))

    async def _hear(self) -> bool:
        """Follow the stream while it lasts; tell whether anything was heard."""
        cache = self._core.cache
        assert cache is not None  # noqa: S101 - there is no task without one
        heard = False
        params, headers = self._core.stream()
        try:
            asked = self._http.stream("GET", STREAM_PATH, params=params, headers=headers, timeout=STREAM_TIMEOUT)
            async with asked as some:
                some.raise_for_status()
                cache.begin()
                async for piece in some.aiter_bytes():
                    cache.hear(piece)
                    heard = True
        except (httpx.HTTPError, httpx.StreamError, ValueError):
            return heard
        return heard

"""A load generator that costs little: each connection sends the next request when its answer is whole."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Final, cast

import uvloop

CONNECTIONS: Final = 64


class _Pump(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], latencies: list[float]) -> None:
        self._requests, self._latencies = requests, latencies
        self._buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self.done.set_result(None)
            return
        self._began = time.perf_counter()
        self._transport.write(request)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(AssertionError(self._buffer))
            self._transport.close()
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._buffer = b""
            self._latencies.append(time.perf_counter() - self._began)
            self._send()


async def pump(port: int, requests: Sequence[bytes], seconds: float) -> list[float]:
    """Send requests again and again for so long, on a loop of its own; return how long each took."""
    deadline = time.perf_counter() + seconds

    def until_then(first: int) -> Iterator[bytes]:
        for number in itertools.count(first):
            if time.perf_counter() > deadline:
                return
            yield requests[number % len(requests)]

    # Each begins elsewhere: in step, all would ask the same at the same time.
    return await _on_its_own_loop(
        port, [until_then(number * len(requests) // CONNECTIONS) for number in range(CONNECTIONS)]
    )


async def pump_once(port: int, requests: Sequence[bytes]) -> list[float]:
    """Send every request once, on a loop of its own; return how long each took."""
    return await _on_its_own_loop(port, [iter(requests)] * CONNECTIONS)


async def _on_its_own_loop(port: int, requests: Sequence[Iterator[bytes]]) -> list[float]:
    return await asyncio.to_thread(lambda: uvloop.run(_pump(port, requests)))


async def _pump(port: int, requests: Sequence[Iterator[bytes]]) -> list[float]:
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    pumps = [
        (await loop.create_connection(lambda: _Pump(own, latencies), "127.0.0.1", port))[1]  # noqa: B023
        for own in requests
    ]
    await asyncio.gather(*(one.done for one in pumps))
    return latencies

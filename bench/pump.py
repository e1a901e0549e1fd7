"""A load generator that costs little: each connection sends the next request when its answer is whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, cast

import uvloop

CONNECTIONS: Final = 64


class _Pump(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], first: int, deadline: float, latencies: list[float]) -> None:
        self._requests, self._deadline, self._latencies = requests, deadline, latencies
        self._number, self._buffer = first, b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        if self._began > self._deadline:
            self._transport.close()
            self.done.set_result(None)
            return
        self._number += 1
        self._transport.write(self._requests[self._number % len(self._requests)])

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
    """Send requests for so long, on a loop of its own; return how long each took."""
    return await asyncio.to_thread(lambda: uvloop.run(_pump(port, requests, seconds)))


async def _pump(port: int, requests: Sequence[bytes], seconds: float) -> list[float]:
    latencies: list[float] = []
    deadline = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    # Each begins elsewhere: in step, all would ask the same at the same time.
    starts = [number * len(requests) // CONNECTIONS for number in range(CONNECTIONS)]
    pumps = [
        (await loop.create_connection(lambda: _Pump(requests, first, deadline, latencies), "127.0.0.1", port))[1]  # noqa: B023
        for first in starts
    ]
    await asyncio.gather(*(one.done for one in pumps))
    return latencies

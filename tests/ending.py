"""A server of HTTP that ends as soon as it is told to: uvicorn's own looks ten times a second, and then waits."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

_PAUSE_SECONDS = 0.002


class EndsAtOnce(uvicorn.Server):
    """Runs in the loop it is served in; ``end`` may be called from any thread."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)

    def end(self) -> None:
        """Take no more requests; those being answered have as long as the configuration gives them."""
        self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for one in sockets or ():
            one.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        until = self._loop.time() + (self.config.timeout_graceful_shutdown or 0)
        # They tell it in no other way.
        while (self.server_state.connections or self.server_state.tasks) and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE_SECONDS)
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.sleep(0)
        await self.lifespan.shutdown()

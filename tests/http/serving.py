"""The application behind a real socket in this process, for what goes on: streams and those who follow them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import uvicorn

from api.app import create_app
from api.services import Services
from api.web import Http
from tests.ending import EndsAtOnce


@contextlib.asynccontextmanager
async def served(services: Services, port: int = 0) -> AsyncIterator[str]:
    """Serve on a port of its own; gives the address."""
    app = create_app(lambda: contextlib.nullcontext(services))
    app.state.services = services
    config = uvicorn.Config(app, http=Http, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=5)
    server = EndsAtOnce(config)
    task = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - the server tells it in no other way
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        services.live.end()
        server.end()
        await task

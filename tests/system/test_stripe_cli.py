"""The real Stripe CLI (``npm install @stripe/cli``): what ``stripe listen`` forwards is taken, and signatures verify.

``LEDGER_TEST_STRIPE_CLI`` says where it is when it is not on the path. It speaks to a stand-in, never to Stripe.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.stripe_events import body_of, event, signature, subscription
from tests.system.running import Service, free_port

CLI = os.environ.get("LEDGER_TEST_STRIPE_CLI") or shutil.which("stripe")
SECRET = "whsec_of_the_cli"

pytestmark = pytest.mark.skipif(CLI is None, reason="the Stripe CLI is not installed: npm install @stripe/cli")


class Listening:
    """What the CLI speaks to: it asks for a session, opens a web socket, and is sent events to forward."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._connected: asyncio.Future[web.WebSocketResponse] = asyncio.get_running_loop().create_future()

    async def session(self, _: web.Request) -> web.Response:
        return web.json_response({
            "websocket_id": "cliws_1",
            "websocket_url": f"ws://127.0.0.1:{self.port}/subscribe/cliws_1",
            "websocket_authorized_feature": "webhooks",
            "reconnect_delay": 30,
            "secret": SECRET,
        })  # fmt: skip

    async def subscribe(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["stripecli-devproxy-v1"])
        await socket.prepare(request)
        self._connected.set_result(socket)
        async for message in socket:
            told = orjson.loads(message.data)
            if told.get("type") == "webhook_response":
                await self.answers.put(told)
        return socket

    async def send(self, content: dict[str, Any], secret: str = SECRET) -> dict[str, Any]:
        """Let the CLI forward an event; return what it says was answered."""
        body = body_of(content)
        async with asyncio.timeout(30):
            socket = await asyncio.shield(self._connected)
        await socket.send_json({
            "type": "webhook_event",
            "webhook_id": "wh_1",
            "webhook_conversation_id": f"wc_{content['id']}",
            "event_payload": body.decode(),
            "http_headers": {"Content-Type": "application/json", **signature(body, datetime.now(UTC), secret)},
        })  # fmt: skip
        async with asyncio.timeout(30):
            return await self.answers.get()


@asynccontextmanager
async def listening(forward_to: str, folder: Path) -> AsyncIterator[Listening]:
    made = Listening()
    app = web.Application()
    app.router.add_post("/v1/stripecli/sessions", made.session)
    app.router.add_get("/subscribe/cliws_1", made.subscribe)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", made.port).start()
    base = f"http://127.0.0.1:{made.port}"
    process = await asyncio.create_subprocess_exec(
        str(CLI), "listen", "--all-snapshot", "--skip-update", "--api-key", "sk_test_of_the_cli_alone",
        "--api-base", base, "--forward-to", forward_to,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_CONFIG_HOME": str(folder),
             "STRIPE_CLI_TELEMETRY_OPTOUT": "1"},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield made
    finally:
        process.terminate()
        await process.wait()
        await runner.cleanup()


async def test_what_the_cli_forwards_is_verified_and_stored(service: Service, tmp_path: Path) -> None:
    service.environment["LEDGER_STRIPE_WEBHOOK_SECRETS"] = f"test:{SECRET}"
    await asyncio.to_thread(service.start)
    told = event("evt_1", "customer.subscription.created", subscription(), live=False)
    async with listening(f"{service.url}/webhooks/stripe", tmp_path) as cli:
        first = await cli.send(told)
        assert (first["status"], orjson.loads(first["body"])["duplicate"]) == (200, False)
        again = await cli.send(told)
        assert (again["status"], orjson.loads(again["body"])["duplicate"]) == (200, True)
        forged = await cli.send(told | {"id": "evt_2"}, secret="whsec_of_somebody_else")
        assert forged["status"] == 400
    stored = await asyncio.to_thread(service.get, "/v1/events/evt_1/raw", book="self:test")
    assert stored.content == body_of(told)

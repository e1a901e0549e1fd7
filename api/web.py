"""A web process of ``serve``: no other process imports routes, pages and what verifies webhooks."""

from __future__ import annotations

import asyncio
import gc
import socket

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.app import create_app
from api.children import supervisor_gone
from api.front import AskedBy, completed, new_request_id
from api.problems import Problem, ProblemResponse
from api.scrape import measure
from api.services import open_services
from api.settings import Settings
from ledger.tasks import end

_COLLECTED_AFTER = 20_000
"""Objects. Python looks for cycles after 700, which few requests make: a fifth of what an uncached check costs."""

_MEASURED_SECONDS = 1.0

_HEAD_BYTES_MAX = 64 * 1024
"""How much of a request may come before it is known what is asked, and between the pieces of its body."""

_REQUEST_SECONDS = 30
"""How long a whole request may take to come, and how long a new connection may be silent."""


async def serve_web(settings: Settings, listening: socket.socket) -> None:
    """Answer HTTP on a socket the supervisor has bound."""
    several = settings.web_processes > 1
    app = create_app(lambda: open_services(settings), shares_metrics=several)
    server = web_server(app, settings)
    watchers = [asyncio.create_task(_stop_when_orphaned(server))]
    if several:
        watchers.append(asyncio.create_task(_measure(app)))
    try:
        await server.serve(sockets=[listening])
    finally:
        await end(*watchers)


def web_server(app: Starlette, settings: Settings) -> uvicorn.Server:
    """Make the server that answers, as this process will run it."""
    config = uvicorn.Config(
        app,
        http=Http,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        log_config=None,  # its lines go where ours go, in the same form
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody's word about where a request came from is used
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
    )
    gc.freeze()  # modules and routes stay: no collection need look at them
    gc.set_threshold(_COLLECTED_AFTER)
    return _Server(config, app)


class Http(HttpToolsProtocol):
    """HTTP/1.1 whose refusal of what is no request is a problem, as every other refusal is.

    The parser holds a head, and what follows a body, however long they get, for anybody: here they end. So does the
    connection of who begins a request and does not end it.
    """

    _held = 0
    """How many bytes came since the parser last gave a whole head or a piece of a body."""

    _awaited: asyncio.TimerHandle | None = None
    """What ends the connection unless a whole request has come by then."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        super().connection_lost(exc)
        self._await_no_more()

    def _await_request(self) -> None:
        if self._awaited is None:
            self._awaited = self.loop.call_later(_REQUEST_SECONDS, self._cut_off)

    def _await_no_more(self) -> None:
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None

    def _cut_off(self) -> None:
        self._awaited = None
        if self.flow.read_paused:  # it is we who are slow
            self._await_request()
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Let the parser take some bytes, unless it would hold too many."""
        self._await_request()
        self._held += len(data)
        super().data_received(data)
        if self._held > _HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(Problem(431, f"what comes before and behind a body has at most {_HEAD_BYTES_MAX} bytes"))

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._await_request()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._held = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a piece of a body on."""
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._held = 0
        self._await_no_more()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser could not read."""
        self._refuse(Problem(400, "what was sent is not an HTTP request", kind="no-http"))

    def _refuse(self, problem: Problem) -> None:
        """Answer and end the connection: where the next request begins is not known."""
        asked = AskedBy(new_request_id())
        refusal = ProblemResponse(problem, asked.request_id)
        headers = [*completed(refusal.raw_headers, asked), (b"connection", b"close")]
        lines = [STATUS_LINE[problem.status].rstrip(), *(b"%b: %b" % one for one in headers), b"", bytes(refusal.body)]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()


class _Server(uvicorn.Server):
    """A server that ends the streams before it waits for its connections: they would go on for ever."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else in its order."""
        if (serving := getattr(self._app.state, "services", None)) is not None:
            serving.live.end()
        await super().shutdown(sockets)


async def _measure(app: Starlette) -> None:
    """Note again and again how things are: another process may be asked."""
    while True:
        if (serving := getattr(app.state, "services", None)) is not None:
            measure(app.state.metrics, serving)
        await asyncio.sleep(_MEASURED_SECONDS)


async def _stop_when_orphaned(server: uvicorn.Server) -> None:
    await supervisor_gone()
    server.should_exit = True

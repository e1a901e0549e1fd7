"""Deliveries reach a webhook signed, in order, again where it is busy, and not after it has refused one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks
from stripe import WebhookSignature

from api.posting import BusyError, Posted, RefusedError, post_all
from ledger.errors import LedgerError, MistakeError
from ledger.simulator.faults import Delivery

SECRET = "whsec_posting"
TOOK = (200, {"received": True, "duplicate": False})
HAD = (200, {"received": True, "duplicate": True})
BUSY = (503, {"title": "Service Unavailable", "detail": "the log is behind"})
WRONG = (400, {"title": "Bad Request", "detail": "the signature matches no webhook secret"})

Answer = tuple[int, dict[str, Any]]


@dataclass
class Request:
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Webhook:
    """A small HTTP server that keeps connections open and remembers what it was sent."""

    answer: Callable[[int, Request], Answer | None]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _open: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks/stripe"

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open += 1
        self.quiet.clear()
        try:
            while request := await self._read(reader):
                self.requests.append(request)
                answer = self.answer(len(self.requests), request)
                if answer is None:
                    return
                content = orjson.dumps(answer[1])
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (answer[0], len(content)) + content)
                await writer.drain()
        finally:
            self._open -= 1
            if not self._open:
                self.quiet.set()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").splitlines()
        except asyncio.IncompleteReadError:
            return None
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return Request(head[0].split()[1], headers, await reader.readexactly(int(headers["content-length"])))


@contextlib.asynccontextmanager
async def webhook(answer: Callable[[int, Request], Answer | None]) -> AsyncIterator[Webhook]:
    served = Webhook(answer)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    async with server:
        yield served
        if served.connections:
            # A connection that is never closed would keep this waiting.
            async with asyncio.timeout(5):
                await served.quiet.wait()


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=8):
        yield


@pytest.fixture(autouse=True)
def nothing_unheard() -> Iterator[list[dict[str, Any]]]:
    """Fail when the loop has to report an error that nobody asked for."""
    reported: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            asyncio.BaseEventLoop,
            "call_exception_handler",
            lambda _, context: reported.append(context),
        )
        yield reported
    assert not reported


def deliveries(count: int) -> Iterator[Delivery]:
    return (Delivery(number, b'{"id": "evt_%d", "name": "\xc3\xa9"}' % number) for number in range(count))


def bodies(count: int) -> list[bytes]:
    return [delivery.body for delivery in deliveries(count)]


async def test_everything_arrives_signed_over_connections_that_are_kept_and_then_closed() -> None:
    async with webhook(lambda *_: TOOK) as served:
        posted = await post_all(deliveries(200), served.url, SECRET, concurrency=8)
        assert posted == Posted(received=200, duplicates=0)
        assert sorted(served.bodies) == sorted(bodies(200))
        assert served.connections <= 8
    for request in served.requests:
        assert request.target == "/webhooks/stripe"
        assert request.headers["content-type"] == "application/json"
        header = request.headers["stripe-signature"]
        assert WebhookSignature.verify_header(request.body, header, SECRET, tolerance=60)


async def test_one_at_a_time_they_arrive_in_order() -> None:
    async with webhook(lambda *_: TOOK) as served:
        await post_all(deliveries(50), served.url, SECRET, concurrency=1)
        assert served.bodies == bodies(50)


async def test_many_at_a_time_they_are_started_in_order() -> None:
    async with webhook(lambda *_: TOOK) as served:
        await post_all(deliveries(400), served.url, SECRET, concurrency=8)
    places = {body: place for place, body in enumerate(served.bodies)}
    # A thread may be interrupted between starting and sending, so a few arrive far from their place.
    assert statistics.median(abs(places[body] - place) for place, body in enumerate(bodies(400))) <= 2 * 8


async def test_no_more_is_read_ahead_than_is_on_its_way() -> None:
    answered = read = ahead = 0

    def answer(*_: object) -> Answer:
        nonlocal answered
        answered += 1
        return TOOK

    def counted() -> Iterator[Delivery]:
        nonlocal read, ahead
        for delivery in deliveries(500):
            read += 1
            ahead = max(ahead, read - answered)
            yield delivery

    async with webhook(answer) as served:
        await post_all(counted(), served.url, SECRET, concurrency=8)
    assert ahead <= 8


async def test_duplicates_are_received_and_counted_apart_and_progress_adds_up() -> None:
    steps: list[int] = []
    async with webhook(lambda number, _: HAD if number % 4 == 0 else TOOK) as served:
        posted = await post_all(deliveries(100), served.url, SECRET, concurrency=4, progress=steps.append)
    assert posted == Posted(received=100, duplicates=25)
    assert sum(steps) == 100


async def test_a_busy_webhook_is_asked_again() -> None:
    async with webhook(lambda number, _: BUSY if number <= 3 else TOOK) as served:
        posted = await post_all(deliveries(1), served.url, SECRET)
        assert posted == Posted(received=1)
        assert served.bodies == bodies(1) * 4


async def test_a_webhook_that_stays_busy_is_given_up() -> None:
    async with webhook(lambda *_: BUSY) as served:
        with pytest.raises(BusyError, match="503: the log is behind"):
            await post_all(deliveries(1), served.url, SECRET)
        assert len(served.requests) == 8


async def test_a_broken_connection_is_made_anew() -> None:
    async with webhook(lambda number, _: None if number == 2 else TOOK) as served:
        posted = await post_all(deliveries(3), served.url, SECRET, concurrency=1)
        assert posted == Posted(received=3)
        assert served.connections == 2
        assert served.bodies == [bodies(3)[0], bodies(3)[1], bodies(3)[1], bodies(3)[2]]


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_a_refusal_stops_and_carries_status_and_detail(concurrency: int) -> None:
    async with webhook(lambda number, _: WRONG if number >= 5 else TOOK) as served:
        with pytest.raises(RefusedError, match="400: the signature matches no webhook secret") as caught:
            await post_all(deliveries(10_000), served.url, SECRET, concurrency=concurrency)
        assert caught.value.status == 400
        assert isinstance(caught.value, MistakeError)
        assert len(served.requests) < 5 + 3 * concurrency


async def test_a_refusal_ends_what_waits_to_be_sent_again() -> None:
    def answer(_: int, request: Request) -> Answer:
        return WRONG if b"evt_7" in request.body else BUSY

    with stamina.set_testing(False):
        began = time.monotonic()
        async with webhook(answer) as served:
            with pytest.raises(RefusedError):
                await post_all(deliveries(8), served.url, SECRET, concurrency=8)
        assert time.monotonic() - began < 5


async def test_an_answer_that_is_no_problem_is_quoted() -> None:
    async with webhook(lambda *_: (404, {})) as served:
        with pytest.raises(RefusedError, match="404"):
            await post_all(deliveries(1), served.url, SECRET)


@pytest.fixture
def retries() -> Iterator[list[RetryDetails]]:
    """What was sent again, as it happens."""
    seen: list[RetryDetails] = []

    def remember(details: RetryDetails) -> None:
        seen.append(details)

    set_on_retry_hooks([remember])
    yield seen
    set_on_retry_hooks(None)


async def test_nobody_listening_is_said_and_not_tried_again(retries: list[RetryDetails]) -> None:
    with socket.socket() as taken:
        # Bound but not listening: no other program can take the port meanwhile.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(LedgerError, match=rf"nobody listens on 127\.0\.0\.1:{port}"):
            await post_all(deliveries(100), f"http://127.0.0.1:{port}/", SECRET)
    assert not retries


async def test_a_host_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(LedgerError, match=r"there is no host nowhere\.invalid"):
        await post_all(deliveries(100), "http://nowhere.invalid/", SECRET)


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://", "http://x:99999/", "http://x:port/", "http://[x/", "x:80"])
async def test_an_address_that_is_none_is_a_mistake(url: str) -> None:
    with pytest.raises(MistakeError, match="is not an http address"):
        await post_all(deliveries(1), url, SECRET)


async def test_the_address_is_asked_for_whole() -> None:
    async with webhook(lambda *_: TOOK) as served:
        await post_all(deliveries(1), f"http://127.0.0.1:{served.port}?account=acct_1", SECRET)
        assert [request.target for request in served.requests] == ["/?account=acct_1"]


async def test_an_error_of_the_deliveries_is_theirs() -> None:
    def broken() -> Iterator[Delivery]:
        yield from deliveries(20)
        raise LookupError("no more")

    async with webhook(lambda *_: TOOK) as served:
        with pytest.raises(LookupError, match="no more"):
            await post_all(broken(), served.url, SECRET, concurrency=4)


async def test_it_can_be_cancelled() -> None:
    begun = asyncio.Event()

    def answer(number: int, _: Request) -> Answer:
        if number == 50:
            begun.set()
        return TOOK

    async with webhook(answer) as served:
        posting = asyncio.create_task(post_all(deliveries(1_000_000), served.url, SECRET, concurrency=4))
        await begun.wait()
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
        assert len(served.requests) < 10_000

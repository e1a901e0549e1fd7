"""What is no HTTP: refused as everything else is, and the service goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import orjson
import pytest

from api import web
from api.services import Services
from tests.conftest import KEY
from tests.http.serving import served

NO_HTTP = [
    b"nonsense\r\n\r\n",
    b"BREW /v1/events HTTP/1.1\r\nHost: ledger\r\n\r\n",
    b"POST /webhooks/stripe HTTP/1.1\r\nHost: ledger\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
    b"POST /webhooks/stripe HTTP/1.1\r\nHost: ledger\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
]

CHUNKED = b"POST /webhooks/stripe HTTP/1.1\r\nHost: ledger\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("sent", NO_HTTP)
async def test_what_is_no_request_is_a_problem(services: Services, sent: bytes) -> None:
    async with served(services) as url, connected(url) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert first.startswith("HTTP/1.1 400 ")
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["ledger-contract"] == "1"
    assert int(headers["content-length"]) == len(body)
    problem = orjson.loads(body)
    assert (problem["status"], problem["type"], problem["title"]) == (400, "no-http", "Bad request")
    assert problem["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", b"a" * 4096),
        (b"GET /healthz HTTP/1.1\r\nHost: ledger\r\nX-Long: ", b"a" * 4096),
        (b"GET /healthz HTTP/1.1\r\nHost: ledger\r\n", b"X: 1\r\n" * 682),
        (CHUNKED + b"2;", b"a" * 4096),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: 1\r\n" * 682),
    ],
)
async def test_nobody_holds_memory_with_a_head_that_never_ends(services: Services, begin: bytes, more: bytes) -> None:
    async with served(services) as url, connected(url) as (reader, writer):
        writer.write(begin)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 4 * 1024 * 1024 and not reader.at_eof():
                writer.write(more)
                await writer.drain()
                sent += len(more)
                await asyncio.sleep(0)
        assert sent < 4 * 1024 * 1024


WEBHOOK = b"POST /webhooks/stripe HTTP/1.1\r\nHost: ledger\r\nContent-Length: 100000\r\n\r\n"
ASKED = b"GET /healthz HTTP/1.1\r\nHost: ledger\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"GET /", b"a"),
        (WEBHOOK, b""),
        (WEBHOOK, b"{"),
        (CHUNKED, b"1\r\n{\r\n"),
        (ASKED, b"\r\n"),
        (ASKED + WEBHOOK, b""),
    ],
)
async def test_nobody_holds_a_connection_with_a_request_that_never_ends(
    services: Services, begin: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_REQUEST_SECONDS", 0.2)
    async with served(services) as url, connected(url) as (reader, writer):
        writer.write(begin)
        ended = asyncio.create_task(reader.read())
        for _ in range(100):
            writer.write(more)
            if (await asyncio.wait({ended}, timeout=0.02))[0]:
                break
        assert ended.done()
        with contextlib.suppress(ConnectionError):
            await ended


async def test_a_request_that_waits_for_us_is_waited_for(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one behind a slow one is not read before that is answered."""
    monkeypatch.setattr(web, "_REQUEST_SECONDS", 0.2)
    slow = f"GET /v1/customers/cus_1/entitlements?min_position=9&wait=1 HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    async with served(services) as url, connected(url) as (reader, writer):
        writer.write(slow.encode() + ASKED + ASKED[:10])
        await asyncio.sleep(0.4)
        writer.write(ASKED[10:])
        answered = b""
        async with asyncio.timeout(10):
            while answered.count(b"HTTP/1.1 ") < 3:
                more = await reader.read(65536)
                assert more, "it was cut off"
                answered += more

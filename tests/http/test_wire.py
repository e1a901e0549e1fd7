"""What is no HTTP: refused as everything else is, and the service goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import orjson
import pytest

from api.services import Services
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

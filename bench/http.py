"""Webhooks over HTTP: the whole way to a durable commit, beside the same server verifying and answering only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import orjson
from stripe import WebhookSignature

from bench.events import EventSource
from bench.table import Row, percentiles_ms, rate

CONNECTIONS = 64
_SECRET = "whsec_bench"


async def webhook_rows(folder: Path, count: int) -> list[Row]:
    """Send webhooks over 64 connections to ``ledger serve``, and to the same server that only verifies."""
    async with service(folder / "http", "ledger") as port:
        ours, latencies = await send(port, EventSource(port).bodies(count))
    async with service(folder / "http", "verify_only") as port:
        limit, _ = await send(port, EventSource(port).bodies(count))
    p50, p99 = percentiles_ms(latencies)
    beside = f"{rate(count, limit)} verify only"
    return [Row("HTTP webhooks, 64 connections", rate(count, ours), beside, limit / ours, "≥ 0.5", p50, p99)]


async def during_rebuild_row(folder: Path, events: int) -> Row:
    """Webhooks at a steady pace, alone and while all of a company's history is folded anew by one worker."""
    home = folder / "rebuilt"
    async with service(home, "ledger") as port:
        file = folder / "history.jsonl"
        await ledger(home, port, "simulate", "--customers", str(max(60, events // 165)), "-o", str(file))
        await ledger(home, port, "import", str(file))
        idle = await _paced(port, 5)
        rebuilding = asyncio.create_task(ledger(home, port, "rebuild", "entitlements", "--workers", "1"))
        busy = await _paced(port, 5)
        await rebuilding
    p50, p99 = percentiles_ms(busy)
    alone = percentiles_ms(idle)[1]
    # Below some milliseconds it is the machine that is measured.
    ratio = p99 / max(alone, 5.0)
    return Row(
        "webhook while rebuilding, 200/s", f"{p99:.1f} ms p99", f"{alone:.1f} ms p99 idle", ratio, "≤ 2", p50, p99
    )


async def ledger(folder: Path, port: int, *arguments: str) -> None:
    """Run another command on a service's data."""
    command = [str(Path(sys.executable).parent / "ledger"), *arguments]
    environment = _environment(folder, port)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.DEVNULL)
    try:
        if await process.wait() != 0:
            raise AssertionError(f"ledger {' '.join(arguments)} ended with {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _paced(port: int, seconds: int, per_second: int = 200) -> list[float]:
    """Send webhooks at a steady pace; return how long each took to be acknowledged."""
    source = EventSource(time.time_ns() % 1_000_003)
    requests = [webhook(source.body()) for _ in range(per_second * seconds)]
    latencies: list[float] = []
    began = time.perf_counter()

    async def connection(own: list[tuple[int, bytes]]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, request in own:
            await asyncio.sleep(max(0.0, number / per_second - (time.perf_counter() - began)))
            asked = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            latencies.append(time.perf_counter() - asked)
        writer.close()

    numbered = list(enumerate(requests))
    await asyncio.gather(*(connection(numbered[part::8]) for part in range(8)))
    return latencies


def _environment(folder: Path, port: int) -> dict[str, str]:
    return os.environ | {
        "LEDGER_DATA_DIR": str(folder),
        "LEDGER_PORT": str(port),
        "LEDGER_STRIPE_WEBHOOK_SECRETS": _SECRET,
        "LEDGER_LOG_LEVEL": "error",
    }


@contextlib.asynccontextmanager
async def service(folder: Path, kind: str, *arguments: str) -> AsyncIterator[int]:
    """Run ``ledger serve`` (``ledger``), or one of the servers it is measured beside; gives the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = _environment(folder, port)
    ours = [str(Path(sys.executable).parent / "ledger"), "serve"]
    command = ours if kind == "ledger" else [sys.executable, "-m", f"bench.{kind}", *arguments]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.DEVNULL)
    try:
        await _answers(port)
        yield port
    finally:
        process.send_signal(2)
        await process.wait()


async def _answers(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer[:20]:
                return
        await asyncio.sleep(0.1)
    raise TimeoutError("the server does not answer")


async def send(port: int, bodies: Iterable[bytes]) -> tuple[float, list[float]]:
    """Send webhooks over 64 connections; return how long all took, and each."""
    requests = [webhook(body) for body in bodies][::-1]
    latencies: list[float] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while requests:
            request = requests.pop()
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            latencies.append(time.perf_counter() - began)
            if not orjson.loads(body).get("received"):
                raise AssertionError(body)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return time.perf_counter() - began, latencies


def webhook(body: bytes) -> bytes:
    """Write the request that sends a webhook."""
    signature = WebhookSignature.generate_signature_header(body.decode(), _SECRET)
    head = (
        "POST /webhooks/stripe HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"stripe-signature: {signature}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

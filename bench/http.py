"""Webhooks over HTTP: the whole way to a durable commit, beside the same server verifying and answering only."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import orjson
from stripe import WebhookSignature

from bench.events import EventSource
from bench.pump import pump_once
from bench.table import Row, percentiles_ms, rate

_SECRET = "whsec_bench"
_PACED_CONNECTIONS = 8
_IDLE_SECONDS = 10
_CAUGHT_UP_SECONDS = 300
_REBUILD_SECONDS_MAX = 60
_VISIBLE_SECONDS = 15
_VISIBLE_EVERY = 21  # no multiple of the connections: each of them asks
_NEVER_SECONDS = 60.0


async def webhook_rows(folder: Path, count: int) -> list[Row]:
    """Send webhooks over 64 connections to ``ledger serve``, and to the same server that only verifies."""
    async with service(folder / "http", "ledger") as port:
        ours, latencies = await send(port, EventSource(port).bodies(count))
    async with service(folder / "http", "ledger", LEDGER_WEB_PROCESSES="2") as port:
        two, of_two = await send(port, EventSource(port).bodies(count))
    async with service(folder / "http", "verify_only") as port:
        limit, _ = await send(port, EventSource(port).bodies(count))
    name, beside = "HTTP webhooks, 64 connections", f"{rate(count, limit)} verify only"
    return [
        Row(name, rate(count, ours), beside, limit / ours, "≥ 0.5", *percentiles_ms(latencies)),
        Row(
            f"{name}, two web processes",
            rate(count, two),
            f"{rate(count, ours)} one",
            ours / two,
            "",
            *percentiles_ms(of_two),
        ),
    ]


async def followed_rows(folder: Path, count: int) -> list[Row]:
    """Send webhooks faster than they are folded, and wait until all are: by one process that folds, two and four."""
    seconds: dict[int, float] = {}
    for processes in (1, 2, 4):
        home = folder / f"followed-{processes}"
        async with service(home, "ledger", LEDGER_FOLLOWER_PROCESSES=str(processes)) as port:
            source = EventSource(processes, customers=500)
            await send(port, source.bodies(500))
            await caught_up(home, port)
            began = time.perf_counter()
            await send(port, source.bodies(count))
            await caught_up(home, port)
            seconds[processes] = time.perf_counter() - began
    one = seconds.pop(1)
    return [
        Row(f"webhooks until folded, {processes} that fold", rate(count, took), f"{rate(count, one)} one", one / took)
        for processes, took in seconds.items()
    ]


async def visible_row(folder: Path) -> Row:
    """Webhooks at a steady pace, and after some of them the customer's entitlements as soon as they show it."""
    latencies: dict[int, list[float]] = {}
    for processes in (1, 2):
        home = folder / f"visible-{processes}"
        async with service(home, "ledger", LEDGER_FOLLOWER_PROCESSES=str(processes)) as port:
            source = EventSource(processes, customers=1_000)
            await send(port, source.bodies(2_000))  # they have a past
            await caught_up(home, port)
            latencies[processes] = await _until_visible(home, port, source)
    (p50, p99), (_, of_one) = percentiles_ms(latencies[2]), percentiles_ms(latencies[1])
    name = "webhook until its answer shows, 200/s, two that fold"
    return Row(name, f"{p99:.0f} ms p99", f"{of_one:.0f} ms p99 one", p99 / of_one, "", p50, p99)


async def _until_visible(home: Path, port: int, source: EventSource, per_second: int = 200) -> list[float]:
    key = orjson.loads((home / "credentials.json").read_bytes())["api_key"]
    latencies: list[float] = []
    began = time.perf_counter()

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, _VISIBLE_SECONDS * per_second, _PACED_CONNECTIONS):
            await asyncio.sleep(max(0.0, number / per_second - (time.perf_counter() - began)))
            body = source.body()
            position = (await _answer(reader, writer, webhook(body)))["position"]
            if number % _VISIBLE_EVERY == 0:
                customer = orjson.loads(body)["data"]["object"]["customer"]
                path = f"/v1/customers/{customer}/entitlements?min_position={position}&wait=5"
                asked = time.perf_counter()
                shown = await _answer(reader, writer, _get(path, key))
                latencies.append(time.perf_counter() - asked if "entitlements" in shown else _NEVER_SECONDS)
        writer.close()

    await asyncio.gather(*(connection(first) for first in range(_PACED_CONNECTIONS)))
    return latencies


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Any:
    writer.write(request)
    return orjson.loads(await reader.readexactly(_length(await reader.readuntil(b"\r\n\r\n"))))


def _get(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n".encode()


async def during_rebuild_row(folder: Path, events: int) -> Row:
    """Webhooks at a steady pace, alone and while a company's history is folded anew by one worker.

    Where the machine is too slow for both it would never be at the head of the log: a minute of it is enough.
    """
    home, file = folder / "rebuilt", folder / "history.jsonl"
    # Filled while nobody serves: a log that is there already is folded at once, not followed event by event.
    await ledger(home, _free_port(), "simulate", "--customers", str(max(60, events // 165)), "-o", str(file))
    await ledger(home, _free_port(), "import", str(file))
    async with service(home, "ledger") as port:
        await caught_up(home, port)
        idle = await _paced(port, asyncio.create_task(asyncio.sleep(_IDLE_SECONDS)))
        busy = await _paced(port, asyncio.create_task(_rebuild(home, port)))
    p50, p99 = percentiles_ms(busy)
    alone = percentiles_ms(idle)[1]
    # Below some milliseconds it is the machine that is measured.
    ratio = p99 / max(alone, 5.0)
    return Row(
        "webhook while rebuilding, 200/s", f"{p99:.1f} ms p99", f"{alone:.1f} ms p99 idle", ratio, "≤ 2", p50, p99
    )


async def _rebuild(home: Path, port: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REBUILD_SECONDS_MAX):
            await ledger(home, port, "rebuild", "revenue", "--workers", "1")


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


async def caught_up(folder: Path, port: int) -> None:
    """Wait until every projection has folded all there is."""
    key = orjson.loads((folder / "credentials.json").read_bytes())["api_key"]
    request = _get("/v1/projections", key)
    async with asyncio.timeout(_CAUGHT_UP_SECONDS):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            told = (await _answer(reader, writer, request))["data"]
            writer.close()
            behind = [book for one in told for book in one["books"] if book["position"] < book["head"]]
            if told and all(one["books"] for one in told) and not behind:
                return
            await asyncio.sleep(1)


async def _paced(port: int, while_: asyncio.Task[None], per_second: int = 200) -> list[float]:
    """Send webhooks at a steady pace until a task has ended; return how long each took to be acknowledged."""
    source = EventSource(time.time_ns() % 1_000_003)
    latencies: list[float] = []
    began = time.perf_counter()

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in itertools.count(first, _PACED_CONNECTIONS):
            await asyncio.sleep(max(0.0, number / per_second - (time.perf_counter() - began)))
            if while_.done():
                break
            request = webhook(source.body())
            asked = time.perf_counter()
            writer.write(request)
            await reader.readexactly(_length(await reader.readuntil(b"\r\n\r\n")))
            latencies.append(time.perf_counter() - asked)
        writer.close()

    await asyncio.gather(*(connection(first) for first in range(_PACED_CONNECTIONS)))
    await while_
    return latencies


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


def _environment(folder: Path, port: int) -> dict[str, str]:
    return os.environ | {
        "LEDGER_DATA_DIR": str(folder),
        "LEDGER_PORT": str(port),
        "LEDGER_STRIPE_WEBHOOK_SECRETS": _SECRET,
        "LEDGER_LOG_LEVEL": "error",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def service(folder: Path, kind: str, *arguments: str, **settings: str) -> AsyncIterator[int]:
    """Run ``ledger serve`` (``ledger``), or one of the servers it is measured beside; gives the port."""
    port = _free_port()
    environment = _environment(folder, port) | settings
    ours = [str(Path(sys.executable).parent / "ledger"), "serve"]
    command = ours if kind == "ledger" else [sys.executable, "-m", f"bench.{kind}", *arguments]
    # A session of its own, as the service gives its processes: Linux may weigh sessions against each other.
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        await _answers(port, "/healthz" if kind == "verify_only" else "/readyz")
        yield port
    finally:
        process.send_signal(2)
        await process.wait()


async def _answers(port: int, path: str) -> None:
    for _ in range(10 * _CAUGHT_UP_SECONDS):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer[:20]:
                return
        await asyncio.sleep(0.1)
    raise TimeoutError("the server does not answer")


async def send(port: int, bodies: Iterable[bytes]) -> tuple[float, list[float]]:
    """Send webhooks over 64 connections; return how long all took, and each."""
    requests = [webhook(body) for body in bodies]
    began = time.perf_counter()
    latencies = await pump_once(port, requests)
    return time.perf_counter() - began, latencies


def webhook(body: bytes) -> bytes:
    """Write the request that sends a webhook."""
    signature = WebhookSignature.generate_signature_header(body.decode(), _SECRET)
    head = (
        "POST /webhooks/stripe HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"stripe-signature: {signature}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

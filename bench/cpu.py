"""Processor time an event in each process, from webhook to rows: it says where time goes on a busy machine too."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from pathlib import Path
from typing import Final

import orjson
import psutil

from bench import http
from bench.events import EventSource
from bench.table import Row

KINDS: Final = (
    (re.compile(r"api\.processes (\w+)"), "{0} process"),
    (re.compile(r"^postgres: (?:checkpointer|walwriter|background|autovacuum|logger|io worker)"), "PostgreSQL itself"),
    (re.compile(r"^postgres: "), "PostgreSQL for connections"),
)  # fmt: skip
_CAUGHT_UP_SECONDS: Final = 300


async def cpu_rows(folder: Path, count: int) -> list[Row]:
    """Send webhooks over 64 connections, wait until all are folded, and say what each process took."""
    async with http.service(folder / "cpu", "ledger") as port:
        await http.send(port, EventSource(1).bodies(500))  # what is done once
        await _folded(folder / "cpu", port, 500)
        before, own = _seconds(folder / "cpu"), time.process_time()
        await http.send(port, EventSource(2).bodies(count))
        sent = time.process_time() - own
        await _folded(folder / "cpu", port, 500 + count)
        after = _seconds(folder / "cpu")
    took = {"load generator": sent} | {kind: after[kind] - before[kind] for kind in sorted(after)}
    total = sum(took.values())
    return [
        Row(f"CPU an event, {kind}", f"{seconds / count * 1e6:,.0f} µs", f"{total / count * 1e6:,.0f} µs in all",
            seconds / total)
        for kind, seconds in took.items()
    ]  # fmt: skip


def _seconds(folder: Path) -> Counter[str]:
    """Sum the processor time of the service's processes and of its PostgreSQL's, by what they are."""
    postmaster = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    found: Counter[str] = Counter()
    for one in [*psutil.Process().children(recursive=True), *psutil.Process(postmaster).children()]:
        try:
            line, times = " ".join(one.cmdline()), one.cpu_times()
        except psutil.Error:
            continue
        for pattern, kind in KINDS:
            if match := pattern.search(line):
                found[kind.format(*match.groups())] += times.user + times.system
                break
    return found


async def _folded(folder: Path, port: int, position: int) -> None:
    """Wait until every projection has folded so far."""
    key = orjson.loads((folder / "credentials.json").read_bytes())["api_key"]
    request = f"GET /v1/projections HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n".encode()
    async with asyncio.timeout(_CAUGHT_UP_SECONDS):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            told = orjson.loads(await reader.readexactly(length))["data"]
            writer.close()
            if told and all(
                any(book["position"] >= position for book in one["books"] if book["book"] == "self:live")
                for one in told
            ):
                return
            await asyncio.sleep(1)

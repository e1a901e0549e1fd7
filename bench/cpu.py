"""Processor time an event in each process, from webhook to rows: it says where time goes on a busy machine too."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from typing import Final

import psutil

from bench import http
from bench.events import EventSource
from bench.table import Row

KINDS: Final = (
    (re.compile(r"api\.processes (\w+)"), "{0} process"),
    (re.compile(r"^postgres: (?:checkpointer|walwriter|background|autovacuum|logger|io worker)"), "PostgreSQL itself"),
    (re.compile(r"^postgres: "), "PostgreSQL for connections"),
)  # fmt: skip


async def cpu_rows(folder: Path, count: int) -> list[Row]:
    """Send webhooks over 64 connections, wait until all are folded, and say what each process took."""
    async with http.service(folder / "cpu", "ledger") as port:
        await http.send(port, EventSource(1).bodies(500))  # what is done once
        await http.caught_up(folder / "cpu", port)
        before, own = _seconds(folder / "cpu"), time.process_time()
        await http.send(port, EventSource(2).bodies(count))
        sent = time.process_time() - own
        await http.caught_up(folder / "cpu", port)
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

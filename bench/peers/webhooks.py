"""The same webhooks to us over HTTP and to each peer in its own process: durable and verified, in one run.

Bodies are the history of a simulated company, of the types every peer keeps. Peers are favoured: they get webhooks
handed over without HTTP, and what they would ask of Stripe's API is answered at once or not asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson

from bench import http
from bench.ground import Ground
from bench.peers.installed import NotInstalledError, dj_stripe, stripe_sync
from bench.pump import CONNECTIONS
from bench.table import Row, percentiles_ms, rate
from ledger.embedded import SUPERUSER
from ledger.simulator.company import Arguments, Company

TYPES: Final = frozenset(
    """
    charge.failed charge.succeeded customer.created customer.subscription.created customer.subscription.deleted
    customer.subscription.updated customer.updated invoice.created invoice.finalized invoice.paid
    invoice.payment_failed invoice.payment_succeeded invoice.updated payment_intent.created
    payment_intent.payment_failed payment_intent.succeeded payment_method.attached price.created product.created
    """.split()
)
_HERE: Final = Path(__file__).parent
_DJ_STRIPE_PROCESSES: Final = 2
_KEPT_PER_CUSTOMER: Final = 145
_WARM_SECONDS: Final = 300


def bodies(count: int) -> list[bytes]:
    """Make the webhooks of a company, as Stripe would send them."""
    company = Company(Arguments(customers=max(10, 2 * count // _KEPT_PER_CUSTOMER)), keep_truth=False)
    delivered = (one.body for one in company.deliveries(indented=True))
    return list(itertools.islice((one for one in delivered if orjson.loads(one)["type"] in TYPES), count))


async def peer_rows(ground: Ground, count: int, seconds: float = 6) -> list[Row]:
    """Send the same webhooks to us and to each peer."""
    sent = await asyncio.to_thread(bodies, count)
    file = ground.folder / "webhooks.jsonl"
    file.write_bytes(b"".join(orjson.dumps(body.decode()) + b"\n" for body in sent))
    # The peers take both cores, too.
    async with http.service(ground.folder / "beside", "ledger", LEDGER_WEB_PROCESSES="2") as port:
        warm, measured = sent[: count // 10], sent[count // 10 :]
        await http.send(port, warm)
        took, latencies = await http.send(port, measured)
    ours = len(measured) / took
    p50, p99 = percentiles_ms(latencies)
    name, average = "the same webhooks beside", sum(map(len, sent)) / count
    rows = []
    for peer, wanted, measure in (
        ("stripe-sync-engine, in process", "≥ 5", _stripe_sync),
        ("dj-stripe's view, in process", "≥ 50", _dj_stripe),
    ):
        what = f"{name} {peer}" + f" ({average / 1000:.1f} kB)"
        try:
            theirs, note = await measure(ground, file, seconds)
        except NotInstalledError as error:
            rows.append(Row(what, rate(len(measured), took), f"not measured: {error}", None, wanted, p50, p99))
            continue
        rows.append(Row(what, rate(len(measured), took), f"{theirs:,.1f}/s, {note}", ours / theirs, wanted, p50, p99))
    return rows


async def _stripe_sync(ground: Ground, file: Path, seconds: float) -> tuple[float, str]:
    folder = await asyncio.to_thread(stripe_sync)
    url = await _database(ground, "stripe_sync")
    command = ["node", str(_HERE / "stripe_sync.mjs"), url, str(file), str(seconds), str(CONNECTIONS)]
    [done] = await _measured([command], folder)
    if done["failures"]:
        raise AssertionError(done["failures"])
    p50, p99 = percentiles_ms(done["latencies"])
    return len(done["latencies"]) / done["seconds"], f"p50 {p50:.0f}, p99 {p99:.0f} ms"


async def _dj_stripe(ground: Ground, file: Path, seconds: float) -> tuple[float, str]:
    python = str(await asyncio.to_thread(dj_stripe))
    url, script = await _database(ground, "dj_stripe"), str(_HERE / "dj_stripe.py")
    migrating = await asyncio.create_subprocess_exec(python, script, "migrate", url, stderr=subprocess.DEVNULL)
    assert await migrating.wait() == 0
    parts = str(_DJ_STRIPE_PROCESSES)
    commands = [
        [python, script, "run", url, str(file), str(seconds), str(part), parts] for part in range(_DJ_STRIPE_PROCESSES)
    ]
    done = await _measured(commands, ground.folder)
    kept = [one["statuses"].get("200", 0) for one in done]
    asked = sum(one["asked"] for one in done) / max(1, sum(map(len, (one["latencies"] for one in done))))
    p50, p99 = percentiles_ms([took for one in done for took in one["latencies"]])
    theirs = sum(count / one["seconds"] for count, one in zip(kept, done, strict=True))
    return theirs, f"{asked:.1f} API calls each, answered from memory, p50 {p50:.0f}, p99 {p99:.0f} ms"


async def _database(ground: Ground, name: str) -> str:
    """Make an empty database beside ours: the same server, the same durability."""
    server = await asyncpg.connect(ground.embedded.url(SUPERUSER, "postgres"))
    assert await server.fetchval("SHOW synchronous_commit") == "on"
    await server.execute(f"CREATE DATABASE {name}")
    await server.close()
    # Drivers of other languages want a host before the path.
    return ground.embedded.url(SUPERUSER, name).replace("@/", "@localhost/")


async def _measured(commands: Sequence[list[str]], folder: Path) -> list[dict[str, Any]]:
    """Start programs, wait until all are warm, let them go together, and return what each says of itself."""
    async with contextlib.AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_started(command, folder)) for command in commands]
        async with asyncio.timeout(_WARM_SECONDS):
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.write_eof()
        return [orjson.loads(await process.stdout.read()) for process in processes if process.stdout is not None]


@contextlib.asynccontextmanager
async def _started(command: list[str], folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

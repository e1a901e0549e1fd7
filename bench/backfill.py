"""The backfill's row: a hundred thousand events through Stripe's paging, with faults, in order and exactly once.

``python -m bench.backfill PORT COUNT`` is the stand-in, a process of its own, so that it costs us no time of ours.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import socket

import httpx
import orjson
import stripe
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.outward.access import Patience, open_access
from api.outward.gather import Gathering
from api.settings import Settings
from bench.ground import Ground
from bench.table import Row
from ledger.appender import Appender
from ledger.postgres import Database

KEY = "rk_test_bench"
DAYS = 28
LOG = "SELECT event_id FROM ledger.event WHERE book = 'self:test' ORDER BY position"


def history(count: int, now: int) -> list[tuple[int, bytes]]:
    """Make events of the last weeks, oldest first, of about 1.3 kB each."""
    made = []
    for number in range(count):
        created = now - DAYS * 86_400 + number * DAYS * 86_000 // count
        notes = {f"note_{key}": f"{number:08} as it was noted down" for key in range(20)}
        subject = {"id": f"cus_{number % 5_000}", "object": "customer", "metadata": notes}
        event = {
            "id": f"evt_{number:08}", "object": "event", "api_version": "2026-10-28.endive", "created": created,
            "data": {"object": subject}, "livemode": False, "type": "customer.updated",
        }  # fmt: skip
        made.append((created, orjson.dumps(event)))
    return made


def stand_in(events: list[tuple[int, bytes]]) -> Starlette:
    """Page through events as Stripe does, newest first; now and then refuse or fail."""
    times = [created for created, _ in events]
    requests = itertools.count(1)

    async def listed(request: Request) -> Response:
        number = next(requests)
        if number % 97 == 0:
            return Response(
                b'{"error": {"message": "slow down"}}', 429, {"Retry-After": "0.05", "Stripe-Should-Retry": "true"}
            )
        if number % 211 == 0:
            return Response(b'{"error": {"message": "broken"}}', 500)
        asked = request.query_params
        low = bisect_left(times, int(asked.get("created[gte]", 0)))
        high = bisect_left(times, int(asked.get("created[lt]", 2**40)))
        if after := asked.get("starting_after"):
            high = min(high, int(after.removeprefix("evt_")))
        first = max(low, high - int(asked.get("limit", 10)))
        page = b",".join(body for _, body in reversed(events[first:high]))
        more = b"true" if first > low else b"false"
        body = b'{"object":"list","data":[%b],"has_more":%b,"url":"/v1/events"}' % (page, more)
        return Response(body, media_type="application/json")

    async def none(_: Request) -> Response:
        return Response(b'{"error": {"message": "no platform"}}', 403)

    return Starlette(routes=[Route("/v1/events", listed), Route("/v1/accounts", none)])


@contextmanager
def standing_in(count: int) -> Iterator[str]:
    """Start the stand-in; give its address."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "bench.backfill", str(port), str(count)])
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{address}/v1/accounts")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait()


async def backfill_row(ground: Ground, count: int) -> Row:
    """Backfill beside the SDK's own iterator, which only reads."""
    database = await ground.fresh()
    with standing_in(count) as address, tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), stripe_api_key=KEY, stripe_api_base=address)
        ours = await _backfill(database, settings)
        peer = await asyncio.to_thread(_iterate, address, min(count, 20_000))
    owner = await ground.owner()
    found = [row["event_id"] for row in await owner.fetch(LOG)]
    await owner.close()
    if found != [f"evt_{number:08}" for number in range(count)]:
        raise AssertionError("the backfill is not in order, or not whole")
    rate = count / ours
    return Row(f"backfill, {count:,} events", f"{rate:,.0f}/s", f"SDK's iterator reads {peer:,.0f}/s", rate / peer, "")


async def _backfill(database: Database, settings: Settings) -> float:
    async with (
        database.as_role("ledger_app").pool(max_size=4) as pool,
        Appender(database, clock=lambda: datetime.now(UTC)) as appender,
        open_access(settings, lambda: datetime.now(UTC), Patience(wait_seconds_min=0.05)) as access,
    ):
        gathering = Gathering(access, pool, appender, "self", lambda: datetime.now(UTC))
        began = time.perf_counter()
        await gathering.backfill()
        return time.perf_counter() - began


def _iterate(address: str, count: int) -> float:
    client = stripe.StripeClient(KEY, base_addresses={"api": address}, max_network_retries=5)
    began = time.perf_counter()
    for _ in itertools.islice(client.v1.events.list({"limit": 100}).auto_paging_iter(), count):
        pass
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    made = history(int(sys.argv[2]), int(time.time()))
    uvicorn.run(stand_in(made), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")

"""The application in this process, on a database that is filled: what a request costs without the network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import httpx

from api.app import create_app
from api.credentials import ApiKey, Credentials, WebhookSecret, digest_of
from api.services import open_services
from api.settings import Settings
from api.signing import generate_signing_key, signer_of
from bench.log import now
from bench.table import Row, percentiles_ms
from ledger.postgres import Database

KEY: Final = "bench"


@contextlib.asynccontextmanager
async def asking(database: Database, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client with the administrator's key."""
    keys = (ApiKey("bench", frozenset({"admin"}), None, digest_of(KEY)),)
    opened = open_services(
        Settings(data_dir=folder),
        clock=now,
        database=database,
        credentials=Credentials((WebhookSecret("whsec_bench"),), keys, None, None),
        signer=signer_of(generate_signing_key()),
    )
    async with opened as services:
        app = create_app(lambda: contextlib.nullcontext(services))
        app.state.services = services
        headers = {"Authorization": f"Bearer {KEY}"}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://bench", headers=headers) as client:
            yield client


async def timed(client: httpx.AsyncClient, paths: Sequence[str], times: int = 1) -> list[float]:
    """Ask for pages, each so many times; return the seconds of each."""
    took = []
    for path in paths:
        for _ in range(times):
            began = time.perf_counter()
            answer = await client.get(path)
            took.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise AssertionError(f"{path}: {answer.status_code} {answer.text[:300]}")
    return took


def allowed(name: str, seconds: Sequence[float], limit_ms: float) -> Row:
    """Make a row of a read whose 99th percentile has a limit."""
    p50, p99 = percentiles_ms(seconds)
    return Row(name, f"{p99:,.1f} ms p99", f"{limit_ms:,.0f} ms allowed", p99 / limit_ms, "≤ 1", p50, p99)

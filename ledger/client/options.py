"""What both clients are made with."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx

from ledger.client.cache import Cache
from ledger.client.core import Core
from ledger.client.policy import Policies, Policy

STREAM_TIMEOUT: Final = httpx.Timeout(5.0, read=10.0)
"""The stream has a heartbeat every two seconds."""


_WAIT_SECONDS_MAX: Final = 10.0


def make_core(
    book: str | None,
    unreachable: Mapping[str, Policy] | None,
    otherwise: Policy,
    timeout: float,
    entries_max: int,
    stale_after: float,
) -> Core:
    """Put the parts together, with this process's clocks."""
    cache = Cache(
        entries_max=entries_max, stale_after=stale_after, clock=time.monotonic, now=_now, lock=threading.Lock()
    )
    policies = Policies(unreachable or {}, otherwise)
    # The service gives up before this client does, and says why.
    wait_seconds = min(0.8 * timeout, _WAIT_SECONDS_MAX)
    return Core(cache if entries_max else None, policies, book, time.monotonic, wait_seconds)


def headers_of(key: str) -> dict[str, str]:
    """Return what every request says."""
    return {"Authorization": f"Bearer {key}", "Accept": "application/json", "Content-Type": "application/json"}


def _now() -> datetime:
    return datetime.now(UTC)

"""Entitlements live: what the change log costs the follower, checks over HTTP and out of caches, and pushes."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import asyncpg
import psutil

from bench.engine import PROJECTION, subscription_events
from bench.ground import Ground
from bench.log import new_event, now
from bench.table import Row
from ledger.appender import Appender
from projections.builds import ensure_live
from projections.contract import Projection
from projections.entitlements.changes import Changes
from projections.follower import step
from projections.runner import connect_runner

_STEP = 10
"""About as many events as a step folds while webhooks come in as fast as they can."""


async def change_log_row(ground: Ground, events: int = 4_000) -> Row:
    """Processor time of follower and PostgreSQL for an event, without and with the change log."""
    without, with_ = [], []
    for _ in range(2):
        without.append(await _folding_seconds(ground, PROJECTION, events))
        with_.append(await _folding_seconds(ground, replace(PROJECTION, consumer=Changes(now)), events))
    bare, ours = min(without) / events * 1e6, min(with_) / events * 1e6
    return Row("change log, CPU an event", f"{ours:.0f} µs", f"{bare:.0f} µs without", ours / bare, "≤ 2")


async def _folding_seconds(ground: Ground, projection: Projection, events: int) -> float:
    database = await ground.fresh()
    connection = await connect_runner(database)
    async with Appender(database, clock=now) as appender:
        bodies = list(subscription_events(random.Random(1), events))
        for start in range(0, events, 500):
            await appender.append([new_event(body) for body in bodies[start : start + 500]])
    live = await ensure_live(connection, projection)
    began = _seconds(connection)
    while await step(connection, projection, live, "self:live", limit=_STEP):
        pass
    took = _seconds(connection) - began
    await connection.close()
    return took


def _seconds(connection: asyncpg.Connection) -> float:
    """Processor time of this process and of the connection's server process."""
    server = psutil.Process(connection.get_server_pid()).cpu_times()
    return time.process_time() + server.user + server.system

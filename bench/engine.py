"""The engine's rows: lag, late events, busy subjects."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson

from bench.ground import Ground
from bench.log import new_event, now
from bench.table import Row, percentiles_ms
from ledger.appender import Appender
from ledger.event import Source
from projections.builds import ensure_live
from projections.entitlements.tables import entitlements
from projections.follower import follow
from projections.runner import connect_follower
from projections.warm import Warm

PROJECTION = entitlements("org_id")

_FIRST_SECONDS = 2
"""How long a load is on before lags behind it count."""


async def lag_row(ground: Ground, events_per_second: int = 300, seconds: int = 10) -> Row:
    """From an append to its rows being visible, with a steady stream of subscription events."""
    database = await ground.fresh()
    connection = await connect_follower(database)
    live, warm = await ensure_live(connection, PROJECTION), Warm()
    visible: dict[int, float] = {}
    appended: dict[int, float] = {}
    stop = asyncio.Event()
    arrived = asyncio.Event()

    async def fold() -> None:
        while not stop.is_set():
            await arrived.wait()
            arrived.clear()
            while await follow(connection, PROJECTION, live, warm=warm):
                at, reached = (
                    time.perf_counter(),
                    await connection.fetchval("SELECT max(position) FROM ledger.checkpoint WHERE book = 'self:live'"),
                )
                for position in list(appended):
                    if position <= reached and position not in visible:
                        visible[position] = at

    folding = asyncio.create_task(fold())
    async with Appender(database, clock=now, on_commit=arrived.set) as appender:
        bodies = subscription_events(random.Random(1), events_per_second * seconds)
        for body in bodies:
            began = time.perf_counter()
            (place,) = await appender.append([new_event(body)])
            appended[place.position] = began
            arrived.set()
            await asyncio.sleep(max(0.0, 1 / events_per_second - (time.perf_counter() - began)))
        await asyncio.sleep(0.5)
    stop.set()
    arrived.set()
    await folding
    await connection.close()
    p50, p99 = percentiles_ms([visible[position] - began for position, began in appended.items()])
    ours = f"{p99:.0f} ms p99"
    return Row(f"append to visible, {events_per_second}/s", ours, "50 ms allowed", p99 / 50, "≤ 1", p50, p99)


async def late_rows(ground: Ground, events: int = 100_000) -> list[Row]:
    """An event that comes late into a subject of very many events: an hour late, and half a life late."""
    database = await ground.fresh()
    dice = random.Random(2)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    connection = await connect_follower(database)
    async with Appender(database, clock=now) as appender:
        for some in _batched(hot_subject(dice, begun, events), 1_000):
            await appender.append([new_event(body, Source.IMPORT) for body in some])
        live = await ensure_live(connection, PROJECTION)
        while await follow(connection, PROJECTION, live):
            pass
        rows = []
        for name, back in (("an hour", timedelta(hours=1)), ("half a life", timedelta(seconds=15 * events))):
            took = []
            for attempt in range(20):
                at = begun + timedelta(seconds=30 * events) - back - timedelta(seconds=97 * attempt)
                await appender.append([new_event(late_event(dice, at, f"{name}_{attempt}".replace(" ", "_")))])
                began = time.perf_counter()
                await follow(connection, PROJECTION, live)
                took.append(time.perf_counter() - began)
            p50, p99 = percentiles_ms(took)
            what = f"{name} late among {events:,} events"
            rows.append(Row(what, f"{p50:.0f} ms", "50 ms allowed", p50 / 50, "≤ 1", p50, p99))
    await connection.close()
    return rows


async def hot_rows(ground: Ground, events: int = 100_000, seconds: int = 8) -> list[Row]:
    """Other customers' lag while ten subjects of very many events get a hundred more a second, beside without them."""
    alone = await _others_lag(ground, 0, 0, seconds)
    crowded = await _others_lag(ground, 10, events // 10, seconds)
    p50, p99 = percentiles_ms(crowded)
    beside = f"{percentiles_ms(alone)[1]:.0f} ms p99 without"
    name = f"visible beside ten hot subjects of {events // 10:,}"
    return [Row(name, f"{p99:.0f} ms p99", beside, p99 / max(percentiles_ms(alone)[1], 25.0), "≤ 2", p50, p99)]


async def _others_lag(ground: Ground, hot: int, history: int, seconds: int) -> list[float]:
    """Let 50 events a second of many customers in, and 100 of ``hot`` ones; return the lags of the many.

    The first seconds do not count, for both alike: plans are made, and every hot subject is folded from a kept state.
    """
    database, dice = await ground.fresh(), random.Random(7)
    connection = await connect_follower(database)
    live, warm = await ensure_live(connection, PROJECTION), Warm()
    appended: dict[int, float] = {}
    visible: dict[int, float] = {}
    arrived, stop = asyncio.Event(), asyncio.Event()
    begun = datetime.now(UTC) - timedelta(seconds=30 * history)

    async def fold() -> None:
        while not stop.is_set():
            await arrived.wait()
            arrived.clear()
            while await follow(connection, PROJECTION, live, warm=warm):
                reached = await connection.fetchval("SELECT position FROM ledger.checkpoint WHERE book = 'self:live'")
                at = time.perf_counter()
                visible.update({one: at for one in appended if one <= reached and one not in visible})

    async with Appender(database, clock=now, on_commit=arrived.set) as appender:
        for number in range(hot):
            for some in _batched(hot_subject(dice, begun, history, 1_000 + number), 1_000):
                await appender.append([new_event(body, Source.IMPORT) for body in some])
        while await follow(connection, PROJECTION, live, warm=warm):
            pass
        folding = asyncio.create_task(fold())
        began, number = time.perf_counter(), 0
        while time.perf_counter() - began < _FIRST_SECONDS + seconds:
            at = int(time.time())
            number += 1
            if hot:
                name = f"evt_hot_{number}"
                await appender.append([new_event(update(name, 1_000 + number % hot, at, number % 40, "active"))])
            if number % 2 == 0 or not hot:
                asked = time.perf_counter()
                body = update(f"evt_cool_{number}", dice.randrange(500), at, number % 40, "active")
                (place,) = await appender.append([new_event(body)])
                appended[place.position] = asked
            await asyncio.sleep(max(0.0, number / (100 if hot else 50) - (time.perf_counter() - began)))
        await asyncio.sleep(0.5)
    stop.set()
    arrived.set()
    await folding
    await connection.close()
    counted = began + _FIRST_SECONDS
    return [visible[position] - asked for position, asked in appended.items() if asked > counted]


def _batched(items: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while some := list(itertools.islice(items, size)):
        yield some


def subscription_events(dice: random.Random, count: int) -> Iterator[bytes]:
    """Give subscription updates of a few hundred customers, now."""
    for number in range(count):
        customer = dice.randrange(300)
        yield update(
            f"evt_{number}", customer, int(time.time()), dice.randrange(1, 50), dice.choice(("active", "past_due"))
        )


def hot_subject(dice: random.Random, begun: datetime, count: int, customer: int = 0) -> Iterator[bytes]:
    """Give the updates of one customer's subscription, one every half minute."""
    for number in range(count):
        at = int((begun + timedelta(seconds=30 * number)).timestamp())
        yield update(f"evt_{customer}_{number}", customer, at, 1 + number % 40, "active")


def late_event(dice: random.Random, at: datetime, name: str) -> bytes:
    """Give an update that should have come long ago."""
    return update(f"evt_late_{name}", 0, int(at.timestamp()), 77, "active")


def update(event_id: str, customer: int, created: int, quantity: int, status: str) -> bytes:
    item = {
        "id": f"si_{customer}", "object": "subscription_item", "quantity": quantity,
        "price": {"id": "price_1", "object": "price", "product": "prod_1"},
    }  # fmt: skip
    subscription = {
        "id": f"sub_{customer}", "object": "subscription", "customer": f"cus_{customer}", "status": status,
        "items": {"object": "list", "data": [item], "has_more": False}, "metadata": {}, "created": 1_700_000_000,
    }  # fmt: skip
    event = {
        "id": event_id, "object": "event", "api_version": "2026-10-28.endive", "created": created, "livemode": True,
        "type": "customer.subscription.updated", "data": {"object": subscription}, "pending_webhooks": 1,
    }  # fmt: skip
    return orjson.dumps(event)

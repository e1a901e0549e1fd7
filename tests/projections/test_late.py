"""Late events in a long life: after each of them, the live rows are those of a fresh fold."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from ledger.appender import Appender
from ledger.event import NewEvent
from ledger.postgres import Database
from projections import folding, refold
from projections.builds import ensure_live
from projections.follower import follow
from projections.warm import Warm
from tests.conftest import ManualClock
from tests.projections.test_follower import PROJECTION, builder, fresh_fold, rows_of
from tests.stripe_events import event, new_event, subscription

LIFE = 60


def told(name: str, second: int, quantity: int) -> NewEvent:
    """One update of the customer's subscription."""
    subject = subscription("sub_1", customer="cus_1", status="active", items=f"si_1:prod_1*{quantity}")
    return new_event(event(name, "customer.subscription.updated", subject, created=1_768_000_000 + second))


@pytest.mark.parametrize("seed", range(8))
async def test_many_late_events_of_a_long_life_equal_a_fresh_fold(
    database: Database, clock: ManualClock, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Near kept states and between them, one and several at once, with ordinary news and thinned states in between."""
    chance = random.Random(seed)
    monkeypatch.setattr(folding, "KEEP_FROM", 4)
    monkeypatch.setattr(folding, "KEEP_EVERY", chance.choice((3, 5, 12)))
    monkeypatch.setattr(folding, "_RECENT_EVERY", chance.choice((1, 2)))
    monkeypatch.setattr(refold, "_LATE_MAX", chance.choice((2, 64)))
    monkeypatch.setattr(refold, "_ROWS_AT_ONCE", chance.choice((15, 10_000)))
    monkeypatch.setattr(refold, "BUSY_AGE", timedelta(days=1))
    warm, stood, up_to = chance.choice((None, Warm())), Counter[bool](), refold._up_to

    async def counting(*given: Any) -> refold.Refolded | None:
        found = await up_to(*given)
        stood[found is not None] += 1
        return found

    monkeypatch.setattr(refold, "_up_to", counting)
    connection = await builder(database)
    build = await ensure_live(connection, PROJECTION)
    minutes = LIFE
    async with Appender(database, clock=clock) as appender:
        await appender.append([told(f"evt_{n}", 60 * n, 1 + n % 5) for n in range(LIFE)])
        for n in range(25):
            news = []
            for m in range(chance.choice((1, 1, 1, 3))):
                late = chance.random() < 0.8
                second = 60 * chance.randrange(5, minutes) if late else 60 * (minutes := minutes + 1)
                news.append(told(f"evt_new_{n}_{m}", second + chance.choice((-3, -2, 0, 1, 2, 3, 30)), 100 + n))
            await appender.append(news)
            while await follow(connection, PROJECTION, build, limit=chance.choice((1, 50)), warm=warm):
                pass
            assert await rows_of(owner, build) == await fresh_fold(owner)
    await connection.close()
    assert stood[True] > 3, "most changed nothing after the next state kept"

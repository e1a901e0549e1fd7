"""One schedule, from its first fault to the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from api.clock import wall_clock
from tests.faults.faults import hitting
from tests.faults.oracle import Oracle
from tests.faults.schedule import LOAD_SECONDS, Fault, faults_of
from tests.faults.storm import history_of
from tests.faults.world import World


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a schedule without a violation came to."""

    seed: int
    faults: tuple[str, ...]
    events: int
    acknowledged: int
    refused: int
    seconds: float
    healing: float
    judging: float


def run_schedule(world: World, seed: int) -> Verdict:
    """Let a seed's faults hit the world while webhooks come, put it right, and judge. Raises ``AssertionError``."""
    began = time.monotonic()
    history = history_of(seed, wall_clock())
    world.account = history.account
    world.standin.connect(history.account).put(*history.events)
    before, refused = len(world.storm.acknowledged), world.storm.statuses[503]
    stopped = threading.Event()
    senders = world.storm.send_over(history.deliveries, LOAD_SECONDS, stopped.is_set)
    try:
        faults = faults_of(seed)
        _hit(world, faults)
        hit = time.monotonic()
        world.heal()
        world.until(lambda: world.storm.done, "every webhook to be acknowledged")
    finally:
        stopped.set()
        for sender in senders:
            sender.join(10)
    assert not world.storm.wrong, world.storm.wrong[:3]
    healed = time.monotonic()
    events = asyncio.run(Oracle(world, history, seed).judge())
    return Verdict(
        seed,
        tuple(str(fault) for fault in faults),
        events,
        len(world.storm.acknowledged) - before,
        world.storm.statuses[503] - refused,
        seconds=round(time.monotonic() - began, 1),
        healing=round(healed - hit, 1),
        judging=round(time.monotonic() - healed, 1),
    )


def _hit(world: World, faults: Sequence[Fault]) -> None:
    """Begin and end every fault at its time, one after the other: a fault that takes long delays those after it."""
    began, numbers = time.monotonic(), itertools.count()
    due: list[tuple[float, int, Fault | contextlib.ExitStack]] = [(one.at, next(numbers), one) for one in faults]
    heapq.heapify(due)
    with contextlib.ExitStack() as undone:
        while due:
            at, _, what = heapq.heappop(due)
            time.sleep(max(0.0, began + at - time.monotonic()))
            if isinstance(what, contextlib.ExitStack):
                what.close()
                continue
            lasting = undone.enter_context(contextlib.ExitStack())
            lasting.enter_context(hitting(world, what))
            heapq.heappush(due, (time.monotonic() - began + what.lasting, next(numbers), lasting))
        time.sleep(max(0.0, began + LOAD_SECONDS - time.monotonic()))

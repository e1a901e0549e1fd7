"""What can wait gives way: in its session, with its session where that is its own, and with nobody else's."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from api import processes
from ledger.priority import NICENESS

SAID = """
import os
from ledger.priority import AUTOGROUP, give_way, weigh_session
def said(): print(os.nice(0), *(AUTOGROUP.read_text().split()[-1:] if AUTOGROUP.exists() else ()))
said(); give_way(); said(); give_way(); said()
while not weigh_session(down=False): pass
said()
"""


def priorities(*, own_session: bool) -> list[tuple[int, ...]]:
    """Start a process that gives way; return its niceness, and its session's where sessions are weighed.

    Before, after, after giving way again, and after the session was lifted.
    """
    done = subprocess.run(
        [sys.executable, "-c", SAID], capture_output=True, text=True, check=True, start_new_session=own_session
    )
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


def test_a_process_gives_way_once_and_its_own_session_with_it() -> None:
    before, *others = priorities(own_session=True)
    low = max(before[0], NICENESS)
    weights = [(NICENESS,), (NICENESS,), (0,)] if len(before) > 1 else [()] * 3
    assert others == [(low, *weight) for weight in weights]


def test_a_session_that_others_share_is_left_alone() -> None:
    before, *others = priorities(own_session=False)
    assert others == [(max(before[0], NICENESS), *before[1:])] * 3


async def test_folding_gives_way_only_while_events_come_in_very_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    class Log:
        events = 0

        async def fetchval(self, _: str) -> int:
            return self.events

    tried: list[bool] = []

    def weigh(*, down: bool) -> bool:
        tried.append(down)
        return len(tried) != 1  # the system refuses the first time

    monkeypatch.setattr(processes, "weigh_session", weigh)
    monkeypatch.setattr(processes, "_LOOK_SECONDS", 0)
    stream, log = processes.Stream(1), Log()
    fast = []
    for more in (0, 100_000, 100_000, 100_000, 0, 0):
        log.events += more
        connection: Any = log
        fast.append(await stream.look(connection))
        assert (stream.pause_seconds(1) > 0) == fast[-1]
    assert fast == [False, True, True, True, False, False]
    assert tried == [True, True, False]


@pytest.mark.parametrize(
    ("folding", "a_second", "seconds"),
    [(1, 0, 0), (1, 500, 0), (1, 750, 0.5), (1, 2_000, 3), (1, 100_000, 5), (2, 500, 0), (2, 750, 2), (2, 1_000, 3)],
)
async def test_folding_takes_the_smaller_a_part_of_the_time_the_faster_events_come_in(
    monkeypatch: pytest.MonkeyPatch, folding: int, a_second: int, seconds: float
) -> None:
    monkeypatch.setattr(processes, "weigh_session", lambda *, down: True)
    now = [100.0]
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stream, connection = processes.Stream(folding), AsyncMock()
    now[0] += 2
    connection.fetchval.return_value = 2 * a_second
    await stream.look(connection)
    assert stream.pause_seconds(1) == seconds

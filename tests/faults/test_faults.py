"""One schedule of many kinds in the suite, twenty in ``make test-slow``, five hundred by ``python -m bench.faults``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from api.clock import wall_clock
from tests.faults.faults import FAULTS
from tests.faults.oracle import Oracle
from tests.faults.run import run_schedule
from tests.faults.schedule import KINDS, faults_of
from tests.faults.storm import history_of
from tests.faults.world import World

# A client whose server is killed in mid-request may leave its socket to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

QUICK = 22
"""A seed that cuts, kills and sweeps, six faults in all, and leaves nothing standing still for long."""

SLOW = range(101, 121)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_a_schedule_is_a_function_of_its_seed() -> None:
    assert faults_of(7) == faults_of(7) != faults_of(8)
    assert FAULTS.keys() == KINDS.keys() == {fault.kind for seed in range(200) for fault in faults_of(seed)}


@pytest.mark.timeout(300)
def test_nothing_is_lost_under_fire(world: World) -> None:
    verdict = run_schedule(world, QUICK)
    assert verdict.events >= verdict.acknowledged > 100


def test_the_oracle_misses_an_event_that_was_acknowledged_and_never_written(world: World) -> None:
    history = history_of(QUICK, wall_clock())
    told = (history.book, "evt_never_written")
    world.storm.acknowledged[told] = {7}
    with pytest.raises(AssertionError, match=r"evt_never_written of .* was acknowledged at \{7\} and stands at None"):
        asyncio.run(Oracle(world, history, QUICK).judge())
    del world.storm.acknowledged[told]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SLOW)
def test_nothing_is_lost_under_fire_for_long(world: World, seed: int) -> None:
    run_schedule(world, seed)

"""``python -m bench.faults``: schedules of faults, one after the other, until one is violated or all have been run.

With ``--resume FILE`` every schedule adds a line to the file, and those that stand there are not run again. Ten
schedules share a world, so that its start is paid for once; a seed that fails is run again alone, from an empty folder,
with the command that is printed. The faults are a function of the seed; the processes keep their own time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import orjson
import typer

from tests.faults.run import Verdict, run_schedule
from tests.faults.schedule import faults_of
from tests.faults.world import World

TOGETHER = 10


def main(
    schedules: Annotated[int, typer.Option(min=1)] = 500,
    seed_from: Annotated[int, typer.Option(min=0)] = 1,
    resume: Annotated[Path | None, typer.Option(help="Add a line a schedule here, and go on after the last.")] = None,
) -> None:
    """Run schedules; status 1 at the first violation, with the seed and how to replay it."""
    seeds = [seed for seed in range(seed_from, seed_from + schedules) if seed not in _done(resume)]
    typer.echo(f"{schedules - len(seeds)} of {schedules} schedules are done; {len(seeds)} to go")
    began = time.monotonic()
    for first in range(0, len(seeds), TOGETHER):
        with _world() as world:
            for seed in seeds[first : first + TOGETHER]:
                _run(world, seed, resume)
    typer.echo(f"no violation in {schedules} schedules from seed {seed_from}; {time.monotonic() - began:.0f} s now")


@contextlib.contextmanager
def _world() -> Iterator[World]:
    world = World()
    try:
        yield world
    finally:
        world.close()


def _run(world: World, seed: int, resume: Path | None) -> None:
    try:
        verdict = run_schedule(world, seed)
    except Exception:  # noqa: BLE001 - whatever it is, the seed must be told
        traceback.print_exc()
        for fault in faults_of(seed):
            typer.echo(f"  {fault}", err=True)
        typer.echo(world.said(), err=True)
        typer.echo(
            f"\nseed {seed} is violated; replay: python -m bench.faults --schedules 1 --seed-from {seed}", err=True
        )
        sys.exit(1)
    took = f"{verdict.seconds:>5} s ({verdict.healing} to heal, {verdict.judging} to judge)"
    typer.echo(f"{verdict.seed:>6}  {took}  {verdict.events} events  {', '.join(verdict.faults)}")
    if resume is not None:
        _note(resume, verdict)


def _note(resume: Path, verdict: Verdict) -> None:
    with resume.open("ab") as file:
        file.write(orjson.dumps(dataclasses.asdict(verdict), option=orjson.OPT_APPEND_NEWLINE))


def _done(resume: Path | None) -> set[int]:
    if resume is None or not resume.exists():
        return set()
    return {orjson.loads(line)["seed"] for line in resume.read_bytes().splitlines()}


if __name__ == "__main__":
    typer.run(main)

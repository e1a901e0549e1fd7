"""Many processes append to one book while a reader tails it: nothing missed, nothing doubled, no gap.

``python -m bench.many`` does it at full size; the suite at a smaller one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from bench.ground import Ground
from ledger.appender import Appender
from ledger.event import NewEvent, Source, parse_envelope, received_event
from ledger.postgres import Database
from ledger.reader import read_tail
from ledger.wakeup import Listener, Notifier

BOOK = "self:live"

PATIENCE_SECONDS = 20.0
"""How long the reader waits for news, and the judge for a writer's answers: what does not come is missed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tailing reader saw and what the writers were told."""

    appended: int
    duplicates: int
    read: int
    doubled: int
    wrong_answers: int
    seconds: float

    @property
    def faultless(self) -> bool:
        """Whether the reader saw every event once, in order, where its writer was told it stands."""
        return self.read == self.appended and self.doubled == self.wrong_answers == 0


def event_of(number: int) -> NewEvent:
    """Make event ``number``: the same number, the same event, whoever sends it."""
    content = {
        "id": f"evt_{number}",
        "type": "customer.updated",
        "created": 1_768_000_000 + number // 10,
        "livemode": True,
        "data": {"object": {"id": f"cus_{number % 997}", "object": "customer", "note": "x" * 400}},
    }
    body = orjson.dumps(content)
    return received_event(
        parse_envelope(body),
        body,
        platform_account="self",
        source=Source.WEBHOOK,
        received_at=datetime(2026, 1, 15, tzinfo=UTC),
        signature=None,
    )


def _clock() -> datetime:
    return datetime.now(UTC)


async def _write(database: Database, numbers: list[int], writers: int) -> list[tuple[int, int, bool]]:
    told: list[tuple[int, int, bool]] = []
    async with (
        Notifier(database) as notifier,
        Appender(database, clock=_clock, on_commit=notifier.appended) as appender,
    ):

        async def writer() -> None:
            while numbers:
                number = numbers.pop()
                [place] = await appender.append([event_of(number)])
                told.append((number, place.position, place.duplicate))

        await asyncio.gather(*(writer() for _ in range(writers)))
    return told


def _process(
    url: str, numbers: list[int], writers: int, answers: multiprocessing.Queue[list[tuple[int, int, bool]]]
) -> None:
    answers.put(asyncio.run(_write(Database(url), numbers, writers)))


async def _tail(database: Database, events: int) -> list[tuple[int, str]]:
    connection = await database.as_role("ledger_app").connect()
    seen: list[tuple[int, str]] = []
    heard = time.monotonic()
    async with Listener(database.as_role("ledger_app")) as listener:
        while len(seen) < events and time.monotonic() - heard < PATIENCE_SECONDS:
            news = await read_tail(connection, BOOK, len(seen), 1_000)
            seen += [(one.position, one.event_id) for one in news]
            if news:
                heard = time.monotonic()
            else:
                await listener.wait(0.2)
    await connection.close()
    return seen


async def run(database: Database, events: int, processes: int = 4, writers: int = 8) -> Outcome:
    """Append ``events`` different events, one in ten of them twice and from two processes, and tail them meanwhile."""
    rng = random.Random(events)
    shares: list[list[int]] = [[] for _ in range(processes)]
    for number in range(events):
        shares[number % processes].append(number)
        if number % 10 == 0:
            shares[(number + 1) % processes].append(number)
    for share in shares:
        rng.shuffle(share)
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[list[tuple[int, int, bool]]] = context.Queue()
    workers = [context.Process(target=_process, args=(database.url, share, writers, answers)) for share in shares]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    seen = await _tail(database, events)
    told = [one for _ in workers for one in await asyncio.to_thread(answers.get, timeout=PATIENCE_SECONDS)]
    for worker in workers:
        worker.join()
    return _judge(seen, told, time.monotonic() - began)


def _judge(seen: list[tuple[int, str]], told: list[tuple[int, int, bool]], seconds: float) -> Outcome:
    places = {event_id: position for position, event_id in seen}
    firsts = [number for number, _, duplicate in told if not duplicate]
    return Outcome(
        appended=len(firsts),
        duplicates=len(told) - len(firsts),
        read=len(seen),
        doubled=len(seen) - len(places) + len(firsts) - len(set(firsts)),
        wrong_answers=sum(places.get(f"evt_{number}") != position for number, position, _ in told)
        + sum(position != expected for expected, (position, _) in enumerate(seen, 1)),
        seconds=seconds,
    )


def main(events: Annotated[int, typer.Option(min=100)] = 200_000) -> None:
    """Run at full size; status 1 when anything was missed, doubled or out of place."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-bench-"))
    ground = Ground(folder)
    ground.embedded.start()

    async def work() -> Outcome:
        return await run(await ground.fresh(), events)

    try:
        outcome = asyncio.run(work())
    finally:
        ground.embedded.release()
        shutil.rmtree(folder)
    typer.echo(f"{outcome} {outcome.appended / outcome.seconds:,.0f}/s")
    if not outcome.faultless:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

"""Workers that fold customers at once, each with what its own events claim, come to what all links together say.

Histories here are wilder than Stripe's: several customers claim the same charge, intent or invoice, in any order and of
any time; objects chain, are nobody's, or become somebody's through one event of a type that is not folded.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import asyncpg
import pytest

from api.operations import Operations
from ledger.appender import Appender
from ledger.books import book_of
from ledger.event import parse_envelope, stream_of
from ledger.observation import OBSERVED, Answer, Observation, observation_event
from ledger.postgres import Database
from projections import parts, rebuild
from projections.builds import Build, Request, ensure_live, read_build, start_build
from projections.contract import Subject
from projections.facts import Fact, fact_of
from projections.folding import rows_of
from projections.follower import clean, follow
from projections.links import is_customer, linking, links, merged, root_of
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.projections.histories import new_events
from tests.projections.test_joining import MONEY, table_of
from tests.stripe_events import Json, body_of, event

Parked = set[tuple[str, str]]
CUSTOMERS = ("cus_a", "cus_b", "acct_c", "guest_d")


@pytest.fixture(autouse=True)
def pieces_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PIECE_ROWS", 4)
    monkeypatch.setattr(rebuild, "_JOINED_ROWS", 5)
    monkeypatch.setattr(parts, "_EVENTS_PER_PART", 5)
    monkeypatch.setattr(parts, "_STREAMS_AT_ONCE", 2)


def history(seed: int) -> list[bytes]:
    """Make a book's events: objects that name each other, and whatever customers, at random."""
    dice = random.Random(seed)
    numbers = count(1)

    def maybe(chance: float, *choices: str) -> str | None:
        return dice.choice(choices) if dice.random() < chance else None

    def one() -> bytes:
        number = next(numbers)
        charge, intent, invoice = f"ch_{dice.randrange(3)}", f"pi_{dice.randrange(3)}", f"in_{dice.randrange(2)}"
        customer = maybe(0.6, *CUSTOMERS)
        choices: list[tuple[str, Json]] = [
            ("charge.succeeded", {"id": charge, "object": "charge", "customer": customer,
                                  "payment_intent": maybe(0.7, intent), "invoice": maybe(0.2, invoice)}),
            ("payment_intent.succeeded", {"id": intent, "object": "payment_intent", "customer": customer,
                                          "invoice": maybe(0.4, invoice), "latest_charge": maybe(0.4, charge)}),
            ("payment_intent.created", {"id": intent, "object": "payment_intent", "customer": customer}),
            ("invoice.finalized", {"id": invoice, "object": "invoice", "customer": customer,
                                   "payment_intent": maybe(0.3, intent), "charge": maybe(0.2, charge)}),
            ("refund.created", {"id": f"re_{number}", "object": "refund", "charge": charge,
                                "payment_intent": maybe(0.4, intent)}),
            ("charge.dispute.created", {"id": f"dp_{number}", "charge": maybe(0.8, charge),
                                        "payment_intent": maybe(0.5, intent)}),
            ("invoice_payment.paid", {"id": f"inpay_{number}", "invoice": maybe(0.9, invoice),
                                      "payment": {"payment_intent": maybe(0.8, intent)}}),
        ]  # fmt: skip
        type_, subject = dice.choice(choices)
        told = event(f"evt_{dice.randrange(10**6)}_{number}", type_, {**subject, "amount": number}, account=account,
                     created=dice.randrange(40))  # fmt: skip
        return body_of(told)

    account = f"acct_{seed}"
    return [one() for _ in range(dice.randrange(8, 40))]


def expected(bodies: Sequence[bytes]) -> tuple[list[Any], Parked]:
    """Return the rows and the parked children that all links together make, whatever the order."""
    every: list[tuple[str, str, Fact]] = []
    for position, body in enumerate(bodies, 1):
        told = parse_envelope(body)
        book = book_of(told.account or "self", livemode=told.livemode)
        fact = fact_of(told.event_id, told.type, told.created, position, body)
        every.append((book, stream_of(book, told.parsed), fact))
    claimed = [link for book, _, fact in every if fact.type in linking(MONEY.types) for link in links(book, fact)]
    standing = merged({}, claimed)
    subjects: dict[Subject, list[Fact]] = {}
    for book, stream, fact in every:
        if fact.type in MONEY.types:
            subjects.setdefault(Subject(book, root_of(stream, standing)), []).append(fact)
    moved = [row for subject, facts in subjects.items() for row in rows_of(MONEY, subject, facts)["moved"]]
    parked = {
        (link.child.partition("/")[0], link.child)
        for link in claimed
        if len(roots := {root_of(link.child, standing), root_of(link.parent, standing)}) == 2
        and all(is_customer(root) for root in roots)
    }
    return sorted(moved), parked


async def begun(connection: asyncpg.Connection, *, bounded: bool = False) -> Build:
    """Ask for a build of all there is, or of the first half of every book for good."""
    rows = await connection.fetch("SELECT book, position FROM ledger.head WHERE book <> 'ledger:control'")
    targets = {row["book"]: row["position"] // (2 if bounded else 1) for row in rows}
    return await start_build(connection, MONEY, Request("test", None, targets, bounded))


async def worked(connection: asyncpg.Connection, reading: asyncpg.Connection, build: Build) -> None:
    """Work on a rebuild until it is done, as a process does: beside others, and after some that were killed."""
    await rebuild.plan(connection, MONEY, build)
    terms = await rebuild.read_all_terms(connection, MONEY, build)
    async with rebuild.folding_ahead(reading, MONEY, build, terms) as ahead:
        while not (await rebuild.read_progress(connection, build)).finished:
            if not await rebuild.fold_piece(connection, MONEY, build, ahead):
                await asyncio.sleep(0.01)


async def work(database: Database, build: Build, workers: int, until: Awaitable[object] | None = None) -> None:
    """Let some workers work until they are done or something happens; then kill them, wherever they are."""
    pairs = [(await connect_runner(database), await connect_runner(database)) for _ in range(workers)]
    tasks = [asyncio.create_task(worked(connection, reading, build)) for connection, reading in pairs]
    if until is None:
        _, left = await asyncio.wait(tasks)
    else:
        await until
        left = {task for task in tasks if not task.done()}
    for connection, reading in pairs:
        connection.terminate()
        reading.terminate()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert left or results == [None] * workers, results


async def ended(connection: asyncpg.Connection, build: Build) -> tuple[list[Any], Parked]:
    assert await rebuild.finish(connection, build)
    for book in build.targets:
        while await clean(connection, MONEY, build, book):
            pass
    return await held(connection, build)


async def held(connection: asyncpg.Connection, build: Build) -> tuple[list[Any], Parked]:
    rows = await connection.fetch("SELECT book, subject FROM ledger.parked WHERE build_id = $1", build.build_id)
    return await table_of(connection, build, "moved"), {(row["book"], row["subject"]) for row in rows}


@pytest.mark.parametrize("seed", range(2))
async def test_workers_side_by_side_come_to_what_all_links_say(
    database: Database, clock: ManualClock, seed: int
) -> None:
    bodies = [body for number in range(25) for body in history(1_000 * seed + number)]
    connection = await connect_runner(database)
    async with Appender(database, clock=clock) as appender:
        await appender.append(new_events(bodies))
    build = await begun(connection)
    await work(database, build, 3)
    rows, claimed = expected(bodies)
    found, parked = await ended(connection, build)
    assert found == rows
    # Where rivals of rivals lead to one customer meanwhile, what lost is forgotten, live as well.
    assert parked <= claimed
    assert len(parked) > 0.8 * len(claimed) > 20
    live = await ensure_live(connection, MONEY)
    while await follow(connection, MONEY, live, limit=random.Random(seed).choice((3, 40, 1_000))):
        pass
    assert await table_of(connection, live, "moved") == rows
    await connection.close()


async def test_a_bounded_rebuild_folds_again_whom_others_claimed_from(database: Database, clock: ManualClock) -> None:
    """It is never followed up to the head, where the others are folded again."""
    books = [history(number) for number in range(5_000, 5_015)]
    connection = await connect_runner(database)
    async with Appender(database, clock=clock) as appender:
        await appender.append(new_events([body for bodies in books for body in bodies]))
    build = await begun(connection, bounded=True)
    await work(database, build, 2)
    async with Appender(database, clock=clock) as appender:
        await Operations(database, MONEY, appender, clock).complete(build.build_id)
    rows, claimed = expected([body for bodies in books for body in bodies[: len(bodies) // 2]])
    found, parked = await held(connection, build)
    assert found == rows
    assert set() < parked <= claimed
    assert (await read_build(connection, build.build_id)).phase == "ready"
    assert await connection.fetchval(f"SELECT count(*) FROM {build.schema_name}.dirty") == 0
    await connection.close()


async def test_what_a_customers_event_links_to_another_reaches_that_one(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is observed for one customer shows a charge of an intent that is another's, who is folded before."""
    monkeypatch.setattr(rebuild, "PIECE_ROWS", 1)
    charge = body_of({"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "amount": 5})
    seen = observation_event(
        Observation("self:live", "charge", "ch_1", clock.now, clock.now, [Answer("/v1/charges/ch_1", {}, charge)],
                    {"customer": "cus_b"}, event_id="obs_1")
    )  # fmt: skip
    told = [
        event("evt_1", "payment_intent.succeeded", {"id": "pi_1", "object": "payment_intent", "customer": "cus_a"}),
        event("evt_2", "charge.dispute.created", {"id": "dp_1", "charge": "ch_1", "amount": 5}),
    ]
    observing = replace(MONEY, types=MONEY.types | {OBSERVED})
    connection, reading = await connect_runner(database), await connect_runner(database)
    async with Appender(database, clock=clock) as appender:
        await appender.append([*new_events([body_of(one) for one in told]), seen])
    live = await ensure_live(connection, observing)
    while await follow(connection, observing, live):
        pass
    build = await begun(connection)
    await rebuild.plan(connection, observing, build)
    async with rebuild.folding_ahead(reading, observing, build, {}) as ahead:
        while await rebuild.fold_piece(connection, observing, build, ahead):
            pass
    assert await rebuild.finish(connection, build)
    assert [row for row in await table_of(connection, build, "moved") if row[2] != "charge.updated"] == []
    while await clean(connection, observing, build, "self:live"):
        pass
    moved = await table_of(connection, build, "moved")
    assert ("self:live/cus_a", "dp_1:charge.dispute.created", "charge.dispute.created", 5) in moved
    assert moved == await table_of(connection, live, "moved")
    await connection.close()
    await reading.close()


async def test_workers_may_be_killed_at_any_point(database: Database, clock: ManualClock) -> None:
    bodies = [body for number in range(7_000, 7_010) for body in history(number)]
    connection = await connect_runner(database)
    async with Appender(database, clock=clock) as appender:
        await appender.append(new_events(bodies))
    build, dice = await begun(connection), random.Random(7)

    async def further(than: int) -> None:
        """Wait until a piece was folded, and then for a moment: how fast a machine is must not matter."""
        for _ in count():
            now = await rebuild.read_progress(connection, build)
            if now.finished or now.events > than:
                break
            await asyncio.sleep(0.001)
        await asyncio.sleep(dice.random() / 50)

    for _ in range(2):
        await work(database, build, 2, asyncio.sleep(dice.random() / 10))
    await rebuild.plan(connection, MONEY, build)
    reached: set[int] = set()
    while not (progress := await rebuild.read_progress(connection, build)).finished:
        reached.add(progress.events)
        await work(database, build, 2, further(progress.events))
    assert len(reached) > 2
    found, parked = await ended(connection, build)
    rows, claimed = expected(bodies)
    assert (found, parked <= claimed) == (rows, True)
    await connection.close()

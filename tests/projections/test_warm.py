"""What a follower remembers changes how long it takes, and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import random
import tracemalloc
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.services import projections_of
from api.settings import Settings
from ledger.appender import Appender
from ledger.postgres import Database
from projections import folding, follower, refold
from projections.builds import ensure_live
from projections.certify import digest_of
from projections.folding import Finished, Folded, Kept
from projections.follower import CheckpointMovedError, follow
from projections.refold import Refolding, Wanted, Work
from projections.runner import connect_runner
from projections.warm import Remembered, Warm, digests_of
from tests.conftest import ManualClock
from tests.projections.histories import company, disordered, new_events
from tests.projections.test_engine_database import rebuilt
from tests.projections.test_joining import MONEY, Refund, table_of, told
from tests.projections.test_joining import rebuilt as money_rebuilt
from tests.stripe_events import body_of, event, subscription

PROJECTIONS = {one.name: one for one in projections_of(Settings()) if one.name != "periods"}


class Counting(Warm):
    """Counts how often something was remembered."""

    def __init__(self, most_bytes: int, counted: Counter[str]) -> None:
        super().__init__(most_bytes)
        self.counted = counted

    def get(self, subject: str) -> Remembered | None:
        found = super().get(subject)
        self.counted["known" if found else "unknown"] += 1
        return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", PROJECTIONS)
async def test_live_through_disorder_equals_a_rebuild(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, name: str, seed: int
) -> None:
    """Followed in small steps by two processes in turn, each remembering what it wrote, one of them next to nothing."""
    monkeypatch.setattr(folding, "REMEMBER_FROM", 2)
    monkeypatch.setattr(folding, "KEEP_FROM", 512 if seed % 2 else 40)
    monkeypatch.setattr(folding, "KEEP_EVERY", 20)
    monkeypatch.setattr(refold, "_NEWS_AT_ONCE", 1 + 3 * seed)
    monkeypatch.setattr(refold, "_ROWS_AT_ONCE", 30 if seed == 3 else 10_000)
    chance, counted = random.Random(seed), Counter[str]()
    warm = [Counting(10**6, counted), Counting(20_000, counted)]
    projection = replace(PROJECTIONS[name], consumer=None)
    connection = await connect_runner(database)
    live = await ensure_live(connection, projection)
    async with Appender(database, clock=clock) as appender:
        for batch in disordered(company(30 + seed, 3)[0], seed):
            await appender.append(new_events(batch))
            who = warm[chance.random() < 0.1]
            while await follow(connection, projection, live, limit=chance.choice((5, 40)), warm=who):
                pass
    fresh = await rebuilt(connection, database, projection)
    while await follow(connection, projection, fresh):
        pass
    assert (await digest_of(connection, projection, live))[0] == (await digest_of(connection, projection, fresh))[0]
    assert await connection.fetchval("SELECT count(*) FROM ledger.parked") == 0
    assert counted["known"] > counted["unknown"] / 4, counted
    await connection.close()


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for seed, name in enumerate(PROJECTIONS)])
async def test_a_busy_subject_goes_on_from_its_end(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, name: str, seed: int
) -> None:
    """Nearly in order, a few events at a time, and now and then a step is not committed and taken again."""
    monkeypatch.setattr(folding, "KEEP_FROM", 12)
    monkeypatch.setattr(folding, "KEEP_EVERY", 40)
    monkeypatch.setattr(refold, "BUSY_AGE", timedelta(days=10_000))
    chance, counted, go_on, move = random.Random(seed), Counter[str](), Finished.go_on, follower._move

    def counting(self: Finished, *given: Any) -> Folded | None:
        gone = go_on(self, *given)
        counted["went on" if gone else "did not"] += 1
        return gone

    async def failing(*given: Any) -> follower.Checkpoint:
        if chance.random() < 0.1:
            raise CheckpointMovedError
        return await move(*given)

    monkeypatch.setattr(Finished, "go_on", counting)
    monkeypatch.setattr(follower, "_move", failing)
    warm, connection = Warm(), await connect_runner(database)
    projection = replace(PROJECTIONS[name], consumer=None)
    live = await ensure_live(connection, projection)
    bodies = enumerate(company(50 + seed, 2)[0])
    events = [body for _, body in sorted(bodies, key=lambda one: one[0] + chance.choice((0, 0, 0, 2, 50)))]
    async with Appender(database, clock=clock) as appender:
        await appender.append(new_events(events))
    left = 1
    while left:
        with contextlib.suppress(CheckpointMovedError):
            left = await follow(connection, projection, live, limit=chance.choice((2, 3, 5)), warm=warm)
    monkeypatch.setattr(follower, "_move", move)
    fresh = await rebuilt(connection, database, projection)
    assert (await digest_of(connection, projection, live))[0] == (await digest_of(connection, projection, fresh))[0]
    assert min(counted["went on"], counted["did not"]) > 0, counted
    await connection.close()


async def test_a_charge_that_is_new_costs_its_customer_no_refolding(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an event of the customer's own stream names has no past of its own; a dispute that waited for it has."""
    monkeypatch.setattr(folding, "REMEMBER_FROM", 2)
    read: list[int] = []
    fold_one = refold.fold_one

    def counting(work: Work, stream_id: str, facts: Any, *others: Any) -> None:
        facts = list(facts)
        read.append(len(facts))
        fold_one(work, stream_id, facts, *others)

    monkeypatch.setattr(refold, "fold_one", counting)
    warm, connection = Warm(), await connect_runner(database)
    live = await ensure_live(connection, MONEY)

    def charge(number: int) -> bytes:
        return body_of(told(f"evt_{number}", "charge.succeeded", 1_000 * number, id=f"ch_{number}", object="charge",
                            payment_intent=f"pi_{number}", customer="cus_1", amount=number))  # fmt: skip

    dispute = told(
        "evt_d", "charge.dispute.created", 30_500, id="dp_1", charge="ch_31", payment_intent="pi_31", amount=9
    )
    async with Appender(database, clock=clock) as appender:
        for number in range(1, 31):
            await appender.append(new_events([charge(number)]))
            await follow(connection, MONEY, live, warm=warm)
        assert max(read) <= 3, "each went on from the one before"
        await appender.append(new_events([body_of(dispute)]))
        await follow(connection, MONEY, live, warm=warm)
        await appender.append(new_events([charge(31)]))
        await follow(connection, MONEY, live, warm=warm)
    assert read[-2:] == [1, 32], "the dispute first stood alone, and then was its customer's from the beginning"
    assert len(await table_of(connection, live, "moved")) == 32
    assert await table_of(connection, live, "moved") == await table_of(
        connection, await money_rebuilt(connection, database), "moved"
    )
    await connection.close()


@pytest.mark.parametrize("remembering", [True, False])
async def test_decisions_about_a_long_life_are_seen(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, remembering: bool
) -> None:
    """The versions of an aggregate's events are no positions, and a life that goes on from a state finds them still."""
    monkeypatch.setattr(folding, "REMEMBER_FROM", 2)
    if not remembering:
        monkeypatch.setattr(folding, "KEEP_FROM", 4)
        monkeypatch.setattr(folding, "_RECENT_EVERY", 2)
    warm = Warm() if remembering else None
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    refund = Refund.restore("refund-1")
    async with Appender(database, clock=clock) as appender:
        charges = [
            told(f"evt_{n}", "charge.succeeded", 1_000 * n, id=f"ch_{n}", object="charge", customer="cus_1", amount=n)
            for n in range(30)
        ]
        await appender.append(new_events([body_of(one) for one in charges]))
        await follow(connection, MONEY, live, warm=warm)
        for amount in (0, 7, 9):
            if amount:
                refund.raise_to(amount)
            else:
                refund.give("cus_1", 5)
            clock.now += timedelta(hours=1)
            await appender.append(refund.new_events("self:live", clock.now)[-1:])
            await follow(connection, MONEY, live, warm=warm)
            moved = {name: value for _, name, _, value in await table_of(connection, live, "moved")}
            assert moved["refund-1:ledger.refund.given"] == 5
            assert moved.get("refund-1:ledger.refund.raised", 0) == amount
    assert len(moved) == 32
    await connection.close()


async def test_what_somebody_else_wrote_is_noticed(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that another process took away come back with the next event, though they came to the same before."""
    monkeypatch.setattr(folding, "REMEMBER_FROM", 2)
    warm, connection = Warm(), await connect_runner(database)
    live = await ensure_live(connection, MONEY)

    def paid(n: int) -> bytes:
        return body_of(told(f"evt_{n}", "charge.succeeded", 1_000 * n, id=f"ch_{n}", object="charge", customer="cus_1"))

    async with Appender(database, clock=clock) as appender:
        for n in range(1, 5):
            await appender.append(new_events([paid(n)]))
            await follow(connection, MONEY, live, warm=warm)
        assert warm.get("self:live/cus_1") is not None
        await connection.execute(f"DELETE FROM {live.schema_name}.moved")
        await connection.execute("UPDATE ledger.checkpoint SET moves = moves + 1")
        discount = {"id": "di_1", "object": "discount", "customer": "cus_1", "source": {"coupon": "none"}}
        await appender.append(new_events([body_of(told("evt_9", "customer.discount.created", 9_000, **discount))]))
        await follow(connection, MONEY, live, warm=warm)
    assert len(await table_of(connection, live, "moved")) == 4
    await connection.close()


async def test_what_somebody_else_wrote_meanwhile_is_not_written_over(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that moves the checkpoint to where it stands, while a step folds, has the step begin anew."""
    monkeypatch.setattr(folding, "REMEMBER_FROM", 2)
    warm, connection, other = Warm(), await connect_runner(database), await connect_runner(database)
    live = await ensure_live(connection, MONEY)

    def paid(n: int) -> bytes:
        return body_of(told(f"evt_{n}", "charge.succeeded", 1_000 * n, id=f"ch_{n}", object="charge", customer="cus_1"))

    async def beside(*given: Any) -> Refolding:
        monkeypatch.setattr(follower, "refold", refold.refold)
        await follower.replay(other, MONEY, live, "self:live", ["self:live/cus_1"])
        return await refold.refold(*given)

    async with Appender(database, clock=clock) as appender:
        for n in range(1, 5):
            await appender.append(new_events([paid(n)]))
            await follow(connection, MONEY, live, warm=warm)
        await appender.append(new_events([paid(5)]))
        monkeypatch.setattr(follower, "refold", beside)
        with pytest.raises(CheckpointMovedError):
            await follow(connection, MONEY, live, warm=warm)
        assert len(await table_of(connection, live, "moved")) == 4
        await follow(connection, MONEY, live, warm=warm)
        assert len(await table_of(connection, live, "moved")) == 5
    await connection.close()
    await other.close()


@given(st.lists(st.integers(1, 700), max_size=150))
def test_what_goes_on_is_folded_in_portions_that_fit_in_memory(news: list[int]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    wanted = [Wanted(f"b/{place}", (), ((now, 1),) * count) for place, count in enumerate(news)]
    portions = [wanted[one] for one in refold._portions(wanted)]
    assert [one for some in portions for one in some] == wanted
    for some in portions:
        assert 1 <= len(some) <= 50
        assert len(some) == 1 or sum(len(one.news) for one in some) <= 500
    for some, following in itertools.pairwise(portions):
        assert len(some) == 50 or sum(len(one.news) for one in (*some, following[0])) > 500


def remembered(size: int) -> Remembered:
    incompressible = random.Random(size).randbytes(size)
    state = Kept(datetime(2026, 1, 1, tzinfo=UTC), 1, 1, 1, incompressible, (("charge:ch_1", 7), ("invoice:in_1", 9)))
    return Remembered(("a",), state, {"t": b"digest"})


def test_what_is_remembered_comes_back_as_it_was_and_takes_less() -> None:
    one = remembered(3_000)
    text = replace(one, state=replace(one.state, state=b'{"said":"' + b"again and " * 10_000 + b'"}'))
    warm = Warm(most_bytes=5_000)
    warm.keep("b", (10, 1), [("b/0", one)])
    assert warm.get("b/0") == one
    tracemalloc.start()
    warm.keep("b", (20, 2), [("b/0", text)])
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert warm.get("b/0") == text
    assert taken < len(text.state.state) / 5


def life(number: int) -> Remembered:
    """Return what is remembered of a customer with forty objects, nothing of it shared with another's."""
    ids = [f"self:live/pi_{number}_{place}" for place in range(40)]
    told = [{"id": one, "amount": number * place, "status": "paid"} for place, one in enumerate(ids)]
    anchors = tuple((f"payment_intent:{one}", number + place) for place, one in enumerate(ids[-8:]))
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    state = Kept(at, 160, 10**6 + number, 10**6 + number, orjson.dumps(told), anchors, late=(number,))
    return Remembered(tuple(ids), state, {f"table_{n}": f"{number:8}{n:8}".encode() for n in range(9)})


def test_no_more_is_taken_than_is_allowed() -> None:
    warm = Warm(most_bytes=2**20)
    tracemalloc.start()
    warm.keep("b", (10, 1), ((f"b/cus_{number}", life(number)) for number in range(3_000)))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert warm.get("b/cus_2999") == life(2_999)
    assert warm.get("b/cus_0") is None
    assert 2**19 < taken < 1.1 * 2**20


def test_the_oldest_is_forgotten_first() -> None:
    warm = Warm(most_bytes=8_000)
    warm.keep("b", (10, 1), [(f"b/{n}", remembered(3_000)) for n in range(2)])
    warm.keep("b", (20, 2), [("b/0", remembered(3_000)), ("b/2", remembered(1_000)), ("b/3", None)])
    assert [warm.get(f"b/{n}") is not None for n in range(4)] == [True, False, True, False]
    warm.at("b", (20, 2))
    assert warm.get("b/0") is not None
    warm.at("b", (30, 2))
    assert warm.get("b/0") is None
    warm.keep("b", (40, 5), [("b/9", remembered(20_000))])
    assert warm.get("b/9") is None


def test_rows_that_are_written_otherwise_have_another_digest() -> None:
    def of(value: object) -> dict[str, bytes]:
        return digests_of({"t": [("b/c", value)]})

    values = [1, "1", None, True, datetime(2026, 1, 1, tzinfo=UTC), ["1"], 2**63, 2**64, "\udc80", "\ufffd", Decimal(1)]
    assert len({of(value)["t"] for value in values}) == len(values)
    assert of(1) == of(1)


@pytest.mark.parametrize("remembering", ["nothing", "a state", "the fold"])
async def test_what_an_object_showed_a_hundred_objects_ago_still_tells_an_order(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, remembering: str
) -> None:
    """Three changes within a second that lead back to where they began: only the state before tells where that is."""
    if remembering == "the fold":
        monkeypatch.setattr(folding, "KEEP_FROM", 20)
        monkeypatch.setattr(refold, "BUSY_AGE", timedelta(days=10_000))
    projection = replace(PROJECTIONS["entitlements"], consumer=None)
    warm = Warm() if remembering != "nothing" else None
    connection = await connect_runner(database)
    live = await ensure_live(connection, projection)

    def shown(name: str, second: int, key: str, status: str, previous: str | None = None) -> bytes:
        changed: dict[str, Any] = {"previous": {"status": previous}} if previous else {}
        subject = subscription(key, customer="cus_1", status=status, items=f"si_{key}:prod_1*1")
        made = event(name, "customer.subscription.updated", subject, created=1_768_000_000 + second, **changed)
        return body_of(made)

    before = [shown("evt_first", 0, "sub_old", "past_due")]
    before += [shown(f"evt_{n}", 1_000 * n, f"sub_{n}", "active") for n in range(1, 101)]
    circuit = [
        shown("evt_a", 200_000, "sub_old", "unpaid", "active"),
        shown("evt_b", 200_000, "sub_old", "past_due", "unpaid"),
        shown("evt_c", 200_000, "sub_old", "active", "past_due"),
    ]
    async with Appender(database, clock=clock) as appender:
        for some in (before[:100], before[100:], [shown("evt_last", 150_000, "sub_100", "active")], circuit):
            await appender.append(new_events(some))
            while await follow(connection, projection, live, warm=warm):
                pass
    fresh = await rebuilt(connection, database, projection)
    assert (await digest_of(connection, projection, live))[0] == (await digest_of(connection, projection, fresh))[0]
    await connection.close()

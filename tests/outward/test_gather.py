"""Backfill and sweep: everything Stripe has, in order, exactly once; and what is proven by it."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
import pytest
from starlette.responses import Response

from api.outward.access import StripeAccess
from api.outward.coverage import HOUR, KEPT, hour_of, read_hours, spans
from api.outward.gather import Gathering, WrongBookError
from api.outward.paging import NoListError
from api.outward.refused import StripeRefusedError
from api.services import Services
from ledger.reader import read_event
from tests.conftest import ManualClock
from tests.standin import StandIn, World
from tests.stripe_events import Json, event, new_event

LOG = "SELECT event_id FROM ledger.event WHERE book = $1 ORDER BY position"


def told(number: int, at: datetime, live: bool = False, **more: object) -> Json:
    content = {"id": f"cus_{number % 7}", "object": "customer", "metadata": {"n": str(number)}}
    return event(f"evt_{number}", "customer.updated", content, created=int(at.timestamp()), live=live, **more)


def history(count: int, until: datetime, days: float = 25, seed: int = 1) -> list[Json]:
    """Make events in the days before a moment, in bursts, oldest first."""
    dice = random.Random(seed)
    times = sorted(until - timedelta(days=days * dice.random() ** 2) for _ in range(count))
    return [told(number, at.replace(microsecond=0)) for number, at in enumerate(times)]


async def logged(owner: asyncpg.Connection, book: str = "self:test") -> list[str]:
    return [row["event_id"] for row in await owner.fetch(LOG, book)]


def ids(events: list[Json]) -> list[str]:
    return [one["id"] for one in events]


async def test_a_backfill_survives_everything_in_order_exactly_once(
    gathering: Gathering, standin: StandIn, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    events = history(3_000, clock.now)
    standin.world.put(*events)
    faults = ["429", "", "500", "", "", "reset", "", "503", "", "", "", "slow", ""]
    standin.slow_seconds = 0.6
    standin.faults = itertools.chain(faults * 2, itertools.cycle(["", "", "", "", "429", "", "reset", "", "500"]))
    gathered = await gathering.backfill()
    assert gathered.found == {"self:test": 3_000}
    assert await logged(owner) == ids(events)
    assert (await gathering.backfill()).found.total() == 0


async def test_a_backfill_that_is_cut_short_goes_on(
    gathering: Gathering, standin: StandIn, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    events = history(1_500, clock.now)
    standin.world.put(*events)
    for allowed in range(2, 60, 3):
        standin.faults = itertools.chain([""] * allowed, itertools.repeat("404"))
        try:
            await gathering.backfill()
        except StripeRefusedError:
            continue
        break
    assert allowed > 5
    assert await logged(owner) == ids(events)


async def test_what_came_by_webhook_is_left_as_it_came(
    gathering: Gathering, services: Services, standin: StandIn, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    events = history(40, clock.now, days=1)
    standin.world.put(*events)
    await services.appender.append([new_event(one) for one in events[1::2]])
    gathered = await gathering.sweep()
    assert (gathered.listed["self:test"], gathered.found["self:test"]) == (40, 20)
    rows = await owner.fetch("SELECT event_id, source, body FROM ledger.event WHERE book = 'self:test'")
    sources = {row["event_id"]: row["source"] for row in rows}
    assert sources == {one["id"]: ("api", "webhook")[place % 2] for place, one in enumerate(events)}
    assert await owner.fetchval("SELECT count(*) FROM ledger.event_conflict") == 0
    before = await logged(owner)
    assert (await gathering.sweep()).found["self:test"] == 0
    assert await logged(owner) == before


async def test_the_bytes_are_those_of_the_answer(
    gathering: Gathering, services: Services, standin: StandIn, clock: ManualClock
) -> None:
    odd = told(1, clock.now - HOUR) | {"odd": {"large": 1e300, "small": 1.10, "text": "a\\u00e9 \u2028 ✓"}}
    standin.world.put(odd)
    await gathering.sweep()
    async with services.pool.acquire() as connection:
        stored = await read_event(connection, "self:test", "evt_1")
    assert stored is not None
    assert orjson.loads(stored.body) == odd
    page = orjson.dumps({"data": [odd]}, option=orjson.OPT_INDENT_2)
    assert stored.body in page, "as it stood in the page, indented as there"


async def test_connected_accounts_have_books_of_their_own(
    gathering: Gathering, standin: StandIn, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    standin.world.put(told(1, clock.now - HOUR))
    standin.connect("acct_A").put(told(1, clock.now - HOUR), told(2, clock.now - HOUR))
    standin.connect("acct_B").put(told(3, clock.now - HOUR, account="acct_B"))
    assert (await gathering.backfill()).found == {"self:test": 1, "acct_A:test": 2, "acct_B:test": 1}
    assert [await logged(owner, f"{one}:test") for one in ("self", "acct_A", "acct_B")] == [
        ["evt_1"], ["evt_1", "evt_2"], ["evt_3"],
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [{"live": True}, {"account": "acct_other"}])
async def test_nothing_crosses_the_wall(
    gathering: Gathering, standin: StandIn, clock: ManualClock, owner: asyncpg.Connection, wrong: Json
) -> None:
    standin.world.put(told(1, clock.now - HOUR, **wrong))
    with pytest.raises(WrongBookError):
        await gathering.sweep()
    assert await owner.fetchval("SELECT count(*) FROM ledger.event WHERE book <> 'ledger:control'") == 0


async def test_an_hour_is_proven_by_a_look_that_is_late_enough(
    gathering: Gathering, services: Services, standin: StandIn, clock: ManualClock
) -> None:
    clock.now = datetime(2026, 1, 15, 12, 10, tzinfo=UTC)
    hour = datetime(2026, 1, 15, 11, tzinfo=UTC)
    standin.world.put(told(1, hour + timedelta(minutes=30)), told(2, clock.now - timedelta(minutes=2)))

    async def proven() -> list[tuple[bool, int, int]]:
        async with services.pool.acquire() as connection:
            hours = await read_hours(connection, "self:test", hour, hour + 2 * HOUR)
        return [(one.proven, one.listed, one.found) for one in hours]

    assert await proven() == [(False, 0, 0), (False, 0, 0)]
    await gathering.sweep()
    assert await proven() == [(False, 1, 1), (False, 1, 1)], "ten past twelve, an event of eleven may still come"
    clock.forward(minutes=5)
    await gathering.sweep()
    assert await proven() == [(True, 1, 1), (False, 1, 1)]
    standin.world.put(told(3, hour + timedelta(minutes=59)))
    clock.forward(hours=2)
    await gathering.sweep()
    assert await proven() == [(True, 2, 2), (True, 1, 1)], "later than we thought, and found all the same"


async def test_every_hour_that_stripe_keeps_is_proven_and_asked_for_once(
    gathering: Gathering, services: Services, standin: StandIn, clock: ManualClock
) -> None:
    standin.world.put(*history(300, clock.now))
    await gathering.sweep()
    async with services.pool.acquire() as connection:
        hours = await read_hours(connection, "self:test", hour_of(clock.now) - 29 * 24 * HOUR, hour_of(clock.now))
    assert [one.hour for one in hours if not one.proven] == [hour_of(clock.now) - HOUR]
    standin.requests.clear()
    await gathering.sweep()
    assert standin.paths() == ["GET /v1/accounts", "GET /v1/events"]
    assert int(standin.requests[1][2]["created[gte]"]) == (clock.now - 3 * HOUR).timestamp()


async def test_an_event_that_cannot_be_read_leaves_its_hour_unproven(
    gathering: Gathering, access: StripeAccess, standin: StandIn, clock: ManualClock, services: Services
) -> None:
    standin.world.put(told(1, clock.now - 5 * HOUR) | {"type": "no type at all"}, told(2, clock.now - 6 * HOUR))
    gathered = await gathering.sweep()
    assert (gathered.unreadable["self:test"], gathered.found["self:test"]) == (1, 1)
    async with services.pool.acquire() as connection:
        hours = await read_hours(connection, "self:test", clock.now - 7 * HOUR, clock.now - 4 * HOUR)
    assert [one.proven for one in hours] == [True, True, False]


async def test_the_hour_that_stripe_is_about_to_forget_is_asked_for_once_and_not_proven(
    gathering: Gathering, services: Services, standin: StandIn, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    clock.now = datetime(2026, 1, 31, 12, 20, tzinfo=UTC)
    edge = clock.now - KEPT
    standin.world.put(told(1, edge + timedelta(minutes=10)), told(2, edge + HOUR))
    await gathering.backfill()
    assert await logged(owner) == ["evt_1", "evt_2"]
    async with services.pool.acquire() as connection:
        hours = await read_hours(connection, "self:test", hour_of(edge), hour_of(edge) + 2 * HOUR)
    assert [one.proven for one in hours] == [False, True], "what happened in its first minutes is gone"
    standin.requests.clear()
    await gathering.backfill()
    [_, asked] = standin.requests
    assert int(asked[2]["created[gte]"]) == hour_of(clock.now).timestamp(), "all but the hour that is still going on"


async def test_a_connected_account_that_refuses_keeps_no_other_from_being_swept(
    gathering: Gathering, standin: StandIn, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    for one in ("acct_A", "acct_B", "acct_C"):
        standin.connect(one).put(told(1, clock.now - HOUR))
    del standin.worlds["acct_B"]
    gathered = await gathering.sweep()
    assert gathered.found == {"acct_A:test": 1, "acct_C:test": 1}
    assert list(gathered.refused) == ["acct_B:test"]
    assert "no permission" in gathered.refused["acct_B:test"]


async def test_accounts_that_are_known_are_swept_though_the_key_may_not_list_them(
    gathering: Gathering, standin: StandIn, clock: ManualClock
) -> None:
    connected = standin.connect("acct_A")
    connected.put(told(1, clock.now - HOUR))
    await gathering.sweep()
    connected.put(told(2, clock.now - HOUR))
    standin.faults = iter(["403"])
    assert (await gathering.sweep()).found["acct_A:test"] == 1
    del standin.worlds["acct_A"]
    standin.faults = iter(["403"])
    assert list((await gathering.sweep()).refused) == ["acct_A:test"], "said, where it was not asked"


@pytest.mark.parametrize("odd", [None, {"id": "evt_1"}, {"id": "evt_1", "created": "yesterday"}])
async def test_what_stripe_would_never_list_proves_nothing(
    gathering: Gathering, monkeypatch: pytest.MonkeyPatch, standin: StandIn, services: Services, odd: object
) -> None:
    def answer(world: World, listed: object, params: object, path: str) -> Response:
        return Response(orjson.dumps({"object": "list", "data": [odd] if path == "/v1/events" else []}))

    monkeypatch.setattr(standin, "_list", answer)
    with pytest.raises(NoListError, match="/v1/events answers something"):
        await gathering.sweep()
    async with services.pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM ledger.coverage") == 0


def test_what_is_left_of_a_day() -> None:
    noon = datetime(2026, 1, 15, 12, tzinfo=UTC)
    done = [noon, noon + 2 * HOUR, noon + 3 * HOUR]
    assert spans(done, noon - HOUR, noon + 4.5 * HOUR) == [
        (noon - HOUR, noon), (noon + HOUR, noon + 2 * HOUR), (noon + 4 * HOUR, noon + 4.5 * HOUR),
    ]  # fmt: skip
    assert spans([], noon, noon) == []

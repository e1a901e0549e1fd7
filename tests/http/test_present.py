"""Answers from memory: the same bytes as the database's, forgotten when rows are written, honest when it is away."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import httpx
import pytest

from api.memory import Entry, Memory
from api.secrets import digest_of, parse_api_keys
from api.services import Services
from ledger.postgres import Database
from projections.builds import Freshness
from projections.entitlements.query import Entitlements
from projections.entitlements.rows import Holdings, ProductRow
from tests.conftest import ManualClock, client_of
from tests.http.test_access import post
from tests.http.test_entitlements import BASE, bought, fold_everything
from tests.stripe_events import event, product, subscription

SEATS = "/v1/customers/cus_1/entitlements/seats"
DATABASE = {"min_position": "0"}
"""Any parameter but ``book`` is answered by the database."""


RIGHTS = {
    "no-scope": "events:read",
    "elsewhere": "entitlements:read@acct_2:live",
    "here": "entitlements:read@self:live",
}


async def confirmed(services: Services, position: int) -> None:
    """Wait until the tail has seen the book folded up to a position."""
    await services.live.tail.first_read()
    async with asyncio.timeout(10):
        while True:
            state = services.live.tail.states().get("self:live")
            if state is not None and state.freshness.position >= position:
                return
            await asyncio.sleep(0.01)


async def bought_and_confirmed(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    await confirmed(services, 2)


def kept(services: Services) -> list[str]:
    return sorted(holder for _, holder in services.live.memory._entries)


async def test_what_is_kept_of_a_newer_build_waits_until_that_is_confirmed(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought_and_confirmed(client, clock, database, services)
    assert (await client.get(SEATS)).json()["value"] == 8
    entry = services.live.memory.get("self:live", "cus_1")
    assert entry is not None
    freshness = replace(entry.found.freshness, build="entitlements-2")
    entry.found, entry.bodies = replace(entry.found, freshness=freshness), {"seats": (b'{"value":16', False)}
    for asked in ({}, {"book": "self:live"}):
        answer = (await client.get(SEATS, params=asked)).json()
        assert (answer["value"], answer["freshness"]["build"]) == (8, "entitlements-1")


async def test_it_is_kept_and_forgotten_when_its_rows_are_written(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought_and_confirmed(client, clock, database, services)
    assert kept(services) == []
    assert (await client.get(SEATS)).json()["value"] == 8
    assert kept(services) == ["cus_1"]
    subject = subscription("sub_2", customer="cus_2", items="si_2:prod_1*1")
    await post(client, clock, event("evt_3", "customer.subscription.created", subject, created=BASE + 20))
    await fold_everything(database, services)
    await confirmed(services, 3)
    assert kept(services) == ["cus_1"], "another customer's rows were written"
    assert (await client.get(SEATS)).json()["freshness"]["position"] == 3
    # An answer may be another one though nothing of it is told to streams.
    subject = subscription(items="si_1:prod_1*8", cancel_at=BASE + 1_000_000)
    await post(client, clock, event("evt_4", "customer.subscription.updated", subject, created=BASE + 30))
    await fold_everything(database, services)
    await confirmed(services, 4)
    assert kept(services) == []
    assert (await client.get(SEATS)).json()["ends_at"] is not None


async def test_both_ways_write_the_same_bytes(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    dice, position, compared = random.Random(11), 1, 0
    await post(client, clock, event("evt_p", "product.created", product(), created=BASE))
    for _ in range(6):
        for _ in range(6):
            position += 1
            await post(client, clock, random_event(dice, position))
        await fold_everything(database, services)
        await confirmed(services, position)
        for _ in range(4):
            clock.forward(seconds=dice.choice([0, 1, 3_600, 86_400, 4 * 86_400]))
            for customer in ("cus_0", "cus_1", "cus_2", "org:acme", "org:umbra", "cus_9"):
                path = f"/v1/customers/{customer}/entitlements/{dice.choice(['sso', 'seats', 'prod_2', 'none'])}"
                answers = [await client.get(path), await client.get(path), await client.get(path, params=DATABASE)]
                assert answers[0].content == answers[1].content == answers[2].content
                headers = [{**answer.headers, "x-request-id": ""} for answer in answers[1:]]
                assert headers[0] == headers[1]
                compared += 1
    assert compared == 144
    assert kept(services)


def random_event(dice: random.Random, number: int) -> dict[str, object]:
    customer = f"cus_{dice.randrange(3)}"
    subject = subscription(
        f"sub_{customer}_{dice.randrange(2)}",
        customer=customer,
        status=dice.choice(["active", "past_due", "canceled", "trialing", "unpaid"]),
        items=f"si_{customer}:{dice.choice(['prod_1', 'prod_2'])}*{dice.randrange(1, 9)}",
        metadata={"org_id": dice.choice(["acme", "umbra", ""])},
        cancel_at=dice.choice([None, BASE + 86_400]),
    )
    return event(f"evt_{number}", "customer.subscription.updated", subject, created=BASE + dice.randrange(1_000))


async def test_an_old_confirmation_is_said_and_a_very_old_one_not_used(
    client: httpx.AsyncClient,
    clock: ManualClock,
    database: Database,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await bought_and_confirmed(client, clock, database, services)
    await client.get(SEATS)
    tail = services.live.tail
    for age, stale, from_memory in ((0.9, False, True), (1.1, True, True), (4.9, True, True), (5.1, False, False)):
        monkeypatch.setattr(type(tail), "age_seconds", lambda _, age=age: age)
        used: list[object] = []
        monkeypatch.setattr(Entry, "body", _noting(used, Entry.body))
        answer = (await client.get(SEATS)).json()
        assert (answer["value"], answer["freshness"]["stale"], bool(used)) == (8, stale, from_memory)
        monkeypatch.undo()


async def test_memory_answers_before_the_routes_what_they_would_answer(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought_and_confirmed(client, clock, database, services)
    slashed = "/v1/customers/org:acme%2Feu/entitlements/seats"
    for path in (SEATS, slashed, SEATS.replace("seats", "no%20such%2Fthing")):
        await client.get(path)
        first, routed = await client.get(path), await client.get(path, params={"book": "self:live"})
        assert first.status_code == routed.status_code == 200
        assert first.content == routed.content
        same = {name: first.headers[name] for name in first.headers if name != "x-request-id"}
        assert same.items() <= dict(routed.headers).items()
    assert kept(services) == ["cus_1", "org:acme/eu"]
    assert (await client.get(slashed.replace("%2F", "/"))).status_code == 404
    for headers, status in (({"Authorization": "Bearer lk_wrong"}, 401), ({"Authorization": ""}, 401)):
        assert (await client.get(SEATS, headers=headers)).status_code == status
    counted = (await client.get("/metrics")).text
    route = 'route="/v1/customers/{customer}/entitlements/{feature}",status="200"'
    assert f'ledger_http_request_seconds_count{{method="GET",{route}}} 9.0' in counted


async def test_memory_answers_nobody_who_may_not_ask(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought_and_confirmed(client, clock, database, services)
    written = (f"{name}:{rights}:{digest_of(name)}" for name, rights in RIGHTS.items())
    keys = (*services.credentials.api_keys, *parse_api_keys(",".join(written)))
    several = replace(services, credentials=replace(services.credentials, api_keys=keys))
    async with client_of(several) as asking:
        for _ in range(2):
            assert (await asking.get(SEATS)).json()["granted"]
            assert kept(services) == ["cus_1"]
            for name, status in (("no-scope", 403), ("elsewhere", 200), ("here", 200), ("nobody", 401)):
                answer = await asking.get(SEATS, headers={"Authorization": f"Bearer {name}"})
                assert answer.status_code == status
                assert status != 200 or answer.json()["granted"] == (name == "here")


async def test_a_bug_in_an_answer_is_a_problem_that_names_nobody(
    client: httpx.AsyncClient,
    clock: ManualClock,
    database: Database,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await bought_and_confirmed(client, clock, database, services)
    await client.get(SEATS)
    assert kept(services) == ["cus_1"]

    def fail(*_: object) -> None:
        raise ValueError("cus_1 has a bug")

    monkeypatch.setattr(Entry, "body", fail)
    answer = await client.get(SEATS)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["x-request-id"] in capsys.readouterr().out
    assert "cus_1" not in answer.text


def _noting(used: list[object], wrapped: object) -> object:
    def note(*arguments: object, **named: object) -> object:
        used.append(arguments)
        return wrapped(*arguments, **named)  # type: ignore[operator]

    return note


async def test_another_build_is_seen_at_once(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought_and_confirmed(client, clock, database, services)
    assert (await client.get(SEATS)).json()["freshness"]["build"] == "entitlements-1"
    assert kept(services) == ["cus_1"]
    owner = await database.as_role("ledger_builder").connect()
    await owner.execute("UPDATE ledger.build SET phase = 'retired'")
    await fold_everything(database, services)
    await owner.close()
    async with asyncio.timeout(10):
        while (await client.get(SEATS)).json()["freshness"]["build"] != "entitlements-2":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await client.get(SEATS)).json()["value"] == 8


def holding(holder: str, rows: int = 0) -> Entitlements:
    some = ProductRow("s", "b", "p", "", ManualClock().now, None, ())
    now = ManualClock().now
    return Entitlements(
        Holdings(holder, products=(some,) * rows), (), now, now, True, Freshness("b", "entitlements-1", 1, 1, None)
    )


async def load(memory: Memory, holder: str, touch: int | None = 1, rows: int = 0) -> Entitlements:
    async def read() -> tuple[Entitlements, int | None]:
        return holding(holder, rows), touch

    return await memory.load("b", holder, ManualClock().now, read)


async def test_memory_is_bounded_by_rows() -> None:
    memory = Memory(rows_max=100)
    for number in range(50):
        await load(memory, f"cus_{number}", rows=9)
    assert len(memory._entries) == 10
    assert memory._rows == 100
    assert memory.get("b", "cus_49") is not None
    await load(memory, "org:large", rows=5_000)
    assert memory.get("b", "org:large") is None
    await load(memory, "cus_49", rows=1)
    assert memory._rows == 92
    entry = memory.get("b", "cus_49")
    assert isinstance(entry, Entry)
    for number in range(1_000):
        entry.body(f"feature {number}", ManualClock().now, lambda *_: (b"", False))
    assert len(entry.bodies) == 256


async def test_what_is_written_while_it_is_read_is_not_kept() -> None:
    memory = Memory()

    async def read(meanwhile: set[str] | None, touch: int) -> tuple[Entitlements, int | None]:
        memory.forget("b", meanwhile, 7)
        return holding("cus_1"), touch

    now = ManualClock().now
    for meanwhile, touch, stays in (
        ({"cus_1"}, 6, False),
        ({"cus_1"}, 7, True),
        ({"cus_2"}, 6, True),
        (None, 6, False),
    ):
        memory.forget_all()
        await memory.load("b", "cus_1", now, lambda meanwhile=meanwhile, touch=touch: read(meanwhile, touch))  # type: ignore[misc]
        assert (memory.get("b", "cus_1") is not None) == stays
    assert memory._loading == {}
    memory.forget("b", {"cus_1"}, 6)
    memory.forget("other", None, 99)
    await load(memory, "cus_3", touch=9)
    memory.forget("b", None, 9)
    assert memory.get("b", "cus_3") is not None, "it was read after that commit"
    memory.forget("b", None, 10)
    assert memory.get("b", "cus_3") is None

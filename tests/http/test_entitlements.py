"""``/v1/customers/{customer}/entitlements``: from a webhook to an answer, over HTTP and a real database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from api.services import Services
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.follower import follow
from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.stripe_events import event, product, subscription

BASE = 1_768_478_000


async def fold_everything(database: Database, services: Services) -> None:
    connection = await database.as_role("ledger_builder").connect()
    try:
        build = await ensure_live(connection, services.entitlements)
        while await follow(connection, services.entitlements, build):
            pass
    finally:
        connection.terminate()


@contextlib.asynccontextmanager
async def following(database: Database, services: Services) -> AsyncIterator[None]:
    """A follower that polls, beside what the test does."""

    async def forever() -> None:
        while True:
            await fold_everything(database, services)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def bought(client: httpx.AsyncClient, clock: ManualClock) -> None:
    await post(client, clock, event("evt_1", "product.created", product(), created=BASE))
    subject = subscription(items="si_1:prod_1*8", metadata={"org_id": "acme/eu"})
    await post(client, clock, event("evt_2", "customer.subscription.created", subject, created=BASE + 10))


async def test_a_webhook_in_an_entitlement_out(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    answer = await client.get("/v1/customers/cus_1/entitlements")
    content = answer.json()
    assert answer.headers["ledger-position"] == "2"
    assert (content["customer"], content["org"]) == ("cus_1", "acme/eu")
    assert [(one["feature"], one["granted"], one["value"]) for one in content["entitlements"]] == [
        ("prod_1", True, True),
        ("seats", True, 8),
        ("sso", True, True),
    ]
    assert content["entitlements"][1] == {
        "feature": "seats",
        "granted": True,
        "kind": "quantity",
        "value": 8,
        "state": "active",
        "reason": "active",
        "valid_from": "2026-01-15T11:53:30Z",
        "valid_until": None,
        "ends_at": None,
        "sources": [
            {
                "kind": "subscription",
                "id": "sub_1",
                "item": "si_1",
                "product": "prod_1",
                "price": "price_1",
                "quantity": 8,
                "status": "active",
                "value": 8,
            }
        ],
        "because": ["evt_2"],
    }
    assert content["freshness"] == {
        "book": "self:live",
        "position": 2,
        "head": 2,
        "lag_seconds": 0.0,
        "build": "entitlements-1",
        "stale": False,
        "parked": False,
    }


@pytest.mark.parametrize(
    ("path", "granted", "reason"),
    [
        ("cus_1/entitlements/seats", True, "active"),
        ("org:acme%2Feu/entitlements/seats", True, "active"),
        ("cus_1/entitlements/no%2Fsuch%20thing", False, "no_source"),
        ("cus_1/entitlements/%F0%9F%92%B8", False, "no_source"),
        ("cus_9/entitlements/seats", False, "unknown_customer"),
        ("org:nobody/entitlements/seats", False, "unknown_customer"),
    ],
)
async def test_one_feature_always_has_an_answer(
    client: httpx.AsyncClient,
    clock: ManualClock,
    database: Database,
    services: Services,
    path: str,
    granted: bool,
    reason: str,
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    answer = await client.get(f"/v1/customers/{path}")
    assert (answer.status_code, answer.json()["granted"], answer.json()["reason"]) == (200, granted, reason)
    assert answer.json()["value"] == (8 if granted else False)


async def test_an_unknown_customer_has_an_empty_list(
    client: httpx.AsyncClient, database: Database, services: Services
) -> None:
    await fold_everything(database, services)
    answer = await client.get("/v1/customers/cus_9/entitlements")
    assert (answer.status_code, answer.json()["entitlements"], answer.json()["org"]) == (200, [], None)


async def test_what_was_taken_away_is_listed_when_all_is_asked_for(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    ended = subscription(status="canceled", items="si_1:prod_1*8")
    await post(client, clock, event("evt_3", "customer.subscription.deleted", ended, created=BASE + 20))
    await fold_everything(database, services)
    assert (await client.get("/v1/customers/cus_1/entitlements")).json()["entitlements"] == []
    everything = (await client.get("/v1/customers/cus_1/entitlements", params={"include": "all"})).json()
    seats = next(one for one in everything["entitlements"] if one["feature"] == "seats")
    assert (seats["granted"], seats["value"], seats["state"], seats["reason"]) == (False, 0, "expired", "canceled")
    assert seats["valid_until"] == "2026-01-15T11:53:40Z"
    assert seats["because"] == ["evt_2", "evt_3"]
    then = (await client.get("/v1/customers/cus_1/entitlements/seats", params={"as_of": "2026-01-15T11:53:39Z"})).json()
    assert (then["granted"], then["value"]) == (True, 8)
    before = (await client.get("/v1/customers/cus_1/entitlements/seats", params={"at": "2026-01-15"})).json()
    assert (before["granted"], before["reason"]) == (False, "no_source")


async def test_the_answer_is_today_s_code_over_what_was_known(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    recorded = clock.now
    clock.forward(hours=1)
    late = subscription(items="si_1:prod_1*3")
    await post(client, clock, event("evt_3", "customer.subscription.updated", late, created=BASE + 15))
    await fold_everything(database, services)

    async def seats(**asked: str) -> object:
        return (await client.get("/v1/customers/cus_1/entitlements/seats", params=asked)).json()["value"]

    assert await seats() == 3
    assert await seats(known_at=recorded.isoformat()) == 8
    assert await seats(known_position="2") == 8
    assert await seats(known_position="99") == 3
    assert await seats(known_position="3", as_of="2026-01-15T11:53:31Z") == 8
    assert await seats(known_position="3", as_of="2026-01-15t11:53:31z") == 8, "RFC 3339 lets both letters be small"
    assert await seats(known_position="0") is False


async def test_what_was_known_of_an_organisation_is_folded_from_its_customers(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services, monkeypatch: Any
) -> None:
    await bought(client, clock)
    moved = subscription(items="si_1:prod_1*8", metadata={"org_id": "beta"})
    await post(client, clock, event("evt_3", "customer.subscription.updated", moved, created=BASE + 20))
    await fold_everything(database, services)

    async def seats(org: str, **asked: str) -> object:
        return (await client.get(f"/v1/customers/org:{org}/entitlements/seats", params=asked)).json()["value"]

    assert await seats("acme%2Feu") == 0
    assert await seats("acme%2Feu", known_position="2") == 8
    assert await seats("beta") == 8
    assert await seats("beta", known_position="2") is False
    monkeypatch.setattr("projections.entitlements.query.ORG_CUSTOMERS_MAX", 0)
    refused = await client.get("/v1/customers/org:beta/entitlements", params={"known_position": "2"})
    assert (refused.status_code, refused.json()["type"]) == (409, "build-required")
    told = '/v1/projections/entitlements/rebuilds with {"book": "self:live", "until_position": 2}'
    assert told in refused.json()["detail"]


async def test_the_present_is_never_before_the_newest_fact(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    ahead = int(clock.now.timestamp()) + 2  # Stripe's clock is two seconds ahead of ours
    subject = subscription(items="si_1:prod_1*9")
    await post(client, clock, event("evt_3", "customer.subscription.updated", subject, created=ahead))
    await fold_everything(database, services)
    assert (await client.get("/v1/customers/cus_1/entitlements/seats")).json()["value"] == 9


async def test_a_reader_can_wait_for_its_own_write(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    early = await client.get("/v1/customers/cus_1/entitlements/sso", params={"min_position": "2"})
    assert (early.status_code, early.headers["retry-after"]) == (503, "1")
    async with following(database, services):
        asked = {"min_position": "2", "wait": "10"}
        assert (await client.get("/v1/customers/cus_1/entitlements/sso", params=asked)).json()["granted"]
        never = await client.get("/v1/customers/cus_1/entitlements/sso", params={"min_position": "3", "wait": "0.1"})
        assert (never.status_code, never.json()["type"]) == (503, "not-yet")


async def test_lag_is_stated(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    subject = subscription("sub_2", items="si_2:prod_2*1")
    await post(client, clock, event("evt_3", "customer.subscription.created", subject, created=BASE + 20))
    clock.forward(seconds=90)
    freshness = (await client.get("/v1/customers/cus_1/entitlements")).json()["freshness"]
    assert (freshness["position"], freshness["head"], freshness["lag_seconds"]) == (2, 3, 90.0)
    assert freshness["stale"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("cus_1/entitlements", {"as_of": "yesterday"}),
        ("cus_1/entitlements", {"as_of": "2026-01-15T12:00:00"}),
        ("cus_1/entitlements", {"known_at": "2026-13-01"}),
        ("cus_1/entitlements", {"known_position": "-1"}),
        ("cus_1/entitlements", {"min_position": "x"}),
        ("cus_1/entitlements", {"wait": "11"}),
        ("cus_1/entitlements", {"wait": "-1"}),
        ("cus_1/entitlements", {"include": "some"}),
        ("cus%20us/entitlements", {}),
        ("org:/entitlements", {}),
    ],
)
async def test_malformed_requests(client: httpx.AsyncClient, path: str, asked: dict[str, str]) -> None:
    answer = await client.get(f"/v1/customers/{path}", params=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_books_are_worlds_apart(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await post(client, clock, event("evt_9", "product.created", product(), live=False))
    await fold_everything(database, services)
    other = await client.get("/v1/customers/cus_1/entitlements", params={"book": "self:test"})
    assert other.json()["entitlements"] == []


async def test_many_checks_are_answered_in_order(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)

    async def check(checks: object, **asked: str) -> httpx.Response:
        return await client.post("/v1/entitlements/check", json={"checks": checks}, params=asked)

    asked = [("cus_1", "seats"), ("cus_9", "seats"), ("org:acme/eu", "sso"), ("cus_1", "no/such 💸")]
    answer = await check([{"customer": customer, "feature": feature} for customer, feature in asked])
    data = answer.json()["data"]
    assert [(one["customer"], one["feature"], one["granted"], one["reason"]) for one in data] == [
        ("cus_1", "seats", True, "active"),
        ("cus_9", "seats", False, "unknown_customer"),
        ("org:acme/eu", "sso", True, "active"),
        ("cus_1", "no/such 💸", False, "no_source"),
    ]
    assert answer.json()["freshness"]["position"] == 2
    before = await check([{"customer": "cus_1", "feature": "seats"}], as_of="2026-01-01")
    assert before.json()["data"][0]["reason"] == "no_source"
    one = {"customer": "cus_1", "feature": "seats"}
    full = await check([one] * 500)
    assert [found["value"] for found in full.json()["data"]] == [8] * 500
    none = (await check([])).json()
    assert (none["data"], none["freshness"]["position"]) == ([], 2)
    for wrong in (
        [one] * 501,
        None,
        "all",
        [{"customer": "cus_1"}],
        [one | {"more": 1}],
        [{"customer": "a b"} | one, 7],
    ):
        assert (await check(wrong)).status_code == 400


async def test_a_moment_before_the_first_event_and_one_in_the_future(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)

    async def seats(at: str) -> dict[str, Any]:
        found = await client.get("/v1/customers/cus_1/entitlements/seats", params={"as_of": at})
        assert found.status_code == 200
        return dict(found.json())

    assert ((await seats("1999-01-01"))["granted"], (await seats("1999-01-01"))["reason"]) == (False, "no_source")
    assert (await seats("2099-01-01T00:00:00+02:00"))["granted"]
    assert (await seats("0001-01-01"))["granted"] is False
    assert (await seats("9999-12-31T23:59:59Z"))["granted"]


async def test_a_planned_end_long_past_is_stale(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    subject = subscription(items="si_1:prod_1*8", cancel_at=BASE + 60)
    await post(client, clock, event("evt_1", "customer.subscription.created", subject, created=BASE))
    await fold_everything(database, services)

    async def told(path: str) -> tuple[bool, bool]:
        content = (await client.get(f"/v1/customers/cus_1/entitlements{path}")).json()
        return bool(content.get("granted", content.get("entitlements"))), content["freshness"]["stale"]

    assert (await told(""), await told("/prod_1")) == ((True, False), (True, False))
    clock.forward(hours=73)
    assert (await told(""), await told("/prod_1")) == ((True, True), (True, True))


async def test_a_parked_customer_answers_for_a_day(
    client: httpx.AsyncClient,
    clock: ManualClock,
    database: Database,
    services: Services,
    owner: asyncpg.Connection,
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    await owner.execute(
        "INSERT INTO ledger.parked (build_id, subject, book, event_id, error, since) VALUES ($1, $2, $3, $4, $5, $6)",
        "entitlements-1", "self:live/cus_1", "self:live", "evt_3", "a mistake", clock.now,
    )  # fmt: skip
    found = (await client.get("/v1/customers/cus_1/entitlements/seats")).json()
    assert (found["granted"], found["freshness"]["parked"], found["freshness"]["stale"]) == (True, True, True)
    clock.forward(hours=25)
    refused = await client.get("/v1/customers/cus_1/entitlements/seats")
    assert (refused.status_code, refused.json()["type"]) == (503, "parked")
    assert (await client.get("/v1/customers/cus_1/entitlements")).status_code == 503
    checks = [{"customer": "cus_1", "feature": "seats"}, {"customer": "cus_2", "feature": "seats"}]
    batch = (await client.post("/v1/entitlements/check", json={"checks": checks})).json()["data"]
    assert [one["reason"] for one in batch] == ["parked", "unknown_customer"]


async def test_a_customer_that_waits_to_be_folded_anew_says_so(
    client: httpx.AsyncClient,
    clock: ManualClock,
    database: Database,
    services: Services,
    owner: asyncpg.Connection,
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    await owner.execute("INSERT INTO build_entitlements_1.dirty VALUES ('self:live/cus_1', 'self:live', 'joined')")
    path = "/v1/customers/cus_1/entitlements/seats"
    assert (await client.get(path)).json()["freshness"]["stale"]
    refused = await client.get(path, params={"min_position": "2"})
    assert (refused.status_code, refused.json()["type"]) == (503, "not-yet")
    await fold_everything(database, services)
    assert (await client.get(path, params={"min_position": "2"})).json()["freshness"]["stale"] is False


async def test_a_nul_in_a_path_is_no_slash(client: httpx.AsyncClient, database: Database, services: Services) -> None:
    await fold_everything(database, services)
    slash = await client.get("/v1/customers/org:acme%2Feu/entitlements")
    nul = await client.get("/v1/customers/org:acme%00eu/entitlements")
    assert (slash.json()["org"], nul.json()["org"]) == ("acme/eu", "acme\ufffdeu")
    assert (await client.get("/v1/customers/%00/entitlements")).status_code == 400

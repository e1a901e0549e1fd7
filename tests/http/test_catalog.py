"""``/v1/catalog`` and ``/v1/grants``: decided by people, kept as events, counted in the next answer."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from api.services import Services
from ledger.postgres import Database
from tests.conftest import ManualClock, client_of
from tests.http.test_access import post
from tests.http.test_entitlements import BASE, bought, fold_everything
from tests.stripe_events import event, product, subscription

CATALOG = """
[policy]
past_due = "deny"

[features.seats]
kind = "quantity"
combine = "sum"

[features.sso]
kind = "boolean"

[features.support]
kind = "choice"
combine = ["mail", "phone"]

[[plans]]
product = "prod_1"
features = { seats = "quantity*10", support = "mail" }
"""


async def publish(client: httpx.AsyncClient, text: str, **params: str) -> httpx.Response:
    headers = {"Content-Type": "application/toml"}
    return await client.put("/v1/catalog", content=text, params={"wait": "0", **params}, headers=headers)


async def features(client: httpx.AsyncClient, customer: str = "cus_1", **params: str) -> dict[str, Any]:
    found = (await client.get(f"/v1/customers/{customer}/entitlements", params=params)).json()
    return {one["feature"]: one["value"] for one in found["entitlements"]}


async def test_a_catalog_of_policies_alone_takes_nothing_away(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    for text in ("", "\n# to be written\n"):
        refused = await publish(client, text)
        assert (refused.status_code, "it is empty" in refused.json()["detail"]) == (422, True)
    assert (await publish(client, '[revenue]\ngranularity = "month"\n')).status_code == 200
    await fold_everything(database, services)
    assert await features(client) == {"prod_1": True, "seats": 8, "sso": True}
    await post(client, clock, event("evt_9", "product.updated", product(features="seats=quantity"), created=BASE + 60))
    await fold_everything(database, services)
    assert await features(client) == {"prod_1": True, "seats": 8}
    await publish(client, '[features.sso]\nkind = "boolean"\n')
    await fold_everything(database, services)
    assert await features(client) == {}


async def test_a_first_catalog_holds_from_the_beginning_and_a_later_one_from_its_time(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    made = await publish(client, CATALOG)
    assert made.status_code == 200
    assert (made.json()["version"], made.json()["effective_from"], made.json()["position"]) == (1, None, 3)
    await fold_everything(database, services)
    assert await features(client) == {"seats": 80, "support": "mail"}
    assert await features(client, as_of="2026-01-15T11:53:30Z") == {"seats": 80, "support": "mail"}
    assert await features(client, known_position="2") == {"prod_1": True, "seats": 8, "sso": True}
    again = (await publish(client, CATALOG)).json()
    assert (again["version"], again["position"]) == (1, None)

    clock.forward(hours=1)
    later = CATALOG.replace("quantity*10", "quantity").replace('"mail" }', '"phone" }')
    assert (await publish(client, later)).json()["effective_from"] == "2026-01-15T13:00:00Z"
    await fold_everything(database, services)
    assert await features(client) == {"seats": 8, "support": "phone"}
    assert await features(client, as_of="2026-01-15T12:59:59Z") == {"seats": 80, "support": "mail"}

    planned = await publish(client, CATALOG, effective_from="2026-01-16T00:00:00Z")
    assert planned.json()["version"] == 3
    await fold_everything(database, services)
    assert await features(client) == {"seats": 8, "support": "phone"}
    assert await features(client, as_of="2026-01-16") == {"seats": 80, "support": "mail"}
    listed = (await client.get("/v1/catalog")).json()["data"]
    assert [one["version"] for one in listed] == [1, 2, 3]
    assert listed[0]["content"] == CATALOG
    known = await client.get("/v1/catalog", params={"known_position": planned.json()["position"] - 1})
    assert [one["version"] for one in known.json()["data"]] == [1, 2]
    known = await client.get("/v1/catalog", params={"known_at": "2026-01-15T12:30:00Z"})
    assert [one["version"] for one in known.json()["data"]] == [1]


@pytest.mark.parametrize(
    ("wrong", "line", "key"),
    [
        (CATALOG.replace('"deny"', '"never"'), 3, "policy.past_due"),
        (CATALOG.replace('kind = "boolean"', 'kind = "bool"'), 10, "features.sso.kind"),
        (CATALOG.replace('"quantity*10"', '"many"'), 18, "plans.0.features.seats"),
        (CATALOG.replace('support = "mail"', 'fax = "mail"'), 18, "plans.0.features.fax"),
        (CATALOG + "oops = \n", 19, "oops"),
        (CATALOG + "[nonsense]\n", 19, "nonsense"),
    ],
)
async def test_what_is_wrong_in_a_catalog_is_said_with_line_and_key(
    client: httpx.AsyncClient, wrong: str, line: int, key: str
) -> None:
    answer = await publish(client, wrong)
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["line"], problem["key"]) == (422, "invalid-catalog", line, key)
    assert f"line {line}" in problem["detail"]
    assert key in problem["detail"]


async def grant(client: httpx.AsyncClient, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    wanted = {"customer": "cus_1", "feature": "beta", "reason": "a promise"} | body
    return await client.post("/v1/grants", json=wanted, headers=headers)


async def test_nothing_is_granted_at_an_instant_that_the_database_takes_for_none(client: httpx.AsyncClient) -> None:
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    for wanted in ({"valid_from": first}, {"valid_from": last}, {"valid_until": last}):
        answer = await grant(client, **wanted)
        assert (answer.status_code, "are not allowed" in answer.text) == (400, True), wanted
    answer = await publish(client, CATALOG, effective_from=last)
    assert (answer.status_code, "are not allowed" in answer.text) == (400, True)
    assert (await grant(client, valid_until="9999-12-31T23:59:59Z")).status_code == 201


async def test_a_grant_holds_until_it_is_taken_back(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    made = await grant(client, valid_until="2026-01-16T00:00:00Z")
    assert (made.status_code, made.json()["position"], made.json()["value"]) == (201, 1, True)
    await fold_everything(database, services)
    beta = (await client.get("/v1/customers/cus_1/entitlements/beta")).json()
    assert (beta["granted"], beta["state"], beta["reason"], beta["valid_until"]) == (
        True, "manual", "manual", "2026-01-16T00:00:00Z",
    )  # fmt: skip
    assert beta["sources"][0]["note"] == "a promise"
    over = (await client.get("/v1/customers/cus_1/entitlements/beta", params={"at": "2026-01-16"})).json()
    assert (over["granted"], over["state"], over["reason"]) == (False, "expired", "expired")
    clock.forward(minutes=5)
    gone = await client.request("DELETE", f"/v1/grants/{made.json()['id']}", json={"reason": "enough"})
    assert (gone.status_code, gone.json()["position"]) == (200, 2)
    await fold_everything(database, services)
    beta = (await client.get("/v1/customers/cus_1/entitlements/beta")).json()
    assert (beta["granted"], beta["reason"]) == (False, "revoked")
    assert len(beta["because"]) == 2
    again = await client.request("DELETE", f"/v1/grants/{made.json()['id']}", json={"reason": "enough"})
    assert again.json()["position"] == 2
    unknown = await client.request("DELETE", "/v1/grants/grant_none", json={"reason": "enough"})
    assert unknown.status_code == 404


async def test_a_grant_is_made_once_whatever_is_sent_again(client: httpx.AsyncClient) -> None:
    first, second = await grant(client, "key-1", value=5), await grant(client, "key-1", value=5)
    assert first.json() == second.json()
    other = await grant(client, "key-1", value=6)
    assert (other.status_code, other.json()["type"]) == (409, "idempotency-key-used")
    assert (await grant(client, value=5)).json()["id"] != (await grant(client, value=5)).json()["id"]


async def test_a_grant_that_is_sent_again_is_answered_whatever_has_become_so(
    client: httpx.AsyncClient, clock: ManualClock
) -> None:
    wanted = {"feature": "seats", "value": 5, "valid_until": "2026-01-15T13:00:00Z"}
    first = await grant(client, "key-1", **wanted)
    assert first.status_code == 201
    clock.forward(hours=2)
    assert (await grant(client, "key-2", **wanted)).status_code == 400
    await publish(
        client,
        CATALOG.replace('kind = "quantity"\ncombine = "sum"', 'kind = "boolean"').replace(
            'seats = "quantity*10"', "seats = true"
        ),
    )
    assert (await grant(client, feature="seats", value=5)).status_code == 422
    again = await grant(client, "key-1", **wanted)
    assert (again.status_code, again.json()) == (201, first.json())


async def test_an_organisations_grant_reaches_its_customers(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await grant(client, customer="org:acme/eu", feature="seats", value=100)
    await grant(client, customer="org:Straße 7", feature="beta")
    await fold_everything(database, services)
    assert (await features(client))["seats"] == 108
    assert (await features(client, "org:acme%2Feu"))["seats"] == 108
    assert await features(client, "org:Stra%C3%9Fe%207") == {"beta": True}
    clock.forward(seconds=5)
    moved = subscription(items="si_1:prod_1*8", metadata={"org_id": "elsewhere"})
    await post(client, clock, event("evt_9", "customer.subscription.updated", moved, created=BASE + 60))
    await fold_everything(database, services)
    assert (await features(client))["seats"] == 8
    assert await features(client, "org:acme%2Feu") == {"seats": 100}


async def test_a_grant_fits_its_features_kind(
    client: httpx.AsyncClient, database: Database, services: Services
) -> None:
    await publish(client, CATALOG)
    for body in ({"feature": "seats"}, {"feature": "sso", "value": 3}, {"feature": "support", "value": "fax"}):
        answer = await grant(client, **body)
        assert (answer.status_code, answer.json()["type"]) == (422, "misfit"), body
    for body in ({"feature": "seats", "value": 2.5}, {"feature": "support", "value": "phone"}, {"feature": "sso"}):
        assert (await grant(client, **body)).status_code == 201, body
    await fold_everything(database, services)
    assert await features(client) == {"seats": 2.5, "sso": True, "support": "phone"}


@pytest.mark.parametrize(
    "body",
    [
        {"customer": "not an id"},
        {"customer": None},
        {"feature": ""},
        {"feature": "a\x00b"},
        {"reason": ""},
        {"value": False},
        {"value": -1},
        {"value": "12"},
        {"value": ["x"]},
        {"valid_from": "soon"},
        {"valid_from": "2026-03-01", "valid_until": "2026-02-01"},
        {"valid_until": "2020-01-01"},
        {"colour": "red"},
    ],
)
async def test_malformed_grants(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await grant(client, **body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_scopes(services: Services) -> None:
    async with client_of(services, None) as nobody:
        assert (await publish(nobody, CATALOG)).status_code == 401
        assert (await grant(nobody)).status_code == 401


@pytest.mark.parametrize("book", ["ledger:control", "ledger:live", "self:beta"])
async def test_what_is_decided_stands_in_a_book_of_stripes(
    client: httpx.AsyncClient, owner: asyncpg.Connection, book: str
) -> None:
    why: dict[str, Any] = {"reason": "why"}
    asked = {"book": book}
    answers = [
        await client.post("/v1/grants", json=why | {"customer": "cus_1", "feature": "sso"}, params=asked),
        await client.request("DELETE", "/v1/grants/grant_1", json=why, params=asked),
        await client.put("/v1/catalog", content="", params=asked),
        await client.post("/v1/periods/2026-01/close", json=why, params=asked),
        await client.post("/v1/periods/2026-01/reopen", json=why, params=asked),
    ]
    assert [one.status_code for one in answers] == [400] * 5
    assert all("not the book of a Stripe account" in one.json()["detail"] for one in answers)
    empty = await client.post("/v1/periods/2025-11/close", json=why, params={"book": "acct_mistyped:live"})
    assert (empty.status_code, "has no event" in empty.json()["detail"]) == (409, True)
    assert not await owner.fetchval("SELECT EXISTS (SELECT FROM ledger.event WHERE book = ANY ($1))", [book])

"""Checkout and the portal: Stripe's own parameters, one session a key, and refusals that say nothing secret."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from api.app import create_app
from api.checkout import CheckoutWanted, checkout_parameters
from api.credentials import Credentials
from api.secrets import ApiKey, digest_of
from api.services import Services, open_services
from api.settings import Settings
from ledger.postgres import Database
from tests.conftest import KEY, SIGNING_KEY, ManualClock, client_of
from tests.ending import EndsAtOnce
from tests.following import follow_to_the_head
from tests.standin import API_KEY, BODIES, StandIn
from tests.stripe_events import Json, body_of, event, product, signature, subscription

DOCUMENT = Path(__file__).parents[2] / "docs" / "checkout.md"
WANTED = {
    "price": "price_1", "org": "acme", "success_url": "https://shop.example/thanks",
    "cancel_url": "https://shop.example/",
}  # fmt: skip


@pytest.fixture(autouse=True)
def sold(standin: StandIn) -> None:
    recurring = {"interval": "month", "usage_type": "licensed"}
    standin.world.put(
        {"id": "price_1", "object": "price", "product": "prod_1", "recurring": recurring},
        {"id": "price_2", "object": "price", "product": "prod_2", "recurring": None},
        {"id": "cus_1", "object": "customer"},
    )


async def test_a_session_has_the_parameters_of_stripes_reference(client: httpx.AsyncClient, standin: StandIn) -> None:
    answer = await client.post("/v1/checkout-sessions", json=WANTED | {"quantity": 3, "customer": "cus_1"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"id": "cs_test_1", "url": f"{standin.url}/c/pay/cs_test_1"}
    assert standin.requests[-1][2] == {
        "mode": "subscription",
        "line_items[0][price]": "price_1",
        "line_items[0][quantity]": "3",
        "success_url": "https://shop.example/thanks",
        "cancel_url": "https://shop.example/",
        "client_reference_id": "acme",
        "customer": "cus_1",
        "metadata[org_id]": "acme",
        "metadata[ledger_price]": "price_1",
        "metadata[ledger_product]": "prod_1",
        "metadata[ledger_quantity]": "3",
        "subscription_data[metadata][org_id]": "acme",
        "subscription_data[metadata][ledger_price]": "price_1",
        "subscription_data[metadata][ledger_product]": "prod_1",
        "subscription_data[metadata][ledger_quantity]": "3",
    }


async def test_what_is_bought_once_is_paid_once_and_somebodys(client: httpx.AsyncClient, standin: StandIn) -> None:
    await client.post("/v1/checkout-sessions", json=WANTED | {"price": "price_2"})
    sent = standin.requests[-1][2]
    assert (sent["mode"], sent["customer_creation"]) == ("payment", "always")
    assert sent["payment_intent_data[metadata][ledger_product]"] == "prod_2"
    assert not any(name.startswith("subscription_data") for name in sent)


def test_a_metered_price_has_no_quantity() -> None:
    price = {"product": "prod_1", "recurring": {"interval": "month", "usage_type": "metered"}}
    made = checkout_parameters(CheckoutWanted.model_validate(WANTED), price, "team")
    assert made["line_items"] == [{"price": "price_1"}]
    assert made["metadata"]["team"] == "acme"


def test_every_parameter_is_one_the_sdk_knows() -> None:
    from stripe.params.checkout import SessionCreateParams

    known = set(SessionCreateParams.__annotations__)
    for mode in ("payment", "subscription"):
        made = checkout_parameters(CheckoutWanted.model_validate(WANTED | {"mode": mode}), {}, "org_id")
        assert set(made) <= known


async def test_the_same_key_gives_the_same_session(client: httpx.AsyncClient) -> None:
    async def made(key: str, **more: Any) -> httpx.Response:
        return await client.post("/v1/checkout-sessions", json=WANTED | more, headers={"Idempotency-Key": key})

    first, again, other = await made("one"), await made("one"), await made("two")
    assert first.json() == again.json() != other.json()
    changed = await made("one", quantity=2)
    assert (changed.status_code, changed.json()["type"]) == (409, "idempotency-key-used")
    assert (await made("k" * 256)).status_code == 400


async def test_tried_again_after_a_fault_it_is_made_once(client: httpx.AsyncClient, standin: StandIn) -> None:
    standin.faults = iter(["", "500", "reset"])
    answer = await client.post("/v1/checkout-sessions", json=WANTED)
    assert answer.status_code == 200
    keys = {headers["idempotency-key"] for method, _, _, headers in standin.requests if method == "POST"}
    assert len(keys) == 1


async def test_the_portal_leads_back(client: httpx.AsyncClient, standin: StandIn) -> None:
    wanted = {"customer": "cus_1", "return_url": "https://shop.example/"}
    answer = await client.post("/v1/portal-sessions", json=wanted)
    assert answer.json() == {"url": f"{standin.url}/p/session/1"}
    assert standin.requests[-1][2] == wanted


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"price": None}, "price"),
        ({"org": ""}, "org"),
        ({"org": "a b"}, "org"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": "3"}, "quantity"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"mode": "setup"}, "mode"),
        ({"odd": 1}, "odd"),
    ],
)
async def test_what_is_asked_wrongly_is_said(client: httpx.AsyncClient, change: Json, says: str) -> None:
    answer = await client.post("/v1/checkout-sessions", json=WANTED | change)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert says in answer.json()["detail"]
    assert (await client.post("/v1/checkout-sessions", content=b"\xff")).status_code == 400
    for path in ("/v1/checkout-sessions", "/v1/portal-sessions"):
        assert (await client.post(path, content=b" " * 100_000)).status_code == 413


async def test_what_stripe_refuses_is_a_problem_without_a_secret(client: httpx.AsyncClient, standin: StandIn) -> None:
    gone = await client.post("/v1/checkout-sessions", json=WANTED | {"price": "price_gone"})
    assert (gone.status_code, gone.json()["type"]) == (400, "stripe-refused")
    assert "price_gone" in gone.json()["detail"]
    standin.api_key = "rk_test_another"
    refused = await client.post("/v1/checkout-sessions", json=WANTED)
    assert (refused.status_code, refused.json()["type"]) == (502, "stripe-key")
    assert API_KEY not in refused.text
    standin.faults = itertools.repeat("500")
    away = await client.post("/v1/checkout-sessions", json=WANTED)
    assert (away.status_code, away.json()["type"], away.headers["retry-after"]) == (503, "stripe-unavailable", "5")


@pytest.mark.parametrize("fault", BODIES)
@pytest.mark.parametrize("before", [[], [""]])
async def test_what_is_no_answer_of_stripes_is_none(
    client: httpx.AsyncClient, standin: StandIn, fault: str, before: list[str]
) -> None:
    standin.faults = itertools.chain(before, itertools.repeat(fault))
    answer = await client.post("/v1/checkout-sessions", json=WANTED)
    assert (answer.status_code, answer.json()["type"]) == (503, "stripe-unavailable")


async def test_without_a_key_it_says_what_to_set(
    tmp_path: Path, database: Database, clock: ManualClock, credentials: Credentials
) -> None:
    from api.signing import signer_of

    opened = open_services(
        Settings(data_dir=tmp_path), clock=clock, database=database, credentials=credentials,
        signer=signer_of(SIGNING_KEY),
    )  # fmt: skip
    async with opened as bare, client_of(bare) as asking:
        for path, body in (("/v1/checkout-sessions", WANTED), ("/v1/portal-sessions", {})):
            answer = await asking.post(path, json=body)
            assert (answer.status_code, answer.json()["type"]) == (501, "not-configured")
            assert "LEDGER_STRIPE_API_KEY" in answer.json()["detail"]


async def test_accounts_modes_and_scopes_are_walls(
    client: httpx.AsyncClient, services: Services, standin: StandIn
) -> None:
    standin.connect("acct_A").put({"id": "price_1", "object": "price", "product": "prod_9"})
    answer = await client.post("/v1/checkout-sessions", params={"book": "acct_A:test"}, json=WANTED)
    assert answer.status_code == 200
    assert {headers["stripe-account"] for *_, headers in standin.requests} == {"acct_A"}
    wrong = await client.post("/v1/checkout-sessions", params={"book": "self:live"}, json=WANTED)
    assert (wrong.status_code, wrong.json()["type"]) == (400, "wrong-mode")
    reader = ApiKey("reader", frozenset({"entitlements:read"}), None, digest_of("lk_reader"))
    walled = ApiKey("walled", frozenset({"checkout:write"}), "acct_B:test", digest_of("lk_walled"))
    keys = (*services.credentials.api_keys, reader, walled)
    object.__setattr__(services.credentials, "api_keys", keys)
    async with client_of(services, key="lk_reader") as asking:
        assert (await asking.post("/v1/checkout-sessions", json=WANTED)).status_code == 403
    async with client_of(services, key="lk_walled") as asking:
        asked = await asking.post("/v1/checkout-sessions", params={"book": "acct_A:test"}, json=WANTED)
        assert asked.status_code == 403


async def test_no_other_site_may_ask_from_a_browser(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    for answer in (
        await client.options("/v1/events", headers=headers),
        await client.get("/v1/events", headers=headers, params={"book": "self:test"}),
    ):
        assert not any(name.startswith("access-control") for name in answer.headers)


@asynccontextmanager
async def listening(app: Starlette) -> AsyncIterator[str]:
    """Serve an application on loopback, in this event loop."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = EndsAtOnce(uvicorn.Config(app, log_level="critical", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.end()
        await task


async def fold(services: Services) -> None:
    await follow_to_the_head(services.database, [services.entitlements])


async def test_the_documented_application_from_button_to_entitlement(
    services: Services, standin: StandIn, clock: ManualClock
) -> None:
    ledger = create_app(lambda: None)  # type: ignore[arg-type, return-value]
    ledger.state.services = services
    [source] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    async with listening(ledger) as url:
        told = {"LEDGER_URL": url, "LEDGER_API_KEY": KEY, "PRICE": "price_1", "FEATURE": "sso"}
        names: dict[str, Any] = {}
        with mock.patch.dict(os.environ, told):
            exec(compile(source, str(DOCUMENT), "exec"), names)

        async def webhook(content: Json) -> None:
            body = body_of(content)
            headers = signature(body, clock.now)
            async with httpx.AsyncClient(base_url=url) as stripe:
                (await stripe.post("/webhooks/stripe", content=body, headers=headers)).raise_for_status()
            await fold(services)

        await webhook(event("evt_1", "product.created", product(), live=False))
        transport = httpx.ASGITransport(app=names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as browser:
            order = re.findall(r'value="(.*?)"', (await browser.get("/")).text)[0]
            clicks = [await browser.post("/buy", data={"order": order}) for _ in range(2)]
            assert {click.headers["location"] for click in clicks} == {f"{standin.url}/c/pay/cs_test_1"}
            assert "Waiting" in (await browser.get("/thanks")).text
            before = (await browser.get("/bought")).json()
            assert before == {"granted": False, "position": 1}, "the redirect grants nothing"

            waiting = asyncio.create_task(browser.get("/bought", params={"position": 1}))
            await asyncio.sleep(0.2)
            made = next(one for one in standin.world.objects["checkout.session"].values())
            metadata = {"org_id": made["params"]["subscription_data[metadata][org_id]"]}
            begun = subscription(metadata=metadata)
            await webhook(event("evt_2", "customer.subscription.created", begun, live=False))
            assert (await waiting).json() == {"granted": True, "position": 2}
        await names["LEDGER"].aclose()

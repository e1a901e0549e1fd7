"""The console's first page: signed in with a key, showing what the key may see, harmless with hostile data."""

from __future__ import annotations

from dataclasses import replace

import httpx

from api.credentials import Credentials
from api.secrets import digest_of, parse_api_keys
from api.services import Services
from ledger.postgres import Database
from tests.conftest import KEY, ManualClock, client_of
from tests.console.people import token_in
from tests.http.test_access import post
from tests.http.test_entitlements import bought, fold_everything
from tests.stripe_events import event, product, subscription


async def test_nobody_sees_anything_before_signing_in(services: Services) -> None:
    async with client_of(services, None) as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        for cookie in ("", "x", "eyJ4IjoxfQ.aaaa.bbbb"):
            client.cookies.set("ledger_session", cookie)
            assert (await client.get("/")).status_code == 303
        client.cookies.clear()
        wrong = await client.post("/sign-in", data={"key": "lk_wrong"})
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)


async def test_signed_in_the_pages_show_the_log_and_a_customer(
    services: Services, clock: ManualClock, database: Database
) -> None:
    async with client_of(services, None) as client:
        await bought(client, clock)
        await fold_everything(database, services)
        signed_in = await client.post("/sign-in", data={"key": KEY})
        assert signed_in.status_code == 303
        assert {"HttpOnly", "SameSite=strict"} <= set(signed_in.headers["set-cookie"].split("; "))
        front = await client.get("/")
        for text in ("self:live", "customer.subscription.created", "evt_2"):
            assert text in front.text
        page = await client.get("/customers/cus_1")
        assert page.status_code == 200
        for text in ("evt_2", "seats", "sub_1"):
            assert text in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "never had an entitlement" in (await client.get("/customers/cus_9")).text
        assert "name a customer" in (await client.get("/customers/ü ü")).text
        assert (await client.post("/sign-out", data={"token": token_in(page.text)})).headers["location"] == "/sign-in"
        assert (await client.get("/")).status_code == 303


async def test_a_key_sees_its_own_book_and_scope(
    services: Services, credentials: Credentials, clock: ManualClock, database: Database
) -> None:
    keys = tuple(parse_api_keys(f"k:entitlements:read@self:test:{digest_of('lk_other')}"))
    serving = replace(services, credentials=replace(credentials, api_keys=keys))
    async with client_of(serving, None) as client:
        await bought(client, clock)
        await fold_everything(database, services)
        await client.post("/sign-in", data={"key": "lk_other"})
        page = await client.get("/")
        assert "self:test" in page.text
        assert "evt_2" not in page.text
        assert "self:live" not in page.text
        assert (await client.get("/", params={"book": "self:live"})).status_code == 403


async def test_hostile_text_stays_text(services: Services, clock: ManualClock, database: Database) -> None:
    script = "<script>alert(1)</script>"
    async with client_of(services, None) as client:
        await post(client, clock, event("evt_1", "product.created", product("prod_1", script)))
        await post(client, clock, event("<img/src=x>", "<b>type</b>", {"id": script.replace(" ", "")}))
        await bought_without_product(client, clock)
        await fold_everything(database, services)
        await client.post("/sign-in", data={"key": KEY})
        pages = [await client.get(address) for address in ("/", "/customers/cus_1")]
        assert "&lt;b&gt;type" in pages[0].text
        for page in pages:
            for tag in ("<script>", "<img", "<b>type"):
                assert tag not in page.text


async def bought_without_product(client: httpx.AsyncClient, clock: ManualClock) -> None:
    await post(client, clock, event("evt_2", "customer.subscription.created", subscription(items="si_1:prod_1*8")))

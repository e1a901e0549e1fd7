"""Keys, scopes and books: who may read what."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from api.credentials import Credentials
from api.secrets import ApiKey, digest_of, find_key, format_api_key, parse_api_keys
from api.services import Services
from ledger.errors import SettingError
from tests.conftest import KEY, ManualClock, client_of
from tests.stripe_events import Json, body_of, event, signature

SCOPED = {
    "/v1/events": "events:read",
    "/v1/events/evt_1": "events:read",
    "/v1/events/evt_1/raw": "events:read",
    "/v1/customers/cus_1/entitlements": "entitlements:read",
    "/v1/customers/cus_1/entitlements/sso": "entitlements:read",
}


async def post(client: httpx.AsyncClient, clock: ManualClock, content: Json) -> None:
    body = body_of(content)
    answer = await client.post("/webhooks/stripe", content=body, headers=signature(body, clock.now))
    assert answer.status_code == 200, answer.text


def keyed(services: Services, credentials: Credentials, entry: str) -> Services:
    keys = tuple(parse_api_keys(f"{entry}:{digest_of('lk_other')}"))
    return replace(services, credentials=replace(credentials, api_keys=keys))


@pytest.mark.parametrize("path", SCOPED)
async def test_every_route_wants_a_key(services: Services, path: str) -> None:
    for key in (None, "", "lk_wrong", KEY + "x", "ü\udcff".encode("utf-8", "replace").decode()):
        async with client_of(services, None) as client:
            headers = {} if key is None else {b"Authorization": f"Bearer {key}".encode()}
            answer = await client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["type"] == "unauthorized"


@pytest.mark.parametrize(("path", "scope"), SCOPED.items())
async def test_every_route_wants_its_scope(services: Services, credentials: Credentials, path: str, scope: str) -> None:
    other = "events:read" if scope != "events:read" else "entitlements:read"
    async with client_of(keyed(services, credentials, f"k:{other}+revenue:read"), "lk_other") as client:
        assert (await client.get(path)).status_code == 403
    async with client_of(keyed(services, credentials, f"k:{scope}"), "lk_other") as client:
        assert (await client.get(path)).status_code != 403


async def test_a_key_for_one_book_sees_no_other(
    services: Services, credentials: Credentials, clock: ManualClock
) -> None:
    serving = keyed(services, credentials, "k:events:read@acct_1:test")
    async with client_of(serving, "lk_other") as client:
        await post(client, clock, event("evt_1", "x.y", {"id": "o_1"}, live=False, account="acct_1"))
        await post(client, clock, event("evt_2", "x.y", {"id": "o_1"}))
        assert [one["id"] for one in (await client.get("/v1/events")).json()["data"]] == ["evt_1"]
        assert (await client.get("/v1/events", params={"book": "self:live"})).status_code == 403
        assert (await client.get("/v1/events/evt_2", params={"book": "self:live"})).status_code == 403
        assert (await client.get("/v1/events/evt_2")).status_code == 404


async def test_the_default_book(client: httpx.AsyncClient, clock: ManualClock) -> None:
    async def book() -> str:
        answer = await client.get("/v1/events")
        return str(answer.json()["freshness"]["book"]) if answer.status_code == 200 else answer.json()["type"]

    assert await book() == "self:live"
    await post(client, clock, event("evt_1", "x.y", {"id": "o_1"}, live=False))
    assert await book() == "self:test"
    await post(client, clock, event("evt_1", "x.y", {"id": "o_1"}, live=False, account="acct_1"))
    assert await book() == "book-required"
    await post(client, clock, event("evt_1", "x.y", {"id": "o_1"}))
    assert await book() == "self:live"


@pytest.mark.parametrize("book", ["", "live", "a b:live", "self:live/x", "ü:live", "self:LIVE"])
async def test_a_malformed_book_is_refused(client: httpx.AsyncClient, book: str) -> None:
    assert (await client.get("/v1/events", params={"book": book})).status_code == 400


async def test_a_session_ends_with_its_key(services: Services, credentials: Credentials) -> None:
    async with client_of(services, None) as client:
        assert (await client.post("/sign-in", data={"key": KEY})).status_code == 303
        assert (await client.get("/")).status_code == 200
        cookies = dict(client.cookies)
    async with client_of(keyed(services, credentials, "other:admin"), None) as client:
        client.cookies.update(cookies)
        assert (await client.get("/")).headers["location"] == "/sign-in"


def test_keys_are_read_as_they_are_written() -> None:
    digest = digest_of("lk_1")
    text = f"app:entitlements:read+events:read@acct_1:live:{digest}"
    [key] = parse_api_keys(text)
    assert key == ApiKey("app", frozenset({"entitlements:read", "events:read"}), "acct_1:live", digest)
    assert format_api_key(key) == text
    assert find_key([key], "lk_1") == key
    assert find_key([key], "lk_2") is None


@pytest.mark.parametrize(
    "text",
    [
        "app",
        "app:admin",
        f"app:root:{'0' * 64}",
        f":admin:{'0' * 64}",
        f"app::{'0' * 64}",
        f"a b:admin:{'0' * 64}",
        f"app:admin@:{'0' * 64}",
        f"app:admin@live:{'0' * 64}",
    ],
)
def test_a_key_that_cannot_be_read_is_a_setting_error(text: str) -> None:
    with pytest.raises(SettingError, match="LEDGER_API_KEYS"):
        parse_api_keys(text)

"""Who may ask what, over every declared operation: no key, a wrong scope, another book, an odd method."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import httpx
import pytest

from api.declared import BOOK, Operation
from api.routes import OPERATIONS
from api.secrets import SCOPES, ApiKey, digest_of
from api.services import Services
from tests.conftest import client_of
from tests.http.test_openapi import named, path_of, problem_in

GUARDED: Final = [one for one in OPERATIONS if one.scope]
PATHS: Final = sorted({one.path for one in OPERATIONS})
PLAIN: Final = ("/healthz", "/readyz", "/metrics", "/openapi.json")


def keyed(services: Services, *keys: ApiKey) -> Services:
    return replace(services, credentials=replace(services.credentials, api_keys=keys))


def a_key(name: str, scope: str, book: str | None = None) -> ApiKey:
    return ApiKey(name, frozenset({scope}), book, digest_of(f"lk_{name}"))


async def ask(client: httpx.AsyncClient, one: Operation, key: str | None, **asked: str) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return await client.request(one.method, path_of(one, {}), headers=headers, params=asked)


def test_everything_but_the_webhook_wants_a_scope() -> None:
    assert [named(one) for one in OPERATIONS if not one.scope] == ["POST /webhooks/stripe"]
    assert {one.scope for one in GUARDED} <= SCOPES


async def test_without_a_key_there_is_nothing(services: Services) -> None:
    async with client_of(services, None) as stranger:
        for one in GUARDED:
            for key in (None, "", "lk_wrong", "lk_test_admi"):
                answer = await ask(stranger, one, key, as_of="nonsense", unheard_of="1")
                assert problem_in(answer)[0] == 401, named(one)
                assert answer.headers["www-authenticate"] == "Bearer"
            if one.method == "GET":
                head = await stranger.head(path_of(one, {}))
                assert (head.status_code, head.content) == (401, b""), named(one)


async def test_each_other_scope_is_refused(services: Services) -> None:
    keys = [a_key(scope, scope) for scope in sorted(SCOPES - {"admin"})]
    async with client_of(keyed(services, *keys), None) as client:
        for one in GUARDED:
            for key in keys:
                if one.scope not in key.scopes:
                    assert problem_in(await ask(client, one, f"lk_{key.name}"))[0] == 403, (named(one), key.name)


async def test_each_other_book_is_refused(services: Services) -> None:
    keys = [a_key(scope, scope, "acct_1:test") for scope in sorted(SCOPES)]
    async with client_of(keyed(services, *keys), None) as client:
        for one in GUARDED:
            asked = {"book": "self:live"} if BOOK in one.query else {}
            answer = await ask(client, one, f"lk_{one.scope}", **asked)
            assert problem_in(answer)[0] == 403, named(one)


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_told_which_there_are(client: httpx.AsyncClient, path: str) -> None:
    there_are = {one.method for one in OPERATIONS if one.path == path}
    allowed = there_are | ({"HEAD"} if "GET" in there_are else set())
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} - allowed:
        answer = await client.request(method, path.replace("{", "").replace("}", ""))
        assert answer.status_code == 405, method
        assert set(answer.headers["allow"].split(", ")) == allowed
        assert method == "HEAD" or answer.json()["type"] == "method-not-allowed"


async def test_nobody_is_sent_elsewhere(services: Services) -> None:
    # A client that goes where it is sent would send its key along: in the clear, where a proxy ends TLS.
    async with client_of(services, None) as stranger:
        for path in (*PLAIN, *PATHS, "/v1/customers/org:acme%2Feu/entitlements", "/sign-in", "/revenue"):
            for method in ("GET", "POST"):
                answer = await stranger.request(method, f"{path}/", headers={"Host": "elsewhere.example"})
                assert (answer.status_code, answer.headers.get("location")) == (404, None), (method, path)


async def test_who_operates_it_needs_no_key(services: Services) -> None:
    async with client_of(services, None) as stranger:
        for path in PLAIN:
            assert (await stranger.get(path)).status_code in (200, 503), path
            assert (await stranger.head(path)).status_code in (200, 503), path
            assert (await stranger.post(path)).headers["allow"].split(", ") in (["GET", "HEAD"], ["HEAD", "GET"])

"""Sessions and form tokens: nothing is changed without both, and taking a key away ends its sessions at once."""

from __future__ import annotations

from dataclasses import replace

import httpx
import itsdangerous
import pytest
from starlette.requests import Request

from api import session
from api.services import Services
from tests.conftest import KEY, client_of
from tests.console.people import signed_in, token_in, with_key


async def test_signing_out_needs_the_token_of_this_session(services: Services) -> None:
    async with signed_in(services) as client, signed_in(services) as other:
        token = token_in((await client.get("/")).text)
        foreign = token_in((await other.get("/")).text)
        assert token != foreign
        for form in (
            {},
            {"token": ""},
            {"token": "x"},
            {"token": token[:-1]},
            {"token": foreign},
            {"token": "ü"},
        ):
            answer = await client.post("/sign-out", data=form)
            assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
            assert "not from your session" in answer.text
        assert (await client.get("/")).status_code == 200
        copied = client.cookies[session.COOKIE]
        assert (await client.post("/sign-out", data={"token": token})).status_code == 303
        assert (await client.get("/")).headers["location"] == "/sign-in"
        client.cookies.set(session.COOKIE, copied, domain="ledger.test")
        assert (await client.get("/")).headers["location"] == "/sign-in", "a copy of the cookie opens nothing either"
        assert (await client.post("/sign-out", data={"token": token})).headers["location"] == "/sign-in"
        assert (await other.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://ledger.test"}, 303),
    ],
    ids=str,
)
async def test_no_other_site_signs_anybody_in(services: Services, headers: dict[str, str], status: int) -> None:
    async with client_of(services, None) as client:
        answer = await client.post("/sign-in", data={"key": KEY}, headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (status, status == 303)


async def test_no_other_site_changes_anything(services: Services) -> None:
    """Not even one that has got hold of the form's token."""
    async with signed_in(services) as client:
        form = {"token": token_in((await client.get("/")).text)}
        answer = await client.post("/sign-out", data=form, headers={"Sec-Fetch-Site": "cross-site"})
        assert (answer.status_code, "another site" in answer.text) == (403, True)
        assert (await client.get("/")).status_code == 200


async def test_a_cookie_is_for_this_site_alone(services: Services) -> None:
    """No script reads it, no other site sends it along, and where the site is https it goes over nothing else."""
    for base, more in (("http://ledger.test", set()), ("https://ledger.test", {"Secure"})):
        async with client_of(services, None) as client:
            client.base_url = httpx.URL(base)
            answer = await client.post("/sign-in", data={"key": KEY})
            said = set(answer.headers["set-cookie"].split("; "))
            assert {"HttpOnly", "SameSite=strict", "Secure"} & said == {"HttpOnly", "SameSite=strict"} | more
            assert not [one for one in said if one.startswith("Domain")]


@pytest.mark.parametrize(("origin", "secure"), [("https://ledger.test", True), ("http://ledger.test", False)])
async def test_behind_a_proxy_that_ends_tls_the_cookie_is_secure(services: Services, origin: str, secure: bool) -> None:
    async with client_of(services, None) as client:
        answer = await client.post("/sign-in", data={"key": KEY}, headers={"Origin": origin})
        assert ("secure" in answer.headers["set-cookie"].lower()) is secure


async def test_a_session_ends_with_its_time_and_with_its_key(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = with_key(services, "k:events:read")
    async with signed_in(serving, "lk_other") as client:
        cookie = client.cookies[session.COOKIE]
        assert (await client.get("/")).status_code == 200
    for known in (services, replace(services, credentials=replace(services.credentials, api_keys=()))):
        async with client_of(known, None) as client:
            client.cookies.set(session.COOKIE, cookie)
            assert (await client.get("/")).headers["location"] == "/sign-in"
    async with client_of(serving, None) as client:
        client.cookies.set(session.COOKIE, cookie)
        later = itsdangerous.TimestampSigner("x").get_timestamp() + 12 * 3600 + 1
        monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda _: later)
        assert (await client.get("/")).headers["location"] == "/sign-in"


async def test_the_digest_of_a_key_signs_nobody_in(services: Services) -> None:
    """Who may read the settings knows the digests of the keys, and makes no session of them."""
    made = session.Sessions(services.credentials.api_keys, b"guessed")
    async with client_of(services, None) as client:
        signed = made._sessions.dumps([services.credentials.api_keys[0].digest, "name"])
        client.cookies.set(session.COOKIE, signed)
        assert (await client.get("/")).status_code == 303


async def test_signing_in_goes_on_where_one_wanted_to_be_on_this_site_only(services: Services) -> None:
    async with client_of(services, None) as client:
        asked = await client.get("/customers/cus_1?as_of=2026-03-01")
        assert asked.headers["location"] == "/sign-in?next=%2Fcustomers%2Fcus_1%3Fas_of%3D2026-03-01"
        slashed = await client.get("/customers/org:acme%2Feu")
        assert slashed.headers["location"] == "/sign-in?next=%2Fcustomers%2Forg%3Aacme%252Feu"
        for wanted, reached in (
            ("/customers/cus_1", "/customers/cus_1"),
            ("//evil.test/", "/"),
            ("/\\evil.test", "/"),
            ("https://evil.test/", "/"),
            ("javascript:alert(1)", "/"),
            ("/a\r\nSet-Cookie: x=1", "/"),
        ):
            answer = await client.post("/sign-in", data={"key": KEY, "next": wanted})
            assert (answer.status_code, answer.headers["location"]) == (303, reached)


async def test_forms_are_bounded(services: Services) -> None:
    async with signed_in(services) as client:
        assert (await client.post("/sign-out", data={"x": "x" * 70_000})).status_code == 413
        assert (await client.post("/sign-out", data={str(n): "1" for n in range(101)})).status_code == 400


async def test_a_message_is_told_once_and_to_its_session_only(services: Services) -> None:
    sessions = session.sessions_of(services)
    async with signed_in(services) as client, signed_in(services) as other:
        mine = sessions.current(request_of(client))
        assert mine is not None
        message = sessions._messages.dumps([mine.name, "<b>Done</b> it is"])
        for one in (client, other):
            one.cookies.set(session.FLASH, message)
        assert "Done" not in (await other.get("/")).text
        shown = await client.get("/")
        assert "&lt;b&gt;Done&lt;/b&gt; it is" in shown.text
        client.cookies.delete(session.FLASH)
        assert f"{session.FLASH}=" in shown.headers["set-cookie"]
        assert "Done" not in (await client.get("/")).text


def request_of(client: httpx.AsyncClient) -> Request:
    cookie = f"{session.COOKIE}={client.cookies[session.COOKIE]}".encode()
    return Request({"type": "http", "headers": [(b"cookie", cookie)]})

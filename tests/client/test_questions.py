"""What the client asks and makes of the answers: both clients, by the same core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from ledger.client import ALLOW, AsyncClient, Client, RefusedError, UnreachableError

FRESHNESS = {"book": "self:live", "position": 7, "head": 9, "lag_seconds": 0.5, "build": "entitlements-1",
             "stale": False, "parked": False}  # fmt: skip
SEATS = {"feature": "seats", "granted": True, "kind": "quantity", "value": 8, "state": "active", "reason": "active",
         "valid_from": "2026-01-15T00:00:00Z", "valid_until": None, "ends_at": None, "sources": [{"id": "sub_1"}],
         "because": ["evt_2"]}  # fmt: skip

Handler = Callable[[httpx.Request], httpx.Response]


def ask_both(handler: Handler, method: str, *arguments: Any, **named: Any) -> Any:
    """Ask with both clients and hold their answers to be the same."""
    options: dict[str, Any] = {"book": "self:live", "unreachable": {"read": ALLOW}}
    transport = httpx.MockTransport(handler)
    client = Client("http://ledger.test", "lk_1", transport=transport, **options)

    async def ask() -> Any:
        asking = AsyncClient("http://ledger.test", "lk_1", transport=transport, **options)
        try:
            return await getattr(asking, method)(*arguments, **named)
        finally:
            await asking.close()

    try:
        found = getattr(client, method)(*arguments, **named)
        assert asyncio.run(ask()) == found
        return found
    finally:
        client.close()


def answering(content: Any, status: int = 200, seen: list[httpx.Request] | None = None) -> Handler:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, content=orjson.dumps(content))

    return handle


def test_one_check() -> None:
    seen: list[httpx.Request] = []
    content = SEATS | {"customer": "org:a/b", "org": "a/b", "freshness": FRESHNESS}
    answer = ask_both(answering(content, seen=seen), "check", "org:a/b", "seats & more", min_position=7)
    assert (answer.granted, answer.value, answer.org, answer.origin) == (True, 8, "a/b", "service")
    assert answer.valid_from.year == 2026
    assert answer.freshness.position == 7
    assert bool(answer)
    request = seen[0]
    assert request.url.raw_path.startswith(b"/v1/customers/org%3Aa%2Fb/entitlements/seats%20%26%20more?")
    assert dict(request.url.params) == {"book": "self:live", "min_position": "7", "wait": "1.6"}
    assert request.headers["authorization"] == "Bearer lk_1"


def test_a_list() -> None:
    seen: list[httpx.Request] = []
    content = {"customer": "cus_1", "org": None, "entitlements": [SEATS], "freshness": FRESHNESS}
    (answer,) = ask_both(answering(content, seen=seen), "list", "cus_1", denied=True)
    assert (answer.customer, answer.feature, answer.because) == ("cus_1", "seats", ("evt_2",))
    assert seen[0].url.params["include"] == "all"


def test_many_are_asked_some_hundred_at_a_time_and_answered_in_order() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        checks = orjson.loads(request.content)["checks"]
        assert len(checks) <= 500
        data = [SEATS | {"customer": one["customer"], "feature": one["feature"]} for one in checks]
        return httpx.Response(200, content=orjson.dumps({"data": data, "freshness": FRESHNESS}))

    checks = [(f"cus_{number % 600}", "seats") for number in range(700)]
    answers = ask_both(handle, "check_many", checks)
    assert [(one.customer, one.feature) for one in answers] == checks


def test_what_is_refused_is_raised() -> None:
    problem = {"type": "forbidden", "title": "Forbidden", "status": 403, "detail": "no scope"}
    for method, arguments in (("check", ("cus_1", "read")), ("list", ("cus_1",)), ("check_many", ([("a", "b")],))):
        with pytest.raises(RefusedError, match="no scope") as raised:
            ask_both(answering(problem, 403), method, *arguments)
        assert (raised.value.status, raised.value.kind) == (403, "forbidden")


def unreachable(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody there")


@pytest.mark.parametrize(
    "handler",
    [unreachable, answering({}, 503), lambda _: httpx.Response(502, text="<html>"), answering({}), answering([1])],
    ids=["unreachable", "away", "a proxy's page", "no answer", "no object"],
)
def test_the_policy_holds_while_the_service_cannot_be_reached(handler: Handler) -> None:
    assert ask_both(handler, "check", "cus_1", "read").granted
    denied = ask_both(handler, "check", "cus_1", "sso")
    assert (denied.granted, denied.reason, denied.origin) == (False, "unreachable", "policy")
    assert [one.granted for one in ask_both(handler, "check_many", [("a", "sso"), ("a", "read")])] == [False, True]
    with pytest.raises(UnreachableError):
        ask_both(handler, "list", "cus_1")

"""What every request passes: an id in every answer, safe headers, and a log in which nobody is to be found."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
import stamina
import structlog

from api import log as log_routes
from api import webhook
from api.app import create_app
from api.logs import BLOT, configure_logging, describe, is_personal, places
from api.services import Services, projections_of
from api.settings import Settings
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.errors import MistakeError
from projections.builds import ensure_live
from projections.contract import Projection
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import KEY, SECRET, ManualClock, client_of
from tests.console.people import signed_in
from tests.stripe_events import Json, body_of, event, signature

PERSONAL = {
    "name": "Maximiliane Mustermann", "email": "maxi@mustermann.example", "line1": "Nebelweg 17",
    "card": "4242424242424242",
}  # fmt: skip
HOOK = "/webhooks/stripe"
LINE = {"event", "level", "timestamp", "method", "route", "status", "ms", "key", "request_id"}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is logged as machines read it."""
    handlers, hook, stderr = logging.root.handlers[:], sys.excepthook, io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    for name in ("uvicorn", "uvicorn.error"):  # as in a process where nothing else has set it up
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    configure_logging(Settings(log_format="json", log_level="debug"))
    yield stderr
    stamina.instrumentation.set_on_retry_hooks(None)
    logging.root.handlers[:], sys.excepthook = handlers, hook


def lines(written: io.StringIO) -> tuple[str, list[Json]]:
    text = written.getvalue()
    return text, [orjson.loads(line) for line in text.splitlines()]


def of_somebody(event_id: str, type_: str = "customer.created") -> Json:
    card = {"number": PERSONAL["card"]}
    return event(event_id, type_, {"object": "customer", "id": "cus_1", "address": {"line1": PERSONAL["line1"]},
                                   "name": PERSONAL["name"], "email": PERSONAL["email"], "card": card})  # fmt: skip


class BrokenError(Exception):
    """What a library says when it quotes what it met."""


def quoting(*_: object, **__: object) -> None:
    raise BrokenError(
        f"cannot read {PERSONAL['name']} <{PERSONAL['email']}> of {PERSONAL['line1']}, {PERSONAL['card']}"
    )


async def test_a_request_keeps_its_id_or_gets_one(services: Services) -> None:
    async with client_of(services, None) as stranger:
        given = {"X-Request-Id": "abc-123_DEF.456"}
        for path, status in (
            ("/v1/events", 401),
            ("/healthz", 200),
            ("/v1/nowhere", 404),
            ("/sign-in", 200),
            ("/", 303),
        ):
            answer = await stranger.get(path, headers=given)
            assert (answer.status_code, answer.headers["x-request-id"]) == (status, "abc-123_DEF.456"), path
            if status in (401, 404):
                assert answer.json()["request_id"] == "abc-123_DEF.456"
        seen = set()
        for bad in (
            None,
            "",
            "short",
            "x" * 129,
            "with space 123",
            PERSONAL["email"],
            PERSONAL["card"],
            KEY,
            "ümläut-1",
        ):
            headers = {} if bad is None else {b"X-Request-Id": bad.encode()}
            answer = await stranger.get("/healthz", headers=headers)
            assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-request-id"]), bad
            seen.add(answer.headers["x-request-id"])
        assert len(seen) == 9


async def test_answers_are_safe_and_not_kept(client: httpx.AsyncClient) -> None:
    for path in ("/v1/events", "/v1/nothing", "/healthz", "/metrics", "/v1/customers/cus_1/dunning"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["ledger-contract"] == "1"
        assert len(headers.get_list("cache-control")) == 1
    page = (await client.get("/sign-in")).headers
    assert len(page.get_list("content-security-policy")) == 1
    assert "style-src" in page["content-security-policy"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/log/checkpoint"), ("POST", "/webhooks/stripe")])
async def test_a_bug_is_answered_with_its_id_and_logged_without_what_it_met(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, written: io.StringIO, method: str, path: str
) -> None:
    monkeypatch.setattr(log_routes, "asked_of_log", quoting)
    monkeypatch.setattr(webhook, "verified_event", quoting)
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (500, "internal")
    text, [bug, request] = lines(written)
    assert bug["request_id"] == request["request_id"] == answer.json()["request_id"] == answer.headers["x-request-id"]
    assert (bug["event"], bug["error"], bug["level"]) == ("request_failed", "BrokenError", "error")
    assert bug["places"][-1].startswith("http/test_front.py:")
    assert bug["places"][-1].endswith(" quoting")
    assert (request["status"], request["level"]) == (500, "warning")
    assert not [one for one in PERSONAL.values() if one in text]


@pytest.mark.parametrize("path", ["/webhooks/stripe", "/v1/grants"])
async def test_who_goes_away_in_the_middle_of_a_body_met_no_bug(
    services: Services, written: io.StringIO, path: str
) -> None:
    app = create_app(lambda: contextlib.nullcontext(services))
    app.state.services = services
    told = [{"type": "http.request", "body": b'{"id": ', "more_body": True}, {"type": "http.disconnect"}]
    headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("ledger.test", 80),
    }
    answers = []

    async def receive() -> Any:
        return told.pop(0)

    async def send(message: Any) -> None:
        answers.append(message)

    await app(scope, receive, send)
    assert answers[0]["status"] == 400
    [request] = lines(written)[1]
    assert (request["event"], request["status"], request["level"]) == ("request", 400, "info")


async def test_one_line_a_request_that_names_nobody(
    services: Services, clock: ManualClock, written: io.StringIO
) -> None:
    async with client_of(services) as client:
        body = body_of(of_somebody("evt_1"))
        headers = signature(body, clock.now)
        await client.post(HOOK, content=body, headers=headers)
        await client.post(HOOK, content=body, headers={"Stripe-Signature": "t=1,v1=" + "a" * 64})
        unparsable = body_of([of_somebody("evt_2")])
        await client.post(HOOK, content=unparsable, headers=signature(unparsable, clock.now))
        for path in (f"/v1/customers/{PERSONAL['email']}/entitlements", f"/v1/nobody/{PERSONAL['name']}",
                     "/v1/events/evt_1", "/v1/customers/cus_1/entitlements/sso?as_of=Nebelweg%2017",
                     f"/v1/events?{PERSONAL['email']}={PERSONAL['card']}"):  # fmt: skip
            await client.get(path)
        grant = {"customer": "cus_1", "feature": "sso", "reason": f"{PERSONAL['name']} asked"}
        await client.post("/v1/grants", json=grant)
        await client.request("ODD" + PERSONAL["name"].partition(" ")[0], "/v1/events")
        await client.get("/v1/events", headers={"Authorization": f"Bearer lk_{'x' * 30}"})
        await client.get("/healthz")
    text, found = lines(written)
    requests = [one for one in found if one["event"] == "request"]
    assert len(requests) == 12
    assert all(set(one) == LINE for one in requests)
    shown = [(one["method"], one["route"], one["status"], one["key"]) for one in requests]
    assert shown[:4] == [
        ("POST", HOOK, 200, None), ("POST", HOOK, 400, None), ("POST", HOOK, 400, None),
        ("GET", "/v1/customers/{customer}/entitlements", 503, "admin"),
    ]  # fmt: skip
    assert shown[8:] == [
        ("POST", "/v1/grants", 201, "admin"), ("other", "/v1/events", 405, None), ("GET", "/v1/events", 401, None),
        ("GET", "/healthz", 200, None),
    ]  # fmt: skip
    assert [one["event"] for one in found if one["event"] != "request"] == ["signed_body_unparsable"]
    secrets = [KEY, SECRET, "x" * 30, headers["Stripe-Signature"].partition("v1=")[2], "a" * 64, "evt_1", "cus_1"]
    assert not [one for one in [*PERSONAL.values(), *secrets, "Maximiliane", "Nebelweg"] if one in text]


async def test_a_page_of_the_console_is_logged_with_who_is_signed_in(services: Services, written: io.StringIO) -> None:
    async with signed_in(services) as browser:
        assert (await browser.get("/log/evt_1")).status_code == 404
    line = lines(written)[1][-1]
    assert (line["route"], line["status"], line["key"]) == ("/log/{event_id}", 404, "admin")


async def test_what_cannot_be_folded_is_logged_without_what_it_is(
    client: httpx.AsyncClient, services: Services, clock: ManualClock, written: io.StringIO
) -> None:
    body = body_of(of_somebody("evt_1"))
    await client.post(HOOK, content=body, headers=signature(body, clock.now))
    connection = await connect_runner(services.database)
    projection: Projection = replace(projections_of(services.settings)[1], step=quoting)
    build = await ensure_live(connection, projection)
    while await follow(connection, projection, build):
        pass
    assert PERSONAL["name"] in (await client.get("/v1/parked")).text
    await connection.close()
    text, found = lines(written)
    [parked] = [one for one in found if one["event"] == "subject_parked"]
    assert (parked["subject"], parked["error"]) == ("self:live/cus_1", "BrokenError")
    assert not [one for one in PERSONAL.values() if one in text]


async def test_a_database_that_is_away_says_nothing_of_who_logs_in(
    services: Services, server: EmbeddedPostgres, database_name: str, clock: ManualClock,
    written: io.StringIO,
) -> None:  # fmt: skip
    superuser = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
    async with client_of(services) as client:
        body = body_of(of_somebody("evt_1"))
        await client.post(HOOK, content=body, headers=signature(body, clock.now))
        await superuser.execute(f"ALTER DATABASE {database_name} ALLOW_CONNECTIONS false")
        await superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database_name
        )
        statuses = [(await client.post(HOOK, content=body, headers=signature(body, clock.now))).status_code
                    for _ in range(3)]  # fmt: skip
        await superuser.execute(f"ALTER DATABASE {database_name} ALLOW_CONNECTIONS true")
    await superuser.close()
    assert 503 in statuses
    text, found = lines(written)
    assert any(one["event"] == "log_away" for one in found)
    assert not [one for one in PERSONAL.values() if one in text]
    assert "ledger_service" not in text


@pytest.mark.parametrize(
    "text",
    ["jane.doe@example.com", "4242 4242 4242 4242", "4000-0000-0000-0002", "lk_abcdefgh", "whsec_abcdefgh",
     "sk_live_abcdefgh", "rk_test_abcdefgh", "v1=" + "0f" * 32, "postgresql://jane:secret@db.internal/ledger"],
)  # fmt: skip
def test_what_looks_personal_or_secret_is_blotted_out(text: str, written: io.StringIO) -> None:
    assert is_personal(f"about {text}, said")
    structlog.get_logger().warning("odd", plain=f"({text})", listed=[{"of": text}], error=ValueError(text))
    logging.getLogger("library").warning("met %s\nand %s", text, text)
    said, [first, second] = lines(written)
    assert text not in said
    assert BLOT in first["plain"]
    assert (first["error"], second["event"].partition(" ")[0]) == ("ValueError", "met")


@pytest.mark.parametrize(
    "text", ["self:live/cus_1", "evt_1NG8Du2eZvKYlo2CUI79vXWy", "2026-01-15T12:00:00.123456Z", "1768478400", "0.25"]
)
def test_what_an_engineer_needs_is_left(text: str) -> None:
    assert not is_personal(text)


def test_libraries_speak_as_we_do(written: io.StringIO) -> None:
    try:
        try:
            quoting()
        except BrokenError as error:
            raise LookupError(PERSONAL["email"]) from error
    except LookupError as error:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
        sys.excepthook(LookupError, error, None)
        kind, passed = describe(error), places(error)
    assert kind == "LookupError"
    assert "then, of BrokenError" in passed
    text, [line, last] = lines(written)
    assert (line["event"], line["level"], line["error"]) == ("Exception in ASGI application", "error", "LookupError")
    assert last["event"] == "process_failed"
    assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC
    assert not [one for one in PERSONAL.values() if one in text]
    assert describe(MistakeError("there is no build x")) == "MistakeError: there is no build x"
    assert describe(ConnectionRefusedError(111, "Connection refused")) == "ConnectionRefusedError: Connection refused"

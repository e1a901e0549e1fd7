"""A stand-in for Stripe's API on this machine's loopback: what the documentation says of paging, errors and retries.

Lists are newest first, ten at a time unless asked otherwise, a hundred at most, with ``starting_after`` and
``ending_before``; events by ``types`` and ``created``. ``faults`` are taken one a request: too many requests, server
errors, slow answers, connections that break in the middle. A connected account has a world of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.ending import EndsAtOnce

Json = dict[str, Any]

API_KEY = "rk_test_standin"
AFTER = "0.05"

COLLECTIONS = {
    "accounts": "account",
    "balance_transactions": "balance_transaction",
    "charges": "charge",
    "coupons": "coupon",
    "credit_notes": "credit_note",
    "customers": "customer",
    "events": "event",
    "invoice_payments": "invoice_payment",
    "invoices": "invoice",
    "payment_intents": "payment_intent",
    "prices": "price",
    "products": "product",
    "subscription_items": "subscription_item",
    "subscriptions": "subscription",
    "tax_rates": "tax_rate",
    "webhook_endpoints": "webhook_endpoint",
}
"""What the last part of a list's path lists."""

SUBLISTS = {"lines": "lines", "line_items": "line_items", "active_entitlements": "entitlements"}

BODIES = {
    "empty": "{}",
    "cut": '{"object": "list", "data": [{"id": "il',
    "page": "<html>sign in</html>",
    "null": "null",
    "no text": "\xff\xfe{",
}
"""Answers of status 200 that Stripe never gives, and something in between may."""

_HIDDEN = {"price": ("tiers", "currency_options"), "checkout.session": ("line_items",)}
"""What is only shown when it is asked for."""


class World:
    """One account's objects, oldest first, each as the bytes Stripe writes."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Json]] = {}
        self.made: dict[str, tuple[bytes, bytes]] = {}

    def put(self, *objects: Json) -> None:
        for one in objects:
            self.objects.setdefault(one["object"], {})[one["id"]] = one

    def find(self, kind: str, key: str) -> Json | None:
        return self.objects.get(kind, {}).get(key)


class StandIn:
    """The stand-in: a world an account, faults to come, and every request it has answered."""

    def __init__(self) -> None:
        self.worlds: dict[str | None, World] = {None: World()}
        self.faults: Iterator[str] = itertools.repeat("")
        self.slow_seconds = 1.0
        self.api_key = API_KEY
        self.now: datetime | None = None
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        self.port = 0
        self._server: EndsAtOnce | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def world(self) -> World:
        return self.worlds[None]

    def connect(self, account: str) -> World:
        """Connect an account to the platform; return its world."""
        self.world.put({"id": account, "object": "account"})
        return self.worlds.setdefault(account, World())

    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.requests]

    def __enter__(self) -> Self:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        routes = [Route("/{path:path}", self._answer, methods=["GET", "POST"])]
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="critical", date_header=False, server_header=False, lifespan="off"
        )
        self._server = EndsAtOnce(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.end()
        self._thread.join(10)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii")
        body = await request.body()
        params = dict(request.query_params) if request.method == "GET" else dict(parse_qsl(body.decode()))
        headers = dict(request.headers)
        self.requests.append((request.method, path, params, headers))
        fault = next(self.faults, "")
        if fault == "slow":
            await asyncio.sleep(self.slow_seconds)
        elif fault == "reset":
            return StreamingResponse(_broken(), headers={"Content-Length": "1000"})
        elif fault in BODIES:
            return Response(BODIES[fault].encode("latin-1"), media_type="application/json")
        elif fault:
            return self._refuse(int(fault), f"fault {fault}")
        if headers.get("authorization") != f"Bearer {self.api_key}":
            return self._refuse(401, f"Invalid API Key provided: {headers.get('authorization', '')}")
        account = headers.get("stripe-account")
        if account not in self.worlds:
            return self._refuse(403, f"The provided key {self.api_key} does not have access to account {account}")
        world = self.worlds[account]
        if request.method == "POST":
            return self._make(world, path, params, body, headers.get("idempotency-key"))
        return self._read(world, path, params)

    def _read(self, world: World, path: str, params: dict[str, str]) -> Response:
        parts = [unquote(part) for part in path.removeprefix("/v1/").split("/")]
        if parts[-1] in SUBLISTS:
            owner = self._object(world, parts[:-1]) if len(parts) > 2 else world.find("customer", params["customer"])
            if owner is None:
                return self._refuse(404, f"No such object: '{parts[-2]}'", code="resource_missing")
            return self._list(world, owner.get(f"_{SUBLISTS[parts[-1]]}", []), params, path)
        if parts == ["checkout", "sessions"]:
            return self._list(world, _listed(world, "checkout.session", params), params, path)
        if len(parts) == 1 and parts[0] in COLLECTIONS:
            return self._list(world, _listed(world, COLLECTIONS[parts[0]], params), params, path)
        found = self._object(world, parts)
        if found is None:
            return self._refuse(404, f"No such object: '{parts[-1]}'", code="resource_missing")
        return self._json(shown(world, found, params))

    def _object(self, world: World, parts: list[str]) -> Json | None:
        kind = "checkout.session" if parts[:2] == ["checkout", "sessions"] else COLLECTIONS.get(parts[0], "")
        return world.find(kind, parts[-1])

    def _list(self, world: World, newest_last: list[Json], params: dict[str, str], path: str) -> Response:
        limit = int(params.get("limit", 10))
        if not 1 <= limit <= 100:
            return self._refuse(400, "Invalid limit", param="limit")
        # Lines stand as on the invoice; everything that was made over time stands newest first.
        found = newest_last if path.endswith(tuple(SUBLISTS)) else newest_last[::-1]
        places = {one["id"]: place for place, one in enumerate(found)}
        start, end = 0, len(found)
        if after := params.get("starting_after"):
            start = places[after] + 1
            end = min(len(found), start + limit)
            more = end < len(found)
        elif before := params.get("ending_before"):
            end = places[before]
            start = max(0, end - limit)
            more = start > 0
        else:
            end = min(limit, len(found))
            more = end < len(found)
        data = [shown(world, one, params) for one in found[start:end]]
        return self._json({"object": "list", "data": data, "has_more": more, "url": path})

    def _make(self, world: World, path: str, params: dict[str, str], body: bytes, key: str | None) -> Response:
        if key is not None and key in world.made:
            sent, answered = world.made[key]
            if sent != body:
                return self._refuse(400, "Keys for idempotent requests can only be used with the same parameters",
                                    type="idempotency_error")  # fmt: skip
            return Response(answered, media_type="application/json")
        made = self._session(world, path, params)
        if isinstance(made, Response):
            return made
        world.put(made)
        answer = self._json(made)
        if key is not None:
            world.made[key] = (body, bytes(answer.body))
        return answer

    def _session(self, world: World, path: str, params: dict[str, str]) -> Json | Response:
        number = len(world.made) + 1
        if path == "/v1/billing_portal/sessions":
            if world.find("customer", params.get("customer", "")) is None:
                return self._refuse(400, f"No such customer: '{params.get('customer')}'", code="resource_missing")
            return {"id": f"bps_{number}", "object": "billing_portal.session", "url": f"{self.url}/p/session/{number}"}
        if path != "/v1/checkout/sessions":
            return self._refuse(404, f"Unrecognized request URL (POST: {path})")
        price = world.find("price", params.get("line_items[0][price]", ""))
        if price is None:
            return self._refuse(400, "No such price", code="resource_missing", param="line_items[0][price]")
        return {
            "id": f"cs_test_{number}",
            "object": "checkout.session",
            "url": f"{self.url}/c/pay/cs_test_{number}",
            "params": params,
        }

    def _refuse(self, status: int, message: str, **more: str) -> Response:
        headers = {"Retry-After": AFTER} if status in (429, 503) else {}
        error = {"type": "invalid_request_error", "message": message} | more
        return self._json({"error": error}, status, headers)

    def _json(self, content: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        date = format_datetime((self.now or datetime.now(UTC)).astimezone(UTC), usegmt=True)
        named = {"Date": date, "Request-Id": f"req_{len(self.requests)}", "Stripe-Version": "2026-10-28.endive"}
        body = orjson.dumps(content, option=orjson.OPT_INDENT_2)
        return Response(body, status, named | (headers or {}), media_type="application/json")


def shown(world: World, one: Json, params: dict[str, str]) -> Json:
    """Return an object as it is answered: hidden parts and whole discounts only where they are asked for."""
    expanded = {value.removeprefix("data.") for key, value in params.items() if key.startswith("expand")}
    hidden = set(_HIDDEN.get(str(one["object"]), ())) - expanded
    answer = {key: value for key, value in one.items() if key not in hidden and not key.startswith("_")}
    if "discounts" in expanded:
        answer["discounts"] = [world.find("discount", key) or key for key in one.get("discounts", ())]
    return answer


def _listed(world: World, kind: str, params: dict[str, str]) -> list[Json]:
    found: Iterable[Json] = [one for one in world.objects.get(kind, {}).values() if not one.get("deleted")]
    if kind == "event":
        found = sorted(found, key=lambda one: int(one["created"]))
    types = {value for key, value in params.items() if key.startswith("types[")}
    for key, value in params.items():
        bound = re.fullmatch(r"created\[(gte|gt|lte|lt)\]", key)
        if bound:
            found = [one for one in found if _within(bound[1], int(one["created"]), int(value))]
        elif key in ("customer", "subscription", "type"):
            found = [one for one in found if one.get(key) == value]
        elif key == "status" and value != "all":
            found = [one for one in found if one.get("status") == value]
        elif key == "payment[payment_intent]":
            found = [one for one in found if one["payment"]["payment_intent"] == value]
    if kind == "subscription" and "status" not in params:
        found = [one for one in found if one["status"] != "canceled"]
    return [one for one in found if not types or one["type"] in types]


def _within(word: str, created: int, bound: int) -> bool:
    return {"gte": created >= bound, "gt": created > bound, "lte": created <= bound, "lt": created < bound}[word]


async def _broken() -> AsyncIterator[bytes]:
    yield b'{"object": "list", "data": ['
    raise ConnectionResetError

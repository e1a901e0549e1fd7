"""localstripe plays Stripe: what happens there reaches the service through its own signed webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import orjson
import pytest
import stripe

from api.clock import wall_clock
from api.outward.access import open_access
from api.outward.gather import Gathering
from api.services import open_services
from api.settings import Settings
from ledger.postgres import Database
from ledger.times import rfc3339
from tests.system.running import Service, free_port

SECRET = "whsec_localstripe"

PROGRAM = """
import sys
from aiohttp import web
from localstripe.resources import store
from localstripe.server import app

type(store).dump_to_disk = lambda store: None
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
"""
"""Its own command would listen on every address and keep its state where every user of the machine shares it."""


@pytest.fixture
def localstripe() -> Iterator[str]:
    """A localstripe of our own, from scratch, on this machine's loopback; gives its address."""
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{address}/v1/customers", auth=("sk_test_x", ""))
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("localstripe does not answer")


def test_a_subscription_there_is_an_entitlement_here(service: Service, localstripe: str) -> None:
    service.environment["LEDGER_STRIPE_WEBHOOK_SECRETS"] = f"test:{SECRET}"
    service.start()
    hook = {"url": f"{service.url}/webhooks/stripe", "secret": SECRET}
    httpx.post(f"{localstripe}/_config/webhooks/ledger", data=hook, auth=("sk_test_x", "")).raise_for_status()
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": localstripe})

    product = client.v1.products.create({"name": "Team", "type": "service"})
    client.v1.plans.create(
        {"id": "plan_team", "product": product.id, "amount": 3100, "currency": "usd", "interval": "month"}
    )
    customer = client.v1.customers.create({"email": "a@example.com"})
    method = client.v1.payment_methods.create(
        {"type": "card", "card": {"number": "4242424242424242", "exp_month": 12, "exp_year": 2030, "cvc": "123"}}
    )
    client.v1.payment_methods.attach(method.id, {"customer": customer.id})
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
    subscription = client.v1.subscriptions.create({"customer": customer.id, "items": [{"plan": "plan_team"}]})

    def granted() -> bool:
        answer = service.get(f"/v1/customers/{customer.id}/entitlements/{product.id}")
        return answer.status_code == 200 and answer.json()["granted"] is True

    service.until(granted, "the entitlement to be granted", seconds=15)
    assert service.get("/v1/events").json()["freshness"]["book"] == "self:test"
    client.v1.subscriptions.cancel(subscription.id)
    service.until(lambda: not granted(), "the entitlement to be revoked", seconds=15)
    answer = service.get(f"/v1/customers/{customer.id}/entitlements/{product.id}").json()
    assert answer["reason"] == "canceled"


class Failing(BaseHTTPRequestHandler):
    """What stands where the service was, and answers 500."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(500)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def failing_at(port: int) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", port), Failing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def events_of(localstripe: str) -> list[dict[str, Any]]:
    """Return everything localstripe says has happened."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": localstripe})
    listed = client.v1.events.list({"limit": 100}).auto_paging_iter()
    return [orjson.loads(orjson.dumps(one.to_dict())) for one in listed]


def test_what_webhooks_lost_a_sweep_finds(service: Service, localstripe: str) -> None:
    service.environment["LEDGER_STRIPE_WEBHOOK_SECRETS"] = f"test:{SECRET}"
    asking = {"LEDGER_STRIPE_API_KEY": "sk_test_x", "LEDGER_STRIPE_API_BASE": localstripe}
    service.start()
    hook = {"url": f"{service.url}/webhooks/stripe", "secret": SECRET}
    httpx.post(f"{localstripe}/_config/webhooks/ledger", data=hook, auth=("sk_test_x", "")).raise_for_status()
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": localstripe})

    def happen(count: int) -> None:
        for _ in range(count):
            client.v1.customers.create({"email": "a@example.com"})

    def be_lost(count: int) -> None:
        happen(count)
        time.sleep(1.5)  # localstripe sends a second later, once, whatever comes of it

    def head() -> int:
        return int(service.get("/v1/events", book="self:test").json()["freshness"]["head"])

    happen(3)
    service.until(lambda: head() == 3, "the first webhooks")
    service.stop()
    be_lost(4)
    with failing_at(service.port):
        be_lost(5)
    service.start()
    happen(2)
    service.until(lambda: head() == 5, "the last webhooks")

    swept = orjson.loads(service.run("sweep", "--json", **asking).stdout)
    assert swept["books"] == {"self:test": {"listed": 14, "appended": 9, "unreadable": 0}}
    log = service.get("/v1/events", book="self:test").json()["data"]
    raw = [service.get(f"/v1/events/{one['id']}/raw", book="self:test").json() for one in log]
    theirs = events_of(localstripe)
    assert sorted(raw, key=lambda one: str(one["id"])) == sorted(theirs, key=lambda one: str(one["id"]))
    assert [one["source"] for one in log].count("api") == 9
    again = service.run("sweep", **asking)
    assert (again.returncode, head()) == (0, 14)
    assert "0 were missing" in again.stdout

    def newest_hour() -> dict[str, Any]:
        since = rfc3339(wall_clock() - timedelta(hours=1))
        hours: list[dict[str, Any]] = service.get("/v1/coverage", book="self:test", **{"from": since}).json()["data"]
        return hours[-1]

    assert newest_hour()["proven"] is False, "it is not over"
    asyncio.run(sweep_later(service, asking))
    assert newest_hour()["proven"] is True
    assert head() == 14


async def sweep_later(service: Service, asking: dict[str, str]) -> None:
    """Sweep as it will be done in two hours."""
    settings = Settings(
        data_dir=service.folder,
        stripe_api_key=asking["LEDGER_STRIPE_API_KEY"],
        stripe_api_base=asking["LEDGER_STRIPE_API_BASE"],
    )
    opened = open_services(
        settings, database=Database(service.embedded.url()), clock=lambda: wall_clock() + timedelta(hours=2)
    )
    async with opened as services, open_access(settings, services.clock) as access:
        gathering = Gathering(access, services.pool, services.appender, "self", services.clock)
        assert (await gathering.sweep()).found.total() == 0

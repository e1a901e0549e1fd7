"""localstripe plays Stripe: what happens there reaches the service through its own signed webhooks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
import stripe

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

"""What asks Stripe, as processes: killed in its middle it goes on, and ``serve`` does it by itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from tests.outward.test_gather import history
from tests.standin import API_KEY, StandIn
from tests.stripe_events import event
from tests.system.running import Service


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as made:
        yield made


def test_a_backfill_killed_again_and_again_is_in_order_and_exactly_once(service: Service, standin: StandIn) -> None:
    events = history(900, datetime.now(UTC) - timedelta(minutes=1))
    standin.world.put(*events)
    standin.faults = itertools.cycle(["", "", "429", "", "reset"])
    service.start()
    service.environment |= {"LEDGER_STRIPE_API_KEY": API_KEY, "LEDGER_STRIPE_API_BASE": standin.url}

    def head() -> int:
        return int(service.get("/v1/events", book="self:test").json()["freshness"]["head"])

    seen = [0]
    for _ in range(3):
        running = service.spawn("backfill")
        deadline = time.monotonic() + 30
        while head() == seen[-1] and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        running.kill()
        running.wait()
        seen.append(head())
    assert len({count for count in seen if 0 < count < 900}) >= 1, f"it was never killed in its middle: {seen}"
    done = service.run("backfill", "--json")
    assert done.returncode == 0, done.stderr
    found: list[str] = []
    while len(page := service.get("/v1/events", book="self:test", after=str(len(found)), limit="500").json()["data"]):
        found += [one["id"] for one in page]
    assert found == [one["id"] for one in events]
    assert (
        orjson.loads(service.run("backfill", "--json").stdout)["books"].get("self:test", {"appended": 0})["appended"]
        == 0
    )


def test_serve_sweeps_and_observes_by_itself(service: Service, standin: StandIn) -> None:
    then = datetime.now(UTC) - timedelta(hours=3)
    charge = {"id": "ch_1", "object": "charge", "customer": "cus_1", "balance_transaction": "txn_1"}
    standin.world.put(
        event("evt_1", "charge.succeeded", charge, created=int(then.timestamp()), live=False),
        {"id": "txn_1", "object": "balance_transaction", "fee": 120, "net": 2980, "source": "ch_1"},
    )
    service.environment |= {"LEDGER_STRIPE_API_KEY": API_KEY, "LEDGER_STRIPE_API_BASE": standin.url}
    service.start()

    def observed() -> bool:
        data = service.get("/v1/observations", book="self:test", state="answered").json()["data"]
        return [one["of"] for one in data] == ["txn_1"]

    service.until(observed, "the fee to be observed")
    first, second = service.get("/v1/events", book="self:test").json()["data"]
    assert (first["id"], second["type"]) == ("evt_1", "ledger.observation.recorded")
    assert second["data"]["object"]["responses"][0]["fee"] == 120
    metrics = service.get("/metrics").text
    assert 'ledger_coverage_found_events{book="self:test"} 1.0' in metrics
    assert 'ledger_observations{book="self:test",state="answered"} 1.0' in metrics
    assert 'ledger_coverage_unproven_hours{book="self:test"} 0.0' in metrics
    examined = service.run("doctor", "--production", "--json")
    checks = {one["name"]: one for one in orjson.loads(examined.stdout)["checks"]}
    assert examined.returncode == 1
    assert (checks["restricted key"]["ok"], checks["restricted key"]["value"]) == (False, "rk_test_…")
    assert checks["signatures"]["ok"] is checks["fsync"]["ok"] is True
    service.kill()
    service.start()
    service.until(observed, "the same after a kill")
    assert len(service.get("/v1/events", book="self:test").json()["data"]) == 2


def test_a_key_that_is_none_stops_serve_with_a_message(service: Service) -> None:
    done = service.run_apart("serve", LEDGER_STRIPE_API_KEY="whsec_mistaken")
    assert done.returncode == 2
    assert "LEDGER_STRIPE_API_KEY" in done.stderr
    assert "whsec_mistaken" not in done.stderr

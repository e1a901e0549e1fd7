"""``make demo``: a company's history, loaded once, served like any other, and nothing of it in a book of yours."""

from __future__ import annotations

import re

import httpx
import orjson
import psutil

from api.services import projections_of
from api.settings import Settings
from tests.system.running import Service

PROJECTIONS = len(projections_of(Settings()))
CALL = ("demo", "--customers", "25", "--months", "6")


def test_the_demo_serves_a_companys_history_and_goes_on_with_it(service: Service) -> None:
    service.start(arguments=CALL)
    loaded = re.search(r"(\d+) events of a simulated company: 25 customers, 6 months", "".join(service.printed))
    assert loaded is not None
    service.until(lambda: service.get("/readyz").status_code == 200, "the demo to be ready")

    first = service.get("/v1/events", limit="1", book="self:live").json()["data"][0]
    assert first["type"] == "ledger.simulation.started"
    events = service.get("/v1/events", limit="3", book="self:live", type="customer.subscription.created").json()["data"]
    customer = events[0]["stream"].partition("/")[2]
    assert events[0]["recorded_at"][:10] == events[0]["created"][:10], "recorded when it would have been"

    def folded() -> bool:
        builds = service.get("/v1/projections").json()["data"]
        places = [book for one in builds for book in one["books"]]
        return len(builds) == PROJECTIONS and all(book["position"] == book["head"] for book in places)

    service.until(folded, "the history to be folded", 90)
    answer = service.get(f"/v1/customers/{customer}/entitlements", book="self:live", include="all").json()
    assert answer["entitlements"]

    with httpx.Client(base_url=service.url, follow_redirects=True) as browser:
        page = browser.post("/sign-in", data={"key": service.credentials["api_key"]}).text
        assert "self:live" in page

    service.stop()
    service.start('"data"', arguments=(*CALL, "--json"))
    service.until(lambda: "}\n" in service.printed, "all of the JSON")
    told = "".join(service.printed[service.printed.index("{\n") : service.printed.index("}\n") + 1])
    assert orjson.loads(told) == {
        "console": f"{service.url}/",
        "webhook": f"{service.url}/webhooks/stripe",
        "data": f"{service.folder}/",
        **{name: service.credentials[name] for name in ("webhook_secret", "api_key")},
    }
    assert "never was" not in "".join(service.printed), "loaded once"
    assert psutil.Process(service.process.pid if service.process else 0).is_running()


def test_a_demo_is_not_mixed_into_a_database_of_yours(service: Service) -> None:
    refused = service.run_apart("demo", LEDGER_DATABASE_URL="postgresql://127.0.0.1/mine")
    assert refused.returncode == 2
    assert "LEDGER_DATABASE_URL" in refused.stderr
    service.start()
    service.stop()


def test_a_simulation_is_only_appended_to_an_empty_book(service: Service) -> None:
    from tests.stripe_events import event

    service.start()
    assert service.post(event("evt_1", "customer.created", {"id": "cus_1", "object": "customer"})).status_code == 200
    service.stop()
    refused = service.run_apart("demo", "--customers", "5", "--months", "1")
    assert refused.returncode == 2
    assert "holds events already" in refused.stderr

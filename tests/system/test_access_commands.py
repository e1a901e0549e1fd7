"""``ledger catalog`` and ``ledger grant`` beside a running service: previewed, published, granted, taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from tests.stripe_events import event, product, subscription
from tests.system.running import Service

CATALOG = """
[features.seats]
kind = "quantity"
[features.audit]
kind = "boolean"
[[plans]]
product = "prod_1"
features = { seats = "quantity*2", audit = true }
"""


def json_of(service: Service, *arguments: str) -> Any:
    done = service.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return orjson.loads(done.stdout)


def test_catalogs_and_grants_from_the_command_line(service: Service, tmp_path: Path) -> None:
    service.start()
    service.post(event("evt_1", "product.created", product()))
    sold = service.post(event("evt_2", "customer.subscription.created", subscription(items="si_1:prod_1*8"))).json()
    file = tmp_path / "catalog.toml"
    file.write_text(CATALOG)

    def seats(position: int) -> Any:
        asked = {"min_position": str(position), "wait": "10"}
        return service.get("/v1/customers/cus_1/entitlements/seats", **asked).json()["value"]

    assert seats(sold["position"]) == 8
    preview = json_of(service, "catalog", "diff", str(file))
    assert preview["summary"] == {"customers": 1, "gained": 1, "lost": 2, "changed": 1}
    assert {(one["feature"], one["before"], one["after"]) for one in preview["data"]} == {
        ("audit", None, True), ("prod_1", True, None), ("seats", 8, 16), ("sso", True, None),
    }  # fmt: skip

    made = json_of(service, "catalog", "publish", str(file))
    assert (made["version"], made["effective_from"]) == (1, None)
    assert seats(made["position"]) == 16
    assert service.run("catalog", "show").stdout == CATALOG
    file.write_text(CATALOG.replace("true", "maybe"))
    wrong = service.run("catalog", "publish", str(file))
    assert (wrong.returncode, "line 8" in wrong.stderr) == (2, True), wrong.stderr

    granted = json_of(service, "grant", "cus_1", "seats", "--value", "5", "--reason", "goodwill")
    assert seats(granted["position"]) == 21
    gone = json_of(service, "grant", "--revoke", granted["id"], "--reason", "a mistake")
    assert seats(gone["position"]) == 16
    assert service.run("grant", "--revoke", "grant_x", "--reason", "none such").returncode == 2
    assert service.stop() == 0

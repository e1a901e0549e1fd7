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
    half = json_of(service, "grant", "cus_9", "seats", "--value", "2.5", "--reason", "as over HTTP")
    assert json_of(service, "events", f"{half['id']}-created")["data"]["object"]["value"] == "2.5"
    assert service.stop() == 0


def test_no_book_means_what_it_means_over_http(service: Service, tmp_path: Path) -> None:
    service.start()
    sold = subscription(items="si_1:prod_1*8")
    service.post(event("evt_1", "customer.subscription.created", sold, live=False))
    granted = json_of(service, "grant", "cus_1", "beta", "--reason", "a promise")
    asked = {"min_position": str(granted["position"]), "wait": "10"}
    beta = service.get("/v1/customers/cus_1/entitlements/beta", **asked).json()
    assert (beta["granted"], beta["freshness"]["book"]) == (True, "self:test")
    assert [one["id"] for one in json_of(service, "events")["data"]] == ["evt_1", f"{granted['id']}-created"]
    audit = json_of(service, "rebuild", "entitlements", "--until-position", "1")
    assert audit["certificate"]["books"].keys() == {"self:test"}
    journal = json_of(service, "export", "journal", "--format", "csv", "-o", str(tmp_path / "journal.csv"))
    assert journal["book"] == "self:test"
    printed = service.run("export", "events", "--format", "csv", "-o", "-")
    assert (printed.stdout.partition(",")[0], "rows of self:test" in printed.stderr) == ("id", True)

    service.post(event("evt_1", "customer.subscription.created", sold, live=False, account="acct_1"))
    unclear = service.run("grant", "cus_1", "beta", "--reason", "a promise")
    assert (unclear.returncode, "acct_1:test, self:test" in unclear.stderr) == (2, True), unclear.stderr
    assert service.run("events").returncode == 2


def test_what_would_give_nothing_is_refused(service: Service) -> None:
    service.start()
    over = service.run("grant", "cus_1", "beta", "--until", "2020-01-01", "--reason", "a promise")
    assert (over.returncode, "--until" in over.stderr) == (2, True), over.stderr
    bare = service.run("events", "--raw")
    assert (bare.returncode, "--raw" in bare.stderr) == (2, True), bare.stderr


def test_letters_that_a_terminal_has_not_are_shown_as_it_can(service: Service, tmp_path: Path) -> None:
    service.start()
    service.post(event("evt_1", "product.created", product()))
    service.post(event("evt_2", "customer.subscription.created", subscription(items="si_1:prod_1*8")))
    service.post(event("evt_3", "invoice.upcoming", {"object": "invoice", "customer": "cus_1"}))
    file = tmp_path / "catalog.toml"
    file.write_text(
        '[features."größe"]\nkind = "boolean"\n[[plans]]\nproduct = "prod_1"\nfeatures = {"größe" = true}\n'
    )
    assert service.run("project").returncode == 0
    shown = service.run_apart("catalog", "diff", str(file), PYTHONIOENCODING="ascii")
    assert (shown.returncode, shown.stderr, "gr??e" in shown.stdout) == (0, "", True)
    assert service.run("replay", "org:\udcff").returncode == 2
    for command in (("grant", "cus_1", "beta"), ("erase", "evt_3")):
        wrong = service.run(*command, "--reason", "no text: \udcff")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), (command, wrong.stderr)

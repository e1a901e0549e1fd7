"""What may be kept of an answer, and when a copy is still good."""

from __future__ import annotations

import hashlib
from typing import Final

import httpx
import pytest

from api.caching import tag_of
from api.declared import Operation
from api.routes import OPERATIONS
from api.services import Services
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.periods.tables import PERIODS_PROJECTION
from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.http.test_catalog import CATALOG, publish
from tests.http.test_entitlements import bought, fold_everything
from tests.http.test_openapi import DOCUMENT, named
from tests.stripe_events import Json, event

LIST: Final = "/v1/customers/cus_1/entitlements"


def a_charge(event_id: str, **more: int) -> Json:
    charge = {"object": "charge", "id": "ch_1", "customer": "cus_9"}
    return event(event_id, "charge.succeeded", charge, **more)  # type: ignore[arg-type]


async def test_a_list_is_kept_until_it_says_something_else(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    first = await client.get(LIST)
    tag = first.headers["etag"]
    assert (first.status_code, first.headers["cache-control"]) == (200, "private, no-cache")
    assert first.headers["vary"] == "Authorization"
    await post(client, clock, a_charge("evt_99"))
    await fold_everything(database, services)
    again = await client.get(LIST, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert int(again.headers["ledger-position"]) == int(first.headers["ledger-position"]) + 1
    assert again.headers["x-request-id"]
    assert (await client.get(LIST, headers={"If-None-Match": '"other"'})).status_code == 200
    assert (await client.get(LIST, params={"include": "all"}, headers={"If-None-Match": tag})).status_code in (200, 304)
    wanted = {"customer": "cus_1", "feature": "extra", "reason": "a gift"}
    await client.post("/v1/grants", json=wanted)
    await fold_everything(database, services)
    changed = await client.get(LIST, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_a_stale_answer_is_another_one(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    await bought(client, clock)
    await fold_everything(database, services)
    tag = (await client.get(LIST)).headers["etag"]
    await post(client, clock, a_charge("evt_99"))
    clock.forward(seconds=90)
    stale = await client.get(LIST, headers={"If-None-Match": tag})
    assert (stale.status_code, stale.json()["freshness"]["stale"]) == (200, True)


async def test_what_never_changes_is_kept_for_good(client: httpx.AsyncClient, clock: ManualClock) -> None:
    await post(client, clock, a_charge("evt_1"))
    raw = await client.get("/v1/events/evt_1/raw")
    assert raw.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert raw.headers["etag"] == f'W/"{hashlib.sha256(raw.content).hexdigest()[:32]}"'
    kept = await client.get("/v1/events/evt_1/raw", headers={"If-None-Match": raw.headers["etag"]})
    assert kept.status_code == 304
    missing = await client.get("/v1/events/evt_2/raw", headers={"If-None-Match": "*"})
    assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")


@pytest.mark.parametrize(
    "path", ["/openapi.json", "/v1/catalog", "/v1/log/verifier-key", "/v1/log/checkpoint", "/v1/log/proof/evt_1",
             "/v1/periods"],
)  # fmt: skip
async def test_what_seldom_changes_is_asked_about(
    client: httpx.AsyncClient, clock: ManualClock, services: Services, path: str
) -> None:
    await post(client, clock, a_charge("evt_1"))
    await publish(client, CATALOG)
    async with services.database.as_role("ledger_builder").pool(max_size=1) as pool, pool.acquire() as connection:
        await ensure_live(connection, PERIODS_PROJECTION)
    first = await client.get(path)
    assert first.status_code == 200, first.text
    answer = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (answer.status_code, answer.headers["cache-control"]) == (304, "private, no-cache")
    head = await client.head(path)
    assert head.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("one", [one for one in OPERATIONS if one.method == "GET"], ids=named)
def test_keeping_is_declared(one: Operation) -> None:
    said = DOCUMENT["paths"][one.path]["get"]
    declared = "304" in said["responses"], "ETag" in said["responses"]["200"].get("headers", {})
    assert declared == (one.keeping != "never",) * 2
    assert any(parameter["name"] == "If-None-Match" for parameter in said["parameters"]) == declared[0]


def test_a_tag_is_of_what_is_said_and_whether_it_can_be_relied_on() -> None:
    def body(said: str, **fresh: str) -> bytes:
        told = {"book": '"self:live"', "position": "1", "lag_seconds": "0.0", "build": '"b-1"', "stale": "false",
                "parked": "false"} | fresh  # fmt: skip
        return f'{{"said":"{said}","freshness":{{{",".join(f""""{k}":{v}""" for k, v in told.items())}}}}}'.encode()

    assert tag_of(body("a")) == tag_of(body("a", position="2", lag_seconds="3.5"))
    assert len({tag_of(body("a")), tag_of(body("b")), tag_of(body("a", stale="true")), tag_of(body("a", parked="true")),
                tag_of(body("a", build='"b-2"')), tag_of(b'{"said":"a"}')}) == 6  # fmt: skip
    assert tag_of(body('a\\",\\"freshness\\":{')) != tag_of(body('b\\",\\"freshness\\":{'))

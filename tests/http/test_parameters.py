"""What a request may ask: nothing is left out without a word, and the log can be asked as of a moment too."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

import httpx
import pytest

from api.declared import Operation
from api.parameters import FORGED_CURSOR
from api.reads import encode_key
from api.routes import OPERATIONS
from api.services import Services
from ledger.postgres import Database
from ledger.times import rfc3339
from projections.builds import ensure_live
from projections.periods.tables import PERIODS_PROJECTION
from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.http.test_catalog import grant
from tests.http.test_entitlements import fold_everything
from tests.http.test_openapi import named, path_of
from tests.stripe_events import Json, event, subscription

GUARDED: Final = [one for one in OPERATIONS if one.scope]
BASE: Final = 1768478400


def a_charge(event_id: str, **more: int) -> Json:
    charge = {"object": "charge", "id": "ch_1", "customer": "cus_9"}
    return event(event_id, "charge.succeeded", charge, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("one", GUARDED, ids=named)
async def test_an_unknown_parameter_is_named(client: httpx.AsyncClient, one: Operation) -> None:
    answer = await client.request(one.method, path_of(one, {}), params={"asof": "2026-01-01T00:00:00Z"})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (400, "unknown-parameter")
    assert "'asof'" in problem["detail"]
    assert all(parameter.name in problem["detail"] for parameter in one.query)


async def test_a_webhooks_address_may_hold_anything(client: httpx.AsyncClient) -> None:
    answer = await client.post("/webhooks/stripe?tenant=1", content=b"{}")
    assert answer.json()["type"] == "signature"


@pytest.mark.parametrize("one", [one for one in GUARDED if len(one.query) > 5], ids=named)
async def test_what_contradicts_itself_is_refused(client: httpx.AsyncClient, one: Operation) -> None:
    moment = "2026-01-01T00:00:00Z"
    twice = [("book", "self:live"), ("book", "self:test")]
    both = [("as_of", moment), ("at", moment)]
    known = [("known_at", moment), ("known_position", "1")]
    built = [("build", "revenue-1"), ("known_position", "1")]  # a build has a horizon of its own
    for asked, said in (
        (twice, "book is given twice"), (both, "as_of and at exclude"), (known, "known_at and known_"),
        (built, "build and known_position exclude"), ([built[0], known[0]], "build and known_at exclude"),
    ):  # fmt: skip
        if {name for name, _ in asked} <= {parameter.name for parameter in one.query}:
            answer = await client.request(one.method, f"{path_of(one, {})}?{urlencode(asked)}")
            assert answer.status_code == 400, asked
            assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("/v1/revenue/recognition", {"from": "January"}, "from is a month such as 2026-01"),
        ("/v1/revenue/mrr/movements", {"to": "May"}, "to is a day such as 2026-01-31, or a month such as 2026-01"),
        ("/v1/revenue/tie-out", {"month": "1"}, "month is a month such as 2026-01"),
        ("/v1/dunning/attention", {"currency": "1"}, "currency is three letters such as usd"),
        ("/v1/coverage", {"cursor": "ü"}, "cursor is the next_cursor of the previous page"),
    ],
)  # fmt: skip
async def test_what_is_malformed_is_answered_in_words(
    client: httpx.AsyncClient, path: str, asked: dict[str, str], said: str
) -> None:
    answer = await client.get(path, params=asked)
    assert (answer.status_code, answer.json()["detail"]) == (400, said)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/v1/revenue/mrr/movements?detail=true", ("eur", "bad_debt", "prod_1")),  # another list's
        ("/v1/revenue/mrr/movements?detail=false", ("eur", "bad_debt", "prod_1")),
        ("/v1/revenue/mrr/movements?detail=true", ("9999-12-31T23:59:59-14:00", "cus_1", "usd")),
        ("/v1/revenue/journal?limit=1", (True, "in_1:finalize")),
        ("/v1/dunning/cases?limit=1", ("eur", "in_1")),
        ("/v1/dunning/attention?limit=1", ("usd", 2**63, "in_1")),
        ("/v1/dunning/attention?limit=1", ("usd", -(2**63), "in_1")),
    ],
)
async def test_a_cursor_that_was_given_elsewhere_is_refused(
    client: httpx.AsyncClient, path: str, parts: tuple[str | int, ...]
) -> None:
    answer = await client.get(f"{path}&cursor={encode_key(*parts)}")
    assert (answer.status_code, answer.json()["detail"]) == (400, FORGED_CURSOR)


async def test_coverage_goes_on_from_any_hour_there_is(client: httpx.AsyncClient) -> None:
    for hour, status in (
        (1, 400), ("9999-12-31T23:59:59-14:00", 400), ("9999-12-31T23:59:59Z", 200), ("1970-01-01T00:00:01Z", 200),
    ):  # fmt: skip
        answer = await client.get("/v1/coverage", params={"cursor": encode_key(hour)})
        assert answer.status_code == status, hour


async def test_the_log_is_asked_as_of_a_moment_and_as_known(client: httpx.AsyncClient, clock: ManualClock) -> None:
    for number in range(3):
        await post(client, clock, a_charge(f"evt_{number}", created=BASE + 60 * number))
        clock.forward(hours=1)
    late = rfc3339(clock.now - timedelta(minutes=90))

    async def ids(**asked: str) -> list[str]:
        return [one["id"] for one in (await client.get("/v1/events", params=asked)).json()["data"]]

    at_first = "2026-01-15T12:00:59Z"
    assert await ids(as_of=at_first) == await ids(at=at_first) == ["evt_0"]
    assert await ids(as_of="2026-01-15T12:01:00Z", order="desc") == ["evt_1", "evt_0"]
    assert await ids(known_position="2") == ["evt_0", "evt_1"]
    assert await ids(known_at=late) == ["evt_0", "evt_1"]
    assert await ids(known_position="2", as_of=at_first) == ["evt_0"]
    for path in ("/v1/events/evt_2", "/v1/events/evt_2/raw"):
        for asked in ({"as_of": at_first}, {"known_position": "2"}, {"known_at": late}):
            assert (await client.get(path, params=asked)).status_code == 404, asked
        assert (await client.get(path, params={"as_of": rfc3339(clock.now), "known_position": "3"})).status_code == 200
    assert (await client.get("/v1/events", params={"min_position": "3"})).status_code == 200
    ahead = await client.get("/v1/events/evt_2", params={"min_position": "4", "wait": "0.05"})
    assert (ahead.status_code, ahead.json()["type"]) == (503, "not-yet")


async def test_an_open_month_says_something_wherever_a_closed_one_does(
    client: httpx.AsyncClient, services: Services, clock: ManualClock
) -> None:
    from api.periods import _OPEN

    closed = {"month", "seal", "status", "position", "digest", "by", "at", "reason", "forced", "exceptions", "policies",
              "code", "reopened"}  # fmt: skip
    assert {"month", *_OPEN} == closed
    async with services.database.as_role("ledger_builder").pool(max_size=1) as pool, pool.acquire() as connection:
        await ensure_live(connection, PERIODS_PROJECTION)
    assert (await client.get("/v1/periods", params={"as_of": rfc3339(clock.now)})).status_code == 200


@pytest.mark.parametrize("holder", ["sub_1", "nobody", "org:", "cus_", "customer cus_1"])
async def test_nothing_is_granted_to_what_is_nobody(client: httpx.AsyncClient, holder: str) -> None:
    wanted = {"customer": holder, "feature": "sso", "reason": "a trial"}
    answer = await client.post("/v1/grants", json=wanted)
    assert (answer.status_code, "org:NAME" in answer.json()["detail"]) == (400, True)
    assert (await client.get("/v1/events")).json()["data"] == []
    for good in ("cus_1", "org:acme/eu", "acct_1"):
        assert (await client.post("/v1/grants", json=wanted | {"customer": good})).status_code == 201, good


async def test_grants_are_listed_as_they_stood(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    at_first = rfc3339(clock.now)
    made = (await grant(client, customer="cus_1", valid_until="2026-01-16T00:00:00Z")).json()["id"]
    clock.forward(hours=1)
    planned = (await grant(client, customer="cus_2", valid_from="2026-03-01T00:00:00Z")).json()["id"]
    clock.forward(hours=1)
    await client.request("DELETE", f"/v1/grants/{made}", json={"reason": "enough"})
    await fold_everything(database, services)

    async def listed(**asked: str) -> list[tuple[str, str]]:
        answer = await client.get("/v1/grants", params=asked)
        assert answer.status_code == 200, answer.text
        return [(one["id"], one["state"]) for one in answer.json()["data"]]

    assert await listed() == await listed(as_of=rfc3339(clock.now)) == [(planned, "planned"), (made, "revoked")]
    assert await listed(as_of="2026-01-15T13:59:59Z") == [(planned, "planned"), (made, "granted")]
    assert await listed(at=at_first) == [(made, "granted")]
    assert await listed(at=at_first, limit="1") == [(made, "granted")]
    assert await listed(as_of="2026-01-15T11:59:59Z") == []
    assert await listed(as_of="2026-03-01T00:00:00Z") == [(planned, "granted"), (made, "revoked")]
    known = await client.get("/v1/grants", params={"known_position": "1"})
    assert (known.status_code, known.json()["type"]) == (409, "build-required")
    assert "/v1/projections/entitlements/rebuilds" in known.json()["detail"]


async def test_the_rows_of_an_event_are_those_of_that_time(
    client: httpx.AsyncClient, clock: ManualClock, database: Database, services: Services
) -> None:
    for number, (status, seconds) in enumerate((("incomplete", 0), ("active", 60), ("past_due", 120)), 1):
        kind = "created" if number == 1 else "updated"
        content = subscription(items="si_1:prod_1*8", status=status)
        clock.forward(minutes=5)
        await post(
            client, clock, event(f"evt_{number}", f"customer.subscription.{kind}", content, created=BASE + seconds)
        )
    await fold_everything(database, services)

    async def statuses(**asked: str) -> list[tuple[str, bool]]:
        answer = await client.get("/v1/events/evt_2/rows", params=asked)
        assert answer.status_code == 200, answer.text
        rows = [one["row"] for one in answer.json()["data"] if one["table"] == "entitlement_source"]
        return [(row["status"], row["valid_to"] is None) for row in rows]

    now = await statuses()
    assert ("active", False) in now
    assert await statuses(as_of=rfc3339(clock.now)) == now
    assert await statuses(as_of="2026-01-15T12:01:00Z") == [("active", True)]
    assert await statuses(known_position="2") == [("active", True)]
    assert await statuses(known_position="3") == now
    for asked in ({"as_of": "2026-01-15T12:00:59Z"}, {"known_position": "1"}):
        assert (await client.get("/v1/events/evt_2/rows", params=asked)).status_code == 404


async def test_what_was_signed_and_copied_by_a_moment(client: httpx.AsyncClient, clock: ManualClock) -> None:
    await post(client, clock, event("evt_1", "x.y", {"id": "o_1"}))
    first = (await client.get("/v1/log/checkpoint")).text
    at_first = rfc3339(clock.now)
    clock.forward(minutes=1)
    await post(client, clock, event("evt_1", "x.y", {"id": "o_1", "more": 1}))
    await post(client, clock, event("evt_2", "x.y", {"id": "o_1"}))
    second = (await client.get("/v1/log/checkpoint", params={"min_position": "2"})).text
    assert first != second
    for asked, note in (({"as_of": at_first}, first), ({"as_of": rfc3339(clock.now)}, second)):
        assert (await client.get("/v1/log/checkpoint", params=asked)).text == note
    for asked in ({"as_of": "2026-01-01"}, {"as_of": at_first, "min_position": "2"}):
        assert (await client.get("/v1/log/checkpoint", params=asked)).status_code == 404
    proof = (await client.get("/v1/log/proof/evt_2")).text
    asked = {"as_of": rfc3339(clock.now), "known_position": "2"}
    assert (await client.get("/v1/log/proof/evt_2", params=asked)).text == proof
    assert (await client.get("/v1/log/proof/evt_2", params={"known_position": "1"})).status_code == 404
    copies = [
        len((await client.get("/v1/log/conflicts", params={"as_of": at})).json()["data"])
        for at in (at_first, rfc3339(clock.now))
    ]
    assert copies == [0, 1]

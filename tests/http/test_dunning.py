"""``/v1/dunning`` and ``/v1/customers/{customer}/dunning``: from webhooks to cases, sums and timelines."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from api.operations import Operations
from api.services import Services
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.follower import follow
from tests.conftest import Before, client_of
from tests.dunning.stories import Shape, events_of
from tests.stripe_events import new_event

STORY = """
    -60      customer.subscription.created  sub_1 active
    -40      customer.subscription.created  sub_2 active unit=900
    -30+1    invoice.finalized              in_1 open made=-30 next=-29.95
    -29.9    invoice.payment_failed         in_1 open made=-30 count=1 next=-27
    -29.9+1  charge.failed                  ch_1 insufficient_funds pi=pi_1
    -20      invoice.paid                   in_1 paid made=-30 count=2 paid=3100
    -20+1    invoice_payment.paid           in_1 pi_1
    -10      invoice.payment_failed         in_2 open made=-10 count=1 sub=sub_2 due=900
    -10+1    charge.failed                  ch_2 stolen_card amount=900
    -10      customer.subscription.updated  sub_2 past_due unit=900
    -2       invoice.finalized              in_3 open made=-2 sub=none due=500 collect=send_invoice due_at=-1
"""


async def fold_everything(database: Database, services: Services) -> None:
    connection = await database.as_role("ledger_builder").connect()
    try:
        build = await ensure_live(connection, services.dunning)
        while await follow(connection, services.dunning, build):
            pass
    finally:
        connection.terminate()


async def tell(services: Services, story: str, shape: Shape = "new") -> None:
    """Append a story's events, each recorded when it was created."""
    for content in events_of(story, shape):
        await services.appender.append([new_event(content)])


@pytest.fixture(scope="module")
def told_before() -> Before:
    """The story, folded."""

    async def happens(services: Services) -> None:
        await tell(services, STORY)
        await fold_everything(services.database, services)

    return happens


@pytest.fixture
async def told(services: Services) -> Services:
    """A service that has folded the story, at its start: 2026-01-15T12:00:00Z."""
    return services


async def test_a_customer_s_cases_and_what_happened_to_them(told: Services, client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/customers/cus_1/dunning")
    content = answer.json()
    assert (answer.status_code, answer.headers["ledger-position"]) == (200, "11")
    assert content["freshness"]["build"] == "dunning-1"
    assert [(one["case"], one["state"], one["at_risk_mrr"]) for one in content["data"]] == [
        ("in_1", "recovered", 0),
        ("in_2", "needs_payment_method", 900),
        ("in_3", "overdue", 0),
    ]
    assert content["data"][0] == {
        "case": "in_1",
        "customer": "cus_1",
        "subscription": "sub_1",
        "state": "recovered",
        "category": "renewal",
        "currency": "usd",
        "amount_due": 3100,
        "open_amount": 0,
        "opened_volume": 3100,
        "recovered_volume": 3100,
        "lost_volume": 0,
        "opened_at": "2025-12-16T14:24:00Z",
        "closed_at": "2025-12-26T12:00:00Z",
        "first_failed_at": "2025-12-16T14:24:00Z",
        "due_date": None,
        "stripe_attempt_count": 2,
        "failures": 1,
        "attempts": 1,
        "next_attempt_at": None,
        "last_failure": {
            "at": "2025-12-16T14:24:00Z",
            "code": "card_declined",
            "decline_code": "insufficient_funds",
            "class": "soft",
            "confidence": "exact",
        },
        "outcome": None,
        "recovered_by": "automatic_retry",
        "late": False,
        "at_risk_mrr": 0,
        "because": ["evt_004", "evt_006"],
    }
    assert [(one["kind"], one["case"], one["event"]) for one in content["timeline"]][:3] == [
        ("retry_scheduled", "in_1", "evt_004"),
        ("failure", "in_1", "evt_004"),
        ("recovered", "in_1", "evt_006"),
    ]


async def test_the_past_is_answered_as_it_was_and_as_it_was_known(told: Services, client: httpx.AsyncClient) -> None:
    async def states(**asked: str) -> list[tuple[str, str]]:
        content = (await client.get("/v1/customers/cus_1/dunning", params=asked)).json()
        return [(one["case"], one["state"]) for one in content["data"]]

    assert await states(as_of="2025-12-20T00:00:00Z") == [("in_1", "retrying")]
    assert await states(known_position="5") == [("in_1", "retrying")]
    assert await states(known_position="3") == []
    assert await states(known_position="8", as_of="2025-12-26T12:00:00Z") == [("in_1", "recovered")]
    assert await states(build="dunning-1") == await states()
    assert (await client.get("/v1/customers/cus_1/dunning", params={"build": "dunning-9"})).status_code == 404


async def test_cases_are_listed_by_state_and_time_page_by_page(told: Services, client: httpx.AsyncClient) -> None:
    async def listed(**asked: str) -> list[str]:
        return [one["case"] for one in (await client.get("/v1/dunning/cases", params=asked)).json()["data"]]

    assert await listed() == ["in_1", "in_2", "in_3"]
    assert await listed(state="overdue") == ["in_3"]
    assert await listed(opened_from="2026-01-01", opened_to="2026-01-14") == ["in_2"]
    assert await listed(opened_from="2026-01", opened_to="2026-02") == ["in_2", "in_3"]
    assert await listed(at="2026-01-14T11:59:59Z") == ["in_1", "in_2"]
    pages, cursor = [], None
    while True:
        asked = {"limit": "1"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/dunning/cases", params=asked)).json()
        pages.append([(one["case"], one["at_risk_mrr"]) for one in page["data"]])
        if (cursor := page["next_cursor"]) is None:
            break
    assert pages == [[("in_1", 0)], [("in_2", 900)], [("in_3", 0)]]


async def test_one_case_is_told_with_what_could_pay_it_meanwhile(told: Services, client: httpx.AsyncClient) -> None:
    whole = (await client.get("/v1/customers/cus_1/dunning")).json()
    for case in whole["data"]:
        one = (await client.get(f"/v1/dunning/cases/{case['case']}")).json()
        assert one["case"] == case
        own = [line for line in whole["timeline"] if line["case"] == case["case"]]
        assert [line for line in one["timeline"] if line["case"]] == own
    then = (await client.get("/v1/dunning/cases/in_1", params={"known_position": "5"})).json()
    assert (then["case"]["state"], then["freshness"]["position"]) == ("retrying", 5)
    for case, asked in (("in_9", {}), ("in_1", {"known_position": "3"})):
        assert (await client.get(f"/v1/dunning/cases/{case}", params=asked)).status_code == 404


async def test_the_board_counts_what_the_list_and_the_summary_show(told: Services, client: httpx.AsyncClient) -> None:
    for asked in ({}, {"as_of": "2025-12-20T00:00:00Z"}, {"as_of": "2026-01-14T11:59:59Z"}):
        board = (await client.get("/v1/dunning/board", params=asked)).json()["currencies"]
        listed = (await client.get("/v1/dunning/cases", params=asked)).json()["data"]
        summed = (await client.get("/v1/dunning/summary", params=asked)).json()["currencies"]
        states = {
            state: {"count": len(some), "open_amount": sum(one["open_amount"] for one in some)}
            for state in sorted({one["state"] for one in listed})
            if (some := [one for one in listed if one["state"] == state])
        }
        assert board == {"usd": {"states": states, "at_risk_mrr": summed["usd"]["at_risk_mrr"]}}
    assert board["usd"]["at_risk_mrr"] == 900


async def test_what_needs_a_person_comes_largest_first(told: Services, client: httpx.AsyncClient) -> None:
    first = (await client.get("/v1/dunning/attention", params={"limit": "1"})).json()
    assert [(one["case"], one["open_amount"]) for one in first["data"]] == [("in_2", 900)]
    rest = (await client.get("/v1/dunning/attention", params={"cursor": first["next_cursor"]})).json()
    assert [(one["case"], one["open_amount"]) for one in rest["data"]] == [("in_3", 500)]
    assert (await client.get("/v1/dunning/attention", params={"currency": "eur"})).json()["data"] == []


async def test_a_summary_adds_up(told: Services, client: httpx.AsyncClient) -> None:
    usd = (await client.get("/v1/dunning/summary")).json()["currencies"]["usd"]
    cases = (await client.get("/v1/dunning/cases")).json()["data"]
    assert usd["opened"] == {"count": 3, "volume": 4500} == {
        "count": len(cases), "volume": sum(one["opened_volume"] for one in cases),
    }  # fmt: skip
    assert (usd["recovered"], usd["open"]) == ({"count": 1, "volume": 3100}, {"count": 2, "volume": 1400})
    assert usd["lost"] == {"count": 1, "volume": 900}, "a day after its only attempt it was left past due"
    assert usd["recovery_rate"] == 0.6889
    assert [(one["month"], one["recovery_rate"], one["matured"]) for one in usd["cohorts"]] == [
        ("2025-12", 1.0, True), ("2026-01", 0.0, False),
    ]  # fmt: skip
    assert (usd["mrr"], usd["at_risk_mrr"], usd["healthy_mrr"]) == (4000, 900, 3100)
    assert (usd["median_attempts_to_recover"], usd["median_hours_to_recover"]) == (2.0, 237.6)
    for since in ("2026-01-01", "2026-01"):
        january = (await client.get("/v1/dunning/summary", params={"from": since})).json()["currencies"]["usd"]
        assert january["opened"] == {"count": 2, "volume": 1400}
    initial = (await client.get("/v1/dunning/summary", params={"category": "initial"})).json()["currencies"]["usd"]
    assert (initial["opened"]["count"], initial["recovery_rate"], initial["median_hours_to_recover"]) == (0, None, None)


async def test_what_is_at_risk_is_one_number_everywhere(
    told: Services, client: httpx.AsyncClient, database: Database
) -> None:
    connection = await database.as_role("ledger_builder").connect()
    build = await ensure_live(connection, told.revenue)
    while await follow(connection, told.revenue, build):
        pass
    connection.terminate()
    for at in ("2025-12-20T00:00:00Z", "2026-01-05T12:00:00Z", "2026-01-15T12:00:00Z"):
        asked = {"at": at}
        mrr = (await client.get("/v1/revenue/mrr", params=asked)).json()["mrr"]["usd"]
        usd = (await client.get("/v1/dunning/summary", params=asked)).json()["currencies"]["usd"]
        cases = (await client.get("/v1/dunning/cases", params=asked)).json()["data"]
        assert mrr["at_risk"] == usd["at_risk_mrr"] == sum(one["at_risk_mrr"] for one in cases)
        assert mrr["total"] == usd["mrr"]


async def test_a_reader_can_wait_for_its_own_write(
    told: Services, client: httpx.AsyncClient, database: Database
) -> None:
    (voided,) = events_of("-1+5 invoice.voided in_2 void made=-10 count=1 sub=sub_2 due=900 asked")
    await told.appender.append([new_event(voided | {"id": "evt_late"})])
    asked = {"min_position": "12"}
    early = await client.get("/v1/customers/cus_1/dunning", params=asked)
    assert (early.status_code, early.json()["type"], early.headers["retry-after"]) == (503, "not-yet", "1")
    await fold_everything(database, told)
    found = (await client.get("/v1/customers/cus_1/dunning", params=asked)).json()["data"]
    assert [(one["case"], one["state"]) for one in found][1] == ("in_2", "voided")


@pytest.mark.empty
async def test_an_empty_book_has_empty_answers(
    client: httpx.AsyncClient, database: Database, services: Services
) -> None:
    await fold_everything(database, services)
    for path in ("/v1/customers/cus_9/dunning", "/v1/dunning/cases", "/v1/dunning/attention"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["data"]) == (200, [])
    assert (await client.get("/v1/dunning/summary")).json()["currencies"] == {}


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("cases", {"state": "sad"}),
        ("cases", {"opened_from": "yesterday"}),
        ("cases", {"opened_to": "2026-01-15T12:00:00"}),
        ("cases", {"limit": "501"}),
        ("cases", {"cursor": "!"}),
        ("cases", {"cursor": "WyJhIiwiYiJd"}),
        ("attention", {"currency": "dollars"}),
        ("attention", {"cursor": "WyJhIiwiYiJd"}),
        ("summary", {"category": "all"}),
        ("summary", {"from": "2026-13-01"}),
        ("summary", {"as_of": "soon"}),
    ],
)
async def test_what_makes_no_sense_is_refused(
    told: Services, client: httpx.AsyncClient, path: str, asked: dict[str, str]
) -> None:
    refused = await client.get(f"/v1/dunning/{path}", params=asked)
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")


async def test_a_key_needs_the_scope(told: Services) -> None:
    async with client_of(told, None) as stranger:
        assert (await stranger.get("/v1/dunning/summary")).status_code == 401


async def test_what_a_book_was_known_as_is_read_from_a_build_of_then(told: Services, client: httpx.AsyncClient) -> None:
    asked = {"known_position": "5"}
    refused = await client.get("/v1/dunning/cases", params=asked)
    assert (refused.status_code, refused.json()["type"]) == (409, "build-required")
    assert (
        '/v1/projections/dunning/rebuilds with {"book": "self:live", "until_position": 5}' in refused.json()["detail"]
    )
    body = {"book": "self:live", "until_position": 5}
    build: dict[str, Any] = (await client.post("/v1/projections/dunning/rebuilds", json=body)).json()
    rebuilder = Operations(told.database, told.dunning, told.appender, told.clock)
    await rebuilder.fold(build["build"])
    await rebuilder.complete(build["build"])
    found = (await client.get("/v1/dunning/cases", params=asked)).json()
    assert [(one["case"], one["state"]) for one in found["data"]] == [("in_1", "retrying")]
    assert found["freshness"]["build"] == build["build"]


async def test_people_read_the_same_in_sql(told: Services, owner: asyncpg.Connection) -> None:
    rows = await owner.fetch("SELECT case_id, state, open_amount FROM ledger.dunning_cases ORDER BY case_id")
    assert [(row["case_id"], row["open_amount"]) for row in rows] == [("in_1", 0), ("in_2", 900), ("in_3", 500)]

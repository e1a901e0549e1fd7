"""Books over HTTP: what the database answers is what the pure fold says, at any second, in any order of arrival."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from api.services import Services
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.follower import follow
from projections.revenue.accounts import CLASSES
from projections.revenue.journal import books_of
from projections.revenue.policy import POLICIES
from projections.revenue.shown import show_all, sums_of
from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.revenue.stories import Teller, balances, events_of, facts_of, gathered, journal_at, seconds
from tests.revenue.test_golden import GOLDEN, expected
from tests.stripe_events import Json, event, new_event


async def load(services: Services, database: Database, events: list[Json]) -> None:
    """Append events and fold them."""
    await services.appender.append([new_event(one) for one in events])
    connection = await database.as_role("ledger_builder").connect()
    try:
        build = await ensure_live(connection, services.revenue)
        while await follow(connection, services.revenue, build):
            pass
    finally:
        connection.terminate()


async def ask(client: httpx.AsyncClient, path: str, **asked: Any) -> Any:
    answer = await client.get(f"/v1/revenue/{path}", params={name.rstrip("_"): value for name, value in asked.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


def told(*names: str) -> list[Json]:
    """Tell golden stories as one book: each a customer of its own."""
    return apart([GOLDEN[name][0] for name in names])


def apart(stories: Sequence[str]) -> list[Json]:
    """Tell stories as one book: each a customer of its own."""
    events = []
    for number, story in enumerate(stories, 1):
        for one in events_of(story):
            text = repr(one)
            for kind in ("evt_", "cus_", "in_", "il_", "ch_", "pi_", "re_", "dp_", "cn_", "inpay_", "sub_", "txn_"):
                text = text.replace(f"'{kind}", f"'{kind}{number}x")
            events.append(eval(text))
    return events


STORIES = [name for name in GOLDEN if not name.endswith("by month")]
MOMENTS = [
    "2026-01-01T00:00:00",
    "2026-01-15T10:30:07",
    "2026-01-31T23:59:59",
    "2026-02-01T00:00:00",
    "2026-02-14T03:04:05",
    "2026-03-31T23:59:58",
    "2026-04-01T00:00:00",
    "2026-05-01T00:00:00",
    "2027-02-01T00:00:00",
]


async def test_rows_say_what_the_fold_says(client: httpx.AsyncClient, services: Services, database: Database) -> None:
    events = told(*STORIES)
    random.Random(4).shuffle(events)
    await load(services, database, events)
    subjects: dict[str, list[Json]] = {}
    for one in told(*STORIES):
        number = one["id"].removeprefix("evt_").partition("x")[0]
        subjects.setdefault(number, []).append(one)
    made = [books_of(gathered(facts_of(some)), POLICIES["second"]) for some in subjects.values()]
    for at in MOMENTS:
        wanted = (
            {account: amount for account, amount in sums_of(made, 0, seconds(at))["usd"].items() if account in CLASSES}
            if at >= "2026-01-01"
            else {}
        )
        found = await ask(client, "trial-balance", at=f"{at}Z")
        shown = found["balances"].get("usd", {})
        assert {name: amount for name, amount in shown.items() if amount} == {
            name: amount for name, amount in wanted.items() if amount
        }, at
        assert sum(shown.values()) == 0
        summed: dict[str, int] = {}
        for line in (await ask(client, "journal", as_of=f"{at}Z", group_by="account"))["data"]:
            summed[line["account"]] = line["amount"]
        assert summed == {name: amount for name, amount in shown.items() if amount}


async def test_sums_come_in_pages_too(client: httpx.AsyncClient, services: Services, database: Database) -> None:
    await load(services, database, told(*STORIES[:6]))
    by = "account,month,line"
    whole = (await ask(client, "journal", to="2026-04-01", group_by=by))["data"]
    found: list[Json] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ask(client, "journal", to="2026-04-01", group_by=by, limit=7, **cursor)
        found += page["data"]
        assert len(page["data"]) == min(7, len(whole) - len(found) + len(page["data"]))
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(whole) > 20
    assert found == whole
    refused = await client.get("/v1/revenue/journal", params=cursor)
    assert refused.status_code == 400, "a cursor of sums is none of entries"


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
async def test_the_view_is_the_journal(
    client: httpx.AsyncClient, services: Services, database: Database, owner: asyncpg.Connection, zone: str
) -> None:
    """Wherever the person who asks in SQL is."""
    await load(services, database, told(*STORIES))
    await owner.execute(f"SET timezone = '{zone}'")
    rows = await owner.fetch("SELECT * FROM ledger.journal_lines")
    found = [(row["entry"], int(row["at"].timestamp()), row["account"], row["amount"], row["line"]) for row in rows]
    cursor, listed = None, []
    while True:
        page = await ask(client, "journal", to="2030-01-01", limit=37, **({"cursor": cursor} if cursor else {}))
        listed += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    wanted = [
        (
            one["entry"],
            int(datetime.fromisoformat(one["at"]).timestamp()),
            line["account"],
            line["amount"],
            line["line"],
        )
        for one in listed
        for line in one["lines"]
    ]
    assert len(listed) == len({one["entry"] for one in listed})
    assert sorted(found, key=repr) == sorted(wanted, key=repr)


async def test_a_quarter_is_recognised_and_rolls_forward(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    await load(services, database, events_of(GOLDEN["partial refund"][0]))
    months = (await ask(client, "recognition", from_="2026-01", to="2026-04"))["months"]
    january, february = months["2026-01"]["usd"], months["2026-02"]["usd"]
    assert january == {
        "billed": 9000, "recognized": 3100, "net_revenue": 3100, "deferred_opening": 0, "deferred_closing": 5900,
        "unbilled_opening": 0, "unbilled_closing": 0,
        "released": {"refunds": 0, "disputes": 0, "credit_notes": 0, "voids": 0, "bad_debt": 0}, "reinstated": 0,
        "contra": {"refunds": 0, "disputes": 0, "credit_notes": 0, "voids": 0}, "bad_debt": 0, "recoverables": 0,
    }  # fmt: skip
    assert (february["recognized"], february["net_revenue"]) == (2520, 2210)
    assert (february["released"]["refunds"], february["contra"]["refunds"]) == (590, 310)
    assert (february["deferred_closing"], months["2026-03"]["usd"]["recognized"]) == (2790, 2790)
    part = (await ask(client, "recognition", from_="2026-01", to="2026-04", as_of="2026-01-11T00:00:00Z"))["months"]
    assert (part["2026-01"]["usd"]["recognized"], part["2026-02"]["usd"]["recognized"]) == (1000, 0)
    falls = await ask(client, "recognition", from_="2026-01", to="2026-04", detail="waterfall")
    assert [(one["invoiced"], one["recognized"], one["amount"]) for one in falls["waterfall"]] == [
        ("2026-01", "2026-01", 3100), ("2026-01", "2026-02", 2520), ("2026-01", "2026-03", 2790),
    ]  # fmt: skip


async def test_a_range_may_be_months(client: httpx.AsyncClient, services: Services, database: Database) -> None:
    await load(services, database, events_of(GOLDEN["partial refund"][0]))
    by_month = await ask(client, "journal", **{"from": "2026-02", "to": "2026-03"})
    by_time = await ask(client, "journal", **{"from": "2026-02-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"})
    assert by_month["data"] == by_time["data"]
    assert {one["entry"] for one in by_month["data"]} == {"il_1_1:rec:2026-02", "re_1", "re_1:in_1"}
    change = await ask(client, "trial-balance", **{"from": "2026-02", "at": "2026-02-28T23:59:59Z"})
    assert (change["from"], change["balances"]["usd"]["revenue"]) == ("2026-02-01T00:00:00Z", -2520)
    refused = await client.get("/v1/revenue/trial-balance", params={"at": "2026-02"})
    assert refused.status_code == 400, "a month has two ends"


async def test_another_policy_is_folded_when_it_is_asked_for(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    story, table = GOLDEN["refund and dispute of more than there is, by month"]
    await load(services, database, events_of(story))
    for date, wanted in expected(table):
        stamp = date if "T" in date else f"{date}T00:00:00"
        found = (await ask(client, "trial-balance", at=f"{stamp}Z", policy="month"))["balances"]["usd"]
        assert {name: abs(found.get(name, 0)) for name in wanted} == wanted
    months = (await ask(client, "recognition", from_="2026-01", to="2026-04", policy="month"))["months"]
    assert [month["usd"]["recognized"] for month in months.values()] == [1000, 200, 0]
    assert (await client.get("/v1/revenue/trial-balance", params={"policy": "weekly"})).status_code == 400


async def test_an_entry_and_a_line_are_explained_down_to_their_events(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    await load(services, database, events_of(GOLDEN["partial refund"][0]))
    found = await ask(client, "explain", entry="re_1:in_1")
    assert [(line["account"], line["amount"]) for line in found["entries"][0]["lines"]] == [
        ("deferred_revenue", 590), ("refunds", 310), ("refunds_clearing", -900),
    ]  # fmt: skip
    assert [one["type"] for one in found["events"]] == ["refund.created"]
    line = await ask(client, "explain", line="il_1_1")
    assert [one["entry"] for one in line["entries"]] == [
        "in_1:finalize", "il_1_1:rec:2026-01", "re_1:in_1", "il_1_1:rec:2026-02", "il_1_1:rec:2026-03",
    ]  # fmt: skip
    assert line["entries"][1]["lines"][0] == {
        "account": "deferred_revenue", "amount": 3100, "invoice": "in_1", "line": "il_1_1", "subscription": "sub_1",
        "product": "prod_1", "price": "price_1", "tax_rate": None,
    }  # fmt: skip
    month = await ask(client, "explain", entry="il_1_1:rec:2026-02")
    assert month["entries"][0]["lines"][1]["amount"] == -2520
    assert (await client.get("/v1/revenue/explain", params={"entry": "nothing"})).status_code == 404


async def test_what_is_owed_grows_old(client: httpx.AsyncClient, services: Services, database: Database) -> None:
    await load(services, database, events_of(GOLDEN["credit note on an open invoice"][0]))
    for at, bucket in {
        "2026-01-01": "current",
        "2026-01-20": "1_30",
        "2026-03-01": "31_60",
        "2026-12-01": "over_90",
    }.items():
        found = await ask(client, "ageing", at=f"{at}T00:00:00Z")
        whole = found["currencies"]["usd"]
        assert found["basis"] == "restated"
        balance = (await ask(client, "trial-balance", at=f"{at}T00:00:00Z"))["balances"]["usd"]["accounts_receivable"]
        assert whole["total"] == whole["buckets"][bucket] == balance
        assert whole["data"][0]["customer"] == "cus_1"


@pytest.mark.parametrize("customer", ["acme-17", "acct_9"])
async def test_a_customer_has_its_name_whoever_gave_it(
    client: httpx.AsyncClient, services: Services, database: Database, customer: str
) -> None:
    told = events_of("2026-01-01 invoice 9000@2026-01-01..2026-04-01")
    guest = {"id": "ch_9", "object": "charge", "amount": 500, "amount_captured": 500, "captured": True,
             "status": "succeeded", "currency": "usd", "payment_intent": "pi_9", "created": 1_767_312_000}  # fmt: skip
    named = orjson.loads(orjson.dumps(told).replace(b'"cus_1"', f'"{customer}"'.encode()))
    await load(services, database, [*named, event("evt_guest", "charge.succeeded", guest, created=1_767_312_000)])
    entries = (await ask(client, "journal", to="2026-02"))["data"]
    whose = {one["kind"]: one["customer"] for one in entries}
    assert (whose["invoice"], whose["recognition"], whose["charge"]) == (customer, customer, None)
    owed = (await ask(client, "ageing", at="2026-01-20T00:00:00Z"))["currencies"]["usd"]
    assert [one["customer"] for one in owed["data"]] == [customer]


async def test_what_had_not_joined_a_customer_by_then_is_not_theirs(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    """A payment names nobody, and only later its intent says whose it is: it was a guest's sale until then."""
    charge = {
        "id": "ch_1",
        "object": "charge",
        "amount": 700,
        "amount_captured": 700,
        "amount_refunded": 0,
        "captured": True,
        "status": "succeeded",
        "currency": "usd",
        "payment_intent": "pi_1",
        "created": 1_767_312_000,
    }
    intent = {"id": "pi_1", "object": "payment_intent", "customer": "cus_1", "status": "succeeded"}
    at = 1_767_312_000
    events = [
        event("evt_1", "charge.succeeded", charge, created=at),
        event("evt_2", "payment_intent.succeeded", intent, created=at + 60),
    ]
    await load(services, database, events)
    asked = {"customer": "cus_1", "to": "2027-01-01"}
    for when in ({}, {"known_position": 2}):
        assert [one["customer"] for one in (await ask(client, "journal", **asked, **when))["data"]] == [
            "cus_1",
            "cus_1",
        ]
    assert (await ask(client, "journal", **asked, known_position=1))["data"] == []
    sale = await ask(client, "explain", entry="ch_1", known_position=1)
    assert [one["customer"] for one in sale["entries"]] == [None]


async def test_what_was_known_before(client: httpx.AsyncClient, services: Services, database: Database) -> None:
    events = events_of(GOLDEN["partial refund"][0])
    await load(services, database, events)
    known = len(events) - 1
    before = await ask(client, "journal", customer="cus_1", known_position=known, to="2027-01-01", group_by="account")
    assert {one["account"]: one["amount"] for one in before["data"]}["revenue"] == -9000
    for asked in ({"entry": "il_1_1:rec:2026-02"}, {"line": "il_1_1"}, {"entry": "in_1:finalize"}):
        then = await ask(client, "explain", **asked, known_position=known)
        assert "evt_6" not in then["because"], "the refund had not been recorded"
        assert then["freshness"]["position"] == known
    gone = await ask(client, "journal", entry="il_1_1:rec:2026-02", known_position=known, to="2027-01-01")
    assert gone["data"][0]["lines"][1]["amount"] == -2800
    never = await client.get("/v1/revenue/explain", params={"entry": "re_1", "known_position": known})
    assert never.status_code == 404
    refused = await client.get("/v1/revenue/trial-balance", params={"known_position": known})
    assert (refused.status_code, refused.json()["type"]) == (409, "build-required")


async def test_what_a_whole_book_comes_to_may_be_beyond_64_bits(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    await load(services, database, apart(3 * [f"2026-01-01 invoice {2**62}@2026-01-01..2026-02-01"]))
    told = (await ask(client, "trial-balance", at="2026-03-01T00:00:00Z"))["balances"]["usd"]
    assert (told["accounts_receivable"], told["revenue"]) == (3 * 2**62, -3 * 2**62)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("journal", {"account": "revenues"}),
        ("journal", {"group_by": "colour"}),
        ("journal", {"cursor": "x"}),
        ("journal", {"from": "yesterday"}),
        ("journal", {"from": "2026-13"}),
        ("recognition", {"from": "2026-13"}),
        ("recognition", {"from": "2026-03", "to": "2026-03"}),
        ("recognition", {"from": "0001-01", "to": "2026-03"}),
        ("recognition", {"detail": "everything"}),
        ("trial-balance", {"at": "2026-01-01T00:00:00"}),
        ("explain", {}),
        ("explain", {"entry": "a", "line": "b"}),
        ("ageing", {"at": "never"}),
    ],
)
async def test_malformed_requests(
    client: httpx.AsyncClient, services: Services, database: Database, path: str, asked: dict[str, str]
) -> None:
    await load(services, database, [])
    answer = await client.get(f"/v1/revenue/{path}", params=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), answer.text


async def test_a_webhook_in_a_balance_out(
    client: httpx.AsyncClient, clock: ManualClock, services: Services, database: Database
) -> None:
    teller = Teller("endive")
    teller.invoice(int(clock.now.timestamp()), "3100@2026-01-15..2026-02-15")
    for one in teller.events:
        await post(client, clock, one)
    await load(services, database, [])
    found = await ask(client, "trial-balance")
    assert found["balances"]["usd"]["accounts_receivable"] == 3100
    assert found["classes"]["accounts_receivable"] == "asset"
    assert found["freshness"]["position"] == 1


def test_balances_are_the_journals() -> None:
    made = [books_of(gathered(facts_of(events_of(GOLDEN["dispute won"][0]))), POLICIES["second"])]
    shown = show_all(made, 0, seconds("2026-12-01"))
    summed = dict.fromkeys(CLASSES, 0)
    for one in shown:
        for line in one.lines:
            summed[line.account] += line.amount
    assert balances(journal_at(made[0], seconds("2026-12-01")))["recoverables"] == -summed["recoverables"] == 9000
    assert datetime.fromtimestamp(shown[0].at, UTC).year == 2026


async def test_a_published_policy_holds_for_the_invoices_of_its_time(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    story = """
    2026-01-01 invoice 10000@2026-01-01..2026-11-01
    2026-03-01 invoice 10000@2026-03-01..2027-01-01 id=in_2
    """
    await load(services, database, events_of(story))

    async def recognised() -> list[int]:
        months = (await ask(client, "recognition", from_="2026-01", to="2026-05"))["months"]
        return [month["usd"]["recognized"] for month in months.values()]

    by_second, by_month = await recognised(), [1000, 1000, 2000, 2000]
    text = '[revenue]\ngranularity = "month"\n'
    headers = {"content-type": "application/toml"}
    later = {"wait": "0", "effective_from": "2026-02-01"}
    for content, asked, wanted in (
        ('[revenue]\ngranularity = "second"\n', {"wait": "0"}, by_second),
        (text, later, [by_second[0], by_second[1], 0, 0]),
    ):
        answer = await client.put("/v1/catalog", content=content, params=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        await load(services, database, [])
        found = await recognised()
        assert found[:2] == wanted[:2]
    assert found == [*by_second[:2], 1020 + 1000, 986 + 1000]
    assert (await ask(client, "recognition", from_="2026-01", to="2026-05", policy="month"))["months"]["2026-03"][
        "usd"
    ]["recognized"] == by_month[2]


async def test_what_is_deferred_and_not_paid_is_a_memo(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    story = """
    2026-01-01 invoice 9000@2026-01-01..2026-04-01
    2026-01-15 invoice 300@2026-01-15..2026-02-15 id=in_2
    2026-01-15 paid id=in_2
    2026-02-10 paid 4000 charge=ch_2
    """
    await load(services, database, events_of(story))
    asked = {"from_": "2026-01", "to": "2026-05"}
    for more in ({}, {"detail": "waterfall", "memo": "false"}):
        assert "deferred_unpaid" not in (await ask(client, "recognition", **asked, **more))["months"]["2026-01"]["usd"]

    async def unpaid(**more: str) -> list[int]:
        months = (await ask(client, "recognition", **asked, detail="waterfall", **more))["months"]
        return [one["usd"]["deferred_unpaid"] for one in months.values()]

    assert await unpaid() == [5900, 3100, 0, 0]
    assert await unpaid(as_of="2026-02-20T00:00:00Z") == [5900, 4000, 4000, 4000]
    assert await unpaid(as_of="2026-02-05T12:00:00Z") == [5900, 5450, 5450, 5450]


async def test_the_memo_is_the_same_from_rows_and_folded_anew(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    await load(services, database, told(*STORIES))
    for more in ({}, {"as_of": "2026-02-14T03:04:05Z"}):
        asked = {"from_": "2026-01", "to": "2026-12", "detail": "waterfall", **more}
        kept = (await ask(client, "recognition", **asked))["months"]
        assert (await ask(client, "recognition", **asked, policy="second"))["months"] == kept
    assert sum(one["usd"]["deferred_unpaid"] for one in kept.values()) > 10_000

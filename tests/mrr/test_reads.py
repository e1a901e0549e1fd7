"""Worth and movements over HTTP: a simulated company's, compared with its truth; and what is asked wrongly."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from api.exporting import Export, export_books
from api.services import Services
from ledger.postgres import Database
from ledger.simulator.calendar import month_ends
from ledger.simulator.company import MIXED, Arguments, Company
from ledger.simulator.truth import Truth
from ledger.times import rfc3339
from projections.dunning.tables import DUNNING
from tests.conftest import ManualClock
from tests.following import follow_to_the_head
from tests.mrr.notation import History, item, subscription
from tests.projections.histories import disordered, new_events

Json = dict[str, Any]
ARGUMENTS = Arguments(customers=40, months=6, seed=8, api_version=MIXED)


async def fold_all(database: Database, services: Services) -> None:
    """Fold what has been appended into revenue and dunning."""
    await follow_to_the_head(database, [services.revenue, DUNNING])


@pytest.fixture
async def company(services: Services, database: Database, clock: ManualClock) -> Truth:
    """A company's own book, appended out of order and folded; gives its truth."""
    clock.now = datetime(2024, 5, 1, tzinfo=UTC)
    made = Company(ARGUMENTS)
    bodies = [orjson.dumps(event) for event in made.events()]
    for batch in disordered(bodies, seed=3):
        await services.appender.append(new_events(batch))
    await fold_all(database, services)
    return made.truth["self:live"]


async def ask(client: httpx.AsyncClient, path: str, **parameters: str) -> Json:
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def test_a_company_over_http_is_its_truth(
    client: httpx.AsyncClient, company: Truth, database: Database, tmp_path: Path
) -> None:
    ends = [ARGUMENTS.start, *month_ends(ARGUMENTS.start, ARGUMENTS.end)]
    at = [rfc3339(datetime.fromtimestamp(end, UTC)) for end in ends]
    moved = await ask(client, "/v1/revenue/mrr/movements", **{"from": at[0], "to": at[-1], "detail": "true"})
    for start, end, from_, to in zip(ends, ends[1:], at, at[1:], strict=False):
        before = rfc3339(datetime.fromtimestamp(end - 1, UTC))
        mrr = await ask(client, "/v1/revenue/mrr", at=before)
        totals = {currency: one["total"] for currency, one in mrr["mrr"].items() if one["total"]}
        assert totals == company.mrr(end - 1)
        at_risk = {currency: one["at_risk"] for currency, one in mrr["mrr"].items() if one["at_risk"]}
        assert at_risk == company.at_risk(end - 1)
        summary = await ask(client, "/v1/dunning/summary", as_of=before)
        sums = {currency: one["at_risk_mrr"] for currency, one in summary["currencies"].items()}
        assert at_risk == {currency: amount for currency, amount in sums.items() if amount}
        assert all(0 <= one["at_risk"] <= one["total"] and one["incomplete"] == 0 for one in mrr["mrr"].values())
        expected = {key: one for key, one in company.movements(start, end).items() if any(one.values())}
        found = {
            one["currency"]: {key: one[key] for key in expected.get(one["currency"], ())}
            for one in moved["intervals"]
            if (one["from"], one["to"]) == (from_, to) and one["currency"] in expected
        }
        assert found == expected
    daily = await ask(client, "/v1/revenue/mrr/movements", **{"from": at[0], "to": at[-1], "interval": "week"})
    for kind in ("new", "reactivation", "expansion", "contraction", "churn"):
        assert sum(one[kind] for one in daily["intervals"]) == sum(one[kind] for one in moved["intervals"])
        single = [one["amount"] for one in moved["movements"] if one["kind"] == kind]
        assert sum(single) == sum(one[kind] for one in moved["intervals"])
    assert moved["movements"][0]["kind"] == "new"
    await _movements_come_in_pages_and_for_one_customer(client)
    await _every_month_ties_out(client, ends)
    await _movements_are_explained_and_exported(client, database, tmp_path)


async def _every_month_ties_out(client: httpx.AsyncClient, ends: list[int]) -> None:
    classes = set()
    for start, end in pairwise(ends):
        month = f"{datetime.fromtimestamp(start, UTC):%Y-%m}"
        tied = (await ask(client, "/v1/revenue/tie-out", month=month))["currencies"]
        mrr = (await ask(client, "/v1/revenue/mrr", at=rfc3339(datetime.fromtimestamp(end - 1, UTC))))["mrr"]
        recognition = (await ask(client, "/v1/revenue/recognition", **{"from": month}))["months"][month]
        policy = "all-discounts"
        less = (await ask(client, "/v1/revenue/tie-out", month=month, policy=policy))["currencies"]
        totals = await ask(client, "/v1/revenue/mrr", at=rfc3339(datetime.fromtimestamp(end - 1, UTC)), policy=policy)
        assert {currency: one["mrr"] for currency, one in less.items() if one["mrr"]} == {
            currency: one["total"] for currency, one in totals["mrr"].items() if one["total"]
        }
        for one in less.values():
            assert "temporary_discounts" not in {difference["class"] for difference in one["differences"]}
            assert one["mrr"] + sum(difference["amount"] for difference in one["differences"]) == one["cash"]
        for currency, one in tied.items():
            steps = dict.fromkeys(("mrr_and_recognized", "recognized_and_cash"), 0)
            for difference in one["differences"]:
                steps[difference["between"]] += difference["amount"]
                classes.add(difference["class"])
            assert one["mrr"] + steps["mrr_and_recognized"] == one["recognized"]
            assert one["recognized"] + steps["recognized_and_cash"] == one["cash"]
            assert one["mrr"] == mrr.get(currency, {"total": 0})["total"]
            assert one["recognized"] == recognition.get(currency, {"recognized": 0})["recognized"]
    assert {"deferred", "tax", "changes_within_the_month", "periods_and_prorations", "not_recurring"} < classes


async def _movements_are_explained_and_exported(client: httpx.AsyncClient, database: Database, folder: Path) -> None:
    asked = {"from": "2023-11", "to": "2024-05", "detail": "true"}
    shown = (await ask(client, "/v1/revenue/mrr/movements", **asked))["movements"]
    for one in (shown[0], next(one for one in shown if one["kind"] == "churn")):
        why = await ask(client, "/v1/revenue/explain", movement=one["movement"])
        assert {key: why[key] for key in one} == one
        assert {event["id"] for event in why["events"]} >= set(one["because"])
        last = {span["subscription"]: span["mrr_net_forever"] for span in why["worth"]}
        assert set(last) == set(one["subscriptions"])
        assert sum(last.values()) <= one["after"]
    export = Export("mrr", "self:live", date(2023, 11, 1), date(2024, 5, 1), "csv", folder / "mrr.csv")
    assert await export_books(database, export, lambda _: None) == len(shown)
    with export.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["movement"], row["kind"], int(row["amount"])) for row in rows] == [
        (one["movement"], one["kind"], one["amount"]) for one in shown
    ]


async def _movements_come_in_pages_and_for_one_customer(client: httpx.AsyncClient) -> None:
    asked = {"from": "2023-11", "to": "2024-05", "detail": "true"}
    everything = (await ask(client, "/v1/revenue/mrr/movements", **asked))["movements"]
    paged: list[Json] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ask(client, "/v1/revenue/mrr/movements", **asked, limit="7", **cursor)
        paged += page["movements"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert paged == everything
    customer = everything[0]["customer"]
    own = await ask(client, "/v1/revenue/mrr/movements", **asked, customer=customer)
    assert own["movements"] == [one for one in everything if one["customer"] == customer]
    assert own["intervals"][0]["opening"] == 0
    known = await ask(client, "/v1/revenue/mrr/movements", **asked, customer=customer, known_position="999999")
    assert [known[name] for name in ("intervals", "movements")] == [own[name] for name in ("intervals", "movements")]
    why = {"movement": own["movements"][0]["movement"]}
    plain = await ask(client, "/v1/revenue/explain", **why)
    recalled = await ask(client, "/v1/revenue/explain", **why, known_position=str(plain["freshness"]["head"]))
    assert recalled["worth"] == plain["worth"]
    assert recalled["freshness"]["position"] == plain["freshness"]["head"]
    missing = await client.get("/v1/revenue/explain", params=why | {"known_position": "0"})
    assert missing.status_code == 404


async def test_an_empty_book_has_no_numbers(client: httpx.AsyncClient, database: Database, services: Services) -> None:
    await fold_all(database, services)
    assert (await ask(client, "/v1/revenue/mrr"))["mrr"] == {}
    published = await ask(client, "/v1/revenue/mrr", policy="published")  # as everywhere under /v1/revenue
    assert published["policy"] == "stripe-2026"
    assert (await ask(client, "/v1/revenue/mrr/movements"))["intervals"] == []


@pytest.mark.parametrize(
    ("minutes", "early", "late"),
    [(None, [100, 200], [100, 100]), (45, [100, 200], [100, 100]), (10, [100, 200], [100, 200, -100])],
)
async def test_a_group_is_shown_as_far_as_it_had_come(
    client: httpx.AsyncClient,
    database: Database,
    services: Services,
    minutes: int | None,
    early: list[int],
    late: list[int],
) -> None:
    if minutes is not None:
        catalog, kind = f"[revenue]\ngroup_minutes = {minutes}\n", {"content-type": "application/toml"}
        assert (await client.put("/v1/catalog", content=catalog, headers=kind)).status_code == 200
    history = History()
    for when, quantity in (("01-10 10:00", 1), ("01-12 10:00", 3), ("01-12 10:30", 2)):
        history.says(when, subscription(item(f"si_1 {quantity} x 100/month")))
    bodies = [
        orjson.dumps(
            {"id": fact.event_id, "object": "event", "type": fact.type, "created": int(fact.created.timestamp()),
             "livemode": True, "data": {"object": fact.subject}}
        )
        for fact in history.facts
    ]  # fmt: skip
    await services.appender.append(new_events(bodies))
    await fold_all(database, services)
    asked = {"from": "2026-01", "to": "2026-02", "detail": "true"}
    for as_of, amounts in (("10:15", early), ("10:30", late)):
        found = await ask(client, "/v1/revenue/mrr/movements", **asked, as_of=f"2026-01-12T{as_of}:00Z")
        signs = {"contraction": -1}
        assert [one["amount"] * signs.get(one["kind"], 1) for one in found["movements"]] == amounts
        known = {"customer": "cus_1", "known_position": "99", "as_of": f"2026-01-12T{as_of}:00Z"}
        recalled = await ask(client, "/v1/revenue/mrr/movements", **asked, **known)
        assert [recalled[name] for name in ("intervals", "movements")] == [
            found[name] for name in ("intervals", "movements")
        ]
        mrr = await ask(client, "/v1/revenue/mrr", at=f"2026-01-12T{as_of}:00Z")
        assert found["intervals"][0]["closing"] == mrr["mrr"]["usd"]["total"] == sum(amounts)


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("mrr?policy=none", "policy is one of stripe-2026, all-discounts"),
        ("mrr?at=soon", "at is not an RFC 3339 time"),
        ("mrr/movements?interval=year", "interval is one of day, week, month"),
        ("mrr/movements?from=2026-03&to=2026-03", "from must be before to"),
        ("mrr/movements?from=2026-03-01T10:00:00Z", "from must be midnight in UTC"),
        ("mrr/movements?from=2026-13", "from is not a month, a day or an RFC 3339 time"),
        ("mrr/movements?from=1990-01&interval=day", "that is more than 1000 intervals"),
        ("mrr/movements?detail=yes", "detail is one of true, false"),
        ("mrr/movements?detail=true&cursor=x", "cursor was not issued by this service"),
        ("mrr/movements?customer=%20", "customer must be printable"),
        ("explain?movement=cus_1", "a movement is named like cus_1:usd:2026-01-15T12:00:00Z"),
        ("explain?movement=cus_1:usd:now", "a movement is named like cus_1:usd:2026-01-15T12:00:00Z"),
    ],
)
async def test_what_is_asked_wrongly_is_named(client: httpx.AsyncClient, path: str, detail: str) -> None:
    answer = await client.get(f"/v1/revenue/{path}")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(detail)

"""Closing months over HTTP, of a book whose events come late: what was sealed stays, and the difference is reported."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from api.periods import close_checked, unproven
from api.services import Services
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.contract import Projection
from projections.dunning.tables import DUNNING
from projections.follower import follow
from projections.periods import entries
from projections.periods.closing import Asked, Closing, close_month
from projections.periods.decisions import PeriodError
from projections.periods.tables import PERIODS_PROJECTION
from projections.periods.tie_out import unclassed
from tests.conftest import ManualClock
from tests.mrr.notation import History, Json, invoice, line, subscription, unix
from tests.projections.histories import new_events
from tests.revenue.stories import events_of
from tests.stripe_events import new_event


async def fold_all(database: Database, services: Services) -> None:
    connection = await database.as_role("ledger_builder").connect()
    try:
        for projection in (services.revenue, DUNNING, PERIODS_PROJECTION):
            await _fold(connection, projection)
    finally:
        connection.terminate()


async def _fold(connection: Any, projection: Projection) -> None:
    build = await ensure_live(connection, projection)
    while await follow(connection, projection, build):
        pass


class Book:
    """A book that is told things, folded, and asked."""

    def __init__(self, client: httpx.AsyncClient, database: Database, services: Services) -> None:
        self.client, self.database, self.services = client, database, services
        self.history = History()

    async def tell(self) -> None:
        """Append what the history has come to say, and fold it."""
        facts, self.history.facts = self.history.facts, []
        bodies = [
            orjson.dumps(
                {"id": fact.event_id, "object": "event", "type": fact.type, "created": int(fact.created.timestamp()),
                 "livemode": True, "data": {"object": fact.subject}}
            )
            for fact in facts
        ]  # fmt: skip
        await self.services.appender.append(new_events(bodies))
        await self.fold()

    async def fold(self) -> None:
        await fold_all(self.database, self.services)

    async def close(self, month: str, status: int = 200, **more: Any) -> Json:
        return await self._post(f"{month}/close", status, more)

    async def reopen(self, month: str, status: int = 200) -> Json:
        return await self._post(f"{month}/reopen", status, {})

    async def _post(self, path: str, status: int, more: Json) -> Json:
        body = {"reason": "month end", **more}
        answer = await self.client.post(f"/v1/periods/{path}", params={"wait": 0}, json=body)
        assert answer.status_code == status, answer.text
        await self.fold()
        found: Json = answer.json()
        return found

    async def get(self, path: str, **parameters: str) -> Json:
        answer = await self.client.get(f"/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


@pytest.fixture
async def book(client: httpx.AsyncClient, database: Database, services: Services, clock: ManualClock) -> Book:
    """Two customers' first months, told until the middle of April."""
    clock.now = datetime(2026, 4, 15, tzinfo=UTC)
    made = Book(client, database, services)
    made.history.says("01-10", subscription("si_1 1 x 9000/3 month"), "created")
    finalize(made.history, "01-10", 9000, "in_1", "01-10", "04-10")
    await made.tell()
    return made


def finalize(history: History, when: str, amount: int, key: str, start: str, end: str) -> None:
    """Finalise an invoice of one line that is served from ``start`` to ``end``."""
    period = {"start": unix(start), "end": unix(end)}
    lines = [line("si_1", amount, id=f"il_{key}", period=period)]
    finalized = {"finalized_at": unix(when)}
    shown = invoice(*lines, id=key, status="open", created=unix(when), status_transitions=finalized, amount_due=amount)
    history.event(when, "invoice.finalized", shown | {"total_excluding_tax": amount, "amount_remaining": amount})


async def test_months_are_closed_in_order_and_once(book: Book) -> None:
    listed = await book.get("periods")
    assert [(one["month"], one["status"]) for one in listed["data"]] == [
        ("2026-01", "open"), ("2026-02", "open"), ("2026-03", "open"), ("2026-04", "open"),
    ]  # fmt: skip
    early = await book.close("2026-02", 409)
    assert early["detail"] == "2026-02 cannot be closed before 2026-01: months are closed in order"
    assert (await book.close("2026-04", 409))["detail"] == "2026-04 has not ended"
    closed = await book.close("2026-01")
    assert (closed["status"], closed["seal"], closed["position"], closed["exceptions"]) == ("closed", 1, 2, [])
    assert (await book.close("2026-01", 409))["detail"].startswith("2026-01 is closed already")
    await book.close("2026-02")
    listed = await book.get("periods")
    assert [one["status"] for one in listed["data"]] == ["closed", "closed", "open", "open"]
    assert listed["data"][0]["digest"] == closed["digest"]
    assert (await book.reopen("2026-01", 409))["detail"] == "2026-01 cannot be reopened: only 2026-02 can be"


async def test_a_month_before_the_first_that_was_closed_is_none_to_close(book: Book) -> None:
    await book.close("2026-01")
    late = events_of("2025-11-10 invoice 500@2025-11-10..2025-12-10 id=in_0")
    await book.services.appender.append([new_event(one | {"id": f"late_{one['id']}"}) for one in late])
    await book.fold()
    listed = await book.get("periods")
    assert [(one["month"], one["status"]) for one in listed["data"]][:2] == [("2026-01", "closed"), ("2026-02", "open")]
    await book.close("2026-02")


async def test_a_checklist_says_what_closing_would_be_refused_for(book: Book) -> None:
    ready = await book.get("periods/2026-01/checklist")
    assert (ready["month"], ready["ended"], ready["exceptions"]) == ("2026-01", True, [])
    assert (await book.get("periods/2026-04/checklist"))["ended"] is False
    book.history.says("01-11", subscription("si_2 1 x tiers/month", key="sub_2"), "created")
    await book.tell()
    stands = (await book.get("periods/2026-01/checklist"))["exceptions"]
    assert [one["check"] for one in stands] == ["worth"]
    assert (await book.close("2026-01", 409))["exceptions"] == stands
    await book.services.appender.append(new_events([orjson.dumps(
        {"id": "evt_new", "object": "event", "type": "charge.failed", "created": unix("04-01"), "livemode": True,
         "data": {"object": {"id": "ch_2", "customer": "cus_1"}}})]))  # fmt: skip
    behind = (await book.get("periods/2026-01/checklist"))["exceptions"]
    assert [one["check"] for one in behind] == ["behind", "behind", "worth"]


@pytest.mark.parametrize(("path", "before", "after"), [("close", "open", "closed"), ("reopen", "closed", "open")])
async def test_who_closes_or_reopens_reads_what_was_done(book: Book, path: str, before: str, after: str) -> None:
    async def status() -> str:
        return str((await book.get("periods"))["data"][0]["status"])

    if before == "closed":
        await book.close("2026-01")
    asking = asyncio.create_task(
        book.client.post(f"/v1/periods/2026-01/{path}", params={"wait": 10}, json={"reason": "month end"})
    )
    await asyncio.sleep(0.3)
    assert (asking.done(), await status()) == (False, before)
    await book.fold()
    assert (await asking).status_code == 200
    assert await status() == after


async def test_what_is_learned_late_is_sealed_where_it_was_learned(book: Book) -> None:
    first = await book.close("2026-01")
    before = await book.get("periods/2026-01")
    assert before["verified"]
    assert before["change"]["usd"]["accounts_receivable"] == 9000
    book.history.says("01-20", subscription("si_9 2 x 500/month", key="sub_9", customer="cus_9"), "created")
    finalize(book.history, "01-20", 600, "in_2", "01-20", "01-26")
    await book.tell()
    assert (await book.get("periods/2026-01")) | {"freshness": None} == before | {"freshness": None}
    await book.close("2026-02")
    later = await book.get("periods/2026-02")
    assert later["change"]["usd"]["accounts_receivable"] == 600
    assert later["movements"] == 2  # a new customer's, as both policies count it
    await book.reopen("2026-02")
    await book.reopen("2026-01")
    again = await book.close("2026-01")
    assert (again["seal"], again["digest"] != first["digest"]) == (2, True)
    assert (await book.get("periods/2026-01", seal="1"))["change"] == before["change"]
    assert (await book.get("periods/2026-01"))["change"]["usd"]["accounts_receivable"] == 9600


async def test_worth_is_reported_as_sealed_and_what_changed_in_the_open_month(book: Book) -> None:
    await book.close("2026-01")
    await book.close("2026-02")
    book.history.says("01-20", subscription("si_9 2 x 500/month", key="sub_9", customer="cus_9"), "created")
    book.history.says("02-20", subscription("si_1 2 x 9000/3 month"))
    book.history.says("03-20", subscription("si_1 3 x 9000/3 month"))
    await book.tell()
    end = {"at": "2026-02-28T23:59:59Z"}
    sealed = await book.get("revenue/mrr", **end)
    restated = await book.get("revenue/mrr", **end, basis="restated")
    assert (sealed["basis"], sealed["mrr"]["usd"]["total"], sealed["mrr"]["usd"]["customers"]) == ("sealed", 3000, 1)
    assert (restated["basis"], restated["mrr"]["usd"]["total"]) == ("restated", 7000)
    inside = await book.client.get("/v1/revenue/mrr?at=2026-02-10T00:00:00Z")
    assert (inside.status_code, inside.json()["type"]) == (409, "sealed")
    assert "2026-02-28T23:59:59Z" in inside.json()["detail"]
    assert (await book.get("revenue/mrr", at="2026-03-01T00:00:00Z"))["mrr"]["usd"]["total"] == 7000
    whole = {"from": "2026-01", "to": "2026-05", "detail": "true"}
    found = await book.get("revenue/mrr/movements", **whole)
    assert [(one["opening"], one["new"], one["expansion"], one["closing"]) for one in found["intervals"]] == [
        (0, 3000, 0, 3000), (3000, 0, 0, 3000), (3000, 1000, 6000, 10000), (10000, 0, 0, 10000),
    ]  # fmt: skip
    assert [(one["at"][:10], one["kind"], one["amount"], one["reason"]) for one in found["movements"]] == [
        ("2026-01-10", "new", 3000, None),
        ("2026-03-01", "expansion", 3000, "prior_period"),
        ("2026-03-01", "new", 1000, "prior_period"),
        ("2026-03-20", "expansion", 3000, None),
    ]
    march = await book.get("revenue/mrr/movements", **{"from": "2026-03", "to": "2026-04"})
    assert march["intervals"] == [found["intervals"][2]]
    april = await book.get("revenue/mrr/movements", **{"from": "2026-04", "to": "2026-05"})
    assert april["intervals"] == [found["intervals"][3]]
    before = await book.get("revenue/mrr/movements", **whole, basis="restated")
    assert [one["closing"] for one in before["intervals"]] == [4000, 7000, 10000, 10000]
    one = await book.get("revenue/mrr/movements", **whole, customer="cus_9")
    assert [one["closing"] for one in one["intervals"]] == [0, 0, 1000, 1000]


async def test_the_books_are_reported_as_sealed_and_what_changed_in_the_open_month(book: Book) -> None:
    months = {"from": "2026-01", "to": "2026-05"}
    effective = await book.get("revenue/recognition", **months)
    january = await book.get("revenue/trial-balance", at="2026-01-31T23:59:59Z")
    for month in ("2026-01", "2026-02"):
        await book.close(month)
    closed = await book.get("revenue/recognition", **months)
    assert (closed["months"], effective["basis"], closed["basis"]) == (effective["months"], "restated", "sealed")
    finalize(book.history, "01-20", 600, "in_2", "01-20", "02-01")
    await book.tell()
    later = await book.get("revenue/recognition", **months)
    restated = await book.get("revenue/recognition", **months, basis="restated")
    assert [later["months"][month] for month in ("2026-01", "2026-02")] == [
        effective["months"][month] for month in ("2026-01", "2026-02")
    ]
    assert (
        restated["months"]["2026-01"]["usd"]["recognized"] == effective["months"]["2026-01"]["usd"]["recognized"] + 600
    )
    for key, sign in (("billed", 1), ("recognized", 1)):
        march = later["months"]["2026-03"]["usd"]
        assert march[key] == effective["months"]["2026-03"]["usd"][key] + sign * 600
    assert later["months"]["2026-04"] == restated["months"]["2026-04"]
    assert march["deferred_opening"] == effective["months"]["2026-03"]["usd"]["deferred_opening"]
    at = {"at": "2026-01-31T23:59:59Z"}
    assert (await book.get("revenue/trial-balance", **at))["balances"] == january["balances"]
    assert (await book.get("revenue/trial-balance", **at, basis="restated"))["balances"] != january["balances"]
    inside = await book.client.get("/v1/revenue/trial-balance?at=2026-02-10T00:00:00Z")
    assert (inside.status_code, inside.json()["type"]) == (409, "sealed")
    opened = {"at": "2026-03-10T00:00:00Z"}
    now = await book.get("revenue/trial-balance", **opened)
    assert now["balances"] == (await book.get("revenue/trial-balance", **opened, basis="restated"))["balances"]
    change = await book.get("revenue/trial-balance", **opened, **{"from": "2026-03-01T00:00:00Z"})
    assert change["balances"]["usd"]["accounts_receivable"] == 600
    assert not any(sum(amounts.values()) for amounts in change["balances"].values())


async def test_what_is_owed_at_the_end_of_a_closed_month_stays_too(book: Book) -> None:
    end, later = {"at": "2026-01-31T23:59:59Z"}, {"at": "2026-03-10T00:00:00Z"}
    before = await book.get("revenue/ageing", **end)
    await book.close("2026-01")
    sealed = await book.get("revenue/ageing", **end)
    assert (before["basis"], sealed["basis"], sealed["currencies"]) == ("restated", "sealed", before["currencies"])
    finalize(book.history, "01-20", 600, "in_2", "01-20", "02-01")
    await book.tell()
    assert (await book.get("revenue/ageing", **end))["currencies"] == sealed["currencies"]
    restated = await book.get("revenue/ageing", **end, basis="restated")
    assert (sealed["currencies"]["usd"]["total"], restated["currencies"]["usd"]["total"]) == (9000, 9600)
    opened = await book.get("revenue/ageing", **later)
    assert (opened["basis"], opened["currencies"]["usd"]["total"]) == ("restated", 9600)
    inside = await book.client.get("/v1/revenue/ageing?at=2026-01-25T00:00:00Z")
    assert (inside.status_code, inside.json()["type"]) == (409, "sealed")


async def test_what_is_deferred_and_not_paid_stays_in_closed_months(book: Book) -> None:
    asked = {"from": "2026-01", "to": "2026-05", "detail": "waterfall"}

    async def unpaid(**more: str) -> list[int]:
        months = (await book.get("revenue/recognition", **asked, **more))["months"]
        return [one["usd"]["deferred_unpaid"] for one in months.values()]

    before = await unpaid()
    for month in ("2026-01", "2026-02"):
        await book.close(month)
    finalize(book.history, "01-20", 600, "in_2", "01-20", "03-20")
    await book.tell()
    assert before == [6800, 4000, 900, 0]
    assert await unpaid() == before
    assert await unpaid(basis="restated") == [6800 + 478, 4000 + 193, 900, 0]


async def test_what_changed_of_a_closed_month_is_explained(book: Book) -> None:
    for month in ("2026-01", "2026-02"):
        await book.close(month)
    finalize(book.history, "01-20", 600, "in_2", "01-20", "03-20")
    await book.tell()
    prior = "il_in_2:rec:2026-01:prior:2026-01:2026-03"
    one = await book.get("revenue/explain", entry=prior)
    assert [(entry["kind"], entry["original_month"]) for entry in one["entries"]] == [("prior_period", "2026-01")]
    line = await book.get("revenue/explain", line="il_in_2")
    assert [entry["entry"] for entry in line["entries"]] == [
        "il_in_2:rec:2026-01:prior:2026-01:2026-03", "il_in_2:rec:2026-02:prior:2026-02:2026-03",
        "in_2:finalize:prior:2026-01:2026-03", "il_in_2:rec:2026-03",
    ]  # fmt: skip
    sealed = await book.get("revenue/explain", line="il_in_1")
    assert [entry["entry"] for entry in sealed["entries"]] == [
        "in_1:finalize", "il_in_1:rec:2026-01", "il_in_1:rec:2026-02", "il_in_1:rec:2026-03", "il_in_1:rec:2026-04",
    ]  # fmt: skip


async def test_a_month_ties_out_with_a_name_for_every_difference(book: Book) -> None:
    tied = (await book.get("revenue/tie-out", month="2026-01"))["currencies"]["usd"]
    assert (tied["mrr"], tied["recognized"], tied["cash"]) == (3000, 2200, 0)
    assert [(one["class"], one["amount"]) for one in tied["differences"]] == [
        ("changes_within_the_month", -871),  # 22 of 31 days of 3000
        ("periods_and_prorations", 71),  # 90 days of 9000: 100 a day and not 3000 in 31 days
        ("deferred", 6800),
        ("receivables", -9000),
    ]
    await book.close("2026-01")
    finalize(book.history, "01-20", 600, "in_2", "01-20", "02-01")
    await book.tell()
    sealed = (await book.get("revenue/tie-out", month="2026-01"))["currencies"]["usd"]
    assert (sealed["mrr"], sealed["recognized"], sealed["cash"]) == (3000, 2200, 0)
    assert {"class": "prior_period", "between": "mrr_and_recognized", "amount": -600} in sealed["differences"]
    february = (await book.get("revenue/tie-out", month="2026-02"))["currencies"]["usd"]
    assert {"class": "prior_period", "between": "mrr_and_recognized", "amount": 600} in february["differences"]
    wrong = await book.client.get("/v1/revenue/tie-out?month=2026")
    assert (wrong.status_code, wrong.json()["detail"].startswith("month is a month such as 2026-01")) == (400, True)


async def test_the_journal_is_reported_as_sealed_and_what_changed_in_the_open_month(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"from": "2026-01-01T00:00:00Z", "to": "2026-05-01T00:00:00Z"}
    effective = await book.get("revenue/journal", **whole)
    await book.close("2026-01")
    sealed = await book.get("revenue/journal", **whole)
    assert (effective["basis"], sealed["basis"], sealed["data"]) == ("restated", "sealed", effective["data"])
    finalize(book.history, "01-20", 600, "in_2", "01-20", "02-01")
    await book.tell()
    later = await book.get("revenue/journal", **whole)
    prior = [one for one in later["data"] if one["kind"] == "prior_period"]
    assert [one for one in later["data"] if one not in prior] == effective["data"]
    assert [(one["entry"], one["at"], one["original_month"], one["because"]) for one in prior] == [
        ("il_in_2:rec:2026-01:prior:2026-01:2026-02", "2026-02-01T00:00:00Z", "2026-01", ["evt_3"]),
        ("in_2:finalize:prior:2026-01:2026-02", "2026-02-01T00:00:00Z", "2026-01", ["evt_3"]),
    ]
    amounts = {line["account"]: line["amount"] for one in prior for line in one["lines"] if one is prior[1]}
    assert amounts == {"accounts_receivable": 600, "deferred_revenue": -600}
    paged: list[Json] = []
    cursor: dict[str, str] = {}
    while True:
        page = await book.get("revenue/journal", **whole, limit="2", **cursor)
        paged += page["data"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert paged == later["data"]
    without = await book.get("revenue/journal", **whole, prior_period="false")
    assert (without["data"], without["left_out_at"]) == (effective["data"], "2026-02-01T00:00:00Z")
    early = whole | {"to": "2026-02-01T00:00:00Z"}
    assert (await book.get("revenue/journal", **early, prior_period="false"))["left_out_at"] is None
    assert (await book.get("revenue/journal", entry=prior[1]["entry"]))["data"] == [prior[1]]
    why = await book.get("revenue/explain", entry=prior[1]["entry"])
    assert (why["entries"], [one["id"] for one in why["events"]]) == ([prior[1]], ["evt_3"])
    restated = await book.get("revenue/journal", **whole, basis="restated")
    assert not [one for one in restated["data"] if one["kind"] == "prior_period"]
    await book.close("2026-02")
    assert (await book.get("revenue/journal", **whole))["data"] == later["data"]
    monkeypatch.setattr(entries, "_FEW", 1)  # pieces that end inside of entries
    assert (await book.get("revenue/journal", **whole))["data"] == later["data"]


def test_every_account_has_a_class_of_difference() -> None:
    assert unclassed() == set()


async def test_what_stands_against_it_is_listed_and_can_be_overruled(book: Book) -> None:
    book.history.says("01-11", subscription("si_2 1 x tiers/month", key="sub_2"), "created")
    await book.tell()
    refused = await book.close("2026-01", 409)
    assert (refused["type"], [one["check"] for one in refused["exceptions"]]) == ("not-ready", ["worth"])
    assert refused["exceptions"][0]["about"] == [{"subscription": "sub_2", "incomplete": ["tiers"]}]
    closed = await book.close("2026-01", force=True)
    assert closed["exceptions"] == refused["exceptions"]
    listed = await book.get("periods")
    assert (listed["data"][0]["forced"], listed["data"][0]["exceptions"]) == (True, refused["exceptions"])


async def test_a_projection_that_is_behind_stands_against_it(book: Book) -> None:
    asked = Asked("self:live", "2026-01", "test", "month end", datetime(2026, 4, 15, tzinfo=UTC), wait_seconds=0.1)
    await book.services.appender.append(new_events([orjson.dumps(
        {"id": "evt_new", "object": "event", "type": "charge.failed", "created": unix("04-01"), "livemode": True,
         "data": {"object": {"id": "ch_1", "customer": "cus_1"}}})]))  # fmt: skip
    with pytest.raises(Exception, match="revenue has folded up to 2, the log is at 3"):
        await close_month(book.services.pool, book.services.appender, book.services.revenue, asked)


async def test_hours_that_are_not_proven_complete_stand_against_it(book: Book) -> None:
    asked = Asked("self:live", "2026-04", "test", "month end", datetime(2026, 4, 15, tzinfo=UTC))
    (objection,) = await unproven(book.services.pool, "self:live", "2026-04", asked.now)
    assert objection.check == "unproven"
    assert objection.about[0] == "2026-04-15T00:00:00Z"  # since the log began
    assert await unproven(book.services.pool, "self:live", "2026-03", asked.now) == []
    with_key = book.services.settings.model_copy(update={"stripe_api_key": "rk_test_none"})
    closing = await close_checked(replace(book.services, settings=with_key), replace(asked, month="2026-01"))
    assert closing.objections == ()


async def test_only_one_of_several_closes_a_month(book: Book) -> None:
    asked = Asked("self:live", "2026-01", "test", "month end", datetime(2026, 4, 15, tzinfo=UTC))
    serving = book.services
    closing = [close_month(serving.pool, serving.appender, serving.revenue, asked) for _ in range(3)]
    found = await asyncio.gather(*closing, return_exceptions=True)
    closings = [one for one in found if isinstance(one, Closing)]  # who says the same in the same second said it once
    assert closings == [closings[0]] * len(closings)
    assert all(isinstance(one, (Closing, PeriodError)) for one in found), found
    await book.fold()
    assert [one["seals"] for one in (await book.get("periods"))["data"]] == [[1], [], [], []]


async def test_a_request_that_is_sent_again_closes_and_opens_once(book: Book) -> None:
    async def ask(path: str, called: str, **more: Any) -> tuple[int, Json]:
        body = {"reason": "month end", **more}
        answer = await book.client.post(
            f"/v1/periods/{path}", params={"wait": 0}, json=body, headers={"Idempotency-Key": called}
        )
        return answer.status_code, answer.json()

    closed, twin = await asyncio.gather(ask("2026-01/close", "k1"), ask("2026-01/close", "k1"))
    assert (closed[0], closed[1]["seal"]) == (200, 1)
    assert twin == closed
    await book.fold()
    opened = await ask("2026-01/reopen", "k1")
    assert opened[0] == 200
    await book.fold()
    assert await ask("2026-01/close", "k1") == closed
    assert await ask("2026-01/reopen", "k1") == opened
    for other in (
        ask("2026-02/close", "k1"),
        ask("2026-01/close", "k1", force=True),
        ask("2026-01/reopen", "k1", reason="no"),
    ):
        status, problem = await other
        assert (status, problem["type"]) == (409, "idempotency-key-used")
    await book.fold()
    assert [(one["status"], one["seals"]) for one in (await book.get("periods"))["data"]][:2] == [
        ("open", [1]), ("open", []),
    ]  # fmt: skip
    # What was refused was not done.
    assert (await ask("2026-02/close", "k2"))[0] == 409
    assert (await ask("2026-01/close", "k3"))[1]["seal"] == 2
    await book.fold()
    assert (await ask("2026-02/close", "k2"))[0] == 200


async def test_killed_before_it_is_noted_a_close_is_answered_as_done(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: Any, **__: Any) -> None:
        raise RuntimeError("the service was killed here")

    async def ask(path: str) -> httpx.Response:
        body, headers = {"reason": "month end"}, {"Idempotency-Key": "k1"}
        return await book.client.post(f"/v1/periods/{path}", params={"wait": 0}, json=body, headers=headers)

    for path, status in (("2026-01/close", "closed"), ("2026-01/reopen", "open")):
        with monkeypatch.context() as until_it_is_noted:
            until_it_is_noted.setattr("api.calls.decide", killed)
            assert (await ask(path)).status_code == 500
        await book.fold()
        again = await ask(path)
        assert (again.status_code, again.json().get("status")) == (200, status), again.text
        assert (await ask(path)).json() == again.json()
        await book.fold()
        shown = (await book.get("periods"))["data"][0]
        assert (shown["status"], shown["seals"]) == (status, [1])


async def test_what_was_known_of_closed_months_is_told_by_their_closes(book: Book, clock: ManualClock) -> None:
    asked = {
        "revenue/trial-balance": {"at": "2026-01-31T23:59:59Z"},
        "revenue/recognition": {"from": "2026-01", "to": "2026-02"},
        "revenue/mrr": {"at": "2026-01-31T23:59:59Z"},
        "revenue/ageing": {"at": "2026-01-31T23:59:59Z"},
        "revenue/mrr/movements": {"from": "2026-01", "to": "2026-02", "detail": "true"},
        "revenue/journal": {"from": "2026-01", "to": "2026-02"},
    }
    await book.close("2026-01")
    head = (await book.get("events"))["freshness"]["head"]
    before = {path: await book.get(path, **some) for path, some in asked.items()}
    clock.forward(hours=1)
    finalize(book.history, "01-12", 3100, "in_9", "01-12", "02-12")
    await book.tell()
    await book.reopen("2026-01")
    await book.close("2026-01")
    for path, some in asked.items():
        then = await book.get(path, **some, known_position=str(head))
        now = await book.get(path, **some)
        assert then["freshness"]["position"] == head
        told = {name: value for name, value in then.items() if name != "freshness"}
        assert told == {name: value for name, value in before[path].items() if name != "freshness"}, path
        assert then["basis"] == "sealed"
        assert "mrr" in path or told != {name: value for name, value in now.items() if name != "freshness"}
        for other in (
            {"basis": "restated"},
            {"to": "2026-03"} if "to" in some else {"at": "2026-02-28T23:59:59Z"},
            {"known_position": str(head - 1)},
        ):
            refused = await book.client.get(f"/v1/{path}", params=some | {"known_position": str(head)} | other)
            assert (refused.status_code, refused.json()["type"]) == (409, "build-required"), (path, other)


async def test_the_checklist_is_of_a_moment(book: Book, clock: ManualClock) -> None:
    then = await book.get("periods/2026-01/checklist", as_of="2026-01-20T00:00:00Z")
    now = await book.get("periods/2026-01/checklist", at="2026-04-15T00:00:00Z", min_position="1")
    assert (then["ended"], now["ended"]) == (False, True)
    stray = {
        "object": "refund",
        "id": "re_1",
        "charge": "ch_9",
        "amount": 100,
        "currency": "usd",
        "status": "succeeded",
        "created": unix("01-25"),
    }
    book.history.event("01-25", "refund.created", stray)
    await book.tell()
    checks = {
        moment: [one["check"] for one in (await book.get("periods/2026-01/checklist", as_of=moment))["exceptions"]]
        for moment in ("2026-01-24T00:00:00Z", "2026-01-25T23:59:59Z", "2026-04-15T00:00:00Z")
    }
    assert [bool(one) for one in checks.values()] == [False, True, True], checks


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("2026-1/close", {"reason": "x"}, "name a month such as 2026-01"),
        ("2026-01/close", {}, "give a reason"),
        ("2026-01/close", {"reason": " "}, "give a reason"),
        ("2026-01/close", {"reason": "x", "force": 1}, "force must be true or false"),
        ("2026-01/close", {"reason": "x", "forced": True}, "unknown: forced"),
        ("2026-01/reopen", {"reason": 3}, "reason is"),
    ],
)
async def test_what_is_asked_wrongly_is_named(client: httpx.AsyncClient, path: str, body: Json, detail: str) -> None:
    answer = await client.post(f"/v1/periods/{path}", json=body)
    assert (answer.status_code, answer.json()["detail"].startswith(detail)) == (400, True), answer.text

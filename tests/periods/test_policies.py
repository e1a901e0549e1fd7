"""A policy that is published after months were closed: it never moves them, and holds from the first open one on."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.services import Services
from ledger.postgres import Database
from projections.periods.months import month_after, month_of
from projections.periods.reported import reported_lines
from projections.periods.seal import SealedLine
from projections.revenue.journal import books_of
from projections.revenue.policy import POLICIES, Policy, Ruling
from projections.revenue.recognition import earnings, entries_of_time
from tests.conftest import ManualClock
from tests.mrr.notation import Json
from tests.periods.test_close import Book, finalize
from tests.revenue.stories import SUBJECT, events_of, facts_of, gathered, seconds
from tests.revenue.test_golden import GOLDEN

HEADERS = {"content-type": "application/toml"}
END = seconds("2026-12-01") - 1
RULES = st.builds(
    Ruling,
    st.sampled_from([None, *(seconds(f"2026-{month:02}-01") for month in range(1, 8))]),
    st.sampled_from([*POLICIES.values(), Policy("month", recover_as_gains=False)]),
)
STORIES = sorted(set(GOLDEN) - {"a year"})


def effective(story: str, rulings: list[Ruling]) -> list[SealedLine]:
    """Return every posting of a story until December, under the policies that were published."""
    facts = gathered(facts_of(events_of(story)))
    facts.rulings = rulings
    made = books_of(facts)
    found = []
    for entry in (*made.journal.entries, *entries_of_time(earnings(made.bills), END)):
        at = datetime.fromtimestamp(entry.at, UTC)
        found += [
            SealedLine(SUBJECT.stream_id, entry.key, entry.kind, entry.kind, at, month_of(at), "usd", one.account,
                       one.amount, entry.invoice, one.line, None, None, None, None, entry.because)
            for one in entry.postings if entry.at <= END
        ]  # fmt: skip
    return found


def totals(lines: list[SealedLine]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in lines:
        found[one.account] = found.get(one.account, 0) + one.amount
    return {account: amount for account, amount in found.items() if amount}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STORIES), st.lists(RULES, max_size=3), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_sealed_and_prior_period_entries_are_what_is_so_under_any_policy(
    name: str, published: list[Ruling], closes: list[int]
) -> None:
    """Even one that were dated back into closed months: months are closed, a policy comes, months are closed again."""
    story, month = GOLDEN[name][0], "2026-01"
    sealed: dict[str, list[SealedLine]] = {}
    for place, count in enumerate(closes):
        so = effective(story, published[:place])
        for _ in range(count):
            before = [one for lines in sealed.values() for one in lines]
            sealed[month] = [one for one in reported_lines(so, before, month) if month_of(one.at) == month]
            month = month_after(month)
        past = [one for lines in sealed.values() for one in lines]
        later = reported_lines(so, past, month)
        assert all(month_of(one.at) >= month for one in later)
        assert totals([*past, *later]) == totals(so)
        balance: dict[str, int] = {}
        for one in (*past, *later):
            balance[one.entry] = balance.get(one.entry, 0) + one.amount
        assert not any(balance.values())


@pytest.fixture
async def book(client: httpx.AsyncClient, database: Database, services: Services, clock: ManualClock) -> Book:
    clock.now = datetime(2026, 6, 15, tzinfo=UTC)
    told = Book(client, database, services)
    finalize(told.history, "01-15", 10_000, "in_1", "01-15", "11-15")
    finalize(told.history, "02-15", 10_000, "in_2", "02-15", "12-15")
    finalize(told.history, "03-15", 10_000, "in_3", "03-15", "05-15")
    await told.tell()
    return told


@pytest.mark.parametrize("since", [{}, {"effective_from": "2026-02-01"}, {"effective_from": "2026-04-01"}])
async def test_a_policy_holds_from_the_first_open_month_on(book: Book, since: dict[str, str]) -> None:
    async def months(**asked: str) -> Json:
        found: Json = (await book.get("revenue/recognition", **{"from": "2026-01", "to": "2026-05"}, **asked))["months"]
        return found

    first = await book.client.put("/v1/catalog", content="[revenue]", params={"wait": "0"}, headers=HEADERS)
    assert first.json()["revenue_from"] is None
    await book.fold()
    before = await months()
    for month in ("2026-01", "2026-02"):
        await book.close(month)
    text = '[revenue]\ngranularity = "month"\n'
    answer = await book.client.put("/v1/catalog", content=text, params={"wait": "0", **since}, headers=HEADERS)
    dated_back = since.get("effective_from", "") == "2026-02-01"
    assert (answer.status_code, answer.json()["revenue_from"]) == (200, "2026-03-01T00:00:00Z" if dated_back else None)
    await book.fold()
    sealed, restated = await months(), await months(basis="restated")
    for month in ("2026-01", "2026-02"):
        assert sealed[month] == restated[month] == before[month]
    changed = [month for month in sealed if sealed[month]["usd"]["recognized"] != before[month]["usd"]["recognized"]]
    assert changed == (["2026-03", "2026-04"] if dated_back else [])
    assert (await book.get("revenue/journal", **{"from": "2026-03", "to": "2026-04"}))["basis"] == "sealed"
    told = (await book.get("revenue/journal", **{"from": "2026-03-01", "to": "2026-03-02"}))["data"]
    assert [one["kind"] for one in told if one["kind"] == "prior_period"] == []


async def test_a_first_catalog_changes_no_closed_month_either(book: Book) -> None:
    await book.close("2026-01")
    text = '[revenue]\ngranularity = "month"\n'
    answer = await book.client.put("/v1/catalog", content=text, params={"wait": "0"}, headers=HEADERS)
    assert (answer.json()["effective_from"], answer.json()["revenue_from"]) == (None, "2026-02-01T00:00:00Z")
    await book.fold()
    asked = {"from": "2026-01", "to": "2026-04"}
    sealed = (await book.get("revenue/recognition", **asked))["months"]
    assert (await book.get("revenue/recognition", **asked, basis="restated"))["months"] == sealed
    by_month = (await book.get("revenue/recognition", **asked, policy="month"))["months"]
    assert sealed["2026-01"]["usd"]["recognized"] != by_month["2026-01"]["usd"]["recognized"]

"""The console's board of failed payments: the counts, cases and timelines of the routes, for whoever may see them."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.console.rendering import amount, money, words
from api.credentials import Credentials
from api.secrets import digest_of, parse_api_keys
from api.services import Services
from ledger.postgres import Database
from tests.conftest import KEY, client_of
from tests.http.test_console_books import cells
from tests.http.test_dunning import STORY, fold_everything, tell

Content = Any


@pytest.fixture
async def told(services: Services, database: Database) -> Services:
    """A book with three cases."""
    await tell(services, STORY)
    await fold_everything(database, services)
    return services


@pytest.fixture
async def visitor(told: Services) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody signed in to the console of a book with three cases, who has an API key as well."""
    async with client_of(told) as asking:
        await asking.post("/sign-in", data={"key": KEY})
        yield asking


async def read(visitor: httpx.AsyncClient, path: str, **asked: str) -> Content:
    answer = await visitor.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json() if path.startswith("/v1") else answer.text


async def test_the_board_shows_the_routes_counts_sums_and_cases(visitor: httpx.AsyncClient) -> None:
    for asked in ({}, {"as_of": "2025-12-20T00:00:00Z"}):
        text = await read(visitor, "/dunning", **asked)
        shown = cells(text)
        board = (await read(visitor, "/v1/dunning/board", **asked))["currencies"]
        for currency, one in board.items():
            assert f"open, {money(one['at_risk_mrr'], currency)} of MRR at risk" in text
            for state, tally in one["states"].items():
                assert {words(state), str(tally["count"])} <= shown
                assert not tally["open_amount"] or amount(tally["open_amount"], currency) in shown
        for case in (await read(visitor, "/v1/dunning/attention", **asked))["data"]:
            assert {case["case"], money(case["open_amount"], case["currency"])} <= shown
    found = await read(visitor, "/dunning", state="recovered")
    assert ("/dunning/in_1?" in found, "Cases found" in found) == (True, True)
    assert "No case matches" in await read(visitor, "/dunning", opened_from="2030-01")
    assert "state is one of" in await read(visitor, "/dunning", state="x")


async def test_a_case_is_told_step_by_step_with_the_event_of_each(visitor: httpx.AsyncClient) -> None:
    for case in ("in_1", "in_2", "in_3"):
        told = await read(visitor, f"/v1/dunning/cases/{case}")
        text = await read(visitor, f"/dunning/{case}")
        assert f"Case <code>{case}</code>" in text
        assert f">{words(told['case']['state'])}</span>" in text
        for line in told["timeline"]:
            assert words(line["kind"]) in text
            assert f"/log/{line['event']}?" in text
            assert "decline_code" not in line or words(line["decline_code"]) in text
    then = await read(visitor, "/dunning/in_1", as_of="2025-12-20T00:00:00Z")
    assert ("retrying" in then, "recovered" in then) == (True, False)
    missing = await visitor.get("/dunning/in_9")
    assert (missing.status_code, "there is no case in_9" in html.unescape(missing.text)) == (404, True)


async def test_support_sees_cases_without_what_its_key_does_not_open(told: Services, credentials: Credentials) -> None:
    keys = tuple(parse_api_keys(f"support:dunning:read:{digest_of('lk_support')}"))
    serving = replace(told, credentials=replace(credentials, api_keys=keys))
    async with client_of(serving, None) as support:
        await support.post("/sign-in", data={"key": "lk_support"})
        text = await read(support, "/dunning/in_1")
        assert ("/log/" in text, "Access" in text, "/revenue" in text) == (False, False, False)
        assert "Needs attention" in await read(support, "/dunning")
        assert (await support.get("/revenue")).status_code == 403

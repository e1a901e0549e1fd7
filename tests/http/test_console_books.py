"""The console's pages of the books: their figures are the routes', and closing, exporting and hostile text are safe."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pyarrow import parquet

from api.console import periods
from api.console.rendering import amount
from api.credentials import Credentials
from api.secrets import digest_of, parse_api_keys
from api.services import Services
from ledger.postgres import Database
from tests.conftest import KEY, ManualClock, client_of
from tests.console.people import token_in
from tests.mrr.notation import subscription
from tests.periods.test_close import Book, finalize, fold_all
from tests.revenue.stories import events_of
from tests.revenue.test_golden import GOLDEN
from tests.revenue.test_reads import apart
from tests.stripe_events import Json, new_event

PAGES = (
    "/revenue", "/revenue/movements", "/revenue/recognition", "/revenue/trial-balance", "/revenue/journal",
    "/revenue/ageing", "/revenue/tie-out", "/revenue/problems", "/revenue/periods",
)  # fmt: skip
QUARTER = {"from": "2026-01", "through": "2026-03"}


@pytest.fixture
async def book(services: Services, database: Database, clock: ManualClock) -> AsyncIterator[Book]:
    """Two customers' first months, told until the middle of April; asked by somebody signed in to the console."""
    clock.now = datetime(2026, 4, 15, tzinfo=UTC)
    async with client_of(services) as client:
        made = Book(client, database, services)
        made.history.says("01-10", subscription("si_1 1 x 9000/3 month"), "created")
        finalize(made.history, "01-10", 9000, "in_1", "01-10", "04-10")
        made.history.says("02-20", subscription("si_1 2 x 9000/3 month"))
        await made.tell()
        await client.post("/sign-in", data={"key": KEY})
        yield made


async def page(book: Book, path: str, status: int = 200, /, **asked: str) -> str:
    answer = await book.client.get(path, params=asked)
    assert answer.status_code == status, answer.text
    return answer.text


def cells(text: str) -> set[str]:
    """Return what stands in the cells of a page's tables, and in its cards."""
    found = re.findall(r"<(?:td|th|b)\b[^>]*>(.*?)</(?:td|th|b)>", text, re.DOTALL)
    return {html.unescape(re.sub(r"<[^>]*>", "", one)).strip() for one in found}


def figures(value: Any, currency: str) -> set[str]:
    """Return every amount in an answer but nothing, as pages write it, whichever way it is counted."""
    if isinstance(value, dict):
        return {one for name, part in value.items() if name != "customers" for one in figures(part, currency)}
    if isinstance(value, list):
        return {one for part in value for one in figures(part, currency)}
    return {amount(abs(value), currency)} if isinstance(value, int) and not isinstance(value, bool) and value else set()


def unsigned(text: str) -> set[str]:
    return {one.removeprefix("-").removesuffix(" USD") for one in cells(text)}


async def test_pages_show_the_figures_of_the_routes(book: Book) -> None:
    quarter = {"from": "2026-01", "to": "2026-04"}
    overview = unsigned(await page(book, "/revenue", **QUARTER))
    assert figures((await book.get("revenue/mrr"))["mrr"], "usd") <= overview
    assert figures((await book.get("revenue/mrr/movements", **quarter))["intervals"], "usd") <= overview
    recognition = await book.get("revenue/recognition", **quarter, detail="waterfall")
    rolled = await page(book, "/revenue/recognition", **QUARTER)
    assert figures(recognition["months"], "usd") <= unsigned(rolled)
    assert ">Show</a>" in rolled
    fallen = unsigned(await page(book, "/revenue/recognition", **QUARTER, detail="waterfall"))
    assert figures(recognition["waterfall"], "usd") <= fallen
    for path, route, asked in (
        ("trial-balance", "balances", {}),
        ("ageing", "currencies", {}),
        ("tie-out", "currencies", {"month": "2026-02"}),
    ):
        shown = unsigned(await page(book, f"/revenue/{path}", **asked))
        found = figures((await book.get(f"revenue/{path}", **asked))[route], "usd")
        assert found, path
        assert found <= shown, path
    moved = await page(book, "/revenue/movements", **QUARTER)
    single = (await book.get("revenue/mrr/movements", **quarter, detail="true"))["movements"]
    assert figures([one["amount"] for one in single], "usd") <= unsigned(moved)


async def test_every_entry_of_the_journal_unfolds_to_its_postings_and_events(book: Book) -> None:
    listed = await book.get("revenue/journal", **{"from": "2026-01", "to": "2026-03"})
    text = await page(book, "/revenue/journal", since="2026-01", until="2026-02")
    for entry in listed["data"]:
        assert html.escape(entry["entry"]) in text
        assert figures([line["amount"] for line in entry["lines"]], "usd") <= unsigned(text)
        assert all(f"/log/{event}?" in text for event in entry["because"])
    first = listed["data"][0]["entry"]
    assert first in await page(book, "/revenue/journal", entry=first)
    chosen = await page(book, "/revenue/journal", account="accounts_receivable", since="2026-01-10", until="2026-01-10")
    assert ("in_1:finalize" in chosen, ":rec:" in chosen) == (True, False)
    why = await page(book, "/revenue/entry", entry="in_1:finalize")
    assert "invoice.finalized" in why
    assert "il_in_1:rec:2026-02" in await page(book, "/revenue/entry", line="il_in_1")
    await page(book, "/revenue/entry", 404, entry="in_9:finalize")
    await page(book, "/revenue/entry", 400)


async def test_what_cannot_be_picked_is_refused_and_what_cannot_be_answered_is_said(book: Book) -> None:
    for asked in ({"from": "x"}, {"from": "2026-04", "through": "2026-03"}, {"from": "1990-01"}, {"currency": "usdx"},
                  {"basis": "x"}, {"policy": "x"}, {"worth": "x"}):  # fmt: skip
        assert 'role="alert"' in await page(book, "/revenue", 400, **asked)
    await page(book, "/revenue/journal", 400, until="2026-02-30")
    assert "there is no account x" in await page(book, "/revenue/journal", account="x")
    assert "for a whole book" in await page(book, "/revenue", known_at="2026-02-01")
    await book.close("2026-01")
    assert "is closed: what was sealed of it is its end" in await page(book, "/revenue", as_of="2026-01-20T00:00:00Z")
    assert "No MRR, revenue" in await page(book, "/revenue/tie-out", month="2020-01")


async def test_closing_is_asked_confirmed_refused_with_the_reason_and_shown(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.history.says("01-11", subscription("si_2 1 x tiers/month", key="sub_2"), "created")
    await book.tell()
    text = await page(book, "/revenue/periods")
    for shown in ("Next to close: 2026-01", "subscriptions are worth what is not fully known", "Close 2026-01"):
        assert shown in text
    form = {"token": token_in(text), "reason": "books of <January>", "confirmed": "true"}

    async def send(path: str, **more: str | None) -> httpx.Response:
        fields = {name: value for name, value in {**form, **more}.items() if value is not None}
        return await book.client.post(f"/revenue/periods/{path}", data=fields)

    for path, more, status, said in (
        ("2026-02/close", {}, 409, "2026-02 cannot be closed before 2026-01: months are closed in order"),
        ("2026-04/close", {}, 409, "2026-04 has not ended"),
        ("2026-01/close", {}, 409, "2026-01 is not ready: 1 subscriptions are worth what is not fully known"),
        ("2026-01/close", {"confirmed": None}, 400, "tick the box"),
        ("2026-01/close", {"reason": " "}, 400, "reason"),
        ("2026-01/reopen", {}, 409, "2026-01 cannot be reopened: no month is closed"),
        ("January/close", {}, 400, "name a month such as 2026-01"),
    ):
        answer = await send(path, **more)
        assert (answer.status_code, said in html.unescape(answer.text)) == (status, True), (path, answer.text)
    refused = await send("2026-01/close")
    assert 'value="books of &lt;January&gt;"' in refused.text
    assert {one["status"] for one in (await book.get("periods"))["data"]} == {"open"}
    closed = await send("2026-01/close", force="true")
    assert (closed.status_code, closed.headers["location"]) == (303, "/revenue/periods?book=self%3Alive")
    await book.fold()
    text = await page(book, "/revenue/periods")
    [january] = [one for one in (await book.get("periods"))["data"] if one["status"] == "closed"]
    for shown in ("2026-01 is closed: seal 1", "Next to close: 2026-02", "books of &lt;January&gt;", "Reopen 2026-01",
                  january["digest"]):  # fmt: skip
        assert shown in text
    for more, told in (({}, True), ({"prior": "true"}, False), ({"customer": "cus_1"}, False)):
        text = await page(book, "/revenue/journal", since="2026-02", until="2026-02", **more)
        assert ("What changed in closed months since is posted at" in text) == told
    sealed = await page(book, "/revenue/periods/2026-01")
    assert ("verified" in sealed, january["digest"] in sealed) == (True, True)
    monkeypatch.setattr(periods, "_VERIFIED_UNASKED", 0)
    assert "sealed rows match the digest</a>" in await page(book, "/revenue/periods/2026-01")
    assert "The sealed rows match the digest" in await page(book, "/revenue/periods/2026-01", verify="true")
    assert figures((await book.get("periods/2026-01"))["change"], "usd") <= unsigned(sealed)
    await page(book, "/revenue/periods/2026-02", 404)
    assert (await send("2026-01/reopen")).status_code == 303
    await book.fold()
    assert "Next to close: 2026-01" in await page(book, "/revenue/periods")


async def test_nothing_is_closed_without_the_session_s_token_or_the_scope(book: Book, credentials: Credentials) -> None:
    form = {"reason": "x", "confirmed": "true", "force": "true"}
    for path in ("/revenue/periods/2026-01/close", "/revenue/periods/2026-01/reopen"):
        assert (await book.client.post(path, data=form)).status_code == 403
        assert (await book.client.post(path, data={**form, "token": "x"})).status_code == 403
        own = {**form, "token": token_in(await page(book, "/revenue/periods"))}
        from_elsewhere = await book.client.post(path, data=own, headers={"Sec-Fetch-Site": "cross-site"})
        assert from_elsewhere.status_code == 403
    keys = tuple(parse_api_keys(f"r:revenue:read:{digest_of('lk_reader')},c:periods:close:{digest_of('lk_closer')}"))
    serving = replace(book.services, credentials=replace(credentials, api_keys=keys))
    async with client_of(serving, None) as reader:
        await reader.post("/sign-in", data={"key": "lk_reader"})
        text = (await reader.get("/revenue/periods")).text
        assert ("Closing it needs a key" in text, "<button>Close" in text) == (True, False)
        answer = await reader.post("/revenue/periods/2026-01/close", data={**form, "token": token_in(text)})
        assert answer.status_code == 403
        exported = {"from": "2026-01", "through": "2026-03", "format": "csv"}
        for what, status in (("journal", 200), ("events", 403)):
            answer = await reader.get("/revenue/export", params={**exported, "what": what})
            assert answer.status_code == status
    assert (await book.get("periods"))["data"][0]["status"] == "open"


async def test_pages_want_a_session_its_scope_and_its_book(book: Book, credentials: Credentials) -> None:
    keys = tuple(
        parse_api_keys(
            f"e:entitlements:read:{digest_of('lk_e')},t:revenue:read+dunning:read@self:test:{digest_of('lk_t')}"
        )
    )
    serving = replace(book.services, credentials=replace(credentials, api_keys=keys))
    paths = (*PAGES, "/revenue/entry", "/revenue/periods/2026-01", "/revenue/export", "/dunning", "/dunning/in_1")
    for key, status in ((None, 303), ("lk_e", 403), ("lk_t", 403)):
        async with client_of(serving, KEY) as visitor:  # a bearer's key opens no page
            if key:
                await visitor.post("/sign-in", data={"key": key})
            for path in paths:
                answer = await visitor.get(path, params={"book": "self:live"})
                assert answer.status_code == status, (key, path)
    for path in (*PAGES, "/dunning"):
        answer = await book.client.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), path
        assert "script-src 'self';" in answer.headers["content-security-policy"]


HOSTILE = "=1+2<script>x</script>"


def spoiled(events: list[Json]) -> list[Json]:
    """Return a story in which every id is a formula and a script."""
    text = json.dumps(events)
    for kind in ("evt_", "in_", "il_", "sub_", "prod_", "price_", "re_", "ch_"):
        text = text.replace(f'"{kind}', f'"{HOSTILE}{kind}')
    made: list[Json] = json.loads(text)
    return made


async def test_hostile_text_stays_text_on_every_page_and_in_every_file(
    services: Services, database: Database, clock: ManualClock
) -> None:
    clock.now = datetime(2026, 4, 15, tzinfo=UTC)
    await services.appender.append([new_event(one) for one in spoiled(events_of(GOLDEN["partial refund"][0]))])
    await fold_all(database, services)
    entry = f"{HOSTILE}in_1:finalize"
    async with client_of(services, None) as client:
        await client.post("/sign-in", data={"key": KEY})
        seen = 0
        for path, asked in (
            *(
                (path, {"from": "2026-01", "through": "2026-03", "since": "2026-01", "until": "2026-03"})
                for path in PAGES
            ),
            ("/revenue/entry", {"entry": entry}),
            ("/revenue/journal", {"entry": "<script>alert(1)</script>", "account": "<script>"}),
            ("/dunning", {"state": "<script>", "opened_from": "<script>"}),
            ("/dunning/%3Cscript%3E", {}),
        ):
            answer = await client.get(path, params=asked)
            assert answer.status_code in (200, 404), (path, answer.text)
            assert "<script>x" not in answer.text
            assert "<script>alert" not in answer.text
            seen += html.escape(HOSTILE) in answer.text
        assert seen >= 2
        for what in ("journal", "events"):
            written = await client.get("/revenue/export", params={"what": what, "from": "2026-01", "format": "csv"})
            rows = list(csv.reader(io.StringIO(written.text)))
            assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@"))]
            assert [cell for row in rows for cell in row if cell.startswith(f"'{HOSTILE}")]
            assert written.headers["content-disposition"].startswith("attachment; filename=")
            assert written.headers["x-content-type-options"] == "nosniff"


async def test_what_is_exported_is_what_the_journal_says(book: Book) -> None:
    async def export(status: int = 200, **asked: str) -> httpx.Response:
        answer = await book.client.get("/revenue/export", params={"from": "2026-01", "through": "2026-03", **asked})
        assert answer.status_code == status, answer.text
        return answer

    listed = (await book.get("revenue/journal", **{"from": "2026-01", "to": "2026-04"}))["data"]
    posted = [(one["entry"], line["account"], line["amount"]) for one in listed for line in one["lines"]]
    rows = csv.DictReader(io.StringIO((await export(what="journal", format="csv")).text))
    assert [(row["entry"], row["account"], int(row["amount"])) for row in rows] == posted
    lines = [json.loads(line) for line in (await export(what="journal", format="jsonl")).text.splitlines()]
    table = parquet.read_table(io.BytesIO((await export(what="journal", format="parquet")).content)).to_pylist()
    for written in (lines, table):
        assert [(row["entry"], row["account"], row["amount"]) for row in written] == posted
    assert 'option "title" "self:live"' in (await export(what="journal", format="beancount")).text
    assert len((await export(what="recognition", format="csv")).text.splitlines()) == 1 + 3
    assert "expansion" in (await export(what="mrr", format="csv")).text
    for asked in ({"what": "x", "format": "csv"}, {"what": "mrr", "format": "beancount"}, {"what": "mrr"},
                  {"what": "mrr", "format": "csv", "from": "2026-05"}):  # fmt: skip
        await export(400, **asked)


async def test_a_sum_beyond_64_bits_is_shown_as_it_is(
    services: Services, database: Database, clock: ManualClock
) -> None:
    clock.now = datetime(2026, 4, 15, tzinfo=UTC)
    events = apart(5 * [f"2026-01-01 invoice {2**62}@2026-01-01..2026-02-01"])
    await services.appender.append([new_event(one) for one in events])
    await fold_all(database, services)
    async with client_of(services, None) as client:
        await client.post("/sign-in", data={"key": KEY})
        for path in ("trial-balance", "recognition", "tie-out", "ageing"):
            asked = {"from": "2026-01", "through": "2026-03", "month": "2026-01"}
            answer = await client.get(f"/revenue/{path}", params=asked)
            assert answer.status_code == 200, answer.text
            assert amount(5 * 2**62, "usd") in unsigned(answer.text), path

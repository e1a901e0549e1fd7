"""The pages for the engineer on call: the figures of the JSON routes, refusals said, forms guarded, text kept text."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from api.operations import Operations
from api.outward.coverage import HOUR, Hour, hour_of, record
from api.services import Services
from tests.conftest import Before, ManualClock, client_of
from tests.console.people import fold, send, signed_in, with_key
from tests.http.test_access import post
from tests.stripe_events import event, new_event, product, subscription

HOSTILE = "</script><script>alert(1)</script>{{ 7*7 }}{% raw %}<img src=x onerror=alert(2)>=cmd|'/c'!A1"
CATALOG = '[features.sso]\nkind = "boolean"\n[[plans]]\nproduct = "prod_1"\nfeatures = { sso = true }\n'
BUILD = "/projections/entitlements/builds/entitlements-2"


@pytest.fixture(scope="module")
def told_before() -> Before:
    """A little history, folded by every projection."""
    events = [
        event("evt_p", "product.created", product()),
        event("evt_1", "customer.subscription.created", subscription(status="incomplete"), created=1_768_000_001),
        event("evt_2", "customer.subscription.updated", subscription(), created=1_768_000_002),
    ]

    async def happens(services: Services) -> None:
        await services.appender.append([new_event(one) for one in events])
        await fold(services)

    return happens


@pytest.fixture
async def served(services: Services) -> Services:
    return services


async def json_of(services: Services, path: str) -> Any:
    async with client_of(services) as asking:
        answer = await asking.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(page: httpx.Response) -> str:
    """Return what a reader sees of a page: its text without tags, runs of white space as one."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page.text)))


async def build(services: Services) -> None:
    """Fold the build that was asked for, as the service's own rebuilder does."""
    ready = Operations(services.database, services.entitlements, services.appender, services.clock)
    await ready.fold("entitlements-2")
    await ready.complete("entitlements-2")


async def compared(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """Load the page of differences until they are found, as its own refreshing does."""
    for _ in range(100):
        page = await client.get(path)
        if "refresh" not in page.headers:
            return page
        await asyncio.sleep(0.05)
    raise AssertionError("still comparing")


async def test_from_the_form_to_the_way_back(served: Services) -> None:
    async with signed_in(served) as client:
        asked = await send(client, "/projections", do="rebuild", name="entitlements", reason="to be sure", until="")
        assert (asked.status_code, asked.headers["location"]) == (303, f"{BUILD}?book=self%3Alive")
        page = await client.get(asked.headers["location"])
        assert page.headers["refresh"] == "2"
        assert "entitlements-2 is asked for" in shown(page)
        assert "0 of about 3 events" in shown(page)
        assert "key:admin" in shown(page)

        await build(served)
        ready = await json_of(served, f"/v1{BUILD}")
        page = await client.get(BUILD)
        assert "refresh" not in page.headers
        for text in ("ready", ready["digest"], ready["certificate"]["source"], "to be sure"):
            assert text in shown(page)

        blind = await send(client, BUILD, do="promote", reason="blind", confirmed="yes")
        assert blind.status_code == 409
        assert "key:admin has not compared it with entitlements-1 in the last 24 hours" in shown(blind)
        hasty = await send(client, BUILD, do="promote", reason="hasty")
        assert (hasty.status_code, "tick the box to confirm" in hasty.text) == (400, True)
        silent = await send(client, BUILD, do="promote", reason=" ", confirmed="yes")
        assert (silent.status_code, "give a reason" in silent.text) == (400, True)

        assert "Nothing: both hold the same rows." in shown(await compared(client, f"{BUILD}/diff"))
        promoted = await send(client, BUILD, do="promote", reason="it is equal", confirmed="yes")
        assert (promoted.status_code, promoted.headers["location"]) == (
            303,
            "/projections/entitlements?book=self%3Alive",
        )
        assert "entitlements-2 is live, instead of entitlements-1." in shown(
            await client.get(promoted.headers["location"])
        )
        back = await send(client, "/projections/entitlements", reason="no, wait", confirmed="yes")
        history = await client.get(back.headers["location"])
        assert "entitlements-1 is live again, instead of entitlements-2." in shown(history)
        for text in ("promoted entitlements-2 entitlements-1 key:admin it is equal",
                     "rolled back entitlements-1 entitlements-2 key:admin no, wait"):  # fmt: skip
            assert text in shown(history)

        kept = await send(client, "/projections/entitlements/builds/entitlements-1", do="delete", confirmed="yes")
        assert (kept.status_code, "is live: promote another build first" in kept.text) == (409, True)
        gone = await send(client, BUILD, do="delete", confirmed="yes")
        assert "entitlements-2 is thrown away." in shown(await client.get(gone.headers["location"]))
        assert (await client.get(BUILD)).status_code == 404


async def test_what_a_build_would_change_is_shown_row_by_row(served: Services, owner: asyncpg.Connection) -> None:
    async with signed_in(served) as client:
        await send(client, "/projections", do="rebuild", name="entitlements", reason="a <b>bold</b> reason")
        await build(served)
        await owner.execute("UPDATE build_entitlements_1.entitlement_source SET quantity = 7 WHERE valid_to IS NULL")
        page = await compared(client, f"{BUILD}/diff")
        told = (await json_of(served, f"/v1{BUILD}/diff?limit=5&wait=5"))["data"]
        assert [(one["change"], one["old"]["quantity"], one["new"]["quantity"]) for one in told] == [("changed", 7, 1)]
        for text in ("self:live/cus_1", "entitlement_source", "quantity 7 → 1", "evt_", "±1", "2026-01"):
            assert text in shown(page)
        for filtered, count in (("customer=cus_1", "1"), ("customer=cus_9", "0"), ("table=product", "0")):
            assert f": {count} rows." in shown(await client.get(f"{BUILD}/diff?{filtered}"))
        await owner.execute("UPDATE build_entitlements_1.entitlement_source SET quantity = 1 WHERE valid_to IS NULL")
        assert "quantity 7 → 1" in shown(await client.get(f"{BUILD}/diff")), "kept while it is looked through"
        again = await client.get(f"{BUILD}/diff?again=true")
        if "refresh" in again.headers:
            assert "again" not in again.headers["refresh"]
        assert "Nothing: both hold the same rows." in shown(await compared(client, f"{BUILD}/diff"))
        assert "a &lt;b&gt;bold&lt;/b&gt; reason" in (await client.get(BUILD)).text


async def test_pages_show_the_figures_of_the_routes(served: Services) -> None:
    async with signed_in(served) as client:
        page = shown(await client.get("/projections"))
        for one in (await json_of(served, "/v1/projections"))["data"]:
            place = one["books"][0]
            assert (
                f"{one['name']} {one['build']} {one['version']} {place['book']} {place['position']} {place['head']} "
                "up to date"
            ) in page
        log = shown(await client.get("/log"))
        for one in (await json_of(served, "/v1/events?order=desc"))["data"]:
            assert f"{one['position']} {one['type']} {one['stream'].removeprefix('self:live/')}" in log
        settings = shown(await client.get("/settings"))
        told = await json_of(served, "/v1/settings")
        for one in told["settings"]:
            assert f"{one['name']} {one['value']}" in settings
        assert told["verifier_key"] in settings
        checks = shown(await client.get("/checks"))
        for one in (await json_of(served, "/v1/checks"))["data"]:
            assert re.search(f"{re.escape(one['name'])} .{{0,16}}{re.escape(one['value'])}", checks), one["name"]


@pytest.mark.parametrize("moment", ["0001-01-01", "0001-03-31", "9999-12-31"])
@pytest.mark.parametrize("path", ["/", "/customers/cus_1", "/log", "/log-hours"])
async def test_a_page_of_the_first_or_the_last_moment_there_is_is_shown(
    served: Services, path: str, moment: str
) -> None:
    async with signed_in(served) as client:
        assert (await client.get(path, params={"as_of": moment})).status_code == 200


async def test_what_is_decided_now_is_shown_as_it_is_now(served: Services, owner: asyncpg.Connection) -> None:
    await owner.execute(
        "INSERT INTO ledger.parked (build_id, subject, book, event_id, error) "
        "VALUES ('entitlements-1', 'acct_1:live/cus_9', 'acct_1:live', 'evt_9', 'ZeroDivisionError()')"
    )
    async with signed_in(served) as client:
        await client.get("/log")
        await send(client, "/settings/grants", customer="cus_1", feature="beta", reason="a promise")
        await fold(served)
        for path, said in (
            ("/projections", "acct_1:live/cus_9"),
            ("/projections/entitlements", "entitlements-1"),
            ("/settings", "a promise"),
            ("/log", "Signed"),
            ("/checks", "See what is parked"),
        ):
            then = shown(await client.get(path, params={"as_of": "2001-01-01", "known_position": "1"}))
            assert said in then, path
            assert "build made" not in then
            assert "nothing of book" not in then


async def test_hours_are_shown_as_they_are_proven(served: Services) -> None:
    begin = hour_of(served.clock()) - 3 * HOUR
    hours = [
        Hour(begin, begin + HOUR, proven=True, listed_at=begin + 2 * HOUR, listed=12, found=3, webhooks=9),
        Hour(begin + HOUR, begin + 1.5 * HOUR, proven=False, listed_at=begin + 2 * HOUR),
    ]
    async with served.pool.acquire() as connection:
        await record(connection, "self:live", "sweep", hours)
    told = await json_of(served, "/v1/coverage")
    assert (told["proven"], told["unproven"]) == (1, 2)
    async with signed_in(served) as client:
        page = await client.get("/log-hours")
        assert "2026-01-15 ✓3 proven by sweep ✗ not proven ✗ not proven" in shown(page)
        assert "proven by sweep, listed 12, 9 by webhook, 3 found" in page.text
        assert "Nothing can be proven, because LEDGER_STRIPE_API_KEY is not set" in shown(page)
        assert "Hours proven complete 1 of 3" in shown(await client.get("/log"))


async def test_one_event_with_what_it_made_its_bytes_and_its_proof(served: Services) -> None:
    async with signed_in(served) as client:
        page = await client.get("/log/evt_2")
        told = await json_of(served, "/v1/events/evt_2")
        for text in (told["type"], told["leaf"]["hash"], told["leaf"]["header"], "evt_2", '"object": "event"'):
            assert text in shown(page)
        rows = (await json_of(served, "/v1/events/evt_2/rows"))["data"]
        assert {one["table"] for one in rows} >= {"entitlement_source", "subscription"}
        assert "entitlements: entitlement source entitlements-1" in shown(page)
        assert "/customers/cus_1?book=self%3Alive" in page.text
        raw = await client.get("/log/evt_2/raw")
        async with client_of(served) as asking:
            assert raw.content == (await asking.get("/v1/events/evt_2/raw")).content
            proof = (await asking.get("/v1/log/proof/evt_2")).text
        assert raw.headers["content-disposition"] == "attachment; filename*=UTF-8''evt_2.json"
        assert (await client.get("/log/evt_2/proof")).text == proof
        assert (await client.get("/log-checkpoint")).text in proof
        for suffix in ("", "/raw", "/proof"):
            assert (await client.get(f"/log/evt_9{suffix}")).status_code == 404


@pytest.mark.parametrize(
    ("asked", "positions"),
    [
        ({}, [3, 2, 1]),
        ({"type": "product.created"}, [1]),
        ({"customer": "cus_1"}, [3, 2]),
        ({"position": "2"}, [2, 1]),
        ({"time": "2026-01-15 12:00:01"}, [3, 2, 1]),
        ({"time": "2026-01-15 12:01"}, [3, 2, 1]),
        ({"time": "2026-01-15 13:00:01+01:00"}, [3, 2, 1]),
        ({"time": "2026-01-15T11:59"}, []),
        ({"time": "2026-01-15T11:59:59Z"}, []),
        ({"type": "x.y"}, []),
    ],
)
async def test_looking_for_events(served: Services, asked: dict[str, str], positions: list[int]) -> None:
    async with signed_in(served) as client:
        page = await client.get("/log", params=asked)
    assert [int(one) for one in re.findall(r'<td class="n">(\d+)</td>', page.text)] == positions


async def test_what_is_looked_for_wrongly_is_said(served: Services) -> None:
    async with signed_in(served) as client:
        for asked in ({"position": "x"}, {"time": "yesterday"}, {"type": "ü ü"}, {"cursor": "!"}):
            page = await client.get("/log", params=asked)
            assert (page.status_code, 'id="refused"' in page.text) == (400, True), asked
        found = await client.get("/log", params={"event": "evt_2"})
        assert (found.status_code, found.headers["location"]) == (303, "/log/evt_2?book=self%3Alive")
        for form in ({"name": "nothing"}, {"name": "entitlements", "until": "soon"},
                     {"name": "entitlements", "until": "99"}):  # fmt: skip
            assert (await send(client, "/projections", do="rebuild", reason="x", **form)).status_code in (400, 404)
        assert (await send(client, "/projections", do="replay", subject="self:live/cus_1")).status_code == 404
        assert (await send(client, "/projections/entitlements", reason="x", confirmed="yes")).status_code == 409


async def test_an_audit_copy_is_shown_as_one(served: Services) -> None:
    async with signed_in(served) as client:
        await send(client, "/projections", do="rebuild", name="entitlements", reason="as it was", until="2")
        await build(served)
        page = shown(await client.get(BUILD))
        assert "An audit copy is never promoted." in page
        assert "self:live up to 2" in page
        assert "audit copies are compared by" in shown(await client.get(f"{BUILD}/diff"))


async def test_what_is_parked_is_shown_and_folded_again(served: Services, owner: asyncpg.Connection) -> None:
    await owner.execute(
        "INSERT INTO ledger.parked (build_id, subject, book, event_id, error) "
        "VALUES ('entitlements-1', 'self:live/cus_1', 'self:live', 'evt_2', $1)",
        HOSTILE,
    )
    async with signed_in(served) as client:
        page = await client.get("/projections")
        assert f"self:live/cus_1 entitlements evt_2 {HOSTILE}" in unescape(
            re.sub(r"<[^>]*>\s*", " ", page.text)
        ).replace("  ", " ") or HOSTILE in unescape(page.text)
        assert "<script>alert" not in page.text
        failed = (await json_of(served, "/v1/checks"))["data"]
        assert [one["state"] for one in failed if one["name"] == "entitlements parks nobody"] == ["failed"]
        assert "✗ failed entitlements parks nobody 1 subjects" in shown(await client.get("/checks"))
        again = await send(client, "/projections", do="replay", subject="self:live/cus_1")
        assert "self:live/cus_1 is folded again." in shown(await client.get(again.headers["location"]))


async def test_a_catalog_is_looked_at_and_published(served: Services) -> None:
    async with signed_in(served) as client:
        wrong = await send(client, "/settings/catalog", do="preview", text="[features.x]\nkind = 'no'\n")
        assert (wrong.status_code, 'id="refused"' in wrong.text) == (422, True)
        looked = await send(client, "/settings/catalog", do="preview", text=CATALOG.replace("\n", "\r\n"))
        assert "Of 1 customers 1 were checked: answers of 1 would change." in shown(looked)
        assert "cus_1 seats lost 1 nothing" in shown(looked)
        hasty = await send(client, "/settings/catalog", do="publish", text=CATALOG)
        assert (hasty.status_code, CATALOG in unescape(hasty.text)) == (400, True)
        assert (await json_of(served, "/v1/catalog"))["data"] == []
        await send(client, "/settings/catalog", do="publish", text=CATALOG.replace("\n", "\r\n"), confirmed="yes")
        [published] = (await json_of(served, "/v1/catalog"))["data"]
        assert (published["content"], published["by"]) == (CATALOG, "admin")
        assert "Catalog 1, by admin, from the beginning: 1 features, 1 plans" in shown(
            await client.get("/settings/catalog")
        )


async def test_grants_are_made_listed_and_taken_back(served: Services, clock: ManualClock) -> None:
    async with signed_in(served) as client:
        wrong = await send(client, "/settings/grants", customer="cus_1", feature="seats", reason=" ")
        assert (wrong.status_code, "give a reason" in wrong.text) == (400, True)
        for customer, value in (("cus_1", "5"), ("org:a/b", "")):
            made = await send(
                client, "/settings/grants", customer=customer, feature="seats", value=value, reason=HOSTILE
            )
            assert made.status_code == 303
        await fold(served)
        grants = (await json_of(served, "/v1/grants"))["data"]
        assert {(one["customer"], one["value"], one["state"]) for one in grants} == {
            ("cus_1", "5", "granted"), ("org:a/b", True, "granted"),
        }  # fmt: skip
        page = await client.get("/settings")
        assert f"{HOSTILE} " in unescape(page.text.replace("</td>", " "))
        assert "<script>alert" not in page.text
        [own] = [one for one in grants if one["customer"] == "cus_1"]
        clock.forward(seconds=5)
        taken = await send(client, "/settings/grants", do="revoke", grant=own["id"], reason="enough")
        assert f"{own['id']} is taken back." in shown(await client.get(taken.headers["location"]))
        await fold(served)
        states = {one["customer"]: one["state"] for one in (await json_of(served, "/v1/grants"))["data"]}
        assert states == {"cus_1": "revoked", "org:a/b": "granted"}
        assert (await send(client, "/settings/grants", do="revoke", grant="grant_9", reason="x")).status_code == 404


CHANGES = {
    "/projections": {"do": "rebuild", "name": "entitlements", "reason": "x"},
    "/projections/entitlements": {"reason": "x", "confirmed": "yes"},
    "/projections/entitlements/builds/entitlements-1": {"do": "delete", "confirmed": "yes"},
    "/settings/catalog": {"do": "publish", "text": CATALOG, "confirmed": "yes"},
    "/settings/grants": {"customer": "cus_1", "feature": "seats", "reason": "x"},
}
OF_ALL_BOOKS = ("/projections/", "/checks")

PAGES = {
    "/projections": "admin",
    "/projections/entitlements": "admin",
    "/projections/entitlements/builds/entitlements-1": "admin",
    "/projections/entitlements/builds/entitlements-1/diff": "admin",
    "/checks": "admin",
    "/log": "events:read",
    "/log-hours": "events:read",
    "/log-checkpoint": "events:read",
    "/log/evt_2": "events:read",
    "/log/evt_2/raw": "events:read",
    "/log/evt_2/proof": "events:read",
    "/settings": "grants:write",
    "/settings/catalog": "entitlements:read",
}


async def test_every_change_wants_its_token_and_its_scope(served: Services) -> None:
    async with signed_in(served) as client:
        for path, fields in CHANGES.items():
            for token in ({}, {"token": "x"}):
                assert (await client.post(path, data=fields | token)).status_code == 403, path
    serving = with_key(served, "other:dunning:read")
    async with signed_in(serving, "lk_other") as other:
        for path, fields in CHANGES.items():
            assert (await send(other, path, **fields)).status_code == 403, path
    async with client_of(served, None) as stranger:
        for path, fields in CHANGES.items():
            assert (await stranger.post(path, data=fields)).headers["location"].startswith("/sign-in"), path
    assert [one["build"] for one in (await json_of(served, "/v1/projections/entitlements/builds"))["data"]] == [
        "entitlements-1"
    ]
    assert (await json_of(served, "/v1/grants"))["data"] == []


async def test_every_page_wants_its_scope_and_its_book(served: Services) -> None:
    async with client_of(served, None) as stranger:
        for path in PAGES:
            assert (await stranger.get(path)).status_code == 303, path
    async with signed_in(with_key(served, "other:dunning:read"), "lk_other") as other:
        for path in PAGES:
            assert (await other.get(path)).status_code == 403, path
    for scope in sorted(set(PAGES.values())):
        async with signed_in(with_key(served, f"other:{scope}@self:live"), "lk_other") as own:
            for path in [path for path, wanted in PAGES.items() if wanted == scope]:
                # Builds and checks are of all books: a key for one book is told so.
                assert (await own.get(path)).status_code == (403 if path.startswith(OF_ALL_BOOKS) else 200), path
                assert (await own.get(path, params={"book": "self:test"})).status_code == 403, path
        async with signed_in(with_key(served, f"other:{scope}"), "lk_other") as own:
            for path in [path for path, wanted in PAGES.items() if wanted == scope]:
                assert (await own.get(path)).status_code == 200, path
    async with signed_in(with_key(served, "other:events:read"), "lk_other") as reader:
        assert (await reader.get("/log/evt_2")).text.count("entitlement source") == 0, "rows are for those who may"


@pytest.mark.empty
async def test_hostile_bodies_are_text(services: Services, clock: ManualClock) -> None:
    async with client_of(services, None) as sending:
        await post(sending, clock, event("evt_1", "product.created", product("prod_1", HOSTILE)))
        await post(sending, clock, event('"><svg/onload=x>', "<b>type</b>", {"id": "<i>id</i>", "customer": "cus_<u>"}))
        await post(sending, clock, event("evt_1", "product.created", product("prod_1", HOSTILE + HOSTILE)))
    await fold(services)
    async with signed_in(services) as client:
        pages = [await client.get(path) for path in ("/log", "/log/evt_1", "/log/%22%3E%3Csvg%2Fonload=x%3E")]
        for page in pages:
            assert page.status_code == 200
            for tag in ("<script>alert", "<svg", "<b>type", "<i>id", "<u>", "<img"):
                assert tag not in page.text
        assert orjson.dumps(HOSTILE).decode() in unescape(pages[1].text)
        assert "{{ 7*7 }}" in unescape(pages[1].text)
        assert "Copies that differ 1" in shown(pages[0])
        assert "Later copies that differ" in shown(pages[1])
        odd = await client.get("/log/%22%3E%3Csvg%2Fonload=x%3E/raw")
        assert odd.headers["content-disposition"] == "attachment; filename*=UTF-8''%22%3E%3Csvg%2Fonload%3Dx%3E.json"
        assert odd.headers["x-content-type-options"] == "nosniff"


async def test_an_erased_body_is_said_to_be(served: Services, owner: asyncpg.Connection) -> None:
    await owner.execute("ALTER TABLE ledger.event DISABLE TRIGGER ALL")
    await owner.execute("UPDATE ledger.event SET body = '', salt = '', encoding = 0 WHERE event_id = 'evt_2'")
    async with signed_in(served) as client:
        page = await client.get("/log/evt_2")
        assert "The body was erased for good" in shown(page)
        assert (await client.get("/log/evt_2/raw")).status_code == 410


@pytest.mark.empty
async def test_a_log_without_events(services: Services) -> None:
    async with signed_in(services) as client:
        for path in ("/log", "/log-hours", "/projections", "/settings", "/settings/catalog", "/checks"):
            assert (await client.get(path)).status_code == 200, path

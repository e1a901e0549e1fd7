"""Pages show what the JSON routes answer, what the key may see, and errors as pages; everything has its headers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest

from api.console.checks import verdict
from api.console.pages import PAGES
from api.console.rendering import exact, moment, money, words
from api.secrets import SCOPES
from api.services import Services
from tests.conftest import ManualClock, client_of
from tests.console.people import END, append, as_logged, company, customer_with_most, fold, read, signed_in, with_key

START: Final = datetime(2025, 5, 1, tzinfo=UTC)


@pytest.fixture
async def customer(services: Services, clock: ManualClock) -> str:
    """A small company in the log and folded; the customer with the most trouble."""
    clock.now = END
    events = company(16, 8, START)
    await append(services, as_logged(events))
    await fold(services)
    return customer_with_most(events, "invoice.payment_failed")


async def test_no_page_disagrees_with_its_route(services: Services, customer: str) -> None:
    async with client_of(services) as asking, signed_in(services) as looking:
        for when in ({}, {"as_of": "2025-11-15T00:00:00Z"}, {"known_position": "400"}):
            page = await looking.get(f"/customers/{customer}", params=when)
            assert page.status_code == 200, page.text
            text = read(page).text
            for figure in await figures_of_customer(asking, customer, when):
                assert figure in text, (figure, when)
            assert ("Showing everything on this page" in text) == bool(when)
        text = read(await looking.get("/")).text
        for figure in await figures_of_overview(asking):
            assert figure in text, figure


async def figures_of_customer(asking: httpx.AsyncClient, customer: str, when: dict[str, str]) -> list[str]:
    """Return every figure that the routes answer for what a customer's page shows, as the page writes them."""

    async def ask(path: str, **more: str) -> Any:
        answer = await asking.get(path, params={**when, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    found: list[str | None] = []
    own = f"/v1/customers/{customer}"
    for one in (await ask(f"{own}/entitlements", include="all"))["entitlements"]:
        found += [one["feature"], words(one["reason"]), moment(one["valid_from"]), *one["because"]]
        found += [source["id"] for source in one["sources"]]
    for one in (await ask(f"{own}/subscriptions"))["data"]:
        found += [one["subscription"], words(one["status"]), moment(one["created"]), moment(one["ended_at"])]
    for one in (await ask(f"{own}/invoices", limit="10"))["data"]:
        amounts = (one["total"], one["tax"], one["amount_paid"], one["amount_remaining"])
        found += [one["invoice"], words(one["status"]), *(money(amount, one["currency"]) for amount in amounts)]
    dunning = await ask(f"{own}/dunning")
    for one in dunning["data"]:
        found += [one["case"], words(one["state"])]
        found += [money(amount, one["currency"]) for amount in (one["amount_due"], one["open_amount"])]
    found += [text for one in dunning["timeline"] for text in (moment(one["at"]), words(one["kind"]), one["event"])]
    last = "2026-02" if "as_of" not in when else "2025-12"
    first = "2025-11" if "as_of" not in when else "2025-09"
    journal = await ask("/v1/revenue/journal", customer=customer, limit="20", **{"from": first, "to": last})
    for one in journal["data"]:
        found += [one["entry"], words(one["kind"]), *(money(line["amount"], one["currency"]) for line in one["lines"])]
    listed = await asking.get(
        "/v1/events",
        params={"customer": customer, "order": "desc", "limit": "20", **when},
    )
    found += [text for one in listed.json()["data"] for text in (one["id"], one["type"], moment(one["created"]))]
    assert len(found) > 60
    return [text for text in found if text]


async def figures_of_overview(asking: httpx.AsyncClient) -> list[str]:
    worth = (await asking.get("/v1/revenue/mrr")).json()
    earned = (await asking.get("/v1/revenue/recognition", params={"from": "2026-01", "to": "2026-02"})).json()
    coverage = (await asking.get("/v1/coverage", params={"from": "2025-12-25T01:00:00Z", "to": exact(END)})).json()
    newest = (await asking.get("/v1/events", params={"order": "desc", "limit": "12"})).json()
    moved = (await asking.get("/v1/revenue/mrr/movements", params={"to": "2026-02"})).json()
    assert worth["mrr"]
    found = [f"{worth['freshness']['head']:,}", f"{coverage['proven']} of {coverage['proven'] + coverage['unproven']}"]
    for currency, one in worth["mrr"].items():
        found += [money(one["total"], currency), str(one["customers"]), money(one["at_risk"], currency)]
    found += [money(one["recognized"], currency) for currency, one in earned["months"].get("2026-01", {}).items()]
    found += [money(one["closing"], one["currency"]) for one in moved["intervals"]]
    return found + [one["id"] for one in newest["data"]]


PARTS: Final = {
    "events:read": ["Events"],
    "entitlements:read": ["Entitlements"],
    "dunning:read": ["Dunning"],
    "revenue:read": ["Subscriptions", "Invoices", "Journal"],
}


async def test_a_key_sees_the_pages_and_parts_of_its_scopes(services: Services, customer: str) -> None:
    """One scope at a time: every page opens or is 403, no part of another scope is shown, nothing is named in the
    navigation that does not open."""
    for scope in sorted(SCOPES - {"admin"}):
        async with signed_in(with_key(services, f"k:{scope}"), "lk_other") as client:
            for page in PAGES:
                if page.method != "GET" or page.sample is None:
                    continue
                answer = await client.get(page.sample.replace("{customer}", customer))
                opens = not page.scopes or scope in page.scopes
                assert answer.status_code == (200 if opens else 403), (scope, page.path, answer.text)
                named = {element[1].get("href", "") for element in read(answer).elements if element[0] == "a"}
                for other in PAGES:
                    if opens and other.nav and other.scopes and scope not in other.scopes:
                        assert not any((link or "").startswith(f"{other.path}?") for link in named), (scope, other.path)
            answer = await client.get(f"/customers/{customer}")
            headings = read(answer).text if answer.status_code == 200 else ""
            for needed, titles in PARTS.items():
                for title in titles:
                    assert (title in headings) == (needed == scope), (scope, title)
            overview = read(await client.get("/")).text
            assert ("MRR" in overview) == (scope == "revenue:read")
            assert ("Newest events" in overview) == (scope == "events:read")


async def test_a_customer_that_no_event_names_is_said_to_be_unknown(services: Services, customer: str) -> None:
    async with signed_in(services) as client:
        assert "names cus_mistyped: look for" in read(await client.get("/customers/cus_mistyped")).text
        for known in (f"/customers/{customer}", f"/customers/{customer}?as_of=2001-01-01T00:00:00Z"):
            assert "look for a typing error" not in read(await client.get(known)).text


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["ok", "ok"], "All checks pass."),
        (["ok", "waived", "waived"], "No check failed, and 2 of 3 could not be made."),
        (["ok", "failed", "waived"], "1 of 3 checks failed."),
    ],
)
def test_checks_that_could_not_be_made_are_not_said_to_pass(states: list[str], said: str) -> None:
    assert verdict(states) == said


async def test_a_key_of_one_book_sees_no_other(services: Services) -> None:
    async with signed_in(with_key(services, "k:admin@acct_1:test"), "lk_other") as client:
        own = await client.get("/")
        assert (own.status_code, "self:live" in own.text) == (200, False)
        for address in ("/", "/customers/cus_1", "/customers"):
            answer = await client.get(address, params={"book": "self:live"})
            assert answer.status_code == 403
            assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nowhere", 404),
        ("/customers/cus_1?as_of=yesterday", 400),
        ("/customers/cus_1?known_position=-1", 400),
        ("/customers/cus_1?book=x", 400),
        ("/sign-out", 405),
        ("/static/nothing.js", 404),
        ("/static/..%2Fapp.py", 404),
    ],
)
async def test_what_fails_is_a_page(services: Services, address: str, status: int) -> None:
    async with signed_in(services) as client:
        answer = await client.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (await client.get("/v1/nowhere")).headers["content-type"] == "application/problem+json"


async def test_a_refused_method_is_told_every_other(services: Services) -> None:
    async with signed_in(services) as client:
        for path in {page.path for page in PAGES}:
            refused = await client.put(path.replace("{", "").replace("}", ""))
            known = {page.method for page in PAGES if page.path == path}
            assert refused.status_code == 405
            assert set(refused.headers["allow"].split(", ")) - {"HEAD"} == known, path


async def test_a_part_that_cannot_be_answered_says_so_and_the_rest_is_shown(services: Services) -> None:
    """Nothing is folded yet: 503 for each part, and a page all the same."""
    async with signed_in(services) as client:
        page = await client.get("/")
        assert (page.status_code, "is not built yet" in page.text) == (200, True)


async def test_headers_and_files(services: Services) -> None:
    async with signed_in(services) as client:
        page = await client.get("/")
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
        assert "unsafe" not in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["cross-origin-opener-policy"] == "same-origin"
        files = {str(of.get("src") or of.get("href")) for tag, of in read(page).elements if tag in {"script", "link"}}
        assert {file.partition("?")[0] for file in files} == {
            "/static/console.js", "/static/ledger.css", "/static/ledger.svg"
        }  # fmt: skip
        for file in files:
            first = await client.get(file)
            assert first.status_code == 200
            assert "immutable" in first.headers["cache-control"]
            again = await client.get(file, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        plain = await client.get("/static/plotly.min.js", headers={"Accept-Encoding": "identity"})
        assert (plain.headers["cache-control"], len(plain.content) > 1_000_000) == ("no-cache", True)

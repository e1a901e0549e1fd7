"""The engineer's story in a browser: rebuild, see what it would change, promote, go back, find it in the log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from api.operations import Operations
from api.services import Services
from ledger.simulator.company import Arguments, Company
from projections.builds import ensure_live
from projections.entitlements.tables import entitlements
from projections.follower import follow
from projections.runner import connect_runner
from tests.browser.conftest import Hands
from tests.conftest import KEY, ManualClock
from tests.http.serving import served
from tests.stripe_events import new_event

pytestmark = pytest.mark.slow


class Engineer(Hands):
    """What somebody on call does."""

    def opens(self, summary: str) -> WebElement:
        """Open what is folded away, and return it."""
        for one in self.browser.find_elements(By.TAG_NAME, "details"):
            if one.find_element(By.TAG_NAME, "summary").text.startswith(summary):
                one.find_element(By.TAG_NAME, "summary").click()
                return one
        raise AssertionError(f"nothing is folded away as {summary}")

    def starts_a_rebuild(self, reason: str) -> None:
        form = self.browser.find_element(By.CSS_SELECTOR, "#rebuild form")
        form.find_element(By.NAME, "reason").send_keys(reason)
        form.find_element(By.TAG_NAME, "button").click()
        self.reads("entitlements-2 is asked for")
        self.reads("This page reloads")

    def decides(self, summary: str, reason: str) -> None:
        form = self.opens(summary)
        form.find_element(By.NAME, "reason").send_keys(reason)
        form.find_element(By.NAME, "confirmed").click()
        form.find_element(By.TAG_NAME, "button").click()

    def looks_at_the_differences(self) -> str:
        """Return the first event that made a difference."""
        self.follow("See what it would change")
        self.reads("Rows added")
        self.reads("entitlement_org")
        [first, *_] = self.browser.find_elements(By.CSS_SELECTOR, "td a[href*='/log/']")
        return first.text

    def fetches(self, link: str, into: Path) -> bytes:
        """Download what a link leads to."""
        return self.downloaded(into, lambda: self.follow(link)).read_bytes()


@pytest.fixture
async def company(services: Services, clock: ManualClock) -> Services:
    """A company whose live entitlements were folded with the wrong name for its organisations."""
    clock.now = datetime(2026, 1, 1, tzinfo=UTC)
    simulated = Company(Arguments(customers=8, months=3, start=int(datetime(2025, 9, 1, tzinfo=UTC).timestamp())))
    made = [new_event(event, received_at=clock.now) for event in simulated.events()]
    events = [one for one in made if one.book == "self:live"]
    for start in range(0, len(events), 500):
        await services.appender.append(events[start : start + 500])
    connection = await connect_runner(services.database)
    wrong = entitlements("workspace_id")
    live = await ensure_live(connection, wrong)
    while await follow(connection, wrong, live):
        pass
    await connection.close()
    return services


async def test_the_engineers_story(company: Services, browser: Chrome, downloads: Path) -> None:
    async with served(company) as address:
        engineer = Engineer(browser, address, KEY)

        def until_it_folds() -> None:
            engineer.sign_in("/projections", "Live builds")
            engineer.starts_a_rebuild("organisations are named by org_id")

        def until_it_is_found_in_the_log() -> None:
            engineer.reads("Certificate")
            engineer.reads("Digest of its rows")
            event_id = engineer.looks_at_the_differences()
            engineer.follow("Promote it")
            engineer.decides("Promote entitlements-2", "organisations are found")
            engineer.reads("entitlements-2 is live, instead of entitlements-1.")
            engineer.decides("Roll back to entitlements-1", "support tells the customers first")
            engineer.reads("entitlements-1 is live again, instead of entitlements-2.")
            for said in ("organisations are found", "support tells the customers first"):
                engineer.reads(said)
            engineer.go("/log?book=ledger:control")
            for type_ in ("ledger.build.promoted", "ledger.build.rolled_back"):
                engineer.reads(type_)
            engineer.go(f"/log/{event_id}")
            engineer.reads("Body")
            raw = engineer.fetches("Exact bytes", downloads)
            assert event_id.encode() in raw
            assert b"c2sp.org/tlog-proof" in engineer.fetches("Inclusion proof", downloads)

        await asyncio.to_thread(until_it_folds)
        ready = Operations(company.database, company.entitlements, company.appender, company.clock)
        await ready.fold("entitlements-2")
        await ready.complete("entitlements-2")
        await asyncio.to_thread(until_it_is_found_in_the_log)

"""The engineer's story in a browser: rebuild, see what it would change, promote, go back, find it in the log."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from api.operations import Operations
from api.services import Services
from ledger.simulator.company import Arguments, Company
from projections.builds import ensure_live
from projections.entitlements.tables import entitlements
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import KEY, ManualClock
from tests.http.serving import served
from tests.stripe_events import new_event

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1440,1000",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"),
]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Engineer:
    """What somebody on call does with mouse and keyboard."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self._browser = browser
        self._address = address

    def open(self, path: str) -> None:
        self._browser.get(self._address + path)

    def sees(self, text: str, seconds: float = 60) -> None:
        # A page that loads itself again may be gone between being found and being read.
        WebDriverWait(self._browser, seconds, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda at: text in at.find_element(By.TAG_NAME, "body").text, f"never saw {text!r}"
        )

    def follows(self, link: str) -> None:
        self._browser.find_element(By.PARTIAL_LINK_TEXT, link).click()

    def opens(self, summary: str) -> WebElement:
        """Open what is folded away, and return it."""
        for one in self._browser.find_elements(By.TAG_NAME, "details"):
            if one.find_element(By.TAG_NAME, "summary").text.startswith(summary):
                one.find_element(By.TAG_NAME, "summary").click()
                return one
        raise AssertionError(f"nothing is folded away as {summary}")

    def signs_in(self) -> None:
        self.open("/projections")
        self._browser.find_element(By.NAME, "key").send_keys(KEY)
        self._browser.find_element(By.TAG_NAME, "button").click()
        self.sees("What answers now")

    def starts_a_rebuild(self, reason: str) -> None:
        form = self._browser.find_element(By.CSS_SELECTOR, "#rebuild form")
        form.find_element(By.NAME, "reason").send_keys(reason)
        form.find_element(By.TAG_NAME, "button").click()
        self.sees("entitlements-2 is asked for")
        self.sees("This page loads itself again")

    def decides(self, summary: str, reason: str) -> None:
        form = self.opens(summary)
        form.find_element(By.NAME, "reason").send_keys(reason)
        form.find_element(By.NAME, "confirmed").click()
        form.find_element(By.TAG_NAME, "button").click()

    def looks_at_the_differences(self) -> str:
        """Return the first event that made a difference."""
        self.follows("See what it would change")
        self.sees("Rows added")
        self.sees("entitlement_org")
        [first, *_] = self._browser.find_elements(By.CSS_SELECTOR, "td a[href*='/log/']")
        return first.text

    def fetches(self, link: str, into: Path) -> bytes:
        """Download what a link leads to."""
        before = set(into.iterdir())
        self.follows(link)

        def came(_: object) -> Path | None:
            return next((one for one in set(into.iterdir()) - before if one.suffix != ".crdownload"), None)

        file: Path = WebDriverWait(self._browser, 30).until(came)  # type: ignore[assignment]
        return file.read_bytes()


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


async def test_the_engineers_story(company: Services, browser: webdriver.Chrome, tmp_path: Path) -> None:
    async with served(company) as address:
        engineer = Engineer(browser, address)

        def until_it_folds() -> None:
            engineer.signs_in()
            engineer.starts_a_rebuild("organisations are named by org_id")

        def until_it_is_found_in_the_log() -> None:
            engineer.sees("Certificate")
            engineer.sees("Digest of its rows")
            event_id = engineer.looks_at_the_differences()
            engineer.follows("Go on to promote it")
            engineer.decides("Promote entitlements-2", "organisations are found")
            engineer.sees("entitlements-2 is live, instead of entitlements-1.")
            engineer.decides("Roll back to entitlements-1", "support tells the customers first")
            engineer.sees("entitlements-1 is live again, instead of entitlements-2.")
            for said in ("organisations are found", "support tells the customers first"):
                engineer.sees(said)
            engineer.open("/log?book=ledger:control")
            for type_ in ("ledger.build.promoted", "ledger.build.rolled_back"):
                engineer.sees(type_)
            engineer.open(f"/log/{event_id}")
            engineer.sees("Its body")
            raw = engineer.fetches("Exact bytes", tmp_path / "downloads")
            assert event_id.encode() in raw
            assert b"c2sp.org/tlog-proof" in engineer.fetches("Proof that it stands", tmp_path / "downloads")

        await asyncio.to_thread(until_it_folds)
        ready = Operations(company.database, company.entitlements, company.appender, company.clock)
        await ready.fold("entitlements-2")
        await ready.complete("entitlements-2")
        await asyncio.to_thread(until_it_is_found_in_the_log)

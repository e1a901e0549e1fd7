"""The finance analyst's story in a browser: close a month, follow a figure down to Stripe's event, take it along."""

from __future__ import annotations

import asyncio
import csv
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from api.services import Services
from ledger.postgres import Database
from ledger.simulator.company import Arguments, Company
from tests.conftest import KEY, ManualClock
from tests.http.serving import served
from tests.periods.test_close import fold_all
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
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
def browser(tmp_path: Path, downloads: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Analyst:
    """What somebody in finance does with mouse and keyboard."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self._browser = browser
        self._address = address

    def sees(self, text: str) -> None:
        WebDriverWait(self._browser, 60).until(
            lambda at: text in at.find_element(By.TAG_NAME, "body").text, f"never saw {text!r}"
        )

    def follows(self, link: str) -> None:
        self._browser.find_element(By.PARTIAL_LINK_TEXT, link).click()

    def presses(self, button: str) -> None:
        self._browser.find_element(By.XPATH, f"//button[normalize-space()='{button}']").click()

    def signs_in(self) -> None:
        self._browser.get(self._address)
        self._browser.find_element(By.NAME, "key").send_keys(KEY)
        self.presses("Sign in")
        self.follows("Revenue")
        self.sees("Monthly recurring revenue")

    def closes(self, month: str, reason: str) -> None:
        self.follows("Closing and export")
        self.sees(f"To close next: {month}")
        self._browser.find_element(By.ID, "close-reason").send_keys(reason)
        self._browser.find_element(By.NAME, "confirmed").click()
        self.presses(f"Close {month}")
        self.sees(f"{month} is closed: seal 1")

    def sees_it_sealed(self, reason: str) -> None:
        for text in ("To close next: 2025-06", "Reopen 2025-05", reason):
            self.sees(text)
        self.follows("seal 1")
        self.sees("The sealed rows come to the digest that stands in the log.")

    def follows_a_figure_to_its_event(self) -> str:
        """Go from the month's recognition to an entry and on to Stripe's event; return its id."""
        self.follows("Recognition of 2025-05")
        self.sees("Closed months are shown as they were sealed.")
        self._browser.find_element(By.CSS_SELECTOR, "#roll-forward td a").click()
        self.sees("Month it is about")
        self._browser.find_element(By.CSS_SELECTOR, "tr.more summary").click()
        self.sees("revenue")
        self.follows("Why it is there")
        self.sees("Why: the events behind it")
        event = self._browser.find_element(By.CSS_SELECTOR, "#why td a")
        event_id = event.text
        event.click()
        self.sees("Its body")
        self.sees(event_id)
        return event_id

    def exports(self, what: str, as_format: str, suffix: str, into: Path) -> Path:
        self._browser.get(f"{self._address}/revenue/periods")
        Select(self._browser.find_element(By.NAME, "what")).select_by_value(what)
        for name, month in (("from", "2025-05"), ("through", "2025-05")):
            field = self._browser.find_element(By.CSS_SELECTOR, f"#export input[name={name}]")
            field.clear()
            field.send_keys(month)
        self.presses(as_format)
        found = WebDriverWait(self._browser, 30).until(lambda _: next(into.glob(f"*-{what}-*.{suffix}"), None))
        assert found is not None
        return found


@pytest.fixture
async def company(services: Services, database: Database, clock: ManualClock) -> Services:
    clock.now = datetime(2025, 9, 2, tzinfo=UTC)
    simulated = Company(Arguments(customers=12, months=4, start=int(datetime(2025, 5, 1, tzinfo=UTC).timestamp())))
    made = [new_event(event, received_at=clock.now) for event in simulated.events()]
    events = [one for one in made if one.book == "self:live"]
    for start in range(0, len(events), 500):
        await services.appender.append(events[start : start + 500])
    await fold_all(database, services)
    return services


async def test_the_analysts_story(
    company: Services, database: Database, browser: webdriver.Chrome, downloads: Path
) -> None:
    async with served(company) as address:
        analyst = Analyst(browser, address)
        await asyncio.to_thread(analyst.signs_in)
        await asyncio.to_thread(analyst.closes, "2025-05", "books of May")
        await fold_all(database, company)
        await asyncio.to_thread(browser.refresh)
        await asyncio.to_thread(analyst.sees_it_sealed, "books of May")
        event_id = await asyncio.to_thread(analyst.follows_a_figure_to_its_event)
        path = await asyncio.to_thread(analyst.exports, "journal", "CSV", "csv", downloads)
        assert path.name == "self-live-journal-2025-05-2025-05.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert event_id in " ".join(row["because"] for row in rows)
        assert sum(int(row["amount"]) for row in rows) == 0
        books = await asyncio.to_thread(analyst.exports, "journal", "Beancount (journal)", "beancount", downloads)
        assert "2025-05" in books.read_text()

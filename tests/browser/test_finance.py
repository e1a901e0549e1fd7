"""The finance analyst's story in a browser: close a month, follow a figure down to Stripe's event, take it along."""

from __future__ import annotations

import asyncio
import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from api.services import Services
from ledger.postgres import Database
from ledger.simulator.company import Arguments, Company
from tests.browser.conftest import Hands
from tests.conftest import KEY, ManualClock
from tests.http.serving import served
from tests.periods.test_close import fold_all
from tests.stripe_events import new_event

pytestmark = pytest.mark.slow


class Analyst(Hands):
    """What somebody in finance does."""

    def closes(self, month: str, reason: str) -> None:
        self.follow("Closing and export")
        self.reads(f"Next to close: {month}")
        self.browser.find_element(By.ID, "close-reason").send_keys(reason)
        self.browser.find_element(By.NAME, "confirmed").click()
        self.press(f"Close {month}")
        self.reads(f"{month} is closed: seal 1")

    def sees_it_sealed(self, reason: str) -> None:
        for text in ("Next to close: 2025-06", "Reopen 2025-05", reason):
            self.reads(text)
        self.follow("seal 1")
        self.reads("The sealed rows match the digest recorded in the log.")

    def follows_a_figure_to_its_event(self) -> str:
        """Go from the month's recognition to an entry and on to Stripe's event; return its id."""
        self.follow("Recognition of 2025-05")
        self.reads("Closed months are shown as sealed.")
        self.browser.find_element(By.CSS_SELECTOR, "#roll-forward td a").click()
        self.reads("Original month")
        self.browser.find_element(By.CSS_SELECTOR, "tr.more summary").click()
        self.reads("revenue")
        self.follow("Why it exists")
        self.reads("Why: the events behind it")
        event = self.browser.find_element(By.CSS_SELECTOR, "#why td a")
        event_id = event.text
        event.click()
        self.reads("Body")
        self.reads(event_id)
        return event_id

    def exports(self, what: str, as_format: str, into: Path) -> Path:
        self.go("/revenue/periods")
        Select(self.browser.find_element(By.NAME, "what")).select_by_value(what)
        for name, month in (("from", "2025-05"), ("through", "2025-05")):
            field = self.browser.find_element(By.CSS_SELECTOR, f"#export input[name={name}]")
            field.clear()
            field.send_keys(month)
        return self.downloaded(into, lambda: self.press(as_format))


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


async def test_the_analysts_story(company: Services, database: Database, browser: Chrome, downloads: Path) -> None:
    async with served(company) as address:
        analyst = Analyst(browser, address, KEY)
        await asyncio.to_thread(analyst.sign_in, "/revenue", "Monthly recurring revenue")
        await asyncio.to_thread(analyst.closes, "2025-05", "books of May")
        await fold_all(database, company)
        await asyncio.to_thread(browser.refresh)
        await asyncio.to_thread(analyst.sees_it_sealed, "books of May")
        event_id = await asyncio.to_thread(analyst.follows_a_figure_to_its_event)
        path = await asyncio.to_thread(analyst.exports, "journal", "CSV", downloads)
        assert path.name == "self-live-journal-2025-05-2025-05.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert event_id in " ".join(row["because"] for row in rows)
        assert sum(int(row["amount"]) for row in rows) == 0
        books = await asyncio.to_thread(analyst.exports, "journal", "Beancount (journal)", downloads)
        assert "2025-05" in books.read_text()

"""A headless Chromium, and the demo company served to it by a process of its own.

``walker`` is a browser that is signed in with the generated key; ``look`` it at a page with the window and the colours
wanted. What the content policy refuses, and any other error of the browser's, fails the test that made it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from api.services import projections_of
from api.settings import Settings
from tests.system.running import Service

FLAGS: Final = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
WIDE: Final = 1440
NARROW: Final = 390
DEMO: Final = ("demo", "--customers", "25", "--months", "6")
_SECONDS: Final = 60


class Walker:
    """Somebody in front of a browser, at a demo company's console."""

    def __init__(self, service: Service, browser: Chrome) -> None:
        self.service = service
        self.browser = browser

    def sign_in(self) -> None:
        """Sign in with the generated key."""
        self.go("/sign-in")
        self.browser.find_element(By.ID, "key").send_keys(self.service.credentials["api_key"])
        self.press("Sign in")
        self.reads("Newest events")

    def go(self, address: str) -> None:
        self.browser.get(f"{self.service.url}{address}")

    def look(self, width: int = WIDE, colours: Literal["light", "dark"] = "light") -> None:
        """See the page in a window this wide, in light or dark."""
        preferred = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def press(self, text: str) -> None:
        """Press the button that reads so."""
        self.browser.find_element(By.XPATH, f"//button[normalize-space()='{text}']").click()

    def follow(self, text: str) -> None:
        """Follow the first link that reads so."""
        self.browser.find_element(By.LINK_TEXT, text).click()

    def fill(self, name: str, text: str) -> None:
        """Write into the field of this name."""
        field = self.browser.find_element(By.CSS_SELECTOR, f"main [name={name}]:not([type=hidden])")
        field.clear()
        field.send_keys(text)

    def reads(self, text: str) -> str:
        """Wait until the page says something, and return all it says."""
        wait = WebDriverWait(self.browser, _SECONDS)
        return str(wait.until(lambda browser: text in (said := _said(browser)) and said, f"{text} on {self.address}"))

    @property
    def address(self) -> str:
        return str(self.browser.current_url).removeprefix(self.service.url)

    @property
    def overflows(self) -> bool:
        """Whether the page is wider than its window."""
        wide = self.browser.execute_script(
            "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return bool(wide)

    def errors(self) -> list[str]:
        """Return what the browser complained of since it was asked last."""
        logged: list[dict[str, str]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [one["message"] for one in logged if one["level"] == "SEVERE"]


def _said(browser: Chrome) -> str:
    return str(browser.find_element(By.TAG_NAME, "body").text)


def _programs() -> tuple[str, str] | None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    """A browser with a profile of its own; skips where none is installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    profile = tempfile.mkdtemp(prefix="ledger-chromium-")
    options = ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = programs[0]
    browser = Chrome(options=options, service=Driver(programs[1]))
    yield browser
    browser.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="session")
def demo(chromium: Chrome) -> Iterator[Service]:
    """The demo company, served and folded; not started where no browser will look at it."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    service = Service(folder)
    try:
        service.launch(DEMO)
        service.until(lambda: any("data " in line for line in service.printed), "the demo to say that it serves", 300)
        service.until(lambda: _folded(service), "the history to be folded", 300)
        yield service
    finally:
        service.close()
        shutil.rmtree(folder)


def _folded(service: Service) -> bool:
    if service.get("/readyz").status_code != 200:
        return False
    places = [book for one in service.get("/v1/projections").json()["data"] for book in one["books"]]
    return len(places) >= len(projections_of(Settings())) and all(book["position"] == book["head"] for book in places)


@pytest.fixture
def walker(demo: Service, chromium: Chrome) -> Iterator[Walker]:
    """Somebody signed in, in a wide window and light colours; the browser must have nothing to complain of after."""
    chromium.delete_all_cookies()
    walking = Walker(demo, chromium)
    walking.look()
    walking.sign_in()
    walking.errors()
    yield walking
    assert walking.errors() == []

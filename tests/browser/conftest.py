"""A headless Chromium, and the demo company served to it by a process of its own.

``browser`` is a test's own, with a folder for what it downloads. ``walker`` is somebody signed in to the demo company
with the generated key, in one browser for all who only look. What the content policy refuses, and any other error of
the browser's, fails the test that made it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, cast

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from api.services import projections_of
from api.settings import Settings
from tests.system.running import Service

FLAGS: Final = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1440,1000"
).split()
WIDE: Final = 1440
NARROW: Final = 390
DEMO: Final = ("demo", "--customers", "25", "--months", "6")
_SECONDS: Final = 60


class Hands:
    """Somebody in front of a browser: what everybody does with mouse and keyboard, whoever serves the pages."""

    def __init__(self, browser: Chrome, url: str, key: str) -> None:
        self.browser = browser
        self.url = url
        self._key = key

    def go(self, address: str) -> None:
        self.browser.get(f"{self.url}{address}")

    def sign_in(self, address: str, greeting: str) -> None:
        """Sign in on the way to a page, which says something then."""
        self.go(address)
        self.browser.find_element(By.ID, "key").send_keys(self._key)
        self.press("Sign in")
        self.reads(greeting)

    def press(self, text: str) -> None:
        """Press the button that reads so."""
        self.browser.find_element(By.XPATH, f"//button[normalize-space()='{text}']").click()

    def follow(self, text: str) -> None:
        """Follow the first link that has this in it."""
        self.browser.find_element(By.PARTIAL_LINK_TEXT, text).click()

    def fill(self, name: str, text: str) -> None:
        """Write into the field of this name."""
        field = self.browser.find_element(By.CSS_SELECTOR, f"main [name={name}]:not([type=hidden])")
        field.clear()
        field.send_keys(text)

    def reads(self, text: str) -> str:
        """Wait until the page says something, and return all it says."""
        # A page that loads itself again may be gone between being found and being read.
        wait = WebDriverWait(self.browser, _SECONDS, ignored_exceptions=[StaleElementReferenceException])
        return str(wait.until(lambda browser: text in (said := _said(browser)) and said, f"{text} on {self.address}"))

    def downloaded(self, into: Path, click: Callable[[], None]) -> Path:
        """Click on what is a download, and return the file once it is there."""
        before = set(into.iterdir())
        click()

        def came(_: object) -> Path | None:
            new = set(into.iterdir()) - before
            # While it is being written its name is another: hidden, then with a suffix of the browser's.
            return next((one for one in new if one.suffix != ".crdownload" and not one.name.startswith(".")), None)

        return cast(Path, WebDriverWait(self.browser, _SECONDS).until(came))

    @property
    def address(self) -> str:
        return str(self.browser.current_url).removeprefix(self.url)

    def errors(self) -> list[str]:
        """Return what the browser complained of since it was asked last."""
        logged: list[dict[str, str]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [one["message"] for one in logged if one["level"] == "SEVERE"]


class Walker(Hands):
    """Somebody at the demo company's console, in a window of any width and light or dark colours."""

    def __init__(self, service: Service, browser: Chrome) -> None:
        super().__init__(browser, service.url, service.credentials["api_key"])
        self.service = service

    def look(self, width: int = WIDE, colours: Literal["light", "dark"] = "light") -> None:
        """See the page in a window this wide, in light or dark."""
        preferred = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    @property
    def overflows(self) -> bool:
        """Whether the page is wider than its window."""
        wide = self.browser.execute_script(
            "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return bool(wide)


def _said(browser: Chrome) -> str:
    return str(browser.find_element(By.TAG_NAME, "body").text)


def _programs() -> tuple[str, str] | None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@contextlib.contextmanager
def opened(profile: Path, downloads: Path | None = None) -> Iterator[Chrome]:
    """A browser with a profile of its own; skips where none is installed: CI installs Debian's packages."""
    programs = _programs()
    if programs is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    if downloads is not None:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = programs[0]
    browser = Chrome(options=options, service=Driver(programs[1]))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser of all who only look at the demo company."""
    with opened(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """Where ``browser`` puts what it downloads."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
def browser(tmp_path: Path, downloads: Path) -> Iterator[Chrome]:
    """A test's own browser, which must have nothing to complain of."""
    with opened(tmp_path / "profile", downloads) as own:
        yield own
        assert Hands(own, "", "").errors() == []


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
    walking.sign_in("/sign-in", "Newest events")
    walking.errors()
    yield walking
    assert walking.errors() == []

"""The app engineer's story: from signing in to "why does this customer have access, as of March?"."""

from __future__ import annotations

from typing import Literal

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.conftest import NARROW, WIDE, Walker

pytestmark = pytest.mark.slow


def customer_with_access(walker: Walker) -> tuple[str, str]:
    """Return a customer that pays for something, and a moment a month after its subscription began."""
    service = walker.service
    listed = service.get("/v1/events", type="invoice.paid", limit="1", book="self:live").json()["data"][0]
    return listed["stream"].partition("/")[2], listed["created"]


def test_why_does_this_customer_have_access_as_of_then(walker: Walker) -> None:
    customer, paid_at = customer_with_access(walker)
    walker.fill("customer", customer)
    walker.press("Show")
    walker.reads("Entitlements")
    walker.fill("as_of", paid_at)
    walker.press("Show")
    said = walker.reads("Showing everything on this page as of")
    answers = walker.service.get(
        f"/v1/customers/{customer}/entitlements", book="self:live", as_of=paid_at, include="all"
    ).json()["entitlements"]
    granted = [one for one in answers if one["granted"]]
    assert granted, "it had just paid"
    for one in granted:
        assert one["feature"] in said
        assert one["because"][0] in said
        assert one["sources"][0]["id"] in said
    walker.follow("Back to now")
    assert "as_of" not in walker.address
    assert "Showing everything on this page" not in walker.reads(customer)


def test_the_slider_writes_the_time_and_asks(walker: Walker) -> None:
    customer, _ = customer_with_access(walker)
    walker.go(f"/customers/{customer}")
    walker.reads("Known at")
    walker.browser.execute_script(
        "const one = document.querySelector('[data-sets=known_at]');"
        "one.value = 500; one.dispatchEvent(new Event('input')); one.dispatchEvent(new Event('change'));"
    )
    walker.reads("as known at")
    assert "known_at=20" in walker.address


def test_the_keyboard_reaches_the_content_first(walker: Walker) -> None:
    walker.go("/customers")
    walker.reads("Customers")
    skip = walker.browser.find_element(By.CSS_SELECTOR, "a.skip")
    skip.send_keys("\n")
    assert walker.browser.switch_to.active_element.get_attribute("id") == "content"


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_pages_fit_their_window(walker: Walker, width: int, colours: Literal["light", "dark"]) -> None:
    customer, _ = customer_with_access(walker)
    walker.look(width, colours)
    for address in ("/", "/customers", f"/customers/{customer}"):
        walker.go(address)
        walker.reads("self:live")
        assert not walker.overflows, address
    walker.go("/")
    walker.reads("MRR at the end of each month")
    WebDriverWait(walker.browser, 60).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, ".plot .main-svg"))

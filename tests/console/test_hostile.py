"""Whatever stands in a webhook's strings: on every page it is text, never markup, and no page fails of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from api.console.pages import PAGES
from api.services import Services
from tests.conftest import ManualClock
from tests.console.people import END, append, as_logged, company, fold, read, signed_in
from tests.stripe_events import Json

MARKUP: Final = "<script>alert(1)</script><img/src=x/onerror=alert(2)>\"'><svg/onload=alert(3)>{{7*7}}{%raw%}${7*7}"
OTHERS: Final = (
    "=HYPERLINK(\"http://evil.test\",\"x\")",
    "javascript:alert(1)",
    "\u202egnp.exe\u202c \u2066\u2067",
    "x" * 5_000,
    "</code></td></table></main></body>",
    "{{ visit.services.credentials }}",
)  # fmt: skip
STRUCTURE: Final = frozenset(
    "object type status currency billing_reason collection_method interval usage_type api_version scheme mode "
    "payment_status behavior tax_behavior price_type category network_status outcome_type".split()
)
"""Fields whose words decide how an object is folded; every other string is made hostile."""

_LINKS_FOLLOWED: Final = 60


def hostile(value: Any, turn: list[int], name: str = "") -> Any:
    """Make every string hostile: ids stay ids, the same ones the same, everything else is replaced."""
    if isinstance(value, dict):
        return {key: hostile(one, turn, key) for key, one in value.items()}
    if isinstance(value, list):
        return [hostile(one, turn, name) for one in value]
    if not isinstance(value, str) or name in STRUCTURE:
        return value
    if "_" in value and " " not in value and value.partition("_")[0].isalpha():
        return value + MARKUP
    turn[0] += 1
    return OTHERS[turn[0] % len(OTHERS)]


def made_hostile(events: list[Json]) -> list[Json]:
    turn = [0]
    made = []
    for event in events:
        data = {name: hostile(one, turn) for name, one in event["data"].items()}
        made.append({**event, "id": event["id"] + MARKUP, "data": data})
    return made


@pytest.fixture
async def customer(services: Services, clock: ManualClock) -> str:
    clock.now = END
    events = made_hostile(company(4, 6, datetime(2025, 7, 1, tzinfo=UTC)))
    events.append({**events[-1], "id": f"evt_z{MARKUP}", "type": f"<b>type</b>{MARKUP}"})
    await append(services, as_logged(events))
    await fold(services)
    found = [event["data"]["object"].get("customer") for event in events if event["type"].startswith("invoice.")]
    return next(str(one) for one in found if isinstance(one, str))


async def test_hostile_strings_are_harmless_on_every_page(services: Services, customer: str) -> None:
    from api.console.rendering import segment

    async with signed_in(services) as client:
        waiting = [page.sample.replace("{customer}", segment(customer)) for page in PAGES if page.sample]
        seen: set[str] = set()
        while waiting and len(seen) < _LINKS_FOLLOWED:
            address = waiting.pop(0)
            if address in seen:
                continue
            seen.add(address)
            page = await client.get(address)
            assert page.status_code in {200, 303, 404, 409, 503}, (address, page.status_code, page.text[:500])
            if not page.headers["content-type"].startswith("text/html"):
                continue
            reading = read(page)
            for tag, attributes in reading.elements:
                harmless(tag, attributes, address)
            waiting += [link for link in reading.links if link.startswith("/") and link not in seen]
        assert len(seen) > len(PAGES) // 2
        shown = await client.get(f"/customers/{segment(customer)}")
        assert MARKUP in read(shown).text
        assert "49" not in read(await client.get("/customers", params={"book": "self:live"})).text


def harmless(tag: str, attributes: dict[str, str | None], address: str) -> None:
    """Check that an element is one of ours: scripts are files, nothing is done on an event, links stay here."""
    assert tag not in {"img", "iframe", "object", "embed", "svg", "style", "base"}, (address, tag, attributes)
    assert not any(name.startswith("on") or name in {"style", "srcdoc"} for name in attributes), (address, attributes)
    if tag == "script":
        assert str(attributes.get("src")).startswith("/static/"), address
    for name in ("href", "src", "action"):
        target = attributes.get(name) or ""
        assert not urlsplit(target).scheme, (address, target)
        assert not target.startswith("//"), (address, target)

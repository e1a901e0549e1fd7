"""People who look at the console: signed in with a key, reading what a page says, following its links."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, Final

import httpx

from api.secrets import digest_of, parse_api_keys
from api.services import Services, projections_of
from ledger.event import NewEvent
from ledger.simulator.company import Arguments, Company
from tests.conftest import KEY, client_of
from tests.following import follow_to_the_head
from tests.stripe_events import Json, new_event

END: Final = datetime(2026, 1, 1, tzinfo=UTC)
_VOID: Final = frozenset({"meta", "link", "input"})


@dataclass
class Reading(HTMLParser):
    """A page as a browser takes it apart: its elements, its links, and its text in one line."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    @property
    def links(self) -> list[str]:
        return [str(attributes.get("href")) for tag, attributes in self.elements if tag == "a"]


def read(page: httpx.Response) -> Reading:
    reading = Reading()
    reading.feed(page.text)
    return reading


def token_in(page: str) -> str:
    """Return the token that a page's forms carry."""
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


@contextlib.asynccontextmanager
async def signed_in(services: Services, key: str = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who signed in with a key and has nothing but its session."""
    async with client_of(services, None) as client:
        answer = await client.post("/sign-in", data={"key": key})
        assert answer.status_code == 303, answer.text
        yield client


async def send(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """Send a form of a page, with the token its session has."""
    token = token_in((await client.get("/")).text)
    return await client.post(path, data={"token": token, **fields})


def with_key(services: Services, entry: str, key: str = "lk_other") -> Services:
    """Return services that know another key beside the administrator's: ``name:scopes[@book]``."""
    keys = (*services.credentials.api_keys, *parse_api_keys(f"{entry}:{digest_of(key)}"))
    return replace(services, credentials=replace(services.credentials, api_keys=keys))


async def append(services: Services, events: list[NewEvent]) -> None:
    for start in range(0, len(events), 500):
        await services.appender.append(events[start : start + 500])


async def fold(services: Services) -> None:
    """Fold every projection up to the head."""
    await follow_to_the_head(services.database, projections_of(services.settings, services.clock))


def company(customers: int, months: int, start: datetime) -> list[Json]:
    """Return the events of a small company's live book."""
    made = Company(Arguments(customers=customers, months=months, start=int(start.timestamp())))
    return [event for event in made.events() if event["livemode"] and not event.get("account")]


def as_logged(events: list[Json]) -> list[NewEvent]:
    return [new_event(event, received_at=END) for event in events]


def customer_with_most(events: list[Json], types: str) -> str:
    """Return the customer that most events of types with this beginning name."""
    found: dict[str, int] = {}
    for event in events:
        customer: Any = event["data"]["object"].get("customer")
        if event["type"].startswith(types) and isinstance(customer, str):
            found[customer] = found.get(customer, 0) + 1
    return max(found, key=lambda one: (found[one], one))

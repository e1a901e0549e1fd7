"""What is proven, over HTTP and as alarms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from api.outward.alarms import overdue, usual_silence
from api.outward.coverage import HOUR, Hour
from api.outward.gather import Gathering
from api.services import Services
from tests.conftest import KEY, ManualClock, client_of
from tests.http.test_metrics import sample
from tests.outward.test_gather import told
from tests.standin import StandIn
from tests.stripe_events import new_event

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


async def gauge(client: httpx.AsyncClient, name: str, **labels: str) -> float | None:
    return sample((await client.get("/metrics")).text, name, **labels)


async def test_coverage_turns_from_unproven_to_proven(
    client: httpx.AsyncClient, gathering: Gathering, services: Services, standin: StandIn, clock: ManualClock
) -> None:
    events = [told(number, NOON + timedelta(minutes=20 * number)) for number in range(9)]
    standin.world.put(*events)
    await services.appender.append([new_event(one) for one in events[:4]])
    clock.now = NOON + 6 * HOUR + timedelta(minutes=20)
    before = (await client.get("/v1/coverage")).json()
    assert (before["proven"], before["unproven"]) == (0, 7)
    assert before["data"][0] == {
        "hour": "2026-01-15T12:00:00Z", "proven": False, "by": None, "until": None, "listed_at": None,
        "listed": 0, "found": 0, "webhooks": 0,
    }  # fmt: skip
    assert await gauge(client, "ledger_coverage_unproven_hours", book="self:test") == 4

    await gathering.sweep()
    after = (await client.get("/v1/coverage", params={"from": "2026-01-15T12:00:00Z"})).json()
    assert (after["proven"], after["unproven"]) == (6, 1)
    assert [(one["listed"], one["webhooks"], one["found"]) for one in after["data"][:4]] == [
        (3, 3, 0), (3, 1, 2), (3, 0, 3), (0, 0, 0),
    ]  # fmt: skip
    assert after["data"][0]["by"] == "sweep"
    assert after["freshness"]["head"] == 9
    assert await gauge(client, "ledger_coverage_unproven_hours", book="self:test") == 0
    assert await gauge(client, "ledger_coverage_found_events", book="self:test") == 5


async def test_coverage_is_given_in_pages(client: httpx.AsyncClient, gathering: Gathering) -> None:
    await gathering.sweep()
    asked = {"book": "self:test", "from": "2026-01-10T00:00:00Z", "to": "2026-01-11T00:00:00Z", "limit": "10"}
    seen: list[str] = []
    while True:
        page = (await client.get("/v1/coverage", params=asked)).json()
        seen += [one["hour"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        asked["cursor"] = page["next_cursor"]
    assert seen == [f"2026-01-10T{hour:02}:00:00Z" for hour in range(24)]


@pytest.mark.parametrize("asked", ["to", "as_of"])
async def test_an_hour_that_has_not_begun_is_none_yet(
    client: httpx.AsyncClient, services: Services, clock: ManualClock, asked: str
) -> None:
    """A page of the console reads all there are: to the end of time they were seventy million."""
    await services.appender.append([new_event(told(1, NOON))])
    clock.now = NOON + 2 * HOUR + timedelta(minutes=20)
    page = (await client.get("/v1/coverage", params={asked: "9999-12-31T23:00:00Z"})).json()
    assert ([one["hour"][11:13] for one in page["data"]], page["next_cursor"]) == (["12", "13", "14"], None)


@pytest.mark.parametrize("path", ["/v1/coverage", "/v1/observations"])
async def test_reading_needs_the_scope(services: Services, path: str) -> None:
    async with client_of(services, key=None) as nobody:
        assert (await nobody.get(path)).status_code == 401
    async with client_of(services, key=KEY) as admin:
        assert (await admin.get(path, params={"book": "self:test"})).status_code == 200
        assert (await admin.get("/v1/observations", params={"book": "self:test", "state": "odd"})).status_code == 400


def hours(webhooks: str, end: datetime = NOON) -> list[Hour]:
    begin = end - len(webhooks) * HOUR
    return [
        Hour(begin + n * HOUR, begin + (n + 1) * HOUR, True, "sweep", end, 0, 0, int(one))
        for n, one in enumerate(webhooks)
    ]


@pytest.mark.parametrize(
    ("webhooks", "usual"),
    [("", 24), ("999999", 2), ("9990999", 4), ("9900000099", 14), ("0000", 10)],
)
def test_how_long_a_silence_is_usual(webhooks: str, usual: int) -> None:
    assert usual_silence(hours(webhooks), NOON) == usual * HOUR


async def test_a_silent_endpoint_is_an_alarm(client: httpx.AsyncClient, services: Services, clock: ManualClock) -> None:
    await services.appender.append([new_event(told(1, NOON), received_at=NOON)])
    clock.now = NOON + 23 * HOUR
    assert await gauge(client, "ledger_webhook_silence_unusual", book="self:test") == 0
    clock.forward(hours=2)
    assert await gauge(client, "ledger_webhook_silence_seconds", book="self:test") == 25 * 3600
    assert await gauge(client, "ledger_webhook_silence_unusual", book="self:test") == 1


def test_an_hour_should_be_proven_two_hours_after_its_end() -> None:
    known = [Hour(NOON), Hour(NOON - HOUR, proven=True), Hour(NOON - 2 * HOUR)]
    assert [one.hour for one in overdue(known, NOON + 2 * HOUR)] == [NOON - 2 * HOUR]
    assert [one.hour for one in overdue(known, NOON + 3 * HOUR)] == [NOON, NOON - 2 * HOUR]

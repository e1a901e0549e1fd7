"""A stand-in for Stripe, and what asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api.outward import access as outward
from api.outward.access import Patience, StripeAccess, open_access
from api.outward.gather import Gathering
from api.services import Services
from api.settings import Settings
from tests.conftest import ManualClock
from tests.standin import API_KEY, StandIn

QUICK = Patience(attempts=6, seconds=20, wait_seconds_min=0.01, wait_seconds_max=0.1, answer_seconds=0.5)


@pytest.fixture(autouse=True)
def nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again as often as while somebody waits, but soon."""
    quick = replace(outward.WHILE_SOMEBODY_WAITS, wait_seconds_min=QUICK.wait_seconds_min)
    monkeypatch.setattr(outward, "WHILE_SOMEBODY_WAITS", quick)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path, standin: StandIn) -> Settings:
    return Settings(data_dir=tmp_path, stripe_api_key=API_KEY, stripe_api_base=standin.url)


@pytest.fixture
async def access(settings: Settings, clock: ManualClock) -> AsyncIterator[StripeAccess]:
    async with open_access(settings, clock, QUICK) as opened:
        yield opened


@pytest.fixture
def gathering(services: Services, access: StripeAccess, clock: ManualClock) -> Gathering:
    return Gathering(access, services.pool, services.appender, "self", clock)

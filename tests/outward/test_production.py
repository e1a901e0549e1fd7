"""``ledger doctor --production``: each line of the checklist, where it holds and where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from api.doctor import Check
from api.outward.gather import Gathering
from api.production import service_checks, settings_checks
from api.services import Services
from api.settings import Settings
from ledger.reader import read_books
from tests.conftest import ManualClock
from tests.outward.test_company import append, fold
from tests.standin import StandIn
from tests.stripe_events import event, product, subscription

GOOD = {
    "database_url": "postgresql://ledger_service@db.example/ledger",
    "owner_database_url": "postgresql://ledger_admin@db.example/ledger",
    "stripe_api_key": "rk_live_good",
    "stripe_webhook_secrets": "live:whsec_a,test:whsec_b",
    "signing_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}


@pytest.fixture
def settings(tmp_path: Path, standin: StandIn) -> Settings:
    standin.api_key = "rk_live_standin"
    return Settings(data_dir=tmp_path, stripe_api_key=standin.api_key, stripe_api_base=standin.url)


def failing(checks: Sequence[Check]) -> set[str]:
    return {one.name for one in checks if not one.ok}


def of(tmp_path: Path, **change: object) -> Settings:
    return Settings(data_dir=tmp_path / "data", checkpoint_dir=tmp_path / "outside").model_copy(update=GOOD | change)


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({}, set()),
        ({"stripe_api_key": "sk_live_all"}, {"restricted key"}),
        ({"stripe_api_key": "rk_test_a"}, {"restricted key"}),
        ({"stripe_api_key": None}, {"restricted key"}),
        ({"stripe_webhook_secrets": "live:whsec_a,whsec_b"}, {"webhook secrets"}),
        ({"stripe_webhook_secrets": None}, {"webhook secrets"}),
        ({"owner_database_url": None}, {"owner apart"}),
        ({"owner_database_url": "postgresql://ledger_service@db.example/ledger"}, {"owner apart"}),
        ({"database_url": None}, {"external database"}),
        ({"signing_key": None}, {"signing key"}),
        ({"checkpoint_dir": None}, {"checkpoints outside"}),
    ],
)
def test_what_the_settings_say(tmp_path: Path, change: dict[str, object], fails: set[str]) -> None:
    checks = settings_checks(of(tmp_path, **change))
    assert failing(checks) == fails
    assert all(one.how for one in checks)
    assert not any("good" in one.value or "whsec_" in one.value for one in checks), "no secret is shown"


def test_a_folder_inside_the_data_folder_is_not_outside(tmp_path: Path) -> None:
    assert failing(settings_checks(of(tmp_path, checkpoint_dir=tmp_path / "data" / "copies"))) == {
        "checkpoints outside"
    }


async def test_a_fresh_service_has_shown_nothing_yet(services: Services, clock: ManualClock) -> None:
    checks = await service_checks(services)
    assert failing(checks) == {
        "customer and subscription ids", "failed payments and entitlements", "nothing lost", "idempotent",
        "endpoint at Stripe",
    }  # fmt: skip


async def test_a_service_at_work_passes_and_nothing_is_written(
    services: Services, gathering: Gathering, standin: StandIn, clock: ManualClock
) -> None:
    created = int(clock.now.timestamp()) - 60
    await append(
        services,
        [
            event("evt_1", "product.created", product(), created=created),
            event("evt_2", "customer.subscription.created", subscription(), created=created),
        ],
    )
    endpoint = {
        "id": "we_1", "object": "webhook_endpoint", "url": "https://ledger.example/webhooks/stripe",
        "status": "enabled", "enabled_events": ["*"],
    }  # fmt: skip
    standin.world.put(endpoint)
    await gathering.sweep()
    await fold(services)

    async def heads() -> list[tuple[str, int]]:
        async with services.pool.acquire() as connection:
            return [(one.book, one.position) for one in await read_books(connection)]

    before = await heads()
    checks = await service_checks(services)
    assert failing(checks) == set()
    assert await heads() == before
    told = {one.name: one.value for one in checks}
    assert told["idempotent"].startswith("200")
    assert told["signatures"] == "400, 400"

    standin.world.put(endpoint | {"enabled_events": ["invoice.paid"]})
    assert failing(await service_checks(services)) == {"endpoint at Stripe"}
    standin.world.put(endpoint | {"status": "disabled"})
    assert failing(await service_checks(services)) == {"endpoint at Stripe"}
    blind = replace(services, stripe=None)
    assert failing(await service_checks(blind)) == {"endpoint at Stripe"}
    clock.forward(hours=5)
    assert "nothing lost" in failing(await service_checks(services))

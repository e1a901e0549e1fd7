"""What Prometheus is told, and whether the service says of itself that it is ready."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.secrets import ApiKey
from api.services import Services, open_services, projections_of
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.postgres import Database
from projections.contract import Projection
from tests.conftest import SIGNING_KEY, ManualClock, client_of
from tests.following import follow_to_the_head
from tests.http.test_access import post
from tests.stripe_events import Json, body_of, event, signature

OPERATING: Final = Path(__file__).parents[2] / "docs" / "operating.md"
LIVE: Final = {"projection": "entitlements", "book": "self:live"}


def sample(text: str, name: str, **labels: str) -> float | None:
    """Return what is said of a metric with these labels."""
    found = [one.value for family in text_string_to_metric_families(text) for one in family.samples
             if one.name == name and one.labels == labels]  # fmt: skip
    return found[0] if found else None


async def said(client: httpx.AsyncClient, name: str, **labels: str) -> float | None:
    return sample((await client.get("/metrics")).text, name, **labels)


def quoting(*_: object) -> None:
    raise ValueError("this cannot be folded")


async def fold(database: Database, *projections: Projection) -> None:
    await follow_to_the_head(database, projections)


def a_charge(number: int, customer: str = "cus_1") -> Json:
    subject = {"object": "charge", "id": f"ch_{number}", "customer": customer, "amount": number}
    return event(f"evt_{number}", "charge.succeeded", subject)


async def test_how_far_behind_and_what_is_parked(
    client: httpx.AsyncClient, services: Services, clock: ManualClock
) -> None:
    entitlements, dunning, *_ = projections_of(services.settings, clock)
    await post(client, clock, event("evt_1", "customer.created", {"object": "customer", "id": "cus_1"}))
    await fold(services.database, entitlements, replace(dunning, step=quoting))
    await post(client, clock, a_charge(2))
    await post(client, clock, a_charge(3))
    clock.forward(seconds=70)
    assert await said(client, "ledger_log_events_total", book="self:live") == 3
    assert await said(client, "ledger_projection_position", **LIVE) == 1
    assert await said(client, "ledger_projection_lag_events", **LIVE) == 2
    assert await said(client, "ledger_projection_lag_seconds", **LIVE) == 70
    assert await said(client, "ledger_projection_parked", projection="entitlements") == 0
    assert await said(client, "ledger_projection_parked", projection="dunning") == 1
    assert await said(client, "ledger_projection_dirty", projection="entitlements") == 0
    assert await said(client, "ledger_builds", projection="dunning", phase="live") == 1
    assert await said(client, "ledger_database_up") == 1
    await fold(services.database, entitlements)
    assert await said(client, "ledger_projection_lag_events", **LIVE) == 0
    assert await said(client, "ledger_projection_lag_seconds", **LIVE) == 0


async def test_a_purchase_of_unknown_content_is_an_alarm_after_a_minute(
    client: httpx.AsyncClient, services: Services, clock: ManualClock
) -> None:
    entitlements, *_ = projections_of(services.settings, clock)
    session = {
        "object": "checkout.session",
        "id": "cs_1",
        "customer": "cus_1",
        "mode": "payment",
        "status": "complete",
        "payment_status": "paid",
        "metadata": {},
    }
    bought = int(clock().timestamp())
    await post(client, clock, event("evt_1", "checkout.session.completed", session, created=bought))
    await fold(services.database, entitlements)
    found = [await said(client, "ledger_purchases_unknown", book="self:live")]
    clock.forward(seconds=61)
    found.append(await said(client, "ledger_purchases_unknown", book="self:live"))
    session["metadata"] = {"ledger_product": "prod_1"}
    await post(client, clock, event("evt_2", "checkout.session.async_payment_succeeded", session, created=bought + 61))
    await fold(services.database, entitlements)
    assert [*found, await said(client, "ledger_purchases_unknown", book="self:live")] == [0, 1, 0]


async def test_what_came_in_and_what_was_refused(client: httpx.AsyncClient, clock: ManualClock) -> None:
    for content in (a_charge(1), a_charge(1), a_charge(1) | {"livemode": True, "type": "charge.updated"}):
        await post(client, clock, content)
    await client.post("/webhooks/stripe", content=b"{}")
    unparsable = body_of([1])
    await client.post("/webhooks/stripe", content=unparsable, headers=signature(unparsable, clock.now))
    outcomes = {one: await said(client, "ledger_webhooks_total", outcome=one) for one in
                ("appended", "duplicate", "refused", "unavailable")}  # fmt: skip
    assert outcomes == {"appended": 1, "duplicate": 2, "refused": 2, "unavailable": 0}
    assert await said(client, "ledger_webhooks_refused_total", type="signature") == 1
    assert await said(client, "ledger_webhooks_refused_total", type="malformed-event") == 1
    assert await said(client, "ledger_webhook_unparsable_total") == 1
    assert await said(client, "ledger_conflicts_total", book="self:live") == 1
    assert await said(client, "ledger_append_queue_events") == 0
    assert await said(client, "ledger_stream_readers") == 0


async def test_how_old_the_newest_signed_head_is(
    client: httpx.AsyncClient, services: Services, clock: ManualClock
) -> None:
    await post(client, clock, a_charge(1))
    assert await said(client, "ledger_checkpoint_unsigned_events", book="self:live") == 1
    await services.notary.sign_all()
    await post(client, clock, a_charge(2))
    clock.forward(minutes=2)
    assert await said(client, "ledger_checkpoint_age_seconds", book="self:live") == 120
    assert await said(client, "ledger_checkpoint_unsigned_events", book="self:live") == 1


async def test_answers_are_counted_by_route_and_status(client: httpx.AsyncClient) -> None:
    for path in ("/v1/events/evt_1", "/v1/events/evt_2", "/v1/nothing/at/all", "/sign-in"):
        await client.get(path)
    text = (await client.get("/metrics")).text
    for route, status, count in (("/v1/events/{event_id}", "404", 2), ("none", "404", 1), ("/sign-in", "200", 1)):
        labels = {"method": "GET", "route": route, "status": status}
        assert sample(text, "ledger_http_request_seconds_count", **labels) == count
    assert "evt_1" not in text


async def test_two_processes_say_the_same_of_the_log_and_each_its_own_of_itself(
    services: Services, clock: ManualClock
) -> None:
    other = open_services(
        services.settings, clock=clock, database=services.database, credentials=services.credentials,
        signer=services.notary.signer,
    )  # fmt: skip
    async with other as second, client_of(services) as one, client_of(second) as two:
        await post(one, clock, a_charge(1))
        await post(two, clock, a_charge(2))
        await post(two, clock, a_charge(3))
        for name in ("ledger_log_events_total", "ledger_checkpoint_unsigned_events"):
            assert await said(one, name, book="self:live") == await said(two, name, book="self:live") == 3
        assert await said(one, "ledger_webhooks_total", outcome="appended") == 1
        assert await said(two, "ledger_webhooks_total", outcome="appended") == 2


async def let_in(server: EmbeddedPostgres, database_name: str, *, allow: bool) -> None:
    superuser = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
    await superuser.execute(f"ALTER DATABASE {database_name} ALLOW_CONNECTIONS {'true' if allow else 'false'}")
    await superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database_name)
    await superuser.close()


async def test_without_a_database_nothing_old_is_said(
    client: httpx.AsyncClient, server: EmbeddedPostgres, database_name: str, clock: ManualClock
) -> None:
    await post(client, clock, a_charge(1))
    await let_in(server, database_name, allow=False)
    text = (await client.get("/metrics")).text
    assert sample(text, "ledger_database_up") == 0
    assert sample(text, "ledger_webhooks_total", outcome="appended") == 1
    assert "ledger_log_events_total" not in text
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "the database cannot be reached"})
    assert (await client.get("/healthz")).status_code == 200
    await let_in(server, database_name, allow=True)


async def test_every_metric_is_explained(client: httpx.AsyncClient, clock: ManualClock, services: Services) -> None:
    body = OPERATING.read_text()
    await post(client, clock, a_charge(1))
    await services.notary.sign_all()
    await fold(services.database, *projections_of(services.settings))
    text = (await client.get("/metrics")).text
    ours = {one for one in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE) if one.startswith("ledger_")}
    ours = {one.removesuffix("_created").removesuffix("_total") for one in ours}
    assert len(ours) >= 18
    assert {one for one in ours if f"`{one}`" not in body} == set()


async def test_who_can_only_read_is_not_ready(
    services: Services, owner: asyncpg.Connection, database_name: str, client: httpx.AsyncClient
) -> None:
    """As on a standby, or where somebody keeps a full disk from being written to."""
    await fold(services.database, *projections_of(services.settings))
    for setting, status in (("= on", 503), ("= off", 200)):
        await owner.execute(f"ALTER DATABASE {database_name} SET default_transaction_read_only {setting}")
        await services.pool.expire_connections()
        answer = await client.get("/readyz")
        assert answer.status_code == status
        assert ("takes no writes" in answer.text) == (status == 503)


async def test_ready_means_that_all_of_it_is(services: Services, owner: asyncpg.Connection, clock: ManualClock) -> None:
    async def ready(serving: Services) -> tuple[int, str]:
        async with client_of(serving, None) as stranger:
            answer = await stranger.get("/readyz")
        content = answer.json()
        assert answer.status_code == 200 or answer.headers["retry-after"]
        return answer.status_code, content.get("detail", content.get("status"))

    assert await ready(services) == (503, "not built yet: dunning, entitlements, periods, revenue")
    await fold(services.database, *projections_of(services.settings))
    assert await ready(services) == (200, "ready")
    for take, give_back, said in (
        (
            "ALTER TABLE build_dunning_1.dunning_case RENAME TO gone",
            "ALTER TABLE build_dunning_1.gone RENAME TO dunning_case",
            'relation "build_dunning_1.dunning_case" does not exist',
        ),
        (
            "REVOKE SELECT ON build_revenue_1.journal_entry FROM ledger_app",
            "GRANT SELECT ON build_revenue_1.journal_entry TO ledger_app",
            "permission denied for table journal_entry",
        ),
        (
            "ALTER SCHEMA build_periods_1 RENAME TO elsewhere",
            "ALTER SCHEMA elsewhere RENAME TO build_periods_1",
            "does not exist",
        ),
    ):
        await owner.execute(take)
        status, why = await ready(services)
        assert (status, said in why) == (503, True), why
        await owner.execute(give_back)
    assert await ready(services) == (200, "ready")
    nobody = replace(services, credentials=replace(services.credentials, api_keys=tuple[ApiKey, ...]()))
    assert await ready(nobody) == (503, "there is no webhook secret or no API key")
    await services.notary.sign_all()
    assert await ready(services) == (200, "ready")
    from api.signing import generate_signing_key, signer_of

    assert services.notary.signer.name == signer_of(SIGNING_KEY).name
    stranger = replace(services, notary=replace(services.notary, signer=signer_of(generate_signing_key())))
    assert await ready(stranger) == (503, "the signing key is not registered in the log yet")
    async with client_of(services) as client:
        await post(client, clock, a_charge(1))
    clock.forward(seconds=59)
    assert (await ready(services))[0] == 200
    clock.forward(seconds=2)
    assert await ready(services) == (503, "the runner is 61 s behind")
    await owner.execute("INSERT INTO ledger.migration (number, name) VALUES (9999, 'from_the_future')")
    status, why = await ready(services)
    assert (status, "newer than this release" in why) == (503, True)


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
async def test_nobody_is_named_to_strangers(services: Services, clock: ManualClock, path: str) -> None:
    async with client_of(services) as client:
        await post(client, clock, a_charge(1, "cus_secret"))
    await fold(services.database, *projections_of(services.settings))
    async with client_of(services, None) as stranger:
        text = (await stranger.get(path)).text
    assert not [one for one in ("cus_", "evt_", "admin", "whsec_", "lk_") if one in text]

"""A simulated company some of whose events are lost: what is still listed comes back, what is not is observed."""

from __future__ import annotations

import functools
import random
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.operations import Operations
from api.outward.access import StripeAccess
from api.outward.coverage import KEPT
from api.outward.gather import Gathering
from api.outward.observer import Observer
from api.outward.reconcile import Reconciliation
from api.services import Services, projections_of
from api.settings import Settings
from ledger.errors import MistakeError
from ledger.postgres import Database
from ledger.simulator.company import CONNECTED, Arguments, Company
from ledger.simulator.truth import Truth
from ledger.times import rfc3339
from projections.builds import enter_build, live_build
from projections.certify import certificate_of
from projections.dunning.query import Filter, Moment, read_cases
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.dunning.companies import as_truth, by_case, truth_of
from tests.following import follow_to_the_head
from tests.standin import StandIn
from tests.stripe_events import new_event

Json = dict[str, Any]
KINDS = {"product", "price", "coupon", "customer", "subscription", "invoice", "checkout.session", "discount"}


@functools.cache
def company_of(arguments: Arguments) -> tuple[Company, list[Json]]:
    """Play a company to its end, once; give its live events too."""
    made = Company(arguments)
    return made, [one for one in made.events() if one["livemode"]]


class Lossy:
    """A company at its end: every live event, what Stripe still has of it, and its truth by book."""

    def __init__(self, standin: StandIn, arguments: Arguments) -> None:
        made, self.events = company_of(arguments)
        self.end = datetime.fromtimestamp(arguments.end, UTC)
        self.kept = [one for one in self.events if one["created"] > (self.end - KEPT + timedelta(hours=1)).timestamp()]
        self.truth: dict[str, Truth] = {
            "self:live": made.truth["self:live"],
            f"{CONNECTED}:live": made.truth[f"{CONNECTED}:live"],
        }
        standin.now = self.end
        standin.connect(CONNECTED)
        for one in self.events:
            subject = one["data"]["object"]
            if subject["object"] in KINDS and "id" in subject:
                gone = one["type"] in ("customer.deleted", "product.deleted")
                shown = {"id": subject["id"], "object": subject["object"], "deleted": True} if gone else subject
                standin.worlds[one.get("account")].put(shown)
        for one in self.events:
            if one["type"] == "entitlements.active_entitlement_summary.updated":
                summary, world = one["data"]["object"], standin.worlds[one.get("account")]
                holder = world.find("customer", summary["customer"]) or {"id": "", "object": "customer"}
                world.put(holder | {"_entitlements": summary["entitlements"]["data"]})
        for one in self.kept:
            standin.worlds[one.get("account")].put(one)


@pytest.fixture
def settings(tmp_path: Path, standin: StandIn) -> Settings:
    standin.api_key = "rk_live_standin"
    return Settings(data_dir=tmp_path, stripe_api_key=standin.api_key, stripe_api_base=standin.url)


@pytest.fixture
def company(standin: StandIn, clock: ManualClock) -> Lossy:
    made = Lossy(standin, Arguments(customers=60, months=4, seed=6))
    clock.now = made.end
    return made


async def append(services: Services, events: list[Json]) -> None:
    for first in range(0, len(events), 500):
        await services.appender.append([new_event(one) for one in events[first : first + 500]])


async def fold(services: Services) -> None:
    await follow_to_the_head(services.database, projections_of(services.settings, services.clock))
    assert await services.pool.fetchval("SELECT count(*) FROM ledger.parked") == 0


async def ask(client: httpx.AsyncClient, path: str, **params: str) -> Json:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def entitlements(client: httpx.AsyncClient, book: str, customer: str) -> dict[str, int | bool]:
    """Ask what a customer's subscriptions give it now."""
    answers = (await ask(client, f"/v1/customers/{customer}/entitlements", book=book))["entitlements"]
    given: dict[str, int | bool] = {}
    for one in answers:
        values = [source["value"] for source in one["sources"] if source["kind"] == "subscription"]
        if values:
            given[one["feature"]] = True if one["kind"] == "boolean" else sum(values)
    return given


async def check(client: httpx.AsyncClient, company: Lossy) -> None:
    """Compare what everybody may use, and what everything is worth, with the truth."""
    at = int(company.end.timestamp()) - 1
    for book, truth in company.truth.items():
        wanted = truth.entitlements(at, purchases=False)
        for customer in {life.customer for life in truth.lives.values()}:
            assert await entitlements(client, book, customer) == wanted.get(customer, {}), customer
        mrr = (await ask(client, "/v1/revenue/mrr", book=book, at=rfc3339(company.end)))["mrr"]
        assert {currency: one["total"] for currency, one in mrr.items() if one["total"]} == truth.mrr(at)


async def test_after_a_sweep_all_is_as_if_nothing_had_been_lost(
    client: httpx.AsyncClient, gathering: Gathering, services: Services, company: Lossy
) -> None:
    dice = random.Random(1)
    lost = {one["id"] for one in company.kept if dice.random() < 0.05}
    await append(services, [one for one in company.events if one["id"] not in lost])
    gathered = await gathering.sweep()
    assert gathered.found.total() == len(lost) > 30
    await fold(services)
    await check(client, company)
    await check_cases_and_books(client, services, company)
    assert (await gathering.sweep()).found.total() == 0


async def check_cases_and_books(client: httpx.AsyncClient, services: Services, company: Lossy) -> None:
    """Compare every dunning case and every account's balance with the truth."""
    at = int(company.end.timestamp())
    for book, truth in company.truth.items():
        async with services.pool.acquire() as connection, connection.transaction():
            await enter_build(connection, "dunning", book)
            found = await read_cases(connection, book, Moment(company.end, company.end), Filter(), None, 1_000)
        assert by_case(map(as_truth, found)) == truth_of(truth.dunning(at), found)
        bought = truth.entitlements(at - 1, unnamed=False)
        for customer in {life.customer for life in truth.lives.values()}:
            granted = (await ask(client, f"/v1/customers/{customer}/entitlements", book=book))["entitlements"]
            assert {one["feature"]: one["value"] for one in granted} == bought.get(customer, {}), customer
        told = await ask(client, "/v1/revenue/trial-balance", book=book, at=rfc3339(company.end - timedelta(seconds=1)))
        assert nonzero(told["balances"]) == nonzero(truth.books.trial_balance(at, whole=False))


def nonzero(balances: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    shown = {currency: {name: amount for name, amount in accounts.items() if amount}
             for currency, accounts in balances.items()}  # fmt: skip
    return {currency: accounts for currency, accounts in shown.items() if accounts}


@pytest.fixture
def observer(services: Services, access: StripeAccess, clock: ManualClock) -> Observer:
    return Observer(access, services.pool, services.appender, "self", clock)


@pytest.fixture
def reconciliation(services: Services, access: StripeAccess, clock: ManualClock) -> Reconciliation:
    return Reconciliation(access, services.pool, services.appender, "self", clock, services.entitlements, record=True)


async def test_what_is_older_than_stripe_keeps_is_observed(
    client: httpx.AsyncClient,
    gathering: Gathering,
    reconciliation: Reconciliation,
    observer: Observer,
    services: Services,
    company: Lossy,
) -> None:
    await gathering.backfill()
    seen = await reconciliation.run()
    assert seen.recorded == sum(map(len, seen.drift.values())) > 100
    await observer.work_off()
    await fold(services)
    await check(client, company)
    again = await reconciliation.run()
    assert (again.drift, again.rows, again.recorded) == ({}, {}, 0)
    assert again.compared >= seen.compared

    held = company.truth["self:live"].entitlements(int(company.end.timestamp()) - 1, purchases=False)
    unknown = [one for one in seen.drift["self:live"] if one.kind == "subscription" and one.unknown]
    customer = next(one.customer for one in unknown if one.customer in held)
    answers = await ask(client, f"/v1/customers/{customer}/entitlements", book="self:live")
    because = {key for one in answers["entitlements"] for key in one["because"]}
    assert any(key.startswith("obs_") for key in because), "history is marked as observed"


async def test_an_existing_account_begins_with_what_is_there(
    client: httpx.AsyncClient, reconciliation: Reconciliation, services: Services, company: Lossy
) -> None:
    seen = await reconciliation.run()
    assert all(one.unknown for some in seen.drift.values() for one in some)
    await fold(services)
    await check(client, company)


async def test_rows_and_stripes_own_entitlements_are_compared_too(
    reconciliation: Reconciliation,
    services: Services,
    company: Lossy,
    standin: StandIn,
    database: Database,
) -> None:
    await append(services, company.events)
    await fold(services)
    looking = replace(reconciliation, record=False)
    seen = await looking.run()
    assert (seen.drift, seen.rows) == ({}, {})

    holder = next(
        one for one in standin.world.objects["customer"].values() if one.get("_entitlements") and not one.get("deleted")
    )
    standin.world.put(holder | {"_entitlements": holder["_entitlements"][1:]})
    [drift] = (await looking.run()).drift["self:live"]
    assert (drift.id, drift.missing_event) == (holder["id"], "entitlements.active_entitlement_summary.updated")
    assert (await reconciliation.run()).recorded == 1
    await fold(services)
    assert (await looking.run()).drift == {}

    builder = await connect_runner(database)
    schema = await builder.fetchval("SELECT schema_name FROM ledger.build WHERE projection = 'entitlements'")
    broken = f"""
        UPDATE {schema}.entitlement_source SET status = 'paused' WHERE kind = 'subscription' AND valid_to IS NULL
        AND source = (SELECT min(source) FROM {schema}.entitlement_source WHERE status = 'active' AND valid_to IS NULL
                      AND kind = 'subscription' AND book = 'self:live')
        """
    await builder.execute(broken)
    await builder.close()
    [row] = (await looking.run()).rows["self:live"]
    assert all(ours.startswith("paused: ") and theirs.startswith("active: ") for ours, theirs in row.fields.values())


async def test_a_customer_that_stripe_has_no_more_keeps_no_other_from_being_compared(
    reconciliation: Reconciliation, services: Services, company: Lossy, standin: StandIn
) -> None:
    await append(services, company.events)
    await fold(services)
    customers = standin.world.objects["customer"]
    gone = next(key for key, one in customers.items() if one.get("_entitlements") and not one.get("deleted"))
    del customers[gone]
    seen = await replace(reconciliation, record=False).run()
    assert (seen.refused, seen.rows) == ({}, {})
    assert seen.compared > len(customers)


async def test_without_record_nothing_is_written(
    reconciliation: Reconciliation, services: Services, company: Lossy
) -> None:
    seen = await replace(reconciliation, record=False).run()
    assert seen.recorded == 0
    assert seen.drift
    async with services.pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM ledger.head WHERE book <> 'ledger:control'") == 0


async def test_one_customer_alone(
    reconciliation: Reconciliation, services: Services, company: Lossy, standin: StandIn
) -> None:
    await append(services, company.events)
    subscription = next(one for one in standin.world.objects["subscription"].values() if one["status"] == "active")
    changed = subscription | {"status": "past_due"}
    standin.world.put(changed)
    seen = await replace(reconciliation, record=False).run(subscription["customer"])
    [drift] = seen.drift["self:live"]
    assert (drift.id, dict(drift.fields), drift.missing_event) == (
        subscription["id"], {"status": ("active", "past_due")}, "customer.subscription.updated",
    )  # fmt: skip
    for nobody in ("cus_nobody", "../accounts", "cus_1?limit=1"):
        with pytest.raises(MistakeError, match="Stripe has no customer"):
            await reconciliation.run(nobody)


class OnlyPostgres:
    """Lets nothing open a connection but PostgreSQL's, which is a socket in a folder; notes what was tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tried: list[object] = []
        self.opened = 0
        for name in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, name, self._only(getattr(socket.socket, name)))
        monkeypatch.setattr(socket, "getaddrinfo", self._never)

    def _only(self, real: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
        def connect(one: socket.socket, address: Any) -> Any:
            if one.family != socket.AF_UNIX or ".s.PGSQL." not in str(address):
                self.tried.append(address)
                raise OSError("the network is off")
            self.opened += 1
            return real(one, address)

        return connect

    def _never(self, *address: object, **_: object) -> None:
        self.tried.append(address)
        raise OSError("the network is off")


async def test_a_rebuild_after_observations_asks_nobody(
    gathering: Gathering,
    reconciliation: Reconciliation,
    observer: Observer,
    services: Services,
    company: Lossy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await gathering.backfill()
    await reconciliation.run()
    await observer.work_off()
    await fold(services)
    network = OnlyPostgres(monkeypatch)
    for projection in projections_of(services.settings, services.clock):
        operations = Operations(services.database, projection, services.appender, services.clock)
        build = await operations.request_rebuild(by="test", reason="replay")
        await operations.fold(build.build_id)
        again = (await operations.complete(build.build_id)).certificate
        connection = await connect_runner(services.database)
        live = await live_build(connection, projection.name)
        assert live is not None
        assert again is not None
        first = await certificate_of(connection, projection, live)
        await connection.close()
        assert again["digest"] == first["digest"]
        assert again["books"] == first["books"]
    assert network.tried == []
    assert network.opened > 0

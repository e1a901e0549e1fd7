"""An erased body is gone everywhere, and what it was a part of still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from api.services import Services
from ledger import offline_verify
from ledger.decisions import Decided, decide
from ledger.erasure import ERASURES_STREAM, Erasures, NotErasableError, free_the_place, overwrite
from ledger.event import NewEvent
from ledger.export import export_archive
from ledger.flush import Appended
from ledger.postgres import Database
from ledger.reader import StoredEvent, read_event
from ledger.verify import Report, verify_log
from projections import folding, follower, refold
from projections.builds import ensure_live
from projections.follower import CheckpointMovedError, follow
from projections.forgetting import forget
from projections.refold import Refolding
from projections.runner import connect_runner
from projections.stored_terms import TermsReader
from projections.warm import Warm
from tests.conftest import ManualClock
from tests.projections.test_joining import MONEY, table_of
from tests.stripe_events import event, new_event, subscription

BOOK = "self:live"
BOUGHT = event("evt_1", "customer.subscription.created", subscription(customer="cus_1"), created=100)
CHANGED = event(
    "evt_2", "customer.subscription.updated", subscription(customer="cus_1", status="past_due"), created=200
)


async def found(owner: asyncpg.Connection, event_id: str) -> StoredEvent:
    await owner.execute("RESET ROLE")
    one = await read_event(owner, BOOK, event_id)
    assert one is not None
    return one


async def decided(services: Services, one: StoredEvent) -> Decided[Erasures]:
    async with services.pool.acquire() as connection:
        outcome = await decide(
            connection,
            services.appender,
            Erasures,
            BOOK,
            ERASURES_STREAM,
            lambda erasures: erasures.record(one, "asked by the customer", "test"),
            now=services.clock(),
        )
    await services.notary.sign_all()
    return outcome


async def report_of(owner: asyncpg.Connection, services: Services, *, full: bool = True) -> Report:
    await owner.execute("RESET ROLE")
    outside = services.notary.outside
    async with owner.transaction(isolation="repeatable_read", readonly=True):
        return await verify_log(owner, outside.keys(), outside.notes(), full=full)


@pytest.mark.parametrize("full", [True, False])
async def test_an_erasure_that_was_interrupted_is_named_and_done_again(
    services: Services, owner: asyncpg.Connection, clock: ManualClock, full: bool
) -> None:
    await services.appender.append([new_event(BOUGHT), new_event(CHANGED)])
    one = await found(owner, "evt_1")
    assert [place.position for place in (await decided(services, one)).places] == [3]
    report = await report_of(owner, services, full=full)
    assert (report.problems, report.erased, report.to_erase) == ([], [], ["self:live: evt_1"])

    clock.forward(days=1)
    assert (await decided(services, one)).places == []
    assert await overwrite(owner, one)
    assert not await overwrite(owner, one)
    report = await report_of(owner, services, full=full)
    assert (report.problems, report.erased, report.to_erase) == ([], ["self:live: evt_1"], [])


async def test_only_what_the_erasure_names_may_be_without_a_body(services: Services, owner: asyncpg.Connection) -> None:
    await services.appender.append([new_event(BOUGHT), new_event(CHANGED)])
    await decided(services, await found(owner, "evt_1"))
    await overwrite(owner, await found(owner, "evt_2"))
    report = await report_of(owner, services)
    assert ["the body of evt_2 is gone" in problem for problem in report.problems] == [True]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute("UPDATE ledger.event SET body = ''")  # whoever one is: the trigger is in force again


async def test_what_we_decided_ourselves_is_not_erased(services: Services, owner: asyncpg.Connection) -> None:
    await services.appender.append([new_event(BOUGHT)])
    outcome = await decided(services, await found(owner, "evt_1"))
    assert outcome.aggregate.positions == {1}
    page = await owner.fetch("SELECT event_id FROM ledger.event WHERE type = 'ledger.body.erased'")
    with pytest.raises(NotErasableError):
        await decided(services, await found(owner, page[0]["event_id"]))


async def test_nothing_brings_it_back(
    services: Services, owner: asyncpg.Connection, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Not a redelivery, not another copy; and the archive is true without it."""
    await services.appender.append([new_event(BOUGHT), new_event(BOUGHT | {"api_version": "2020-08-27"})])
    assert await owner.fetchval("SELECT count(*) FROM ledger.event_conflict") == 1
    one = await found(owner, "evt_1")
    await decided(services, one)
    await overwrite(owner, one)
    await free_the_place(owner)
    assert await services.appender.append([new_event(BOUGHT)]) == [Appended(1, True)]
    assert await services.appender.append([new_event(BOUGHT | {"api_version": "2018"})]) == [Appended(1, True)]
    await owner.execute("RESET ROLE")
    assert await owner.fetchval("SELECT count(*) FROM ledger.event_conflict") == 0
    assert not (await found(owner, "evt_1")).body

    assert (await client.get("/v1/events/evt_1/raw")).status_code == 410
    answer = (await client.get("/v1/events/evt_1")).json()
    assert (answer["erased"], answer["data"], answer["leaf"]["salt"]) == (True, None, "")
    assert (await client.get("/v1/log/proof/evt_1")).status_code == 200
    folder = tmp_path / "archive"
    async with owner.transaction(isolation="repeatable_read", readonly=True):
        await export_archive(owner, folder, services.notary.outside)
    assert offline_verify.main([str(folder)]) == 0


async def test_every_fold_forgets_it(services: Services, owner: asyncpg.Connection, database: Database) -> None:
    projection = services.entitlements
    connection = await connect_runner(database)
    live = await ensure_live(connection, projection)
    await services.appender.append([new_event(BOUGHT), new_event(CHANGED)])
    one = await found(owner, "evt_2")
    assert (await forget(connection, [projection], one)).folded == [live.build_id]  # nothing is folded yet
    while await follow(connection, projection, live):
        pass
    statuses = f"SELECT status FROM {live.schema_name}.entitlement_source ORDER BY valid_from"
    assert [row["status"] for row in await connection.fetch(statuses)] == ["active", "past_due"]
    await decided(services, one)
    await overwrite(owner, one)
    assert (await forget(connection, [projection], one)).folded == [live.build_id]
    assert [row["status"] for row in await connection.fetch(statuses)] == ["active"]
    assert await connection.fetchval("SELECT count(*) FROM ledger.parked") == 0
    await connection.close()


def charge(number: int) -> NewEvent:
    subject = {"id": f"ch_{number}", "object": "charge", "customer": "cus_1", "amount": number}
    return new_event(event(f"evt_{number}", "charge.succeeded", subject, created=1_000 * number))


async def erase(services: Services, owner: asyncpg.Connection, connection: asyncpg.Connection, event_id: str) -> None:
    """Erase an event as another process does, while followers go on."""
    one = await found(owner, event_id)
    await decided(services, one)
    await overwrite(owner, one)
    await forget(connection, [MONEY], one)


@pytest.mark.parametrize("used", [True, False])
async def test_a_follower_forgets_what_it_remembers(
    services: Services, owner: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    """Terms too: nobody who comes later has what an erased coupon said, used before or not."""
    monkeypatch.setattr(folding, "REMEMBER_FROM", 1)
    connection, other = await connect_runner(database), await connect_runner(database)
    live, warm, terms = await ensure_live(connection, MONEY), Warm(), TermsReader()

    def discount(customer: str) -> NewEvent:
        subject = {"id": f"di_{customer}", "object": "discount", "customer": customer, "source": {"coupon": "summer"}}
        return new_event(event(f"evt_{customer}", "customer.discount.created", subject, created=100))

    async def caught_up() -> list[object]:
        while await follow(connection, MONEY, live, terms=terms, warm=warm):
            pass
        return await table_of(connection, live, "discount")

    coupon = {"id": "summer", "object": "coupon", "percent_off": 20}
    await services.appender.append([new_event(event("evt_s", "coupon.created", coupon, created=50))])
    await services.appender.append([discount("cus_1"), charge(1), charge(2)] if used else [])
    assert await caught_up() == [("self:live/cus_1", 20)] * used
    assert (warm.get("self:live/cus_1") is not None) is used
    await erase(services, owner, other, "evt_s")
    assert await follow(connection, MONEY, live, terms=terms, warm=warm) == 1, "the erasure itself"
    assert warm.get("self:live/cus_1") is None
    await services.appender.append([discount("cus_2")])
    assert await caught_up() == []
    await connection.close()
    await other.close()


async def test_a_step_that_has_read_it_is_dropped(
    services: Services, owner: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, other = await connect_runner(database), await connect_runner(database)
    live = await ensure_live(connection, MONEY)

    await services.appender.append([charge(1)])
    await follow(connection, MONEY, live)
    await services.appender.append([charge(2)])

    async def erased_meanwhile(*given: Any) -> Refolding:
        read = await refold.refold(*given)
        monkeypatch.setattr(follower, "refold", refold.refold)
        await erase(services, owner, other, "evt_2")
        return read

    monkeypatch.setattr(follower, "refold", erased_meanwhile)
    with pytest.raises(CheckpointMovedError):
        await follow(connection, MONEY, live)
    while await follow(connection, MONEY, live):
        pass
    assert [row[1] for row in await table_of(connection, live, "moved")] == ["ch_1:charge.succeeded"]
    await connection.close()
    await other.close()

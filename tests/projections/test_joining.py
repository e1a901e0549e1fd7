"""Objects that name no customer join theirs through what they do name, and late terms reach whom they concern."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from eventsourcing.domain import event as happened

from ledger.appender import Appender
from ledger.event import NewEvent
from ledger.operator import OperatorAggregate, operator_event
from ledger.postgres import Database
from ledger.reader import read_head, read_tail_headings
from projections.builds import Build, Request, ensure_live, enter, start_build
from projections.contract import Projection, Rows, Subject, Table, Terms
from projections.facts import Fact, fact_of
from projections.follower import clean, follow, replay
from projections.joining import Joined, join, write
from projections.links import Link, links, merged, root_of
from projections.rebuild import finish, fold_piece, folding_ahead, plan, read_all_terms
from projections.runner import connect_runner
from projections.stored_links import roots_of
from projections.stored_terms import TermsReader, read_terms
from tests.conftest import ManualClock
from tests.projections.histories import company, disordered, new_events
from tests.stripe_events import body_of, event


@dataclass
class Money:
    """What moved for a customer, by natural fact; and what their coupon takes off."""

    subject: Subject
    moved: dict[str, tuple[str, Any]] = field(default_factory=dict)
    percent_off: int | None = None


def step(state: Money, fact: Fact, terms: Terms) -> None:
    subject = fact.subject
    if fact.type == "customer.discount.created":
        coupon = terms.at("coupon", subject["source"]["coupon"], fact.created)
        state.percent_off = coupon.get("percent_off") if coupon else None
    else:
        amount = subject.get("amount_paid", subject.get("amount", 0))
        state.moved[f"{subject['id']}:{fact.type}"] = (fact.type, amount)


def rows(state: Money) -> Rows:
    key = state.subject.stream_id
    found = [(key, name, type_, amount) for name, (type_, amount) in sorted(state.moved.items())]
    return {"moved": found, "discount": [(key, state.percent_off)] if state.percent_off else []}


JOINED = frozenset(
    {"refund.created", "charge.dispute.created", "charge.dispute.funds_withdrawn", "invoice_payment.paid"}
)
OWN = frozenset({"ledger.refund.given", "ledger.refund.raised", "ledger.charge.noted"})
MONEY = Projection(
    name="money",
    version=1,
    types=JOINED | OWN | {"charge.succeeded", "customer.discount.created"},
    tables=(
        Table(
            "moved",
            ("subject", "name", "type", "amount"),
            "CREATE TABLE moved (subject text, name text, type text, amount bigint, PRIMARY KEY (subject, name))",
        ),
        Table(
            "discount", ("subject", "percent_off"), "CREATE TABLE discount (subject text PRIMARY KEY, percent_off int)"
        ),
    ),
    state=Money,
    begin=Money,
    step=step,
    rows=rows,
    joins=JOINED,
    references=frozenset({"coupon.created", "coupon.updated"}),
)


async def table_of(connection: asyncpg.Connection, build: Build, table: str) -> list[Any]:
    return sorted(tuple(row) for row in await connection.fetch(f"SELECT * FROM {build.schema_name}.{table}"))


async def catch_up(connection: asyncpg.Connection, build: Build) -> None:
    while await follow(connection, MONEY, build):
        pass


async def rebuilt(connection: asyncpg.Connection, database: Database) -> Build:
    heads = await connection.fetch("SELECT book, position FROM ledger.head WHERE book <> 'ledger:control'")
    build = await start_build(connection, MONEY, Request("test", None, {row["book"]: row["position"] for row in heads}))
    await plan(connection, MONEY, build)
    terms = await read_all_terms(connection, MONEY, build)
    reading = await connect_runner(database)
    async with folding_ahead(reading, MONEY, build, terms) as ahead:
        while await fold_piece(connection, MONEY, build, ahead):
            pass
    await reading.close()
    assert await finish(connection, build)
    for book in build.targets:
        while await clean(connection, MONEY, build, book):
            pass
    return build


@pytest.mark.parametrize("seed", range(12))
async def test_live_through_disorder_equals_a_rebuild(database: Database, clock: ManualClock, seed: int) -> None:
    bodies = company(20 + seed % 4, 45, "2026-10-28.endive")[0]
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    async with Appender(database, clock=clock) as appender:
        for batch in disordered(bodies, seed):
            await appender.append(new_events(batch))
            await catch_up(connection, live)
    fresh = await rebuilt(connection, database)
    for table in ("moved", "discount"):
        assert await table_of(connection, live, table) == await table_of(connection, fresh, table)
    moved = await table_of(connection, live, "moved")
    assert {type_ for _, _, type_, _ in moved} >= {"invoice_payment.paid", "charge.succeeded"}
    assert {subject.partition("/")[2][:4] for subject, *_ in moved} == {"cus_"}, "everything found its customer"
    assert await connection.fetchval(f"SELECT count(*) FROM {live.schema_name}.dirty") == 0
    await connection.close()


def told(event_id: str, type_: str, created: int, **subject: Any) -> dict[str, Any]:
    return event(event_id, type_, subject, created=created)


STORY = {
    "dispute": told("evt_d", "charge.dispute.created", 30, id="dp_1", charge="ch_1", payment_intent="pi_1", amount=9),
    "charge": told("evt_c", "charge.succeeded", 20, id="ch_1", object="charge", payment_intent="pi_1", customer="cus_1",
                   amount=9),
    "paid": told("evt_p", "invoice_payment.paid", 21, id="inpay_1", invoice="in_1", amount_paid=9,
                 payment={"payment_intent": "pi_1"}),
    "invoice": told("evt_i", "invoice.finalized", 10, id="in_1", object="invoice", customer="cus_1"),
    "refund": told("evt_r", "refund.created", 40, id="re_1", object="refund", charge="ch_1", amount=9),
}  # fmt: skip


@pytest.mark.parametrize("order", [
    "dispute refund paid charge invoice", "charge invoice paid refund dispute", "refund paid invoice dispute charge",
    "paid dispute refund invoice charge",
])  # fmt: skip
async def test_the_link_may_come_last(database: Database, clock: ManualClock, order: str) -> None:
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    async with Appender(database, clock=clock) as appender:
        for name in order.split():
            await appender.append(new_events([body_of(STORY[name])]))
            await catch_up(connection, live)
    moved = await table_of(connection, live, "moved")
    assert {(subject, type_) for subject, _, type_, _ in moved} == {
        ("self:live/cus_1", type_)
        for type_ in ("charge.dispute.created", "charge.succeeded", "invoice_payment.paid", "refund.created")
    }
    assert await table_of(connection, await rebuilt(connection, database), "moved") == moved
    await connection.close()


RIVALS = {
    "charge": STORY["charge"],
    "intent": told("evt_n", "payment_intent.succeeded", 50, id="pi_1", object="payment_intent", invoice="in_2"),
    "invoice": told("evt_o", "invoice.finalized", 60, id="in_2", object="invoice", customer="cus_2"),
    "refund": STORY["refund"],
}


@pytest.mark.parametrize("order", [
    "charge intent invoice refund", "invoice intent refund charge", "intent refund charge invoice",
])  # fmt: skip
async def test_what_two_customers_claim_is_parked_and_stays_with_the_first(
    database: Database, clock: ManualClock, order: str
) -> None:
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    async with Appender(database, clock=clock) as appender:
        for name in order.split():
            await appender.append(new_events([body_of(RIVALS[name])]))
            await catch_up(connection, live)
    parked = "SELECT subject, event_id FROM ledger.parked WHERE build_id = $1"
    expected = [("self:live/pi_1", "evt_n")]
    assert await connection.fetch(parked, live.build_id) == expected
    moved = await table_of(connection, live, "moved")
    assert {(subject, type_) for subject, _, type_, _ in moved} == {
        ("self:live/cus_1", "charge.succeeded"),
        ("self:live/cus_1", "refund.created"),
    }
    refolding = await replay(connection, MONEY, live, "self:live", ["self:live/pi_1"])
    assert list(refolding.failed) == ["self:live/pi_1"]
    assert await table_of(connection, live, "moved") == moved
    fresh = await rebuilt(connection, database)
    assert await connection.fetch(parked, fresh.build_id) == expected
    assert await table_of(connection, fresh, "moved") == moved
    await connection.close()


async def test_late_terms_reach_exactly_those_who_used_them(database: Database, clock: ManualClock) -> None:
    """A coupon's own event comes after the discounts that use it, and again when it is changed for what was before."""

    def discount(customer: str, coupon: str) -> bytes:
        subject = {"id": f"di_{customer}", "object": "discount", "customer": customer, "source": {"coupon": coupon}}
        return body_of(event(f"evt_{customer}", "customer.discount.created", subject, created=100))

    def coupon(event_id: str, key: str, percent: int, created: int) -> bytes:
        subject = {"id": key, "object": "coupon", "percent_off": percent}
        return body_of(event(event_id, "coupon.created", subject, created=created))

    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    async with Appender(database, clock=clock) as appender:
        people = [discount(f"cus_{n}", "summer" if n % 2 else "winter") for n in range(6)]
        await appender.append(new_events(people))
        await catch_up(connection, live)
        assert await table_of(connection, live, "discount") == []
        await appender.append(new_events([coupon("evt_s", "summer", 20, 50)]))
        await catch_up(connection, live)
        assert await table_of(connection, live, "discount") == [(f"self:live/cus_{n}", 20) for n in (1, 3, 5)]
        await appender.append(new_events([coupon("evt_w", "winter", 30, 50), coupon("evt_w2", "winter", 35, 90)]))
        await catch_up(connection, live)
    expected = sorted((f"self:live/cus_{n}", 20 if n % 2 else 35) for n in range(6))
    assert await table_of(connection, live, "discount") == expected
    assert await table_of(connection, await rebuilt(connection, database), "discount") == expected
    await connection.close()


async def test_terms_that_are_told_again_as_they_were_refold_nobody(database: Database, clock: ManualClock) -> None:
    """In one batch or another, by another event, and between others: only what differs is anybody's affair."""

    def coupon(event_id: str, percent: int, created: int, **more: Any) -> NewEvent:
        subject = {"id": "summer", "object": "coupon", "percent_off": percent} | more
        return new_events([body_of(event(event_id, "coupon.updated", subject, created=created))])[0]

    subject = {"id": "di_1", "object": "discount", "customer": "cus_1", "source": {"coupon": "summer"}}
    user = new_events([body_of(event("evt_u", "customer.discount.created", subject, created=100))])[0]
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    told = [
        ([coupon("evt_1", 20, 50)], True),
        ([coupon("evt_2", 20, 60)], False),
        ([coupon("evt_3", 20, 60), coupon("evt_4", 20, 40)], False),
        ([coupon("evt_5", 30, 70)], True),
        ([coupon("evt_6", 30, 80), coupon("evt_7", 20, 55)], False),
        ([coupon("evt_8", 20, 90)], True),
        ([coupon("evt_9", 20, 95, name="Summer")], True),
    ]
    async with Appender(database, clock=clock) as appender:
        await appender.append([user])
        await catch_up(connection, live)
        for events, differs in told:
            before = await read_head(connection, "self:live")
            await appender.append(events)
            await enter(connection, live.schema_name)
            news = await read_tail_headings(connection, "self:live", before, len(events))
            joined = await join(connection, MONEY, "self:live", news)
            assert joined.dirty == ({"self:live/cus_1"} if differs else set()), events
            await catch_up(connection, live)
    await connection.close()


class Refund(OperatorAggregate):
    """A refund made by hand: a fact of ours about a customer."""

    def __init__(self) -> None:
        self.given = 0

    @happened("Given", topic="ledger.refund.given")
    def give(self, customer: str, amount: int) -> None:
        self.given = amount

    @happened("Raised", topic="ledger.refund.raised")
    def raise_to(self, amount: int) -> None:
        self.given = amount


@pytest.mark.parametrize("order", ["raised given observed", "observed given raised", "given observed raised"])
async def test_facts_of_our_own_are_folded_with_the_customer_they_name(
    database: Database, clock: ManualClock, order: str
) -> None:
    """An aggregate's through its first event, another as it stands in its customer's stream."""
    refund = Refund.restore("refund-1")
    refund.give("cus_1", 5)
    refund.raise_to(7)
    given, raised = (replace(one, version=None) for one in refund.new_events("self:live", clock.now))
    charge = {"id": "ch_1", "object": "charge", "customer": "cus_1", "amount": 9}
    seen = operator_event("self:live", "cus_1", 1, "ledger.charge.noted", charge, now=clock.now)
    events = {"given": given, "raised": raised, "observed": replace(seen, version=None)}
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    async with Appender(database, clock=clock) as appender:
        for name in order.split():
            await appender.append([events[name]])
            await catch_up(connection, live)
    expected = [
        ("self:live/cus_1", "ch_1:ledger.charge.noted", "ledger.charge.noted", 9),
        ("self:live/cus_1", "refund-1:ledger.refund.given", "ledger.refund.given", 5),
        ("self:live/cus_1", "refund-1:ledger.refund.raised", "ledger.refund.raised", 7),
    ]
    assert await table_of(connection, live, "moved") == expected
    assert await table_of(connection, await rebuilt(connection, database), "moved") == expected
    await connection.close()


async def test_terms_are_read_once_and_then_only_what_is_new(database: Database, clock: ManualClock) -> None:
    def coupon(number: int, percent: int) -> NewEvent:
        subject = {"id": f"co_{number % 300}", "object": "coupon", "percent_off": percent}
        return new_events([body_of(event(f"evt_{number}", "coupon.updated", subject, created=number))])[0]

    connection = await connect_runner(database)
    kept = TermsReader()
    async with Appender(database, clock=clock) as appender:
        await appender.append([coupon(number, number % 7) for number in range(900)])
        for last in (300, 650, 900, 400):
            terms = await kept.read(connection, MONEY, "self:live", last)
            fresh = await read_terms(connection, MONEY, "self:live", last)
            for number in range(0, 300, 17):
                for moment in (number, 500, 899):
                    at = datetime.fromtimestamp(moment, UTC)
                    assert terms.at("coupon", f"co_{number}", at) == fresh.at("coupon", f"co_{number}", at)
    await connection.close()


def test_the_first_link_stands_whatever_the_order() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    some = [
        Link("b/pi_1", "b/cus_2", at, "evt_2"),
        Link("b/pi_1", "b/cus_1", at, "evt_1"),
        Link("b/ch_1", "b/pi_1", at, "e"),
    ]
    for seed in range(6):
        shuffled = list(some)
        random.Random(seed).shuffle(shuffled)
        standing = merged({}, shuffled)
        assert root_of("b/ch_1", standing) == "b/cus_1"
        assert standing["b/pi_1"] == some[1]


async def test_the_first_link_stands_where_a_worker_has_not_seen_it(database: Database) -> None:
    """Several workers may pass over what links the streams of one rebuild, each from what it has read."""
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    await enter(connection, live.schema_name)
    for number in (2, 1, 3):
        moment = datetime.fromtimestamp(number, UTC)
        link = Link("self:live/pi_1", f"self:live/cus_{number}", moment, f"evt_{number}")
        await write(connection, Joined("self:live", links=[link]))
    assert await roots_of(connection, MONEY, ["self:live/pi_1"]) == {"self:live/pi_1": "self:live/cus_1"}
    await connection.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dispute", {"ch_1": "pi_1", "dp_1": "pi_1"}),
        ("charge", {"ch_1": "cus_1", "pi_1": "cus_1"}),
        ("paid", {"pi_1": "in_1", "inpay_1": "in_1"}),
        ("invoice", {"in_1": "cus_1"}),
        ("refund", {"re_1": "ch_1"}),
    ],
)
def test_what_an_event_links(name: str, expected: dict[str, str]) -> None:
    body = body_of(STORY[name])
    fact = fact_of("evt", "type", datetime(2026, 1, 1, tzinfo=UTC), 1, body)
    assert _short(links("self:live", fact)) == expected


def _short(found: Sequence[Link]) -> dict[str, str]:
    return {one.child.partition("/")[2]: one.parent.partition("/")[2] for one in found}


async def test_a_parked_object_that_finds_its_customer_is_parked_with_it_alone(
    database: Database, clock: ManualClock
) -> None:
    def failing(state: Money, fact: Fact, terms: Terms) -> None:
        if fact.event_id == "evt_d":
            raise RuntimeError("a mistake in the fold")
        step(state, fact, terms)

    broken = replace(MONEY, step=failing)
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    parked = "SELECT subject FROM ledger.parked WHERE build_id = $1"
    async with Appender(database, clock=clock) as appender:
        for name, subject in (("dispute", "self:live/pi_1"), ("charge", "self:live/cus_1")):
            await appender.append(new_events([body_of(STORY[name])]))
            while await follow(connection, broken, live):
                pass
            assert [row["subject"] for row in await connection.fetch(parked, live.build_id)] == [subject]
    await replay(connection, MONEY, live, "self:live", ["self:live/cus_1"])
    assert await connection.fetch(parked, live.build_id) == []
    await connection.close()


@pytest.mark.parametrize(
    ("second", "late", "before", "after"),
    [
        (2, 1, ["self:live/dp_1"], ["self:live/ch_2"]),
        (1, 2, [], ["self:live/ch_2", "self:live/dp_1"]),
    ],
)
async def test_who_claims_what_is_asked_again_when_what_is_named_changes_hands(
    database: Database, clock: ManualClock, second: int, late: int, before: list[str], after: list[str]
) -> None:
    """A dispute names two charges; an event that comes late says whose the second was from the beginning."""

    def charge(event_id: str, created: int, number: int, customer: int) -> bytes:
        return body_of(
            told(
                event_id,
                "charge.succeeded",
                created,
                id=f"ch_{number}",
                object="charge",
                customer=f"cus_{customer}",
                amount=1,
            )
        )

    def dispute(event_id: str, type_: str, created: int, number: int) -> bytes:
        return body_of(told(event_id, type_, created, id="dp_1", charge=f"ch_{number}", amount=1))

    parked = "SELECT subject FROM ledger.parked WHERE build_id = $1 ORDER BY subject"
    connection = await connect_runner(database)
    live = await ensure_live(connection, MONEY)
    async with Appender(database, clock=clock) as appender:
        for bodies, expected in (
            ([charge("evt_1", 20, 1, 1), charge("evt_2", 21, 2, second)], []),
            ([dispute("evt_3", "charge.dispute.created", 30, 1)], []),
            ([dispute("evt_4", "charge.dispute.funds_withdrawn", 31, 2)], before),
            ([charge("evt_5", 5, 2, late)], after),
        ):
            await appender.append(new_events(bodies))
            await catch_up(connection, live)
            assert [row["subject"] for row in await connection.fetch(parked, live.build_id)] == expected
    fresh = await rebuilt(connection, database)
    assert await connection.fetch(parked, fresh.build_id) == await connection.fetch(parked, live.build_id)
    assert await table_of(connection, fresh, "moved") == await table_of(connection, live, "moved")
    await connection.close()

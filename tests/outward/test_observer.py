"""What events leave to be asked: found, asked once, kept as Stripe answered it, and given up in plain sight."""

from __future__ import annotations

import itertools
from typing import Any

import asyncpg
import orjson
import pytest

from api.outward import wanted as wants
from api.outward.access import StripeAccess
from api.outward.observer import Observed, Observer
from api.outward.wanted import TRIES
from api.services import Services
from ledger.observation import OBSERVATIONS, responses_of
from ledger.reader import Filter, StoredEvent, read_page
from projections.facts import fact_of
from projections.wanted import Want, wanted_by
from tests.conftest import ManualClock
from tests.standin import BODIES, StandIn
from tests.stripe_events import Json, event, new_event, subscription

LINES = {"object": "list", "data": [{"id": "il_1"}], "has_more": True}
INVOICE: Json = {"id": "in_1", "object": "invoice", "customer": "cus_1", "status": "open", "lines": LINES}


@pytest.fixture
def observer(services: Services, access: StripeAccess, clock: ManualClock) -> Observer:
    return Observer(access, services.pool, services.appender, "self", clock)


def came_to(observed: Observed) -> tuple[int, int, int]:
    return (observed.answered, observed.waiting, observed.given_up)


async def append(services: Services, *contents: Json) -> None:
    await services.appender.append([new_event(one) for one in contents])


def told(event_id: str, type_: str, subject: Json, **more: Any) -> Json:
    return event(event_id, type_, subject, live=False, **more)


async def observations(services: Services, book: str = "self:test") -> list[StoredEvent]:
    async with services.pool.acquire() as connection:
        page = await read_page(connection, book, Filter(), 100)
    return [one for one in page if one.type in OBSERVATIONS]


@pytest.mark.parametrize(
    ("type_", "subject", "wanted"),
    [
        ("invoice.finalized", INVOICE, ["invoice.lines in_1"]),
        ("invoice.created", INVOICE | {"status": "draft"}, []),
        ("invoice.paid", INVOICE | {"lines": LINES | {"has_more": False}}, []),
        ("invoice.paid", INVOICE | {"lines": 7, "discounts": [{"source": {"coupon": "c"}}, "di_1"]}, ["coupon c"]),
        ("customer.subscription.updated", subscription(discounts=["di_2", "di_1"]),
         ["subscription.discounts sub_1 di_1,di_2"]),
        ("customer.subscription.updated", subscription(discount={"coupon": {"id": "c"}}), []),
        ("customer.subscription.created", subscription(items="si_1:p*1") | {"items": LINES},
         ["subscription.items sub_1 evt_1"]),
        ("customer.subscription.updated",
         subscription() | {"items": [{"id": "si_1", "price": {"id": "price_1", "billing_scheme": "tiered"}}]},
         ["price price_1"]),
        ("customer.subscription.updated",
         subscription(currency="eur") | {"items": [{"id": "si_1", "price": {"id": "price_1", "currency": "usd"}}]},
         ["price price_1"]),
        ("customer.discount.created", {"id": "di_1", "object": "discount", "source": {"coupon": "c"}}, ["coupon c"]),
        ("price.created", {"id": "price_1", "object": "price", "billing_scheme": "tiered"}, ["price price_1"]),
        ("price.created", {"id": "price_1", "object": "price", "billing_scheme": "per_unit"}, []),
        ("charge.succeeded", {"id": "ch_1", "object": "charge", "balance_transaction": "txn_1"},
         ["balance_transaction txn_1"]),
        ("charge.failed", {"id": "ch_1", "object": "charge", "status": "failed", "payment_intent": "pi_1"},
         ["invoice_payments pi_1"]),
        ("charge.failed", {"id": "ch_1", "object": "charge", "status": "failed", "payment_intent": "pi_1",
                           "invoice": "in_1"}, []),
        ("payment_intent.payment_failed", {"id": "pi_1", "object": "payment_intent"}, ["invoice_payments pi_1"]),
        ("payment_intent.succeeded", {"id": "pi_1", "object": "payment_intent"}, []),
        ("checkout.session.completed", {"id": "cs_1", "object": "checkout.session", "mode": "payment",
                                        "status": "complete"}, ["checkout.session.line_items cs_1"]),
        ("checkout.session.completed", {"id": "cs_1", "object": "checkout.session", "mode": "payment",
                                        "status": "complete", "metadata": {"ledger_price": "price_1"}}, []),
        ("entitlements.active_entitlement_summary.updated",
         {"object": "entitlements.active_entitlement_summary", "customer": "cus_1", "entitlements": LINES},
         ["customer.active_entitlements cus_1 evt_1"]),
        ("credit_note.created", {"id": "cn_1", "object": "credit_note", "lines": LINES}, ["credit_note.lines cn_1"]),
        ("refund.created", {"id": "re_1", "object": "refund", "balance_transaction": {"id": "txn_1"}}, []),
        ("invoice.paid", {"object": "invoice", "lines": LINES}, []),
        ("charge.failed", {"object": "charge", "status": ["failed"], "balance_transaction": 7}, []),
    ],
)  # fmt: skip
def test_what_a_shape_leaves_to_be_asked(type_: str, subject: Json, wanted: list[str]) -> None:
    content = event("evt_1", type_, subject)
    fact = fact_of("evt_1", type_, new_event(content).created, 1, orjson.dumps(content))
    assert [" ".join(filter(None, want)) for want in wanted_by(fact)] == wanted


async def test_a_long_invoice_is_completed_with_every_page(
    observer: Observer, services: Services, standin: StandIn
) -> None:
    lines = [{"id": f"il_{n}", "object": "line_item"} for n in range(230)]
    standin.world.put(INVOICE | {"_lines": lines})
    await append(services, told("evt_1", "invoice.finalized", INVOICE, created=1_768_000_000))
    done = await observer.work_off()
    assert (done.answered, done.given_up) == (1, 0)
    [seen] = await observations(services)
    assert (seen.stream_id, seen.source, int(seen.created.timestamp())) == ("self:test/cus_1", "api", 1_768_000_000)
    assert [len(orjson.loads(page)["data"]) for page in responses_of(seen.body)] == [100, 100, 30]
    fact = fact_of(seen.event_id, seen.type, seen.created, seen.position, seen.body)
    assert [one["id"] for one in fact.subject["data"]] == [one["id"] for one in lines]
    content = orjson.loads(seen.body)["data"]["object"]
    assert (content["of"], content["because"], content["invoice"]) == ("in_1", "evt_1", "in_1")
    assert content["requests"][1] == {
        "method": "GET", "path": "/v1/invoices/in_1/lines", "query": {"limit": "100", "starting_after": "il_99"},
        "stripe_account": None, "stripe_version": "2026-10-28.endive", "request_id": "req_2",
    }  # fmt: skip


async def test_each_thing_is_asked_once(observer: Observer, services: Services, standin: StandIn) -> None:
    standin.world.put(INVOICE | {"_lines": []}, {"id": "txn_1", "object": "balance_transaction", "fee": 120})
    charge = {"id": "ch_1", "object": "charge", "balance_transaction": "txn_1", "payment_intent": "pi_1"}
    for number, (type_, subject) in enumerate(
        [("invoice.finalized", INVOICE), ("invoice.paid", INVOICE), ("charge.succeeded", charge)] * 2
    ):
        await append(services, told(f"evt_{number}", type_, subject))
        await observer.work_off()
    assert standin.paths() == ["GET /v1/invoices/in_1/lines", "GET /v1/balance_transactions/txn_1"]
    assert [one.stream_id for one in await observations(services)] == ["self:test/cus_1", "self:test/pi_1"]


async def test_what_an_answer_names_is_asked_in_turn(observer: Observer, services: Services, standin: StandIn) -> None:
    discount = {"id": "di_1", "object": "discount", "source": {"coupon": "a/b?c"}}
    standin.world.put(subscription(discounts=["di_1"]), discount, {"id": "a/b?c", "object": "coupon"})
    await append(services, told("evt_1", "customer.subscription.created", subscription(discounts=["di_1"])))
    await observer.work_off()
    assert next(path for _, path, _, _ in standin.requests) == "/v1/subscriptions/sub_1"
    discounts, coupon = await observations(services)
    assert (coupon.type, coupon.stream_id) == ("ledger.observation.terms_recorded", "self:test/a/b?c")
    assert discounts.stream_id == "self:test/cus_1"


async def test_a_coupon_that_an_event_told_of_is_not_asked_for(
    observer: Observer, services: Services, standin: StandIn
) -> None:
    discount = {"id": "di_1", "object": "discount", "customer": "cus_1", "source": {"coupon": "c"}}
    await append(
        services,
        told("evt_1", "coupon.created", {"id": "c", "object": "coupon"}),
        told("evt_2", "customer.discount.created", discount),
    )
    await observer.work_off()
    assert standin.requests == []


async def test_a_connected_accounts_objects_are_asked_of_it(
    observer: Observer, services: Services, standin: StandIn
) -> None:
    standin.connect("acct_A").put({"id": "txn_1", "object": "balance_transaction", "fee": 1})
    charge = {"id": "ch_1", "object": "charge", "balance_transaction": "txn_1"}
    await append(services, told("evt_1", "charge.succeeded", charge, account="acct_A"))
    await observer.work_off()
    assert standin.requests[-1][3]["stripe-account"] == "acct_A"
    assert len(await observations(services, "acct_A:test")) == 1


async def test_the_other_modes_objects_wait(observer: Observer, services: Services, standin: StandIn) -> None:
    await append(services, event("evt_1", "invoice.finalized", INVOICE, live=True))
    await observer.work_off()
    assert standin.requests == []
    async with services.pool.acquire() as connection:
        assert await wants.counts(connection) == {("self:live", "open"): 1}


async def test_what_stays_away_is_asked_again_later_and_given_up_in_the_end(
    observer: Observer, services: Services, standin: StandIn, clock: ManualClock
) -> None:
    standin.world.put(INVOICE | {"_lines": []})
    standin.faults = itertools.repeat("403")
    await append(services, told("evt_1", "invoice.finalized", INVOICE))
    for number in range(TRIES):
        assert (await observer.work_off()).given_up == (number == TRIES - 1)
        assert (await observer.work_off()).waiting == 0, "not before its time"
        clock.forward(hours=7)
    async with services.pool.acquire() as connection:
        [one] = await wants.list_wanted(connection, "self:test", "given_up", 10)
        assert one.error is not None
        assert "no permission" in one.error
        standin.faults = itertools.repeat("")
        assert await wants.try_again(connection, clock.now) == 1
    assert (await observer.work_off()).answered == 1


@pytest.mark.parametrize("fault", BODIES)
async def test_what_is_no_answer_of_stripes_is_never_recorded(
    observer: Observer, services: Services, standin: StandIn, clock: ManualClock, fault: str
) -> None:
    standin.world.put(INVOICE | {"_lines": []}, {"id": "txn_1", "object": "balance_transaction"})
    charge = {"id": "ch_1", "object": "charge", "customer": "cus_1", "balance_transaction": "txn_1"}
    await append(services, told("evt_1", "invoice.finalized", INVOICE), told("evt_2", "charge.succeeded", charge))
    standin.faults = itertools.repeat(fault)
    assert came_to(await observer.work_off()) == (0, 2, 0)
    assert await observations(services) == []
    standin.faults = itertools.repeat("")
    clock.forward(hours=7)
    assert came_to(await observer.work_off()) == (2, 0, 0)


async def test_a_list_that_is_none_keeps_nothing_else_from_being_asked(
    observer: Observer, services: Services, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.world.put({"id": "txn_1", "object": "balance_transaction"})
    monkeypatch.setitem(BODIES, "empty", '{"object": "list"}')
    charge = {"id": "ch_1", "object": "charge", "customer": "cus_1", "balance_transaction": "txn_1"}
    later = {"created": 1_768_000_900}
    await append(services, told("evt_1", "invoice.finalized", INVOICE))
    standin.faults = iter(["empty"])
    assert came_to(await observer.work_off()) == (0, 1, 0)
    await append(services, told("evt_2", "charge.succeeded", charge, **later))
    assert came_to(await observer.work_off()) == (1, 0, 0)


async def test_what_is_gone_is_given_up_at_once(observer: Observer, services: Services, standin: StandIn) -> None:
    await append(services, told("evt_1", "invoice.finalized", INVOICE))
    assert (await observer.work_off()).given_up == 1
    assert len(standin.requests) == 1


async def test_killed_between_append_and_note_nothing_is_asked_or_kept_twice(
    observer: Observer, services: Services, standin: StandIn, owner: asyncpg.Connection
) -> None:
    standin.world.put(INVOICE | {"_lines": []})
    await append(services, told("evt_1", "invoice.finalized", INVOICE))
    await observer.work_off()
    await owner.execute("UPDATE ledger.wanted SET state = 'open'; DELETE FROM ledger.observer")
    await observer.work_off()
    assert len(standin.requests) == 1
    assert len(await observations(services)) == 1
    assert await owner.fetchval("SELECT count(*) FROM ledger.event_conflict") == 0


async def test_it_describes_the_earliest_version_that_lacked_it(
    observer: Observer, services: Services, standin: StandIn
) -> None:
    standin.world.put(INVOICE | {"_lines": []})
    await append(
        services,
        told("evt_2", "invoice.paid", INVOICE, created=1_768_000_900),
        told("evt_1", "invoice.finalized", INVOICE, created=1_768_000_000),
    )
    await observer.work_off()
    [seen] = await observations(services)
    assert int(seen.created.timestamp()) == 1_768_000_000


def test_a_want_reads_well() -> None:
    assert Want("coupon", "free") == ("coupon", "free", "")


async def test_a_thin_event_is_stored_and_left_alone(observer: Observer, services: Services, standin: StandIn) -> None:
    thin = {
        "id": "evt_thin", "object": "v2.core.event", "type": "v1.invoice.paid", "created": "2026-01-15T12:00:00.123Z",
        "livemode": False, "context": "acct_A",
        "related_object": {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"},
    }  # fmt: skip
    await append(services, thin)
    assert (await observer.work_off()).answered == 0
    assert standin.requests == []
    async with services.pool.acquire() as connection:
        [stored] = await read_page(connection, "acct_A:test", Filter(), 10)
    assert (stored.event_id, stored.stream_id) == ("evt_thin", "acct_A:test/in_1")

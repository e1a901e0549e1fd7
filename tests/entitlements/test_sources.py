"""Every source of access, told event by event: what it gives, whatever order its events come in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from projections.catalog import Published, parse_catalog
from projections.contract import Subject
from projections.entitlements.answer import Answer, answer_all
from projections.entitlements.belonging import org_at
from projections.entitlements.compared import Compared, compared
from projections.entitlements.rows import Holdings, ProductRow
from projections.facts import Fact, fact_of
from tests.projections.histories import PROJECTION, held
from tests.stripe_events import Json, event, subscription

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
PRODUCTS = [
    ProductRow("", "self:live", "prod_1", "sso,seats=quantity", START - timedelta(days=9), None, ("evt_p",)),
    ProductRow("", "self:live", "prod_2", "course", START - timedelta(days=9), None, ("evt_q",)),
]
DAY = 86_400


def fact(at: float, type_: str, subject: Json, name: str | None = None) -> Fact:
    created = int(START.timestamp() + at)
    event_id = name or f"evt_{type_}_{subject.get('id', 'x')}_{at:g}"
    body = orjson.dumps(event(event_id, type_, subject, created=created))
    return fact_of(event_id, type_, datetime.fromtimestamp(created, UTC), 1, body)


def observation(at: float, kind: str, of: str, data: list[Json]) -> Fact:
    subject = {"object": "list", "kind": kind, "of": of, "data": data}
    return fact(at, "ledger.observation.recorded", {}, f"obs_{of}")._replace(subject=subject, observed=True)


def holdings_of(facts: Sequence[Fact], holder: str = "cus_1") -> Holdings:
    """Fold in several orders; they must agree."""
    chance = random.Random(1)
    found = []
    for _ in range(4):
        arrived = [*facts, *chance.choices(facts, k=2)]
        chance.shuffle(arrived)
        found.append(held(PROJECTION, Subject("self:live", f"self:live/{holder}"), arrived, PRODUCTS))
    assert all(one == found[0] for one in found)
    return found[0]


def answers(facts: Sequence[Fact], at: float, catalog: str = "") -> dict[str, Answer]:
    published = (Published(None, parse_catalog(catalog)),) if catalog else ()
    return {one.feature: one for one in answer_all(holdings_of(facts), published, START + timedelta(seconds=at))}


def told(facts: Sequence[Fact], at: float, feature: str, catalog: str = "") -> Any:
    """Say what is answered: the value, or why not."""
    answer = answers(facts, at, catalog).get(feature)
    if answer is None:
        return "never"
    return answer.value if answer.granted else answer.reason


def session(status: str = "paid", **more: Any) -> Json:
    return {
        "id": "cs_1",
        "object": "checkout.session",
        "mode": "payment",
        "payment_status": status,
        "customer": "cus_1",
        "payment_intent": "pi_1",
        "amount_total": 500,
        "metadata": {"ledger_product": "prod_2"},
    } | more


def invoice(status: str = "paid", **more: Any) -> Json:
    return {"id": "in_1", "object": "invoice", "customer": "cus_1", "status": status, "amount_due": 500, "total": 500,
            "amount_paid": 500, "lines": {"data": []}} | more  # fmt: skip


NEW_LINE = {
    "id": "il_1", "quantity": 3,
    "parent": {"type": "invoice_item_details", "invoice_item_details": {"proration": False}},
    "pricing": {"price_details": {"price": "price_1", "product": "prod_1"}},
}  # fmt: skip
OLD_LINE = {"id": "il_1", "type": "invoiceitem", "quantity": 3, "proration": False,
            "price": {"id": "price_1", "product": "prod_1", "type": "one_time"}}  # fmt: skip


@pytest.mark.parametrize("line", [NEW_LINE, OLD_LINE], ids=["new", "old"])
def test_a_paid_line_that_sells_once_grants_as_long_as_its_payment_stands(line: Json) -> None:
    facts = [
        fact(0, "invoice.finalized", invoice("open", lines={"data": [line]})),
        fact(10, "invoice.paid", invoice(lines={"data": [line]})),
        fact(11, "invoice_payment.paid", {"id": "inpay_1", "invoice": "in_1", "amount_paid": 500,
                                          "payment": {"payment_intent": "pi_1"}}),
        fact(50, "refund.created", {"id": "re_1", "payment_intent": "pi_1", "amount": 500, "status": "pending"}),
        fact(60, "refund.failed", {"id": "re_1", "payment_intent": "pi_1", "amount": 500, "status": "failed"}),
    ]  # fmt: skip
    assert [told(facts, at, "seats") for at in (0, 10, 49, 50, 60)] == ["never", 3, 3, "refunded", 3]


@pytest.mark.parametrize(
    ("shown", "then"),
    [
        ({"amount_due": 0, "amount_paid": 0, "pre_payment_credit_notes_amount": 500}, "never"),
        ({"amount_due": 300, "amount_paid": 300, "pre_payment_credit_notes_amount": 200}, 3),
        ({"amount_due": 0, "amount_paid": 0, "pre_payment_credit_notes_amount": 200, "ending_balance": 300}, 3),
        ({"amount_due": 0, "amount_paid": 0, "total": 0}, 3),
    ],
    ids=["all credited", "a part credited", "a part credited, the rest paid by credit", "given away"],
)
@pytest.mark.parametrize("line", [NEW_LINE, OLD_LINE], ids=["new", "old"])
def test_what_credit_notes_closed_before_it_was_paid_is_not_bought(line: Json, shown: Json, then: object) -> None:
    open_ = invoice("open", amount_paid=0, lines={"data": [line]})
    closed = invoice(lines={"data": [line]}) | shown
    facts = [fact(0, "invoice.finalized", open_), fact(10, "invoice.paid", closed)]
    assert told(facts, 11, "seats") == then


def test_what_was_sent_and_never_paid_has_no_grace_anew_with_every_invoice() -> None:
    """A subscription whose invoices are sent is active at once: its first invoice is owed like any other."""

    def sent(key: str, reason: str, due: float) -> Json:
        more = {"collection_method": "send_invoice", "billing_reason": reason, "subscription": "sub_1"}
        return invoice("open", id=key, due_date=int(START.timestamp() + due * DAY), **more)

    shown = {"collection_method": "send_invoice"}
    facts = [
        fact(0, "customer.subscription.created", subscription(**shown)),
        fact(0, "invoice.finalized", sent("in_1", "subscription_create", 10)),
        fact(10 * DAY, "customer.subscription.updated", subscription(status="past_due", **shown)),
        fact(30 * DAY, "invoice.finalized", sent("in_2", "subscription_cycle", 40)),
    ]
    found = [told(facts, day * DAY, "seats") for day in (9, 12, 13, 39, 40, 41)]
    assert found == [1, 1, "grace_over", "grace_over", "grace_over", "grace_over"]


@pytest.mark.parametrize(("began", "over"), [("incomplete", 38), ("active", 35)])
def test_a_first_invoice_is_owed_since_its_failure_unless_its_subscription_had_not_begun(began: str, over: int) -> None:
    """A bank may refuse a debit days after the subscription has become active."""
    capped = """
        [policy]
        past_due = "grace"
        past_due_grace_days = 30
        [features.seats]
        kind = "quantity"
        [[plans]]
        product = "prod_1"
        features = { seats = "quantity" }
    """
    first = invoice("open", subscription="sub_1", billing_reason="subscription_create")
    facts = [
        fact(0, "customer.subscription.created", subscription(status=began)),
        fact(5 * DAY, "invoice.payment_failed", first),
        fact(6 * DAY, "customer.subscription.updated", subscription(status="active")),
        fact(8 * DAY, "customer.subscription.updated", subscription(status="past_due")),
    ]
    assert [told(facts, day * DAY, "seats", capped) for day in (over - 1, over)] == [1, "grace_over"]


@pytest.mark.parametrize("shape", ["new", "old"])
def test_a_subscription_ends_with_its_longest_period_and_is_stale_three_days_after(shape: str) -> None:
    ends = [int(START.timestamp()) + days * DAY for days in (10, 30)]
    sold = subscription(items="si_1:prod_1*1 si_2:prod_2*1", cancel_at_period_end=True)
    if shape == "new":
        for item, end in zip(sold["items"]["data"], ends, strict=True):
            item["current_period_end"] = end
    else:
        sold["current_period_end"] = max(ends)
    facts = [fact(0, "customer.subscription.created", sold)]
    found = [answers(facts, days * DAY)["sso"] for days in (0, 30, 32.99, 33)]
    assert {one.ends_at for one in found} == {START + timedelta(days=30)}
    assert [(one.granted, one.stale) for one in found] == [(True, False), (True, False), (True, False), (True, True)]
    gone = [*facts, fact(30 * DAY, "customer.subscription.deleted", sold | {"status": "canceled"})]
    assert {row.ends_at for row in holdings_of(gone).sources if row.status == "canceled"} == {None}


def test_what_costs_nothing_is_bought_at_once() -> None:
    assert told([fact(0, "checkout.session.completed", session("no_payment_required"))], 1, "course") is True


def test_what_is_refunded_in_part_is_kept_and_says_so() -> None:
    charge = {"id": "ch_1", "object": "charge", "amount": 500, "amount_refunded": 100, "payment_intent": "pi_1"}
    facts = [fact(0, "checkout.session.completed", session()), fact(10, "charge.refunded", charge)]
    found = [answers(facts, at)["course"] for at in (9, 10)]
    assert [(one.granted, one.sources[0].source.note) for one in found] == [(True, None), (True, "partially refunded")]


def test_a_line_by_hand_at_a_recurring_price_is_no_purchase() -> None:
    recurring = OLD_LINE | {"price": {"id": "price_1", "product": "prod_1", "type": "recurring"}}
    assert told([fact(0, "invoice.paid", invoice(lines={"data": [recurring]}))], 1, "seats") == "never"


def test_a_payment_of_two_invoices_has_come_back_when_all_of_it_has() -> None:
    def part(number: int, amount: int) -> Json:
        return {
            "id": f"inpay_{number}",
            "object": "invoice_payment",
            "invoice": f"in_{number}",
            "status": "paid",
            "amount_paid": amount,
            "payment": {"payment_intent": "pi_1"},
        }

    def back(key: str, amount: int) -> Json:
        return {"id": key, "object": "refund", "payment_intent": "pi_1", "amount": amount, "status": "succeeded"}

    other = NEW_LINE | {"id": "il_2", "pricing": {"price_details": {"price": "price_2", "product": "prod_2"}}}
    facts = [
        fact(0, "invoice.paid", invoice(lines={"data": [NEW_LINE]})),
        fact(0, "invoice.paid", invoice(id="in_2", lines={"data": [other]})),
        fact(1, "invoice_payment.paid", part(1, 500)),
        fact(1, "invoice_payment.paid", part(2, 500)),
        fact(10, "refund.created", back("re_1", 500)),
        fact(20, "refund.created", back("re_2", 500)),
    ]
    found = [(told(facts, at, "seats"), told(facts, at, "course")) for at in (9, 10, 20)]
    assert found == [(3, True), (3, True), ("refunded", "refunded")]


@pytest.mark.parametrize(
    ("shown", "then"),
    [
        ({"amount_due": 0}, "grace_over"),
        ({"amount_due": 500}, 1),
        ({"amount_due": 0, "starting_balance": -700, "ending_balance": -200}, 1),  # credit is money that was paid
        ({"amount_due": 0, "starting_balance": 0, "ending_balance": 500}, "grace_over"),  # too little to charge: a debt
    ],
)
def test_what_began_for_nothing_has_paid_nothing(shown: Json, then: object) -> None:
    first = invoice(subscription="sub_1", billing_reason="subscription_create") | shown
    facts = [
        fact(0, "customer.subscription.created", subscription(status="active")),
        fact(0, "invoice.paid", first),
        fact(1, "invoice.payment_succeeded", first),
        fact(100, "customer.subscription.updated", subscription(status="past_due")),
    ]
    assert [told(facts, at, "seats") for at in (0, 100, 100 + 3 * DAY)] == [1, 1, then]


def test_a_purchase_stands_while_what_was_paid_outside_of_stripe_has_not_come_back() -> None:
    def payment(amount: int, kind: str, key: str) -> Json:
        return {"id": f"inpay_{key}", "object": "invoice_payment", "invoice": "in_1", "status": "paid",
                "amount_paid": amount, "payment": {"type": kind, kind: key}}  # fmt: skip

    charge = {"id": "ch_1", "object": "charge", "amount": 100, "amount_refunded": 100, "payment_intent": "pi_1"}
    facts = [
        fact(0, "invoice.paid", invoice(lines={"data": [NEW_LINE]})),
        fact(0, "invoice_payment.paid", payment(400, "payment_record", "pr_1")),
        fact(0, "invoice_payment.paid", payment(100, "payment_intent", "pi_1")),
        fact(10, "charge.refunded", charge),
    ]
    assert [told(facts, at, "seats") for at in (9, 10)] == [3, 3]
    assert told([facts[0], *facts[2:]], 10, "seats") == "refunded"


def test_prorations_and_subscription_lines_grant_nothing_by_themselves() -> None:
    recurring: Json = {"id": "il_2", "type": "subscription", "price": {"id": "price_1", "product": "prod_1"}}
    proration = OLD_LINE | {"proration": True}
    facts = [fact(0, "invoice.paid", invoice(subscription="sub_1", lines={"data": [recurring, proration]}))]
    assert answers(facts, 1) == {}


def test_a_line_that_takes_off_sells_nothing() -> None:
    credit = NEW_LINE | {"id": "il_2", "amount": -200, "pricing": {"price_details": {"product": "prod_2"}}}
    facts = [fact(0, "invoice.paid", invoice(lines={"data": [NEW_LINE | {"amount": 700}, credit]}))]
    assert (told(facts, 1, "seats"), told(facts, 1, "course")) == (3, "never")


def test_an_invoice_of_a_checkout_grants_once() -> None:
    facts = [
        fact(0, "invoice.paid", invoice(lines={"data": [NEW_LINE]})),
        fact(0, "checkout.session.completed", session(invoice="in_1", metadata={"ledger_price": "price_1",
             "ledger_product": "prod_1", "ledger_quantity": "3"})),
    ]  # fmt: skip
    assert told(facts, 1, "seats") == 3
    assert (
        told([facts[0], fact(0, "checkout.session.completed", session(invoice="in_1", metadata={}))], 1, "seats") == 3
    )


@pytest.mark.parametrize("metadata", [{"ledger_product": "prod_2"}, {}], ids=["named", "by its lines"])
def test_what_a_checkout_sold_by_an_invoice_goes_back_with_that_invoice_s_payment(metadata: Json) -> None:
    line: Json = NEW_LINE | {"pricing": {"price_details": {"price": "price_2", "product": "prod_2"}}}
    payment = {"id": "inpay_1", "invoice": "in_1", "amount_paid": 500, "payment": {"payment_intent": "pi_1"}}
    charge = {"id": "ch_1", "object": "charge", "amount": 500, "amount_refunded": 500, "payment_intent": "pi_1"}
    facts = [
        fact(0, "invoice.paid", invoice(lines={"data": [line]})),
        fact(0, "invoice_payment.paid", payment),
        fact(1, "checkout.session.completed", session(invoice="in_1", payment_intent=None, metadata=metadata)),
        fact(50, "charge.refunded", charge),
        fact(60, "refund.failed", {"id": "re_1", "payment_intent": "pi_1", "amount": 500, "status": "failed"}),
    ]
    assert [told(facts, at, "course") for at in (2, 50, 60)] == [True, "refunded", True]


def test_what_was_bought_is_learned_from_an_observation() -> None:
    facts = [fact(0, "checkout.session.completed", session(metadata={}))]
    [row] = holdings_of(facts).sources
    assert (row.product, row.status) == (None, "paid")
    assert answers(facts, 1) == {}
    items = [{"id": "li_1", "quantity": 2, "price": {"id": "price_1", "product": "prod_1", "lookup_key": "team"}}]
    facts.append(observation(0, "checkout.session.line_items", "cs_1", items))
    assert told(facts, 1, "seats") == 2


def test_a_session_that_is_paid_later_grants_once_in_any_order_within_a_second() -> None:
    facts = [
        fact(0, "checkout.session.completed", session("unpaid"), "evt_b"),
        fact(0, "checkout.session.async_payment_succeeded", session("paid"), "evt_a"),
    ]
    assert told(facts, 0, "course") is True
    assert len(holdings_of(facts).sources) == 1


@pytest.mark.parametrize("names", [{"payment_intent": "pi_1"}, {"payment_intent": None}])
def test_what_was_only_authorised_is_bought_when_it_is_captured(names: Json) -> None:
    """Of a session with manual capture no later event says that it was paid."""
    charge = {"id": "ch_1", "object": "charge", "customer": "cus_1", "amount": 500, "amount_captured": 500} | names
    link = {"id": "re_0", "object": "refund", "charge": "ch_1", "payment_intent": "pi_1", "amount": 0}
    facts = [
        fact(0, "checkout.session.completed", session("unpaid")),
        fact(5, "refund.created", link | {"status": "canceled"}),
        fact(10, "charge.captured", charge),
        fact(20, "refund.created", link | {"id": "re_1", "amount": 500, "status": "succeeded"}),
    ]
    assert [told(facts, at, "course") for at in (9, 10, 20)] == ["pending", True, "refunded"]
    assert told([facts[2]._replace(created=START), *facts[:2]], 10, "course") is True


@pytest.mark.parametrize("released", [0, 490])
def test_what_was_captured_in_part_is_taken_back_once_all_of_that_went_back(released: int) -> None:
    """*charge.refunded with refunded=true: revoke*, whether or not what was let go counts as refunded."""
    held = session("unpaid", amount_total=1190, payment_intent="pi_1")
    taken = {
        "id": "ch_1",
        "object": "charge",
        "customer": "cus_1",
        "payment_intent": "pi_1",
        "amount": 1190,
        "amount_captured": 700,
        "captured": True,
        "amount_refunded": released,
        "refunded": False,
    }
    refund = {"id": "re_1", "object": "refund", "charge": "ch_1", "payment_intent": "pi_1", "amount": 700}
    facts = [
        fact(0, "checkout.session.completed", held),
        fact(10, "charge.captured", taken),
        fact(20, "charge.refunded", taken | {"amount_refunded": released + 600}),
        fact(30, "charge.refunded", taken | {"amount_refunded": released + 700, "refunded": True}),
        fact(30, "refund.updated", refund | {"status": "succeeded"}),
        fact(40, "refund.failed", refund | {"status": "failed"}),
    ]
    assert [answers(facts, at)["course"].reason for at in (0, 15, 25, 35, 45)] == [
        "pending",
        "one_time",
        "one_time",
        "refunded",
        "one_time",
    ]


def test_a_guests_purchase_belongs_to_the_payment_and_its_org() -> None:
    facts = [fact(0, "checkout.session.completed", session(customer=None, client_reference_id="acme"))]
    holdings = holdings_of(facts, "pi_1")
    assert [(row.customer, row.product) for row in holdings.sources] == [("pi_1", "prod_2")]
    assert org_at(holdings, START) == "acme"


def test_a_refund_may_come_before_what_it_refunds_is_known() -> None:
    charge = {"id": "ch_1", "object": "charge", "amount": 500, "amount_refunded": 500, "refunded": True,
              "customer": "cus_1", "payment_intent": "pi_1"}  # fmt: skip
    facts = [fact(5, "charge.refunded", charge), fact(0, "checkout.session.completed", session())]
    assert [told(facts, at, "course") for at in (0, 5)] == [True, "refunded"]
    dispute = {"id": "dp_1", "object": "dispute", "charge": "ch_1", "status": "lost"}
    late = [*facts[1:], fact(2, "charge.refunded", charge | {"amount_refunded": 100, "refunded": False}),
            fact(6, "charge.dispute.created", dispute)]  # fmt: skip
    assert [told(late, at, "course") for at in (2, 6)] == [True, "disputed"]


def test_an_items_own_trial() -> None:
    sold = subscription(items="si_1:prod_1*2 si_2:prod_2*1")
    sold["items"]["data"][1]["current_trial"] = {"end_date": int(START.timestamp()) + DAY}
    facts = [fact(0, "customer.subscription.created", sold)]
    found = answers(facts, 1)
    assert (found["seats"].state, found["course"].state) == ("active", "trial")
    assert (found["seats"].ends_at, found["course"].ends_at) == (None, START + timedelta(days=1))
    assert answers(facts, 2 * DAY)["course"].granted


def test_a_first_page_of_items_takes_none_away_and_is_completed() -> None:
    first = subscription(items="si_1:prod_1*2 si_2:prod_2*1")
    page = subscription(items="si_1:prod_1*4", status="past_due")
    page["items"]["has_more"] = True
    facts = [fact(0, "customer.subscription.created", first), fact(9, "customer.subscription.updated", page)]
    assert (told(facts, 9, "seats"), answers(facts, 9)["course"].state) == (4, "grace")
    whole = subscription(items="si_1:prod_1*4")["items"]["data"]
    completed = [*facts, observation(9, "subscription.items", "sub_1", whole)]
    assert (told(completed, 9, "seats"), told(completed, 9, "course")) == (4, "expired")


def test_what_another_plan_replaced_is_denied_because_of_the_event_that_replaced_it() -> None:
    facts = [
        fact(0, "customer.subscription.created", subscription(), "evt_made"),
        fact(10, "customer.subscription.updated", subscription(items="si_1:prod_1*4"), "evt_more"),
        fact(20, "customer.subscription.updated", subscription(items="si_1:prod_2*4"), "evt_other"),
        fact(30, "customer.subscription.updated", subscription(items="si_1:prod_2*5"), "evt_later"),
    ]
    answer = answers(facts, 40)["sso"]
    assert (answer.reason, answer.because) == ("expired", ("evt_made", "evt_more", "evt_other"))


def test_what_was_removed_is_denied_because_of_the_event_that_removed_it() -> None:
    both, one = subscription(items="si_1:prod_1*2 si_2:prod_2*1"), subscription(items="si_1:prod_1*2")
    facts = [
        fact(0, "customer.subscription.created", both, "evt_made"),
        fact(10, "customer.subscription.updated", one, "evt_gone"),
        fact(20, "customer.subscription.updated", both, "evt_back"),
        fact(30, "customer.subscription.updated", one, "evt_again"),
        fact(40, "customer.subscription.updated", subscription(items="si_1:prod_1*3"), "evt_later"),
    ]
    course = [answers(facts, at)["course"] for at in (5, 15, 25, 45)]
    assert [(one.granted, one.reason) for one in course] == [
        (True, "active"),
        (False, "expired"),
        (True, "active"),
        (False, "expired"),
    ]
    assert [one.because for one in course] == [
        ("evt_made",),
        ("evt_made", "evt_gone"),
        ("evt_made", "evt_back"),
        ("evt_made", "evt_back", "evt_again"),
    ]


def test_stripes_own_entitlement_that_is_gone_is_denied_because_of_the_summary_without_it() -> None:
    listed = {"object": "list", "data": [{"id": "ent_1", "feature": "feat_1", "lookup_key": "sso"}], "has_more": False}
    summary = {"object": "entitlements.active_entitlement_summary", "customer": "cus_1", "entitlements": listed}
    gone = summary | {"entitlements": listed | {"data": []}}
    changed = "entitlements.active_entitlement_summary.updated"
    catalog = '[policy]\nstripe_entitlements = "grant"\n'
    found = answers([fact(0, changed, summary, "evt_1"), fact(10, changed, gone, "evt_2")], 20, catalog)["sso"]
    assert (found.granted, found.reason, found.because) == (False, "expired", ("evt_1", "evt_2"))


def test_a_decimal_quantity_counts_before_a_whole_one() -> None:
    sold = subscription(items="si_1:prod_1*2")
    sold["items"]["data"][0]["quantity_decimal"] = "2.5"
    assert str(told([fact(0, "customer.subscription.created", sold)], 0, "seats")) == "2.5"


def test_a_pending_update_is_not_in_force() -> None:
    waiting = subscription(
        items="si_1:prod_1*2", pending_update={"subscription_items": [{"id": "si_1", "quantity": 9}]}
    )
    assert told([fact(0, "customer.subscription.updated", waiting)], 0, "seats") == 2


# Organisations.


def org_by_time(facts: Sequence[Fact], *at: float) -> list[str | None]:
    holdings = holdings_of(facts)
    return [org_at(holdings, START + timedelta(seconds=one)) for one in at]


def test_who_says_the_organisation_and_that_the_first_holds_back() -> None:
    sold = subscription()
    facts = [
        fact(0, "customer.created", {"id": "cus_1", "object": "customer"}),
        fact(5, "customer.subscription.created", sold),
        fact(10, "customer.updated", {"id": "cus_1", "object": "customer", "metadata": {"org_id": "customers"}}),
        fact(20, "checkout.session.completed", {"id": "cs_9", "mode": "subscription", "customer": "cus_1",
             "subscription": "sub_1", "client_reference_id": "checkouts"}),
        fact(30, "customer.subscription.updated", sold | {"metadata": {"org_id": "subscriptions"}}),
        fact(40, "customer.subscription.updated", sold | {"metadata": {"org_id": ""}}),
    ]  # fmt: skip
    assert org_by_time(facts, 5, 10, 20, 30, 40) == [
        "customers",
        "customers",
        "checkouts",
        "subscriptions",
        "checkouts",
    ]
    assert org_by_time(facts[:3], 5, 10) == ["customers", "customers"]


def test_an_organisation_has_what_belonged_to_it_while_it_did() -> None:
    sold = subscription(items="si_1:prod_1*5", metadata={"org_id": "acme"})
    facts = [
        fact(0, "customer.subscription.created", sold),
        fact(10, "customer.subscription.updated", sold | {"metadata": {"org_id": "beta"}}),
        fact(20, "customer.subscription.deleted", sold | {"metadata": {"org_id": "beta"}, "status": "canceled"}),
    ]
    own = holdings_of(facts)

    def seats(org: str, at: float) -> Any:
        as_org = replace(own, holder=f"org:{org}")
        found = {one.feature: one for one in answer_all(as_org, (), START + timedelta(seconds=at))}
        answer = found.get("seats")
        return None if answer is None else answer.value if answer.granted else answer.reason

    assert [seats("acme", at) for at in (0, 9, 10, 20)] == [5, 5, "expired", "expired"]
    assert [seats("beta", at) for at in (0, 9, 10, 20)] == [None, None, 5, "canceled"]


# Stripe's own entitlements.


def summary(at: float, *features: str, shown: Json | None = None) -> Fact:
    data = [{"id": f"ent_{name}", "feature": f"feat_{name}", "lookup_key": name} for name in features]
    subject = {
        "object": "entitlements.active_entitlement_summary",
        "customer": "cus_1",
        "entitlements": {"object": "list", "data": data, "has_more": False},
    }
    return fact(at, "entitlements.active_entitlement_summary.updated", subject | (shown or {}), f"evt_s{at:g}")


GRANT = '[policy]\nstripe_entitlements = "grant"\n'


def test_stripes_entitlements_count_by_policy_and_stay_behind_the_others() -> None:
    sold = subscription(items="si_1:prod_9*1")
    facts = [
        fact(0, "customer.subscription.created", sold),
        summary(0, "audit"),
        fact(10, "customer.subscription.updated", sold | {"status": "past_due"}),
        fact(20, "customer.subscription.paused", sold | {"status": "paused"}),
        summary(30),
    ]
    assert "audit" not in answers(facts, 5)
    assert "audit" not in answers(facts, 5, '[policy]\nstripe_entitlements = "ignore"\n')
    said = [(answers(facts, at, GRANT)["audit"].reason) for at in (0, 10, 20, 30)]
    assert said == ["active", "grace", "paused", "expired"]


@pytest.mark.parametrize(
    "shown",
    [{"has_more": True}, {"entitlements": {"data": [{"lookup_key": "audit"}], "has_more": True}}],
    ids=["the summary says so", "its list says so"],
)
def test_a_first_page_of_entitlements_revokes_nothing(shown: Json) -> None:
    facts = [summary(0, "audit", "sso"), summary(10, "audit", shown=shown)]
    assert [told(facts, 10, name, GRANT) for name in ("audit", "sso")] == [True, True]
    at = START + timedelta(seconds=10)
    assert compared(holdings_of(facts), (), at) == Compared(False, ["audit", "sso"], [])
    listed = [{"feature": "feat_audit", "lookup_key": "audit"}]
    completed = [*facts, observation(10, "customer.active_entitlements", "cus_1", listed)]
    assert [told(completed, 10, name, GRANT) for name in ("audit", "sso")] == [True, "expired"]
    assert compared(holdings_of(completed), (), at) == Compared(True, ["audit"], [])


# Grants.


def grant(at: float, key: str = "grant_1", **more: Any) -> Fact:
    subject = {"id": key, "object": "ledger.grant", "customer": "cus_1", "feature": "beta", "reason": "goodwill"} | more
    return fact(at, "ledger.grant.created", subject)


def test_a_grant_has_times_of_its_own() -> None:
    facts = [grant(100, valid_from="2026-01-15T11:00:00Z", valid_until="2026-01-16T12:00:00Z", value="5")]
    assert [told(facts, at, "beta") for at in (-3601, -3600, 0, DAY - 1, DAY)] == ["never", 5, 5, 5, "expired"]
    later = [grant(0, valid_from="2026-01-20T00:00:00Z")]
    assert told(later, DAY, "beta") == "never"
    taken = [*later, fact(50, "ledger.grant.deleted", {"id": "grant_1", "customer": "cus_1", "reason": "no"})]
    assert told(taken, 10 * DAY, "beta") == "revoked"


def test_a_grant_survives_what_is_no_business_of_its() -> None:
    gone = {"id": "cus_1", "object": "customer", "deleted": True}
    facts = [grant(0), fact(10, "customer.deleted", gone), grant(20, "grant_2", feature="sso")]
    assert [told(facts, at, "beta") for at in (5, 10)] == [True, "canceled"]
    assert told(facts, 20, "sso") is True


# Catalogs.

CATALOG = """
[features.seats]
kind = "quantity"
combine = "max"
[features.level]
kind = "choice"
combine = ["low", "high"]
[features.sso]
kind = "boolean"
[[plans]]
product = "prod_1"
features = { seats = "quantity", level = "low", sso = true }
[[plans]]
price = "price_2"
features = { seats = 7, level = "high" }
[[plans]]
lookup_key = "gold"
features = { level = "high" }
"""


def test_a_catalog_says_what_counts_and_how_it_combines() -> None:
    sold = subscription(items="si_1:prod_1*5 si_2:prod_2*1")
    sold["items"]["data"][0]["price"]["lookup_key"] = "silver"
    found = answers([fact(0, "customer.subscription.created", sold)], 1, CATALOG)
    assert {name: one.value for name, one in found.items()} == {"seats": 7, "level": "high", "sso": True}
    assert [(one.source.item, one.value) for one in found["level"].sources] == [("si_1", "low"), ("si_2", "high")]
    sold["items"]["data"][0]["price"]["lookup_key"] = "gold"
    sold["items"]["data"].pop()
    found = answers([fact(0, "customer.subscription.created", sold)], 1, CATALOG)
    assert {name: one.value for name, one in found.items()} == {"seats": 5, "level": "high", "sso": True}


def test_a_dispute_of_a_charge_finds_the_intent_that_is_named_later() -> None:
    dispute = {"id": "dp_1", "object": "dispute", "charge": "ch_1", "status": "needs_response"}
    facts = [
        fact(0, "checkout.session.completed", session()),
        fact(5, "charge.dispute.created", dispute),
        fact(9, "charge.dispute.funds_withdrawn", dispute | {"payment_intent": "pi_1"}),
        fact(20, "charge.dispute.closed", dispute | {"status": "won"}),
    ]
    assert [told(facts, at, "course") for at in (5, 9, 20)] == [True, "disputed", True]

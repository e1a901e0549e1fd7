"""Entitlements as stories: events in, what the customer may use out, whatever the order of arrival.

A story is a table. `at` is seconds after the start; the rest of a line is the event. What it must say is a table of
moments and what is granted then.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from projections.contract import Subject
from projections.entitlements.answer import Answer, answer_all
from projections.entitlements.rows import Holdings, ProductRow
from projections.entitlements.tables import entitlements
from projections.facts import Fact, fact_of
from projections.folding import rows_of
from tests.projections.histories import held
from tests.stripe_events import Json, event, product, subscription

START = 1_768_478_400
PROJECTION = entitlements("org_id")


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(START, UTC) + timedelta(seconds=at)


def facts_of(story: str) -> list[Fact]:
    """Read the table: ``at type status items key=value…``."""
    lines = [line.split() for line in story.strip().splitlines()]
    return [_fact(f"evt_{n}", line) for n, line in enumerate(lines, 1)]


def _fact(event_id: str, line: list[str]) -> Fact:
    at, type_, *rest = line
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    plain = [part for part in rest if "=" not in part]
    previous = orjson.loads(named.pop("previous", "null"))
    more: dict[str, Any] = {name: orjson.loads(value) for name, value in named.items()}
    subject: Json = {"id": "cus_1", "object": "customer"} | more
    if type_.startswith("customer.subscription."):
        key, status, *items = plain
        subject = subscription(key, status=status, items=" ".join(items), **more)
    content = event(event_id, type_, subject, created=START + int(at))
    if previous is not None:
        content["data"]["previous_attributes"] = previous
    position = int(event_id.removeprefix("evt_"))
    return fact_of(event_id, type_, moment(int(at)), position, orjson.dumps(content))


def holdings_of(facts: Sequence[Fact]) -> Holdings:
    return held(PROJECTION, Subject("self:live", "self:live/cus_1"), facts, PRODUCTS)


PRODUCTS = [
    ProductRow("", "self:live", "prod_1", "sso,seats=quantity", moment(-1000), None, ("evt_p",)),
    ProductRow("", "self:live", "prod_2", "audit", moment(-1000), None, ("evt_q",)),
]


def answers_at(facts: Sequence[Fact], at: int) -> dict[str, Answer]:
    return {answer.feature: answer for answer in answer_all(holdings_of(facts), (), moment(at))}


def say(answers: dict[str, Answer], feature: str) -> str:
    answer = answers.get(feature)
    if answer is None:
        return "never"
    amount = f"={answer.value}" if answer.kind == "quantity" and answer.granted else ""
    return f"{answer.reason}{amount}" if answer.granted else f"no:{answer.reason}"


STORIES = {
    "a subscription is bought, grows and is cancelled": (
        """
        0   customer.subscription.created  sub_1  incomplete  si_1:prod_1*5
        5   customer.subscription.updated  sub_1  active      si_1:prod_1*5
        60  customer.subscription.updated  sub_1  active      si_1:prod_1*8
        90  customer.subscription.deleted  sub_1  canceled    si_1:prod_1*8
        """,
        "seats",
        {-1: "never", 0: "no:incomplete", 5: "active=5", 59: "active=5", 60: "active=8", 90: "no:canceled"},
    ),
    "past due is grace, unpaid is not": (
        """
        0   customer.subscription.created  sub_1  active    si_1:prod_1*5
        10  customer.subscription.updated  sub_1  past_due  si_1:prod_1*5
        20  customer.subscription.updated  sub_1  unpaid    si_1:prod_1*5
        30  customer.subscription.updated  sub_1  active    si_1:prod_1*5
        """,
        "seats",
        {0: "active=5", 10: "grace=5", 20: "no:unpaid", 30: "active=5"},
    ),
    "what was active before the log began has paid: no clock ends its grace": (
        """
        10 customer.subscription.updated sub_1 past_due si_1:prod_1*5 previous={"status":"active"}
        """,
        "seats",
        {10: "grace=5", 2592000: "grace=5"},
    ),
    "after a trial it has paid once a second period begins": (
        """
        0 customer.subscription.created sub_1 trialing si_1:prod_1*5 trial_end=9
        10 customer.subscription.updated sub_1 active si_1:prod_1*5 trial_end=9 current_period_start=9
        100 customer.subscription.updated sub_1 active si_1:prod_1*5 trial_end=9 current_period_start=99
        200 customer.subscription.updated sub_1 past_due si_1:prod_1*5 trial_end=9 current_period_start=199
        """,
        "seats",
        {10: "active=5", 200: "grace=5", 2592000: "grace=5"},
    ),
    "after a trial that led to nothing grace is short": (
        """
        0 customer.subscription.created sub_1 trialing si_1:prod_1*5 trial_end=9
        10 customer.subscription.updated sub_1 active si_1:prod_1*5 trial_end=9 current_period_start=9
        3610 customer.subscription.updated sub_1 past_due si_1:prod_1*5 trial_end=9 current_period_start=9
        """,
        "seats",
        {10: "active=5", 3610: "grace=5", 262809: "grace=5", 262810: "no:grace_over"},
    ),
    "an invoice that was sent and never paid has short grace": (
        """
        0 customer.subscription.created sub_1 active si_1:prod_1*5 collection_method="send_invoice"
        10 customer.subscription.updated sub_1 past_due si_1:prod_1*5 collection_method="send_invoice"
        """,
        "seats",
        {10: "grace=5", 259210: "no:grace_over"},
    ),
    "a trial without a card is paused at its end": (
        """
        0   customer.subscription.created  sub_1  trialing  si_1:prod_1*1  trial_end=1768478410
        10  customer.subscription.paused   sub_1  paused    si_1:prod_1*1
        20  customer.subscription.resumed  sub_1  active    si_1:prod_1*1
        """,
        "sso",
        {0: "trial", 9: "trial", 10: "no:paused", 20: "active"},
    ),
    "one ended source never takes what another gives": (
        """
        0   customer.subscription.created  sub_1  active    si_1:prod_1*5
        5   customer.subscription.created  sub_2  active    si_2:prod_1*2
        10  customer.subscription.deleted  sub_1  canceled  si_1:prod_1*5
        20  customer.subscription.deleted  sub_2  canceled  si_2:prod_1*2
        """,
        "seats",
        {4: "active=5", 5: "active=7", 10: "active=2", 20: "no:canceled"},
    ),
    "a removed item takes its feature and leaves the others": (
        """
        0   customer.subscription.created  sub_1  active  si_1:prod_1*5  si_2:prod_2*1
        10  customer.subscription.updated  sub_1  active  si_1:prod_1*5
        """,
        "audit",
        {0: "active", 9: "active", 10: "no:expired"},
    ),
    "a pause of collection leaves access as it is": (
        """
        0   customer.subscription.created  sub_1  active  si_1:prod_1*5
        10  customer.subscription.updated  sub_1  active  si_1:prod_1*5  pause_collection={"behavior":"void"}
        """,
        "seats",
        {0: "active=5", 10: "active=5"},
    ),
    "an update from before the end that arrives after it changes nothing": (
        """
        0   customer.subscription.created  sub_1  active    si_1:prod_1*5
        10  customer.subscription.deleted  sub_1  canceled  si_1:prod_1*5
        12  customer.subscription.updated  sub_1  active    si_1:prod_1*5
        """,
        "seats",
        {9: "active=5", 10: "no:canceled", 12: "no:canceled"},
    ),
    "metadata may change after the end": (
        """
        0   customer.subscription.created  sub_1  active    si_1:prod_1*5
        10  customer.subscription.deleted  sub_1  canceled  si_1:prod_1*5
        12  customer.subscription.updated  sub_1  canceled  si_1:prod_1*5  metadata={"note":"x"}
        """,
        "seats",
        {10: "no:canceled", 12: "no:canceled"},
    ),
    "created and updated in one second": (
        """
        0  customer.subscription.created  sub_1  incomplete  si_1:prod_1*5
        0  customer.subscription.updated  sub_1  active      si_1:prod_1*5  previous={"status":"incomplete"}
        """,
        "seats",
        {0: "active=5", 1: "active=5"},
    ),
    "a chain of updates in one second": (
        """
        0  customer.subscription.created  sub_1  incomplete  si_1:prod_1*5
        9  customer.subscription.updated  sub_1  past_due    si_1:prod_1*5  previous={"status":"active"}
        9  customer.subscription.updated  sub_1  active      si_1:prod_1*5  previous={"status":"incomplete"}
        9  customer.subscription.updated  sub_1  unpaid      si_1:prod_1*5  previous={"status":"past_due"}
        """,
        "seats",
        {0: "no:incomplete", 9: "no:unpaid"},
    ),
    "past due and canceled in one second is canceled": (
        """
        0  customer.subscription.created  sub_1  active    si_1:prod_1*5
        9  customer.subscription.deleted  sub_1  canceled  si_1:prod_1*5
        9  customer.subscription.updated  sub_1  past_due  si_1:prod_1*5  previous={"status":"active"}
        """,
        "seats",
        {0: "active=5", 9: "no:canceled"},
    ),
    "a deleted customer has nothing": (
        """
        0   customer.created               email="a@example.com"
        0   customer.subscription.created  sub_1  active  si_1:prod_1*5
        10  customer.deleted               deleted=true
        """,
        "seats",
        {0: "active=5", 10: "no:canceled"},
    ),
    "an unknown status grants nothing": (
        """
        0   customer.subscription.created  sub_1  hibernating  si_1:prod_1*5
        """,
        "seats",
        {0: "no:incomplete"},
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str) -> None:
    story, feature, expected = STORIES[name]
    facts = facts_of(story)
    for arrived in itertools.permutations(facts):
        for seen in (arrived, arrived + arrived[:2]):
            assert {at: say(answers_at(seen, at), feature) for at in expected} == expected


def test_rows_do_not_depend_on_arrival() -> None:
    rng = random.Random(7)
    for story, _, _ in STORIES.values():
        facts = facts_of(story)
        expected = holdings_of(facts)
        for _ in range(20):
            rng.shuffle(facts)
            assert holdings_of(facts) == expected


def test_a_granted_answer_explains_itself() -> None:
    facts = facts_of(
        """
        0    customer.subscription.created  sub_1  trialing  si_1:prod_1*5  trial_end=1768478450
        50   customer.subscription.updated  sub_1  active    si_1:prod_1*5
        60   customer.subscription.updated  sub_1  active    si_1:prod_1*8  cancel_at=1768478500
        """
    )
    answers = answers_at(facts, 70)
    seats, own = answers["seats"], answers["prod_1"]
    assert (seats.granted, seats.value, seats.state) == (True, 8, "active")
    assert seats.valid_from == moment(0)
    assert (seats.valid_until, seats.ends_at) == (None, moment(100))
    assert seats.because == ("evt_1", "evt_3")
    assert [one.source.item for one in seats.sources] == ["si_1"]
    assert (own.kind, own.value) == ("boolean", True)
    assert answers_at(facts, 10)["seats"].ends_at == moment(50)
    assert answers_at(facts, 1000)["seats"].granted  # a planned end revokes nothing


def test_an_organisation_is_the_subscriptions_then_the_customers() -> None:
    facts = facts_of(
        """
        0   customer.created               metadata={"org_id":"acme"}
        5   customer.subscription.created  sub_1  active  si_1:prod_1*5
        10  customer.subscription.updated  sub_1  active  si_1:prod_1*5  metadata={"org_id":"beta"}
        15  customer.subscription.updated  sub_1  active  si_1:prod_1*5  metadata={}
        20  customer.updated               metadata={}
        """
    )
    by_time = [(row.valid_from, row.org) for row in holdings_of(facts).orgs if row.source == "sub_1"]
    assert by_time == [(moment(5), "acme"), (moment(10), "beta"), (moment(15), "acme"), (moment(20), None)]


def test_old_shapes_say_the_same() -> None:
    new = facts_of("0 customer.subscription.created sub_1 active si_1:prod_1*3")
    old_subject = {
        "id": "sub_1",
        "object": "subscription",
        "customer": "cus_1",
        "status": "active",
        "items": {"data": [{"id": "si_1", "quantity": 3, "plan": {"id": "price_1", "product": "prod_1"}}]},
    }
    body = orjson.dumps(event("evt_1", "customer.subscription.created", old_subject, created=START))
    old = [fact_of("evt_1", "customer.subscription.created", moment(0), 1, body)]
    assert holdings_of(old) == holdings_of(new)


def test_a_subscription_without_items_is_its_plan() -> None:
    subject = {"id": "sub_1", "customer": "cus_1", "status": "active", "quantity": 2, "plan": {"id": "gold"}}
    body = orjson.dumps(event("evt_1", "customer.subscription.created", subject, created=START))
    holdings = holdings_of([fact_of("evt_1", "customer.subscription.created", moment(0), 1, body)])
    [row] = holdings.sources
    assert (row.item, row.price, row.product, row.quantity) == ("sub_1", "gold", None, Decimal(2))
    answers = {one.feature: one for one in answer_all(holdings, (), moment(0))}
    assert answers["gold"].granted


def test_hostile_shapes_fold_to_what_can_be_read() -> None:
    subjects: list[Json] = [
        {"id": "sub_1", "status": ["active"], "items": 7},
        {"id": "sub_1", "status": "active", "items": [{"id": 3}, "x", {"id": "si_1", "price": [], "quantity": "no"}]},
        {"id": None},
        {"id": "sub_1", "status": "active", "metadata": "text", "cancel_at": 10**30, "items": {"data": None}},
    ]
    for subject in subjects:
        body = json.dumps(event("evt_1", "customer.subscription.created", subject, created=START)).encode()
        holdings_of([fact_of("evt_1", "customer.subscription.created", moment(0), 1, body)])


def test_a_products_features_have_a_history() -> None:
    facts = []
    for n, (at, features) in enumerate([(0, "sso"), (10, "sso"), (20, "sso,audit"), (20, "audit")], 1):
        body = orjson.dumps(event(f"evt_{n}", "product.updated", product("prod_1", features), created=START + at))
        facts.append(fact_of(f"evt_{n}", "product.updated", moment(at), n, body))
    rows = rows_of(PROJECTION, Subject("self:live", "self:live/prod_1"), facts)["product"]
    assert [(row[3], row[4], row[5]) for row in rows] == [("sso", moment(0), moment(20)), ("audit", moment(20), None)]

"""Single rules of a case: its category, its reason and how well that is known, its amounts, what is at risk."""

from __future__ import annotations

from typing import Any

import pytest

from projections.dunning.declines import class_of
from projections.facts import Fact
from projections.shapes.payment import Failure
from tests.dunning.stories import SHAPES, Shape, cases_in, churn_in, facts_of, fold, moment, timeline_in, worth_in

RENEWAL = """
    0     customer.subscription.created  sub_1 active
    30+1  invoice.finalized              in_1 open made=30 next=30.05
    30.1  invoice.payment_failed         in_1 open made=30 count=1 next=33
"""


def case_at(story: str, when: str, case: str = "in_1", shape: Shape = "new") -> Any:
    """Fold a story and return a case at a moment."""
    return cases_in(fold(facts_of(story, shape)), moment(when))[case].case


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("end", ["marked_uncollectible  in_1 uncollectible", "voided  in_1 void"])
def test_what_is_over_has_nothing_open(end: str, shape: Shape) -> None:
    story = f"{RENEWAL}    31  invoice.{end} made=30 count=1\n"
    assert [case_at(story, when, shape=shape).open_amount for when in ("30.5", "31.5")] == [3100, 0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("story", "category"),
    [
        (RENEWAL, "renewal"),
        (
            """
            0  customer.subscription.created  sub_1 incomplete
            0  invoice.payment_failed         in_1 open count=1 reason=subscription_create
            """,
            "initial",
        ),
        ("0  invoice.payment_failed  in_1 open count=1 reason=subscription_create", "initial"),
        (
            """
            0   customer.subscription.created  sub_1 trialing trial=14
            0   invoice.paid                   in_0 paid due=0 reason=subscription_create
            14  customer.subscription.updated  sub_1 active trial=14
            14  invoice.payment_failed         in_1 open count=1 made=14 next=17
            """,
            "trial_conversion",
        ),
        (
            """
            0   customer.subscription.created  sub_1 trialing trial=14
            14  invoice.paid                   in_0 paid made=14 paid=3100
            45  invoice.payment_failed         in_1 open count=1 made=45 next=48
            """,
            "renewal",
        ),
        (
            """
            0  customer.subscription.created  sub_1 active
            5  invoice.payment_failed         in_1 open count=1 reason=subscription_create
            """,
            "renewal",  # a debit that its bank refused days later
        ),
        ("0  invoice.payment_failed  in_1 open count=1 sub=none", "manual_invoice"),
        ("0  invoice.payment_failed  in_1 open count=1 reason=manual", "manual_invoice"),
        (
            """
            0   customer.subscription.created  sub_1 trialing trial=14
            3   invoice.paid                   in_0 paid made=3 paid=3100 reason=manual
            14  customer.subscription.updated  sub_1 active trial=14
            14  invoice.payment_failed         in_1 open count=1 made=14 next=17
            """,
            "trial_conversion",
        ),
    ],
)
def test_a_case_has_a_category(story: str, category: str, shape: Shape) -> None:
    assert case_at(story, "99", shape=shape).category == category


@pytest.mark.parametrize(
    ("told", "shape", "confidence"),
    [
        ("30.1+1  charge.failed  ch_1 insufficient_funds pi=pi_1", "old", "exact"),
        ("30.1+1  charge.failed  ch_1 insufficient_funds pi=pi_1", "new", "heuristic"),
        (
            """
            30.1+1  charge.failed         ch_1 insufficient_funds pi=pi_1
            33      invoice_payment.paid  in_1 pi_1
            """,
            "new",
            "exact",
        ),
        (
            """
            30.1+1  charge.failed                ch_1 insufficient_funds pi=pi_1
            30.1+1  ledger.observation.recorded  pi_1 in_1
            """,
            "new",
            "observed",
        ),
        (
            """
            30.1+1  charge.failed                ch_1 insufficient_funds pi=pi_1
            30.1+1  ledger.observation.recorded  pi_1 in_1
            33      invoice_payment.paid         in_1 pi_1
            """,
            "new",
            "exact",
        ),
        (
            """
            30.1+1  charge.failed                  ch_1 do_not_honor pi=pi_1
            30.1+2  payment_intent.payment_failed  pi_1 insufficient_funds ch=ch_1
            """,
            "old",
            "exact",
        ),
    ],
)
def test_why_it_failed_is_joined_and_says_how_it_is_known(told: str, shape: Shape, confidence: str) -> None:
    case = case_at(RENEWAL + told, "34", shape=shape)
    assert (case.failures, case.failure_class, case.failure_confidence) == (1, "soft", confidence)


@pytest.mark.parametrize(
    "told",
    [
        "30.1+11  charge.failed  ch_1 insufficient_funds",
        "30.1+1   charge.failed  ch_1 insufficient_funds amount=3101",
        "30.1+1   charge.failed  ch_1 insufficient_funds cur=eur",
    ],
)
def test_what_only_looks_like_it_is_no_reason(told: str) -> None:
    standing = cases_in(fold(facts_of(RENEWAL + told)), moment("31"))["in_1"]
    assert (standing.case.failure_class, standing.case.failure_code) == ("unknown", None)
    assert standing.incomplete == ("last_failure",)


@pytest.mark.parametrize(
    "invoice",
    [
        "30.1    invoice.finalized  in_1 open made=30 next=33",  # told of in the very second
        "30.1+2  invoice.finalized  in_1 open made=30 next=33",
        "31      invoice.updated    in_1 open made=30 count=1 next=33",  # its finalisation was never told of
    ],
)
def test_a_payment_that_failed_before_its_invoice_was_told_of_opens_a_case(invoice: str) -> None:
    story = f"""
        0     customer.subscription.created  sub_1 active
        {invoice}
        30.1  charge.failed                  ch_1 insufficient_funds
        33    invoice.payment_failed         in_1 open made=30 count=2 next=38
        33    charge.failed                  ch_2 insufficient_funds
    """
    early, late = (case_at(story, when, shape="old") for when in ("31", "33"))
    assert (early.state, early.failures, early.opened_volume) == ("retrying", 1, 3100)
    assert (late.state, late.failures) == ("retrying", 2)
    assert {one for case in (early, late) for one in (case.opened_at, case.first_failed_at)} == {moment("30.1")}


def test_a_declined_payment_is_the_reason_of_one_failure_only() -> None:
    story = (
        RENEWAL
        + """
        30.1    invoice.payment_failed  in_2 open made=30 count=1 next=33 sub=sub_2
        30.1+4  charge.failed           ch_1 insufficient_funds
        30.1+2  charge.failed           ch_2 stolen_card
    """
    )
    cases = cases_in(fold(facts_of(story)), moment("31"))
    assert {one.case.decline_code for one in cases.values()} == {"insufficient_funds", "stolen_card"}


@pytest.mark.parametrize(
    ("decline_code", "advice", "kind"),
    [
        ("insufficient_funds", None, "soft"),
        ("insufficient_funds", "do_not_try_again", "hard"),
        ("stolen_card", "try_again_later", "hard"),
        ("expired_card", None, "needs_card"),
        ("generic_decline", "confirm_card_data", "needs_card"),
        (None, "try_again_later", "soft"),
        (None, None, "unknown"),
        ("a_code_of_next_year", None, "soft"),
    ],
)
def test_a_decline_has_a_class(decline_code: str | None, advice: str | None, kind: str) -> None:
    assert class_of(Failure(None, decline_code, advice, None, None, None)) == kind


def test_what_was_only_blocked_and_then_paid_on_time_was_never_at_stake() -> None:
    story = """
        30      invoice.finalization_failed  in_1 draft made=30 blocked
        31      invoice.finalized            in_1 open made=30
        31      invoice.paid                 in_1 paid made=30 paid=3100
    """
    case = case_at(story, "31")
    assert (case.state, case.recovered_by, case.opened_volume, case.recovered_volume) == ("recovered", "unknown", 0, 0)


def test_an_attempt_that_asks_for_action_and_then_fails_is_one() -> None:
    story = f"""{RENEWAL.replace("payment_failed", "payment_action_required")}
        31  invoice.payment_failed         in_1 open made=30 count=1 next=34
        31  payment_intent.payment_failed  pi_1 payment_intent_authentication_failure
        34  invoice.payment_failed         in_1 open made=30 count=2
        34  payment_intent.payment_failed  pi_1 insufficient_funds ch=ch_1
    """
    assert [(case_at(story, when).attempts, case_at(story, when).failures) for when in ("30.5", "31", "34")] == [
        (1, 0),
        (1, 1),
        (2, 2),
    ]


def test_what_was_at_stake_is_divided_to_the_cent() -> None:
    story = (
        RENEWAL
        + """
        31  invoice.updated  in_1 open made=30 count=1 next=33 paid=1000
        32  invoice.updated  in_1 open made=30 count=1 next=33 paid=1000 credited=600 due=2500
        33  invoice.paid     in_1 paid made=30 count=2 paid=2500 credited=600 due=2500
    """
    )
    rows = fold(facts_of(story))
    amounts = {
        when: cases_in(rows, moment(when))["in_1"].case[12:16] for when in ("30.1", "31", "32", "33")
    }  # opened, open, recovered, lost
    assert amounts == {
        "30.1": (3100, 3100, 0, 0),
        "31": (3100, 2100, 1000, 0),
        "32": (3100, 1500, 1000, 600),
        "33": (3100, 0, 2500, 600),
    }


def test_a_subscription_with_two_open_invoices_is_at_risk_once() -> None:
    story = (
        RENEWAL
        + """
        61  invoice.payment_failed         in_2 open made=60 count=1 next=63
        62  invoice.paid                   in_1 paid made=30 count=2 paid=3100
        70  customer.subscription.updated  sub_1 active unit=9000
    """
    )
    rows = fold(facts_of(story))
    at_risk = {
        when: {key: one.at_risk_mrr for key, one in cases_in(rows, moment(when)).items()}
        for when in ("30.1", "61", "62", "70")
    }
    assert at_risk == {
        "30.1": {"in_1": 3100},
        "61": {"in_1": 3100, "in_2": 0},
        "62": {"in_1": 0, "in_2": 3100},
        "70": {"in_1": 0, "in_2": 9000},
    }
    assert [row.mrr for row in worth_in(rows, moment("70"))] == [9000]


def test_an_abandoned_checkout_puts_nothing_at_risk() -> None:
    story = """
        0  customer.subscription.created  sub_1 active
        0  customer.subscription.created  sub_2 incomplete
        1  invoice.payment_failed         in_1 open count=1 reason=subscription_create sub=sub_2
    """
    assert cases_in(fold(facts_of(story)), moment("2"))["in_1"].at_risk_mrr == 0


@pytest.mark.parametrize(
    ("ending", "involuntary"),
    [
        ("40  customer.subscription.deleted  sub_1 canceled reason=payment_failed", True),
        ("40  customer.subscription.deleted  sub_1 canceled reason=payment_disputed", True),
        ("40  customer.subscription.updated  sub_1 unpaid", True),
        ("40  customer.subscription.paused   sub_1 paused reason=final_payment_failure", True),
        ("40  customer.subscription.paused   sub_1 paused reason=pause_requested", False),
        ("40  customer.subscription.deleted  sub_1 canceled reason=cancellation_requested", False),
    ],
)
def test_whoever_leaves_leaves_by_will_or_for_want_of_money(ending: str, involuntary: bool) -> None:
    (left,) = churn_in(fold(facts_of(RENEWAL + ending)))
    assert (left.mrr, left.involuntary, left.at) == (3100, involuntary, moment("40"))


def test_a_timeline_tells_what_happened_with_the_event_of_each() -> None:
    story = (
        RENEWAL
        + """
        30.1  charge.failed                  ch_1 stolen_card
        30.1  customer.subscription.updated  sub_1 past_due
        32    payment_method.attached        pm_2 asked
        33    invoice.paid                   in_1 paid made=30 count=2 paid=3100
    """
    )
    told = [(one.at, one.kind, one.case_id, one.event) for one in timeline_in(fold(facts_of(story)))]
    assert told == [
        (moment("30.1"), "retry_scheduled", "in_1", "evt_003"),
        (moment("30.1"), "failure", "in_1", "evt_003"),
        (moment("30.1"), "subscription_past_due", "in_1", "evt_005"),
        (moment("32"), "method_attached", "", "evt_006"),
        (moment("33"), "recovered", "in_1", "evt_007"),
    ]
    failure = next(one for one in timeline_in(fold(facts_of(story))) if one.kind == "failure")
    assert (failure.amount, failure.decline_code, failure.failure_class) == (3100, "stolen_card", "hard")


@pytest.mark.parametrize(
    "hostile",
    [None, 7, "text", [], {}, [None], {"data": 7}, {"id": 7}, -(2**63), 10**18, 253_402_300_799, True, "\x00"],
)
def test_hostile_shapes_fold_to_what_can_be_read(hostile: object) -> None:
    facts = facts_of(RENEWAL + "40  invoice.paid  in_1 paid made=30 count=1 paid=3100", "old")
    for key in (*facts[1].subject, "parent", "status_transitions", "request"):
        changed = [_with(fact, key, hostile) for fact in facts]
        fold(changed)


def _with(fact: Fact, key: str, value: object) -> Fact:
    return Fact(fact.event_id, fact.type, fact.created, fact.position, fact.subject | {key: value}, fact.previous,
                fact.body | {key: value})  # fmt: skip


def test_what_became_of_a_subscription_comes_after_the_last_attempt_in_a_timeline() -> None:
    story = """
        0   customer.subscription.created  sub_1 active
        30  invoice.payment_failed         in_1 open made=30 count=1
        30  customer.subscription.deleted  sub_1 canceled reason=payment_failed
    """
    assert [one.kind for one in timeline_in(fold(facts_of(story)))] == ["failure", "exhausted", "subscription_canceled"]

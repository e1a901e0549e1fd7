"""Whatever happens to a customer in whatever order it is told: what must always be true of dunning."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.contract import Rows
from projections.dunning.case import OVER
from projections.dunning.rows import CaseRow, ChurnRow, WorthRow
from projections.dunning.standing import Standing, holding, standings
from projections.dunning.summary import LEFT_OUT, Wanted, summarise
from tests.dunning.stories import SHAPES, facts_of, fold

INVOICES = ("in_1", "in_2", "in_3")
SUBSCRIPTIONS = ("sub_1", "sub_2")
HOURS = 24 * 120

_hours = st.integers(0, HOURS)


@st.composite
def _lives(draw: st.DrawFn) -> list[tuple[int, str]]:
    """Draw what happens to each invoice and subscription: any of what Stripe could say, at any time."""
    told: list[tuple[int, str]] = []
    for key in SUBSCRIPTIONS:
        at, unit = draw(_hours), draw(st.integers(0, 9_000))
        told.append((at, f"customer.subscription.created {key} active unit={unit}"))
        for status in draw(st.lists(st.sampled_from(("past_due", "active", "unpaid", "canceled")), max_size=3)):
            at = min(at + draw(st.integers(0, 700)), HOURS)
            told.append((at, f"customer.subscription.updated {key} {status} unit={unit}"))
    for key in INVOICES:
        told += draw(_invoices(key))
    for n in range(draw(st.integers(0, 2))):
        told.append((draw(_hours), f"payment_method.attached pm_{n}"))
    return sorted(told)


@st.composite
def _invoices(draw: st.DrawFn, key: str) -> list[tuple[int, str]]:
    at, due, count, paid, credited = draw(_hours), draw(st.integers(1, 9_000)), 0, 0, 0
    subscription = draw(st.sampled_from((*SUBSCRIPTIONS, "none")))
    sent = draw(st.booleans())
    fixed = f"sub={subscription} made={at / 24:.5f}"
    fixed += f" collect=send_invoice due_at={(at + 300) / 24:.5f}" if sent else ""
    told = [(at, f"invoice.finalized {key} open due={due} {fixed}")]
    for word in draw(st.lists(st.sampled_from(("fail", "hard", "action", "part", "note")), max_size=4)):
        at = min(at + draw(st.integers(1, 400)), HOURS)
        if word == "part":
            paid += draw(st.integers(0, due - paid - credited))
        if word == "note":
            credited += draw(st.integers(0, due - paid - credited))
        count += word in ("fail", "hard")
        retry = "" if sent or draw(st.booleans()) else f" next={(at + 72) / 24:.5f}"
        type_ = {"fail": "payment_failed", "hard": "payment_failed", "action": "payment_action_required"}.get(
            word, "updated"
        )
        state = f"due={due - credited} paid={paid} credited={credited} count={count} {fixed}{retry}"
        told.append((at, f"invoice.{type_} {key} open {state}"))
        if word in ("fail", "hard"):
            code = "stolen_card" if word == "hard" else "insufficient_funds"
            told.append((at, f"charge.failed ch_{key}_{count} {code} amount={due - credited - paid} in={key}"))
    end = draw(st.sampled_from(("open", "paid", "void", "uncollectible", "late")))
    at = min(at + draw(st.integers(1, 400)), HOURS)
    last = f"due={due - credited} credited={credited} count={count} {fixed}"
    if end in ("uncollectible", "late"):
        told.append((at, f"invoice.marked_uncollectible {key} uncollectible paid={paid} {last}"))
    if end in ("paid", "late"):
        later = min(at + draw(st.integers(1, 400)), HOURS + 1) if end == "late" else at
        told.append((later, f"invoice.paid {key} paid paid={due - credited} left=0 {last} asked"))
    if end == "void":
        told.append((at, f"invoice.voided {key} void paid={paid} {last} asked"))
    return told


def _story(told: list[tuple[int, str]]) -> str:
    return "\n".join(f"{hour / 24:.5f} {line}" for hour, line in told)


def _at(rows: Rows, moment: datetime) -> tuple[list[Standing], list[WorthRow]]:
    worth = holding([WorthRow(*row) for row in rows["dunning_worth"]], moment)
    return standings(holding([CaseRow(*row) for row in rows["dunning_case"]], moment), worth), worth


@settings(max_examples=60, deadline=None)
@given(told=_lives(), shape=st.sampled_from(SHAPES), dice=st.randoms(use_true_random=False))
def test_no_order_of_arrival_and_no_repetition_changes_a_row(told: Any, shape: Any, dice: Any) -> None:
    facts = facts_of(_story(told), shape)
    rows = fold(facts)
    arrived = [*facts, *dice.sample(facts, min(len(facts), 3))]
    dice.shuffle(arrived)
    assert fold(arrived) == rows


@settings(max_examples=60, deadline=None)
@given(told=_lives(), hours=st.lists(st.integers(0, HOURS + 60 * 24), min_size=1, max_size=6))
def test_sums_are_sums_of_cases_and_what_is_not_at_risk_is_healthy(told: Any, hours: Any) -> None:
    facts = facts_of(_story(told))
    rows = fold(facts)
    start = min(fact.created for fact in facts)
    for moment in (datetime.fromtimestamp(start.timestamp() + hour * 3600, UTC) for hour in hours):
        cases, worth = _at(rows, moment)
        churns = [ChurnRow(*row) for row in rows["dunning_churn"]]
        for category in (None, "initial", "renewal", "manual_invoice", "trial_conversion"):
            some = [
                one.case
                for one in cases
                if (one.case.category == category if category else one.case.category not in LEFT_OUT)
            ]
            sums = summarise(cases, worth, churns, Wanted(category=category), moment).get("usd")
            if sums is None:
                assert not some
                continue
            assert (sums.opened.count, sums.opened.volume) == (len(some), sum(one.opened_volume for one in some))
            assert sums.recovered.volume == sum(one.recovered_volume for one in some)
            assert sums.lost.volume == sum(one.lost_volume for one in some)
            assert sums.open.volume == sum(one.open_amount for one in some if one.state not in OVER)
            assert sum(one.group.opened.count for one in sums.cohorts) == sums.opened.count
            # At risk is each subscription with an open case, once; all others are healthy.
            risky = {one.case.subscription for one in cases if one.is_open and one.case.category != "initial"}
            assert sums.mrr == sum(row.mrr for row in worth)
            assert sums.at_risk_mrr == sum(row.mrr for row in worth if row.subscription in risky)


@settings(max_examples=60, deadline=None)
@given(told=_lives(), shape=st.sampled_from(SHAPES))
def test_what_was_at_stake_is_recovered_lost_or_still_there(told: Any, shape: Any) -> None:
    spans = [CaseRow(*row) for row in fold(facts_of(_story(told), shape))["dunning_case"]]
    for one in spans:
        assert one.opened_volume >= one.recovered_volume + one.lost_volume >= 0
        assert (one.closed_at is None) == (one.state not in OVER)
        assert one.open_amount == 0 or one.state not in OVER
        assert one.opened_at <= one.valid_from
        if one.state in OVER:
            assert one.recovered_volume + one.lost_volume == one.opened_volume
        assert (one.recovered_by is not None) == (one.state in ("recovered", "forgiven"))
        assert one.state != "exhausted" or one.next_attempt_at is None
    for before, after in pairwise(spans):
        if before.case_id == after.case_id:
            assert before.valid_to == after.valid_from
            assert before.state not in ("recovered", "voided", "forgiven"), "these are the end"
            assert after.failures >= before.failures


@settings(max_examples=60, deadline=None)
@given(told=_lives(), cut=_hours)
def test_what_comes_later_does_not_change_what_was(told: Any, cut: int) -> None:
    facts = facts_of(_story(told), "old")
    moment = datetime.fromtimestamp(min(fact.created for fact in facts).timestamp() + cut * 3600, UTC)
    then, _ = _at(fold(fact for fact in facts if fact.created <= moment), moment)
    now, _ = _at(fold(facts), moment)
    assert [one.case._replace(valid_to=None) for one in now] == [one.case._replace(valid_to=None) for one in then]
    assert [one.at_risk_mrr for one in now] == [one.at_risk_mrr for one in then]

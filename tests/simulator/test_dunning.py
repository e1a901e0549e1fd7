"""Failed payments told in a few lines, in every API version's shape: the truth of each case is what the story says."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.simulator.company import Company
from ledger.simulator.scenario import Story, play
from ledger.simulator.truth import Truth
from ledger.simulator.truth_cases import CLOSED
from ledger.simulator.versions import BASIL, ENDIVE, V2020, V2024, VERSIONS

STORIES = {
    "a soft decline is tried again until it works": """
        given  day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 35  bank ok
        then   day 30  mrr usd=900
               day 32  case state=retrying category=renewal failures=1 attempts=1 stripe_attempt_count=1 open_amount=900
               day 32  at_risk usd=900
               day 35  case failures=2 decline_code=insufficient_funds decline_class=soft
               day 40  case state=recovered recovered_by=automatic_retry failures=2 attempts=2 open_amount=0
               day 40  case paid_since=900 stripe_attempt_count=3
    """,
    "after a hard decline attempts are counted and not made": """
        given  day 0   exhausted past_due
               day 0   subscribe starter_month_usd
               day 20  bank stolen_card
        then   day 32  case state=needs_payment_method failures=1 stripe_attempt_count=1 decline_class=hard
               day 40  case state=needs_payment_method failures=1 stripe_attempt_count=3
               day 47  case state=needs_payment_method outcome=None stripe_attempt_count=4
               day 48  case outcome=left_past_due at_risk_mrr=900
    """,
    "another card lets the next attempt be made": """
        given  day 0   subscribe starter_month_usd
               day 20  bank stolen_card
               day 33  change_card
               day 33  bank ok
        then   day 32  case state=needs_payment_method
               day 33  case state=retrying
               day 35  case state=recovered recovered_by=new_payment_method failures=1 stripe_attempt_count=2
    """,
    "the network renews the card": """
        given  day 0   subscribe starter_month_usd
               day 20  bank expired_card
               day 33  renew_card
               day 33  bank ok
        then   day 35  case state=recovered recovered_by=network_updater
    """,
    "an action is asked for, and done": """
        given  day 0   subscribe starter_month_usd
               day 20  bank action
               day 31.5 pay
        then   day 31.2 case state=action_required failures=0 stripe_attempt_count=0
               day 32  case state=recovered recovered_by=customer
    """,
    "a first payment that fails is a case of its own kind": """
        given  day 0    bank insufficient_funds
               day 0    subscribe starter_month_usd
               day 0.03 bank ok
        then   day 0.01 case state=exhausted category=initial failures=1 at_risk_mrr=0
               day 0.01 at_risk
               day 0.5  case state=recovered recovered_by=customer failures=1 stripe_attempt_count=1
    """,
    "a first payment that is never made ends in a void": """
        given  day 0    bank stolen_card
               day 0    subscribe starter_month_usd
        then   day 0.5  case state=needs_payment_method category=initial failures=3
               day 2    case state=voided recovered_by=None
    """,
    "the first payment after a trial": """
        given  day 0   subscribe starter_month_usd trial=14
               day 5   bank insufficient_funds
        then   day 15  case category=trial_conversion state=retrying
               day 40  case outcome=subscription_canceled state=exhausted open_amount=900
    """,
    "nothing to charge": """
        given  day 0   subscribe starter_month_usd trial=14 card=no
        then   day 15  case state=needs_payment_method failures=1 attempts=0 decline_code=None
    """,
    "a transfer that does not come is overdue by the clock": """
        given  day 0   bank insufficient_funds
               day 0   subscribe starter_month_usd collect=send_invoice
        then   day 30  case state=overdue failures=0 category=renewal next_attempt_at=None
               day 42  case state=recovered recovered_by=customer
    """,
    "an invoice that cannot be finalised": """
        given  day 0   subscribe starter_month_usd
               day 20  block
               day 33  unblock
        then   day 32  case state=blocked
               day 35  case state=recovered recovered_by=unknown volume=0
    """,
    "exhausted retries may leave it unpaid": """
        given  day 0   exhausted unpaid
               day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
        then   day 47  case state=exhausted outcome=subscription_unpaid failures=4
               day 47  at_risk
    """,
    "or paused": """
        given  day 0   exhausted pause
               day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
        then   day 47  case state=exhausted outcome=subscription_paused
    """,
    "written off, and paid after all": """
        given  day 0   exhausted uncollectible
               day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 60  pay
        then   day 50  case state=written_off outcome=subscription_canceled open_amount=0
               day 61  case state=recovered late=True recovered_by=customer paid_since=900
    """,
    "paid outside Stripe": """
        given  day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 33  out_of_band
        then   day 33  case state=recovered recovered_by=out_of_band paid_since=900
    """,
    "forgiven by a credit note": """
        given  day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 32  credit_note 300
               day 33  credit_note all
        then   day 32  case state=retrying open_amount=600
               day 33  case state=forgiven paid_since=0 open_amount=0
    """,
    "paid in two parts": """
        given  day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 32  pay 300
               day 33  pay
        then   day 32  case state=retrying open_amount=600 paid_since=300
               day 33  case state=recovered recovered_by=customer paid_since=900
    """,
    "two open invoices put a subscription at risk once": """
        given  day 0   exhausted past_due
               day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
        then   day 70  at_risk usd=900
               day 70  case at_risk_mrr=0 state=retrying
    """,
}


def last_case(truth: Truth, at: int) -> dict[str, Any]:
    return truth.dunning(at)[-1]


def said_of(story: Story, about: str, at: int) -> dict[str, Any]:
    if about == "case":
        return last_case(story.truth, at)
    if about == "books":
        return dict(story.truth.books.trial_balance(at)["usd"])
    return dict(story.truth.at_risk(at) if about == "at_risk" else story.truth.mrr(at))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, version: str) -> None:
    story = play(STORIES[name], api_version=version)
    assert story.told
    for told in story.told:
        said = said_of(story, told.about, told.at)
        if told.about != "case":
            assert said == told.facts, told.line
        for key, value in told.facts.items():
            assert str(said[key]) == str(value), f"{told.line}: {key} is {said[key]}"


def test_every_version_says_in_its_own_way_what_was_paid_outside() -> None:
    for version in VERSIONS:
        story = play(STORIES["paid outside Stripe"], api_version=version)
        paid = [one["data"]["object"] for one in story.events if one["type"] == "invoice.paid"][-1]
        linked = [one["data"]["object"] for one in story.events if one["type"] == "invoice_payment.paid"]
        if version in {V2020, V2024}:
            assert (paid["paid_out_of_band"], paid["amount_paid"], linked) == (True, 0, [])
        else:
            assert version in {BASIL, ENDIVE}
            assert paid["amount_paid"] == 900
            assert linked[-1]["payment"]["type"] == "payment_record"


def test_the_company_has_every_kind_of_case(company: Company) -> None:
    cases = company.truth["self:live"].dunning(company.arguments.end)
    states = [case["state"] for case in cases]
    assert min(states.count(state) for state in ("voided", "recovered", "forgiven", "written_off", "exhausted")) >= 3
    assert sum(case["late"] for case in cases) >= 3
    ways = [case["recovered_by"] for case in cases]
    wanted = (
        "automatic_retry",
        "new_payment_method",
        "network_updater",
        "customer",
        "out_of_band",
        "credit",
        "unknown",
    )
    assert min(ways.count(way) for way in (*wanted, "unknown")) >= 3
    outcomes = [case["outcome"] for case in cases]
    assert min(outcomes.count(f"subscription_{one}") for one in ("canceled", "unpaid", "paused")) >= 3
    assert outcomes.count("left_past_due") >= 3
    assert {case["category"] for case in cases} >= {"initial", "trial_conversion", "renewal"}


def test_what_is_at_risk_is_part_of_mrr_and_carried_once(company: Company) -> None:
    truth = company.truth["self:live"]
    start, end = company.arguments.start, company.arguments.end
    for at in range(start, end, (end - start) // 40):
        risk, mrr = truth.at_risk(at), truth.mrr(at)
        carried: dict[str, int] = {}
        for case in truth.dunning(at):
            assert case["state"] in CLOSED or case["at_risk_mrr"] >= 0
            if case["at_risk_mrr"]:
                carried[case["currency"]] = carried.get(case["currency"], 0) + case["at_risk_mrr"]
        assert carried == risk
        assert all(amount <= mrr[currency] for currency, amount in risk.items())

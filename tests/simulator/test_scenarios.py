"""Lives in a few lines, told in every API version's shape and played in any order: access is what the story says."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from ledger.errors import MistakeError
from ledger.simulator.catalog import PRODUCTS
from ledger.simulator.scenario import Story, play
from ledger.simulator.versions import VERSIONS
from projections.contract import Subject
from projections.entitlements.answer import answer_all
from projections.entitlements.rows import ProductRow
from projections.facts import fact_of
from tests.projections.histories import PROJECTION, held

STORIES = {
    "an upgrade counts from the moment it is made": """
        given  day 0   subscribe team_month_usd*5
               day 10  change team_month_usd*8
        then   day 0   seats=5 sso
               day 9   seats=5
               day 10  seats=8 sso basic
    """,
    "past due is not revoked; canceled is": """
        given  day 0   subscribe team_month_usd*5
               day 20  bank insufficient_funds
        then   day 30  seats=5
               day 33  seats=5         # the renewal failed two days ago
               day 44  seats=5
               day 48  nothing         # the last retry failed, fifteen days after the first
    """,
    "a recovered renewal changes nothing": """
        given  day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 33  bank ok
        then   day 32  basic
               day 40  basic
    """,
    "exhausted retries may leave it unpaid, which gives nothing": """
        given  day 0   exhausted unpaid
               day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
        then   day 46  basic
               day 48  nothing
    """,
    "exhausted retries may leave it past due for good": """
        given  day 0   exhausted past_due
               day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
        then   day 55  basic
    """,
    "a first payment that fails grants nothing until it is made": """
        given  day 0    bank insufficient_funds
               day 0    subscribe starter_month_usd
               day 0.03 bank ok
        then   day 0.01 nothing
               day 0.5  basic
    """,
    "a first payment that is never made grants nothing": """
        given  day 0    bank insufficient_funds
               day 0    subscribe starter_month_usd
        then   day 0.5  nothing
               day 2    nothing
    """,
    "a planned end takes nothing before it comes": """
        given  day 0   subscribe team_month_usd*2
               day 5   cancel_at_period_end
        then   day 6   seats=2
               day 30  seats=2
               day 32  nothing
    """,
    "a plan to leave may be taken back": """
        given  day 0   subscribe team_month_usd*2
               day 5   cancel_at_period_end
               day 6   stay
        then   day 40  seats=2
    """,
    "one ended subscription does not take what another gives": """
        given  day 0   subscribe team_month_usd*5
               day 1   subscribe starter_month_usd
               day 2   cancel_first
        then   day 1   seats=5 basic
               day 3   basic
    """,
    "a held collection takes no access, a pause does": """
        given  day 0   subscribe team_month_usd*3
               day 5   hold_collection void
               day 40  hold_collection no_more
               day 50  pause
               day 55  resume
        then   day 33  seats=3
               day 51  nothing
               day 56  seats=3
    """,
    "a trial without a card is paused at its end": """
        given  day 0   subscribe team_month_usd*3 trial=14 card=no ending=pause
        then   day 13  seats=3
               day 15  nothing
    """,
    "a trial with a card becomes a subscription": """
        given  day 0   subscribe team_month_usd*3 trial=14
        then   day 1   seats=3
               day 20  seats=3
    """,
    "an upgrade that waits for its payment does not count before it": """
        given  day 0    subscribe team_month_usd*3
               day 10   bank insufficient_funds
               day 10   change team_month_usd*9 now
        then   day 10.1 seats=3
               day 12   seats=3        # never paid, so it never came into force
    """,
    "an upgrade that waits counts once it is paid": """
        given  day 0     subscribe team_month_usd*3
               day 10    bank insufficient_funds
               day 10    change team_month_usd*9 now
               day 10.01 bank ok
        then   day 10.02 seats=3
               day 10.5  seats=9
    """,
    "two intervals in one subscription": """
        given  day 0    subscribe team_month_usd*2 support_year_usd
               day 100  change team_month_usd*2
        then   day 50   seats=2 priority_support
               day 101  seats=2
    """,
    "a deleted customer has nothing": """
        given  day 0   subscribe team_month_usd*2
               day 7   delete
        then   day 6   seats=2
               day 8   nothing
    """,
}


def granted_at(story: Story, at: int, order: random.Random) -> dict[str, int | bool]:
    """Fold the story's events, arrived in a random order, some twice; answer as the ledger would."""
    arrived = [*story.events, *order.choices(story.events, k=5)]
    order.shuffle(arrived)
    facts = [
        fact_of(one["id"], one["type"], datetime.fromtimestamp(one["created"], UTC), place, orjson.dumps(one))
        for place, one in enumerate(arrived)
        if one["type"] in PROJECTION.types
    ]
    products = [
        ProductRow("", "self:live", one.id, one.features, datetime(2020, 1, 1, tzinfo=UTC), None, ())
        for one in PRODUCTS
    ]
    holdings = held(PROJECTION, Subject("self:live", f"self:live/{story.customer}"), facts, products)
    answers = answer_all(holdings, (), datetime.fromtimestamp(at, UTC))
    return {one.feature: True if one.kind == "boolean" else int(one.value or 0) for one in answers if one.granted}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, version: str) -> None:
    story = play(STORIES[name], api_version=version)
    for attempt in range(4):
        for expected in story.expected:
            granted = granted_at(story, expected.at, random.Random(f"{name}{attempt}"))
            told = {feature: granted.get(feature) for feature in expected.features}
            assert told == expected.features, expected.line
            assert bool(granted) == bool(expected.features), expected.line
            assert granted == story.truth.entitlements(expected.at).get(story.customer, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("day 1 subscribe starter_month_usd", "given|then"),
        ("given day one subscribe starter_month_usd", "one is no day"),
        ("given day 1 dance", "dance is none of"),
        ("given day 1 subscribe gold_month_usd", "gold_month_usd is no price"),
        ("given day 1 subscribe starter_month_usd colour=red", "unknown: colour"),
        ("given day 1 bank maybe", "maybe is none of ok"),
        ("given day 1 cancel", "day 1 cancel"),
        ("given day 1 subscribe starter_month_usd\nthen day 2 seats=many", "whole number"),
    ],
)
def test_a_story_that_makes_no_sense_says_where(text: str, said: str) -> None:
    with pytest.raises(MistakeError, match=said.replace("|", r"\|")):
        play(text)


def test_purchases_are_part_of_the_truth() -> None:
    story = play(
        """
        given  day 0   buy course_once_usd
               day 10  buy course_once_usd debit
               day 20  buy course_once_usd bouncing_debit
        then   day 1   course
        """
    )
    kinds: list[Any] = [one["type"] for one in story.events if one["type"].startswith("checkout")]
    completed, paid_later = "checkout.session.completed", "checkout.session.async_payment_succeeded"
    assert kinds == [completed, completed, paid_later, completed]
    assert story.truth.entitlements(story.expected[0].at)[story.customer] == {"course": True, "prod_course": True}

"""The traps of access (stripe-domain §7) as lives in a few lines: every API version's shape, any order, any policy."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import orjson
import pytest

from ledger.simulator.catalog import PRODUCTS
from ledger.simulator.scenario import Story, play
from ledger.simulator.versions import VERSIONS
from projections.catalog import Published, parse_catalog
from projections.contract import Subject
from projections.entitlements.answer import Answer, answer_all
from projections.entitlements.rows import Holdings, ProductRow
from projections.facts import fact_of
from tests.projections.histories import PROJECTION, held

STORIES: dict[str, tuple[str, str]] = {
    "a purchase counts when it is paid": ("", """
        given  day 0   buy course_once_usd
        then   day 0   course
    """),
    "a delayed purchase counts once the money is there": ("", """
        given  day 0   buy course_once_usd debit
        then   day 3   no:course=pending
               day 5   course
    """),
    "a delayed purchase that bounces never counts": ("", """
        given  day 0   buy course_once_usd bouncing_debit
        then   day 3   no:course=pending
               day 5   no:course=payment_failed
    """),
    "a refund takes a purchase back, half of one does not": ("", """
        given  day 0   buy course_once_usd
               day 2   refund 300
               day 10  refund all
        then   day 1   course
               day 3   course
               day 11  no:course=refunded
    """),
    "a refund that fails gives it back": ("", """
        given  day 0   buy course_once_usd
               day 2   refund all fails
        then   day 3   no:course=refunded
               day 6   course
    """),
    "an inquiry suspends nothing": ("", """
        given  day 0   buy course_once_usd
               day 2   dispute inquiry
        then   day 3   course
               day 60  course
    """),
    "a dispute suspends until it is won": ("", """
        given  day 0   buy course_once_usd
               day 2   dispute won
        then   day 3   no:course=disputed
               day 43  course
    """),
    "a dispute that is lost can be won late": ("", """
        given  day 0   buy course_once_usd
               day 2   dispute late_win
        then   day 3   no:course=disputed
               day 50  no:course=disputed
               day 70  course
    """),
    "a deleted customer keeps no purchase, and a refund that fails gives none back": ("", """
        given  day 0   buy course_once_usd
               day 2   refund all fails
               day 3   delete
        then   day 6   no:course=canceled
    """),
    "by default neither dispute nor refund touches a subscription": ("", """
        given  day 0   subscribe team_month_usd*2
               day 3   dispute_invoice lost
               day 4   refund_invoice all
        then   day 5   seats=2
    """),
    "a dispute may suspend, while that invoice's period lasts": ('dispute = "suspend"', """
        given  day 0   subscribe team_month_usd*2
               day 3   dispute_invoice lost
        then   day 2   seats=2
               day 4   no:seats=disputed
               day 30  no:seats=disputed
               day 32  seats=2
    """),
    "a suspending dispute that is won lets go": ('dispute = "suspend"', """
        given  day 0   subscribe team_year_usd*2
               day 3   dispute_invoice won
        then   day 4   no:seats=disputed
               day 45  seats=2
    """),
    "a dispute of one subscription leaves the other": ('dispute = "suspend"', """
        given  day 0   subscribe team_month_usd*2
               day 1   subscribe team_month_usd*3
               day 3   dispute_invoice lost
        then   day 2   seats=5
               day 4   seats=2
    """),
    "a full refund may revoke, for that period only": ('refund = "revoke"', """
        given  day 0   subscribe team_month_usd*2
               day 2   refund_invoice 100
               day 3   refund_invoice all fails
               day 40  refund_invoice all
        then   day 2.5 seats=2
               day 4   no:seats=refunded
               day 7   seats=2
               day 41  no:seats=refunded
               day 60  seats=2
    """),
    "past due may be denied": ('past_due = "deny"', """
        given  day 0   subscribe team_month_usd*2
               day 20  bank insufficient_funds
        then   day 30  seats=2
               day 33  no:seats=past_due
    """),
    "grace may be capped, from the first failure": ('past_due = "grace"\npast_due_grace_days = 10', """
        given  day 0   exhausted past_due
               day 0   subscribe team_month_usd*2
               day 20  bank insufficient_funds
        then   day 32  seats=2
               day 40  seats=2
               day 42  no:seats=grace_over
               day 75  no:seats=grace_over   # the next invoice does not begin it anew
    """),
    "what was never paid for has days, under allow too": ("", """
        given  day 0   exhausted past_due
               day 0   subscribe team_month_usd*2 trial=14
               day 1   bank insufficient_funds
        then   day 13  seats=2
               day 16  seats=2
               day 18  no:seats=grace_over
    """),
    "an invoice that is sent is owed from its due date": ('past_due = "grace"\npast_due_grace_days = 5', """
        given  day 0   subscribe team_month_usd*2 collect=send_invoice
               day 1   pay
               day 32  bank insufficient_funds
        then   day 62  seats=2
               day 93  seats=2                # due since day 89
               day 95  no:seats=grace_over
    """),
    "cancelled at the period's end, it ends when Stripe says so": ("", """
        given  day 0   subscribe team_month_usd*2
               day 5   cancel_at_period_end
        then   day 30  seats=2
               day 32  no:seats=canceled
    """),
    "a pause takes access, and what is resumed has it again": ("", """
        given  day 0   subscribe team_month_usd*3
               day 5   pause
               day 9   resume
        then   day 6   no:seats=paused
               day 10  seats=3
    """),
    "a first payment that never comes grants nothing": ("", """
        given  day 0    bank insufficient_funds
               day 0    subscribe team_month_usd*2
        then   day 0.5  no:seats=incomplete
               day 2    no:seats=expired
    """),
    "an item that is removed takes its feature alone": ("", """
        given  day 0   subscribe team_month_usd*2 support_year_usd
               day 9   change team_month_usd*2
        then   day 8   seats=2 priority_support
               day 10  seats=2 no:priority_support=expired
    """),
}  # fmt: skip


def catalog(policy: str) -> tuple[Published, ...]:
    """Publish the simulated products' features with a policy; without one nothing is published."""
    if not policy:
        return ()
    lines = ["[policy]", policy]
    named = {part.partition("=")[0]: "=" in part for one in PRODUCTS for part in one.features.split(",")}
    lines += [f'[features.{name}]\nkind = "{"quantity" if counted else "boolean"}"' for name, counted in named.items()]
    for one in PRODUCTS:
        given = [part.partition("=") for part in one.features.split(",")]
        features = ", ".join(f'{name} = "{amount}"' if amount else f"{name} = true" for name, _, amount in given)
        lines.append(f'[[plans]]\nproduct = "{one.id}"\nfeatures = {{ {features} }}')
    return (Published(None, parse_catalog("\n".join(lines))),)


def holdings_of(story: Story, order: random.Random) -> Holdings:
    """Fold the story's events, arrived in a random order, some twice."""
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
    return held(PROJECTION, Subject("self:live", f"self:live/{story.customer}"), facts, products)


def say(answer: Answer | None) -> str:
    if answer is None:
        return "never"
    if not answer.granted:
        return f"no:{answer.feature}={answer.reason}"
    return f"{answer.feature}={answer.value}" if answer.kind == "quantity" else answer.feature


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, version: str) -> None:
    policy, text = STORIES[name]
    given, _, then = text.partition("then")
    lines = [line.partition("#")[0].split() for line in then.strip().splitlines()]
    last = max(float(line[1]) for line in lines)
    story = play(f"{given}\n then day {last} nothing", api_version=version)
    published = catalog(policy)
    for attempt in range(3):
        holdings = holdings_of(story, random.Random(f"{name}{attempt}"))
        for _, day, *expected in lines:
            at = datetime.fromtimestamp(story.events[0]["created"] + round(float(day) * 86_400), UTC)
            answers = {one.feature: one for one in answer_all(holdings, published, at)}
            names = [word.removeprefix("no:").partition("=")[0] for word in expected]
            assert [say(answers.get(feature)) for feature in names] == expected, (day, expected)

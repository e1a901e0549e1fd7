"""Causal order: chains inside a second, seconds that only fit together, and what cannot be settled."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from projections.causal import REACH, Ordering, in_causal_order, object_key, order
from projections.facts import Fact

START = datetime(2026, 1, 1, tzinfo=UTC)
Json = dict[str, Any]


def fact(
    event_id: str,
    subject: Json,
    previous: Json | None = None,
    *,
    at: float = 0,
    type_: str = "customer.subscription.updated",
    position: int = 1,
) -> Fact:
    whole = {"id": "sub_1", "object": "subscription"} | subject
    return Fact(event_id, type_, START + timedelta(seconds=at), position, whole, previous or {}, {})


def ids(facts: Sequence[Fact]) -> str:
    return " ".join(one.event_id for one in facts)


def in_every_order(facts: Sequence[Fact]) -> Ordering:
    """Order every permutation; they must all come out alike."""
    found = [order(permuted) for permuted in itertools.permutations(facts)]
    assert {ids(one.facts) for one in found} == {ids(found[0].facts)}
    assert all(one.unsure == found[0].unsure for one in found)
    return found[0]


def test_past_due_then_canceled_in_one_second_is_canceled() -> None:
    """The published failure of another tool: taken by arrival, the subscription stays past due."""
    facts = [
        fact("evt_a", {"status": "canceled"}, {"status": "past_due"}),
        fact("evt_b", {"status": "past_due"}, {"status": "active"}),
    ]
    assert ids(in_every_order(facts).facts) == "evt_b evt_a"


def test_a_chain_over_two_keys_ends_with_both() -> None:
    facts = [
        fact("evt_a", {"status": "active", "pm": "pm_1"}, {"pm": None}),
        fact("evt_b", {"status": "active"}, {"status": "incomplete"}),
        fact("evt_z", {"status": "incomplete"}, type_="customer.subscription.created"),
    ]
    ordering = in_every_order(facts)
    assert ids(ordering.facts) == "evt_z evt_b evt_a"
    assert not ordering.unsure


def test_created_comes_first_and_deleted_last_in_their_second() -> None:
    facts = [
        fact("evt_1", {"status": "canceled"}, type_="customer.subscription.deleted"),
        fact("evt_2", {"status": "active"}, {"status": "incomplete"}),
        fact("evt_3", {"status": "incomplete"}, type_="customer.subscription.created"),
    ]
    assert ids(in_every_order(facts).facts) == "evt_3 evt_2 evt_1"


def test_events_of_another_type_follow_the_update_they_show() -> None:
    def invoice(event_id: str, status: str, previous: Json | None = None, type_: str = "invoice.updated") -> Fact:
        return fact(event_id, {"id": "in_1", "object": "invoice", "status": status}, previous, type_=type_)

    facts = [
        invoice("evt_1", "paid", type_="invoice.paid"),
        invoice("evt_2", "open", type_="invoice.finalized"),
        invoice("evt_3", "paid", {"status": "open"}),
        invoice("evt_4", "open", {"status": "draft"}),
    ]
    assert ids(in_every_order(facts).facts) == "evt_4 evt_2 evt_3 evt_1"


def test_nested_changes_and_absent_values_chain() -> None:
    facts = [
        fact("evt_a", {"metadata": {"x": "2", "y": "1"}}, {"metadata": {"x": "1"}}),
        fact("evt_b", {"metadata": {"x": "1", "y": "1"}}, {"metadata": {"y": None}}),
        fact("evt_c", {"metadata": {"x": "1"}}, {"metadata": {"x": None}}),
    ]
    assert ids(in_every_order(facts).facts) == "evt_c evt_b evt_a"


def test_neighbouring_seconds_that_only_fit_the_other_way_round_are_one() -> None:
    facts = [
        fact("evt_a", {"n": 3}, {"n": 2}, at=0),
        fact("evt_b", {"n": 2}, {"n": 1}, at=1),
        fact("evt_c", {"n": 4}, {"n": 3}, at=9),
    ]
    ordering = in_every_order(facts)
    assert ids(ordering.facts) == "evt_b evt_a evt_c"
    assert [one.created for one in ordering.facts] == [START + timedelta(seconds=at) for at in (1, 1, 9)]
    assert ordering.boundaries == [2, 3]


def test_seconds_beyond_reach_are_never_mixed() -> None:
    facts = [fact("evt_a", {"n": 3}, {"n": 2}, at=0), fact("evt_b", {"n": 2}, {"n": 1}, at=3)]
    assert ids(in_every_order(facts).facts) == "evt_a evt_b"


def test_a_closed_trail_begins_where_the_object_was() -> None:
    circle = [fact("evt_a", {"n": 2}, {"n": 1}, at=50), fact("evt_b", {"n": 1}, {"n": 2}, at=50)]
    assert ids(order([fact("evt_0", {"n": 2}, {"n": 0}), *circle]).facts) == "evt_0 evt_b evt_a"
    assert ids(order([fact("evt_0", {"n": 1}, {"n": 0}), *circle]).facts) == "evt_0 evt_a evt_b"
    assert ids(order(circle, {"sub_1": {"n": 2}}).facts) == "evt_b evt_a"
    unknown = in_every_order(circle)
    assert unknown.needs_anchor == {"sub_1"}


def test_where_an_event_is_missing_life_decides_and_it_is_said() -> None:
    facts = [
        fact("evt_a", {"status": "canceled", "n": 9}, {"n": 8}),
        fact("evt_b", {"status": "active", "n": 3}, {"n": 2}),
    ]
    ordering = in_every_order(facts)
    assert ids(ordering.facts) == "evt_b evt_a"
    assert ordering.unsure == {"sub_1"}


def test_an_event_that_came_twice_counts_once() -> None:
    twice = [fact("evt_a", {"n": 2}, position=9), fact("evt_a", {"n": 2}, position=4)]
    assert [one.position for one in order(twice).facts] == [4]


def test_a_summary_is_its_customers() -> None:
    summary = {"id": None, "object": "entitlements.active_entitlement_summary", "customer": "cus_1"}
    assert object_key(fact("evt_a", summary)) == "summary:cus_1"
    assert object_key(fact("evt_a", {"id": None})) == "evt_a"


@dataclass(frozen=True)
class Second:
    """Updates of one object in one second, as they were made."""

    made: list[Fact]
    before: Json


def a_second(chance: random.Random, count: int, at: float = 0) -> Second:
    """Change some of a few keys again and again; each event says what it changed from."""
    state: Json = {"id": "sub_1", "object": "subscription", "a": 0, "b": {"x": 0}, "c": [0], "status": "active"}
    before, made = dict(state), []
    names = [f"evt_{chance.randrange(10**9)}" for _ in range(count)]
    for name in names:
        changed = dict(state)
        previous: Json = {}
        for key in chance.sample(("a", "b", "c"), k=chance.choice((1, 1, 2))):
            value = chance.randrange(5)
            now = {"a": value, "b": {"x": value}, "c": [value]}[key]
            if now != state[key]:
                previous[key] = state[key]
                changed[key] = now
        if previous:
            state = changed
            made.append(fact(name, dict(state), previous, at=at))
    return Second(made, before)


@settings(max_examples=1_500, deadline=None)
@given(st.integers(0, 2**40), st.integers(2, 6))
def test_the_final_state_of_a_second_is_always_found(dice: int, count: int) -> None:
    chance = random.Random(dice)
    second = a_second(chance, count)
    assume(len(second.made) > 1)
    arrived = [*second.made, *chance.choices(second.made, k=2)]
    chance.shuffle(arrived)
    ordering = order(arrived, {"sub_1": second.before})
    assert not ordering.unsure
    assert ordering.facts[-1].subject == second.made[-1].subject
    state = second.before
    for one in ordering.facts:
        assert all(state[key] == was for key, was in one.previous.items())
        state = one.subject


def test_with_one_event_missing_most_are_right_and_few_wrong_ones_are_sure() -> None:
    right = sure_and_wrong = total = 0
    for dice in range(2_000):
        chance = random.Random(dice)
        second = a_second(chance, chance.randrange(3, 7))
        if len(second.made) < 3:
            continue
        arrived = list(second.made)
        del arrived[chance.randrange(len(arrived) - 1)]
        ordering = order(arrived, {"sub_1": second.before})
        found = ordering.facts[-1].subject == second.made[-1].subject
        total += 1
        right += found
        sure_and_wrong += not found and not ordering.unsure
    assert right / total > 0.7
    assert sure_and_wrong / total < 0.05


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**40))
def test_the_order_before_a_boundary_does_not_depend_on_what_comes_after(dice: int) -> None:
    chance = random.Random(dice)
    facts: list[Fact] = []
    at = 0.0
    for _ in range(chance.randrange(2, 8)):
        at += chance.choice((1, 1, 2, 3, 60))
        facts += a_second(chance, chance.randrange(1, 4), at).made
    assume(facts)
    chance.shuffle(facts)
    whole = order(facts)
    end = chance.choice(whole.boundaries)
    first, rest = whole.facts[:end], whole.facts[end:]
    originals = {one.event_id: one for one in facts}
    again = order([originals[one.event_id] for one in first])
    assert ids(again.facts) == ids(first)
    anchors = {object_key(one): one.subject for one in first}
    assert ids(order([originals[one.event_id] for one in rest], anchors).facts) == ids(rest)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**40))
def test_a_late_event_changes_nothing_that_is_out_of_its_reach(dice: int) -> None:
    chance = random.Random(dice)
    facts: list[Fact] = []
    at = 0.0
    for _ in range(chance.randrange(3, 9)):
        at += chance.choice((1, 2, 3, 30))
        facts += a_second(chance, chance.randrange(1, 4), at).made
    assume(len(facts) > 2)
    late = chance.choice(facts)
    bound = late.created - REACH - timedelta(seconds=1)
    before = [one.event_id for one in order(facts).facts if one.created < bound]
    without = [one for one in facts if one is not late]
    assert [one.event_id for one in order(without).facts if one.created < bound] == before


@pytest.mark.timeout(30)
def test_five_thousand_updates_in_one_second_are_no_trouble() -> None:
    facts = [fact(f"evt_{n:05d}", {"n": n + 1}, {"n": n}) for n in range(5_000)]
    random.Random(1).shuffle(facts)
    assert [one.subject["n"] for one in in_causal_order(facts)] == list(range(1, 5_001))

"""The engine, pure: any order, any duplicate, any piece and any kept state give the rows of one sorted fold."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ledger.simulator.calendar import month_ends
from ledger.simulator.company import Arguments
from projections import folding
from projections.causal import object_key
from projections.contract import Projection, Rows, Subject, Table, Terms
from projections.entitlements.answer import answer_all
from projections.entitlements.rows import Holdings, ProductRow
from projections.facts import Fact
from projections.folding import Folding, fold, newest_before, rows_of, thinned
from tests.projections.histories import MONTHS, PROJECTION, company, facts_by_subject, held

SEEDS = st.integers(0, 24)


@pytest.fixture(scope="module", autouse=True)
def states_are_kept_often() -> Iterator[None]:
    """Keep states every few events, so that short histories are taken up again in many places."""
    patch = pytest.MonkeyPatch()
    patch.setattr(folding, "KEEP_FROM", 4)
    patch.setattr(folding, "KEEP_EVERY", 7)
    patch.setattr(folding, "_RECENT_EVERY", 2)
    yield
    patch.undo()


def sorted_rows(rows: Rows) -> dict[str, list[Any]]:
    return {table: sorted(some, key=lambda row: [str(value) for value in row]) for table, some in rows.items()}


def whole(subject: Subject, facts: Sequence[Fact]) -> dict[str, list[Any]]:
    return sorted_rows(rows_of(PROJECTION, subject, facts))


def a_life(chance: random.Random, seed: int) -> tuple[Subject, tuple[Fact, ...]]:
    """Choose a subject that something happens to."""
    return chance.choice([(subject, facts) for subject, facts in facts_by_subject(seed).items() if len(facts) > 5])


@settings(max_examples=1_000, deadline=None)
@given(seed=SEEDS, dice=st.integers(0, 2**32))
def test_any_order_and_any_duplicates_give_the_same_rows(seed: int, dice: int) -> None:
    chance = random.Random(dice)
    subject, facts = a_life(chance, seed)
    arrived = [*facts, *chance.choices(facts, k=chance.randrange(4))]
    chance.shuffle(arrived)
    assert whole(subject, arrived) == whole(subject, facts)


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, dice=st.integers(0, 2**32))
def test_pieces_in_order_of_time_give_the_same_rows(seed: int, dice: int) -> None:
    chance = random.Random(dice)
    subject, facts = a_life(chance, seed)
    by_time = sorted(facts, key=lambda fact: (fact.created, fact.event_id))
    pieces = Folding(PROJECTION, subject)
    while by_time:
        size = chance.randrange(1, 9)
        pieces.feed(by_time[:size])
        by_time = by_time[size:]
    assert sorted_rows(pieces.finish().rows) == whole(subject, facts)


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, dice=st.integers(0, 2**32))
def test_a_kept_state_taken_up_again_gives_the_same_rows(seed: int, dice: int) -> None:
    chance = random.Random(dice)
    subject, facts = a_life(chance, seed)
    late = chance.choice(facts)
    first = fold(PROJECTION, subject, [fact for fact in facts if fact is not late])
    kept = newest_before(first.kept, late.created)
    if kept is None:
        return
    by_position = {fact.position: fact for fact in facts}
    anchors = {position: by_position[position] for _, position in kept.anchors}
    again = Folding(PROJECTION, subject, resume=kept, anchors=anchors)
    again.feed(fact for fact in facts if fact.created > kept.at)
    standing = {
        table.name: [row for row in first.rows[table.name] if _final(table, row) and _final(table, row) <= kept.at]
        for table in PROJECTION.tables
        if table.final
    }
    rows = again.finish().rows
    assert sorted_rows({name: [*standing.get(name, []), *rows[name]] for name in rows}) == whole(subject, facts)


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, dice=st.integers(0, 2**32))
def test_a_remembered_state_gives_all_rows_again(seed: int, dice: int) -> None:
    """Whatever comes after a state that was said to be ready, the rows folded from it are those of the whole life."""
    chance = random.Random(dice)
    subject, facts = a_life(chance, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEEP_FROM", 10_000)
        patch.setattr(folding, "REMEMBER_FROM", 2)
        ready, since = None, 0
        by_position: dict[int, Fact] = {}
        delays = [timedelta(0), timedelta(seconds=3), timedelta(minutes=5), timedelta(days=40)]
        late = [(fact.created + chance.choices(delays, (20, 5, 3, 1))[0], fact) for fact in facts]
        arrived = [fact for _, fact in sorted(late, key=lambda one: (one[0], one[1].position))]
        arriving = [fact._replace(position=place) for place, fact in enumerate(arrived, 1)]
        while arriving:
            size = chance.randrange(1, 6)
            news, arriving = arriving[:size], arriving[size:]
            by_position |= {fact.position: fact for fact in news}
            if ready is None or newest_before([ready], min(fact.created for fact in news)) is None:
                ready = None
            until, waiting = max(by_position), list(by_position.values())
            if ready is not None:
                since += 1
                waiting = [fact for fact in waiting if fact.position >= ready.first_after and fact.created > ready.at]
                seen_again = set(map(object_key, waiting))
                anchors = {at: by_position[at] for key, at in ready.anchors if key in seen_again}
            again = Folding(PROJECTION, subject, resume=ready, anchors=anchors if ready else {})
            again.hold(waiting)
            folded = again.finish(until, ready=True)
            assert sorted_rows(folded.rows) == whole(subject, list(by_position.values()))
            assert not folded.kept
            ready = folded.ready
    event(f"went on from what was ready: {min(since, 3)} times")


def _final(table: Any, row: Any) -> Any:
    return row[table.columns.index(table.final)]


@pytest.mark.parametrize("version", ["2020-08-27", "2024-06-20", "2025-03-31.basil", "2026-10-28.endive", "mixed"])
def test_the_rows_say_what_is_true(version: str) -> None:
    """Access at every month's end and at random instants, from shuffled events of every shape, equals the truth."""
    chance = random.Random(version)
    seed = 77
    by_book: dict[str, dict[str, Holdings]] = {}
    subjects = facts_by_subject(seed, 40, version)
    products = [
        ProductRow(*columns)
        for subject, facts in subjects.items()
        for columns in rows_of(PROJECTION, subject, facts)["product"]
    ]
    for subject, facts in subjects.items():
        arrived = list(facts)
        chance.shuffle(arrived)
        own = [row for row in products if row.book == subject.book]
        by_book.setdefault(subject.book, {})[subject.key] = held(PROJECTION, subject, arrived, own)
    arguments = Arguments(months=MONTHS)
    instants = [at - 1 for at in month_ends(arguments.start, arguments.end)]
    instants += [chance.randrange(arguments.start, arguments.end) for _ in range(100)]
    for book, truth in company(seed, 40, version)[1].items():
        for at in instants:
            moment = datetime.fromtimestamp(at, UTC)
            answers = {
                customer: {
                    one.feature: True if one.kind == "boolean" else int(one.value or 0)
                    for one in answer_all(holdings, (), moment)
                    if one.granted
                }
                for customer, holdings in by_book[book].items()
            }
            assert {key: some for key, some in answers.items() if some} == truth.entitlements(at)


def test_thinning_keeps_the_recent_the_settled_and_one_in_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "KEEP_EVERY", 1_000)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    kept = [(start + timedelta(minutes=minute), 10 * minute) for minute in range(500)]
    wanted = thinned(kept)
    assert {at for at, _ in kept[-8:]} <= wanted
    settled = max(at for at, _ in kept if at < kept[-1][0] - timedelta(minutes=10))
    assert settled in wanted
    assert len(wanted) <= 8 + 1 + 5
    assert thinned([]) == set()


@dataclass
class Seen:
    """Every event of a subject, in the order and at the times the fold was given them."""

    subject: Subject
    events: list[tuple[str, datetime]] = field(default_factory=list)


def _see(state: Seen, fact: Fact, _: Terms) -> None:
    state.events.append((fact.event_id, fact.created))


WATCH = Projection(
    name="watch",
    version=1,
    types=frozenset(),
    tables=(Table("seen", ("subject", "event", "at"), ""),),
    state=Seen,
    begin=Seen,
    step=_see,
    rows=lambda state: {"seen": [(state.subject.stream_id, *event) for event in state.events]},
)


WATCHED = Subject("self:live", "self:live/cus_1")


def skewed(chance: random.Random) -> list[Fact]:
    """Make updates of two objects up to two seconds off their true second."""
    at = value = 0
    facts: list[Fact] = []
    for number in range(chance.randrange(4, 24)):
        at += chance.choice((0, 1, 1, 2, 3, 40))
        before, value = value, chance.randrange(6)
        skewed = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=max(0, at + chance.choice((0, 0, 0, -1, 1, 2))))
        state = {"id": f"sub_{number % 2}", "object": "subscription", "n": value}
        previous = {"n": before} if before != value else {}
        name = f"evt_{chance.randrange(10**9)}"
        facts.append(Fact(name, "customer.subscription.updated", skewed, number + 1, state, previous, {}))
    return facts


@settings(max_examples=1_500, deadline=None)
@given(st.integers(0, 2**40))
def test_pieces_are_seen_in_the_one_order_though_seconds_are_not_theirs(dice: int) -> None:
    """Events up to two seconds off their true second: folding in pieces sees them as folding at once does."""
    facts = skewed(random.Random(dice))
    by_time = sorted(facts, key=lambda fact: (fact.created, fact.event_id))
    pieces, chance = Folding(WATCH, WATCHED), random.Random(dice)
    while by_time:
        size = chance.randrange(1, 9)
        pieces.feed(by_time[:size])
        by_time = by_time[size:]
    assert pieces.finish().rows == rows_of(WATCH, WATCHED, facts)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**40))
def test_a_fold_goes_on_from_its_end_or_says_that_it_cannot(dice: int) -> None:
    chance = random.Random(dice)
    arrived = sorted(skewed(chance), key=lambda fact: (fact.position + chance.choice((0, 0, 0, 2)), fact.event_id))
    first = chance.randrange(1, len(arrived))
    folding_ = Folding(WATCH, WATCHED)
    folding_.hold(arrived[:first])
    folding_.finish()
    finished = folding_.finished
    assert finished is not None
    for end in range(first + 1, len(arrived) + 1):
        gone = finished.go_on(arrived[end - 1 : end])
        event("went on" if gone else "did not")
        if gone is None:
            break
        assert gone.rows == rows_of(WATCH, WATCHED, arrived[:end])


def test_a_busy_subject_goes_on_from_near_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten events a second, each folded as it comes: what is folded again is of the last seconds, for ever."""
    monkeypatch.setattr(folding, "KEEP_EVERY", 250)
    monkeypatch.setattr(folding, "_RECENT_EVERY", 16)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    facts = [
        Fact(
            f"evt_{n:03}",
            "customer.subscription.updated",
            start + timedelta(seconds=n // 10),
            n + 1,
            {"id": "sub_1", "object": "subscription", "n": n},
            {"n": n - 1},
            {},
        )
        for n in range(800)
    ]
    kept, folded_again = fold(WATCH, WATCHED, facts[:400]).kept, []
    for end in range(401, 801):
        state = newest_before(kept, facts[end - 1].created)
        assert state is not None
        folding_ = Folding(WATCH, WATCHED, resume=state, anchors={fact.position: fact for fact in facts})
        folding_.hold(facts[state.seen : end])
        kept = [*(one for one in kept if one.at <= state.at), *folding_.finish(end).kept]
        folded_again.append(end - state.seen)
    assert max(folded_again) <= 90

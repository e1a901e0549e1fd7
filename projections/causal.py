"""Causal order: the order in which things happened, whatever the order of arrival (stripe-domain §1.6).

Stripe's ``created`` has whole seconds, and bursts put many events into one second. Within a second, each update of an
object says what it changed *from* (``previous_attributes``): updates are edges from one state to the next, and their
order is the trail that uses each edge once. If neighbouring seconds do not fit together, they are tried as one. What
states do not settle is decided by the object's life cycle and finally by the event id; such an object is reported as
unsure.

An event never changes the order of events more than ``REACH`` before its second, so a fold can be resumed where it was
left. For an object with no other event near an event, as nearly always, no states are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain, groupby, pairwise
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

import orjson

from ledger.event import Json, identifier, mapping
from ledger.observation import OBSERVED
from projections.facts import Fact

REACH: Final = timedelta(seconds=2)
"""How far apart two seconds may be and still be tried as one."""

_SECOND: Final = timedelta(seconds=1)
_CREATED, _UPDATED, _SUPPLIED, _DELETED = range(4)
_STAGES: Final = {"created": _CREATED, "deleted": _DELETED}
_NESTED: Final = (dict, list)
_HUB: Final = b""  # not a state: even an empty one is written as {}

_LIFE: Final[Mapping[str, Mapping[str, int]]] = {
    "subscription": {"canceled": 1, "incomplete_expired": 1},
    "invoice": {"open": 1, "uncollectible": 2, "paid": 3, "void": 3},
    "payment_intent": {"processing": 1, "succeeded": 2, "canceled": 2},
    "charge": {"succeeded": 1, "failed": 1},
    "dispute": dict.fromkeys(("warning_under_review", "under_review", "appeal_under_review"), 1)
    | dict.fromkeys(("won", "lost", "warning_closed", "prevented"), 2),
    "refund": {"succeeded": 1, "failed": 2, "canceled": 2},  # even a refund that succeeded can still fail
    "payout": {"paid": 1, "failed": 2, "canceled": 2},
}
"""How far along its object's life cycle a status is; statuses not listed are at its beginning (0)."""


@dataclass(frozen=True, slots=True)
class Ordering:
    """Facts in causal order, and what is known about that order.

    Each fact's ``created`` is its effective time, the latest so far in its object's chain, so times never go back.
    ``unsure`` names the objects whose order their states did not settle; ``needs_anchor`` those among them whose state
    before the first fact would have settled it; ``joined`` the seconds that were ordered together with the next one.
    """

    facts: list[Fact]
    unsure: frozenset[str]
    needs_anchor: frozenset[str]
    joined: frozenset[datetime]

    @property
    def boundaries(self) -> list[int]:
        """The counts of facts after which a fold may be resumed.

        No later fact is in the same second, or in one ordered together with it.
        """
        ends = [
            place
            for place, (fact, following) in enumerate(pairwise(self.facts), 1)
            if fact.created != following.created
            and (now := _second(fact)) != _second(following)
            and now not in self.joined
        ]
        return [*ends, len(self.facts)] if self.facts else []


def in_causal_order(facts: Iterable[Fact]) -> list[Fact]:
    """Sort a subject's events into causal order: a pure function of the set of events."""
    return order(facts).facts


def object_key(fact: Fact) -> str:
    """Name the object an event is about; an entitlement summary, which has no id, by its customer."""
    key, kind = fact.subject.get("id"), fact.subject.get("object")
    if isinstance(key, str) and key:
        return key
    customer = identifier(fact.subject.get("customer")) if kind == "entitlements.active_entitlement_summary" else None
    return fact.event_id if customer is None else f"summary:{customer}"


def order(facts: Iterable[Fact], anchors: Mapping[str, Json] = {}) -> Ordering:
    """Sort a subject's events; of copies, the first stored counts. ``anchors`` are objects' states before them."""
    each_once = {fact.event_id: fact for fact in sorted(facts, key=attrgetter("position"), reverse=True)}
    by_object: dict[str, list[Fact]] = {}
    for fact in each_once.values():
        by_object.setdefault(object_key(fact), []).append(fact)
    chains = {key: _Chain(some, anchors.get(key)) for key, some in sorted(by_object.items())}
    merged = _merged([one.facts for one in chains.values()])
    joined = frozenset(second for one in chains.values() for second in one.joined)
    unsure = frozenset(key for key, one in chains.items() if one.unsure)
    needs_anchor = frozenset(key for key, one in chains.items() if one.needs_anchor)
    return Ordering(merged, unsure, needs_anchor, joined)


def _merged(chains: Sequence[list[Fact]]) -> list[Fact]:
    """Merge objects' chains by time; at equal times, creations come first and deletions last, as in each chain."""
    if len(chains) == 1:
        return chains[0]
    return sorted(sorted(chain.from_iterable(chains), key=_turn), key=attrgetter("created"))


def _turn(fact: Fact) -> int:
    """Rank an event among those of equal time: an observation comes after the events that it may complete."""
    return _SUPPLIED if fact.type == OBSERVED else _stage(fact)


def _stage(fact: Fact) -> int:
    return _stage_of(fact.type)


@lru_cache(maxsize=1_000)
def _stage_of(type_: str) -> int:
    return _STAGES.get(type_.rpartition(".")[2], _UPDATED)


def _second(fact: Fact) -> datetime:
    return fact.created.replace(microsecond=0) if fact.created.microsecond else fact.created


class _Chain:
    """One object's events in causal order, starting from the state before them."""

    def __init__(self, facts: list[Fact], before: Json | None) -> None:
        self.facts: list[Fact] = []
        self.joined: list[datetime] = []  # seconds that were ordered together with the next one
        self.unsure = self.needs_anchor = False
        self._before = before
        if len(facts) == 1:
            self.facts = facts
            return
        facts.sort(key=attrgetter("created"))
        far = [n for n, (one, two) in enumerate(pairwise(facts), 1) if two.created - one.created >= REACH + _SECOND]
        if len(far) == len(facts) - 1:
            self.facts = facts
            return
        for start, end in pairwise((0, *far, len(facts))):
            if end - start > 1:
                self._add(facts[start:end])
            else:
                self.facts.append(facts[start])

    def _add(self, burst: list[Fact]) -> None:
        """Add events that are close together and far from all others."""
        self._before = self.facts[-1].subject if self.facts else self._before
        groups = [list(some) for _, some in groupby(burst, _second)]
        end, ahead = 0, None
        while end < len(groups):
            first = _second(groups[end][0])
            group, end, ahead = self._widen(groups, end, ahead or _settle(groups[end], self._before))
            self.joined += [first + n * _SECOND for n in range((_second(groups[end - 1][0]) - first).seconds)]
            self.unsure |= not group.sure
            self.needs_anchor |= group.anchorless
            at = group.facts[0].created
            for fact in group.facts:
                at = max(at, fact.created)
                self.facts.append(fact if fact.created == at else fact._replace(created=at))
            self._before = fact.subject

    def _widen(self, groups: Sequence[list[Fact]], start: int, group: _Group) -> tuple[_Group, int, _Group | None]:
        """Join seconds that only fit together with the first; return their group, the next place, and its group."""
        first, end = _second(groups[start][0]), start + 1
        while end < len(groups):
            ahead = _settle(groups[end], group.facts[-1].subject)
            if group.fits and ahead.fits:
                return group, end, ahead
            wider = [
                n for n in range(end + 1, min(start + 3, len(groups)) + 1) if _second(groups[n - 1][0]) - first <= REACH
            ]
            if not (group.sure and ahead.sure):
                # Without any ``previous_attributes``, joining seconds cannot settle what they leave open alone.
                wider = [n for n in wider if any(fact.previous for some in groups[start:n] for fact in some)]
            unions = ((_settle([*chain.from_iterable(groups[start:n])], self._before), n) for n in wider)
            found = next((found for found in unions if found[0].fits), None)
            if found is None:
                return group, end, ahead
            group, end = found
        return group, end, None


class _Group(NamedTuple):
    """Events of one object that are ordered together, in order."""

    facts: list[Fact]
    sure: bool = True  # their states settle the order
    fits: bool = True  # ... and continue the state before them, as far as that is known
    anchorless: bool = False  # the state before them, which is not known, would settle the order


class _Edge(NamedTuple):
    """An update from one state to the next, reduced to the keys that updates of its group change."""

    fact: Fact
    pre: bytes
    post: bytes


_Step = tuple[bytes, tuple[_Edge, ...]]  # to a state, along an edge; along none, it is a jump


def _settle(group: Sequence[Fact], before: Json | None) -> _Group:
    """Order events as one group, following the state ``before`` them if that is known."""
    if len(group) == 1:
        return _Group(list(group), fits=before is None or _starts_from(before, group[0]))
    if len(group) == 2 and (pair := _as_made_and_changed(*group)):
        return _Group(pair)
    ranked = sorted([(_rank(fact), fact) for fact in group], key=itemgetter(0))
    first, between, last = ([fact for rank, fact in ranked if rank[0] == at] for at in (_CREATED, _UPDATED, _DELETED))
    chained = [fact for fact in between if fact.previous]
    if not chained:
        pairs = pairwise(ranked)
        sure = all(one.subject == two.subject or rank[:-1] < next_[:-1] for (rank, one), (next_, two) in pairs)
        return _Group([fact for _, fact in ranked], sure, sure)
    keys = {key for fact in chained for key in fact.previous}
    anchor = first[-1].subject if first else before
    start = None if anchor is None else _state(anchor, keys)
    trails = _trails([_edge(fact, keys) for fact in chained], start)
    trail = [edge for some in trails for edge in some]
    placed = _place([fact for fact in between if not fact.previous], trail, keys)
    begin, passed = trail[0].pre, {edge.post for edge in trail}
    turns = begin == trail[-1].post and passed != {begin}
    # A trail that passes the known state without beginning there may have a gap; a circuit may begin anywhere.
    sure = len(trails) == 1 and (begin == start or not (turns or start in passed))
    fits = sure and start in (None, begin)
    return _Group([*first, *placed, *last], sure, fits, turns and start is None)


def _as_made_and_changed(one: Fact, two: Fact) -> list[Fact] | None:
    """Order the commonest group by a short cut: an object's creation, and one change of exactly that state."""
    made, changed = (one, two) if _stage(one) == _CREATED else (two, one)
    if _stage(made) != _CREATED or _stage(changed) != _UPDATED or not changed.previous:
        return None
    state = made.subject
    plain = all(not isinstance(was, dict) and state.get(key) == was for key, was in changed.previous.items())
    return [made, changed] if plain else None


def _starts_from(before: Json, fact: Fact) -> bool:
    if all(before.get(key) == was for key, was in fact.previous.items()):
        return _stage(fact) > _CREATED
    return _edge(fact, fact.previous).pre == _state(before, fact.previous)


def _edge(fact: Fact, keys: Iterable[str]) -> _Edge:
    part = {key: fact.subject[key] for key in keys if key in fact.subject}
    return _Edge(fact, _state(_undo(part, fact.previous), keys), _state(part, keys))


def _trails(edges: Sequence[_Edge], start: bytes | None) -> list[list[_Edge]]:
    """Order edges into as few trails as possible: one, if no event is missing.

    Where a trail must end and another begin, a jump through a hub joins them, so that a single walk finds them all.
    Only circuits that share no state with that walk remain; each is walked from ``start`` or its earliest edge.
    """
    if len(edges) == 1:
        return [list(edges)]
    out = dict.fromkeys(chain.from_iterable((edge.pre, edge.post) for edge in edges), 0)
    for edge in edges:
        out[edge.pre] += 1
        out[edge.post] -= 1
    leaving: dict[bytes, list[_Step]] = {state: [(_HUB, ())] * -count for state, count in out.items()}
    leaving[_HUB] = [(state, ()) for state, count in out.items() for _ in range(count)]
    for edge in reversed(edges):
        leaving[edge.pre].append((edge.post, (edge,)))
    trails: list[list[_Edge]] = []
    for begin in (_HUB, start if start in leaving else _HUB, *(edge.pre for edge in edges)):
        walk: list[tuple[_Edge, ...]] = []
        path: list[_Step] = [(begin, ())]
        while path:  # Hierholzer's algorithm: the state without an unused edge is the end of the walk
            if waiting := leaving[path[-1][0]]:
                path.append(waiting.pop())
            else:
                walk.append(path.pop()[1])
        trails += [list(chain.from_iterable(part)) for told, part in groupby(reversed(walk), bool) if told]
    return sorted(trails, key=lambda trail: (_life(trail[-1].fact), trail[0].pre != start, _rank(trail[-1].fact)))


def _place(others: Sequence[Fact], trail: Sequence[_Edge], keys: Iterable[str]) -> list[Fact]:
    """Place events without a prior state where the trail has the state they show, else by their life cycle.

    An event that shows no state of the trail may just use another API version, so that alone makes no object unsure.
    """
    if not others:
        return [edge.fact for edge in trail]
    shown = {edge.post: place for place, edge in reversed(list(enumerate(trail, 1)))}
    shown.setdefault(trail[0].pre, 0)
    lived = {_life(edge.fact): place for place, edge in enumerate(trail, 1)}
    behind: list[list[Fact]] = [[], *([edge.fact] for edge in trail)]
    for fact in others:
        place = shown.get(_state(fact.subject, keys))
        if place is None:
            life = _life(fact)
            place = max((at for some, at in lived.items() if some <= life), default=0)
        behind[place].append(fact)
    return list(chain.from_iterable(behind))


def _life(fact: Fact) -> int:
    return _LIFE.get(str(fact.subject.get("object")), {}).get(str(fact.subject.get("status")), 0)


def _rank(fact: Fact) -> tuple[int, int, list[int], datetime, str]:
    """Return how late in its object's life an event is, as far as the event shows it."""
    transitions = mapping(fact.subject.get("status_transitions")).values()
    times = (*transitions, fact.subject.get("canceled_at"), fact.subject.get("ended_at"))
    milestones = sorted([at for at in times if isinstance(at, int)], reverse=True)
    return (_stage(fact), _life(fact), milestones, fact.created, fact.event_id)


def _state(state: Json, keys: Iterable[str]) -> bytes:
    """Encode the given keys of a state canonically; to Stripe, null and absent are the same."""
    part = {
        key: _without_nulls(each) if isinstance(each, _NESTED) else each
        for key in keys
        if (each := state.get(key)) is not None
    }
    return orjson.dumps(part, option=orjson.OPT_SORT_KEYS)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_nulls(each) if isinstance(each, _NESTED) else each
            for key, each in value.items()
            if each is not None
        }
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _undo(state: Json, previous: Json) -> Json:
    """Restore prior values: nested objects key by key, everything else whole."""
    both = {key for key, was in previous.items() if isinstance(was, dict) and isinstance(state.get(key), dict)}
    return state | previous | {key: _undo(state[key], previous[key]) for key in both}

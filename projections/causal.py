"""Causal order: the order in which things happened, whatever the order of arrival (stripe-domain §1.6).

Stripe's ``created`` has whole seconds and bursts fill one of them. Inside a second each update of an object says what
it changed *from* (``previous_attributes``): updates are edges from one state to the next, and their order is the trail
that uses each once. Where neighbouring seconds do not fit together, they are tried as one. What states do not settle
is settled by an object's life, and at last by the event id; such an object is reported as unsure.

The order of events is never changed by what happens later than ``REACH`` after them, so that a fold can be taken up
again where it was left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Any, Final

import orjson

from ledger.event import Json, identifier
from projections.facts import Fact

REACH: Final = timedelta(seconds=2)
"""How far apart seconds may be that are tried as one."""

_CREATED, _UPDATED, _DELETED = range(3)

_LIVES: Final[Mapping[str, tuple[frozenset[str], ...]]] = {
    "subscription": (
        frozenset({"incomplete", "trialing", "active", "past_due", "unpaid", "paused"}),
        frozenset({"canceled", "incomplete_expired"}),
    ),
    "invoice": (
        frozenset({"draft"}),
        frozenset({"open"}),
        frozenset({"uncollectible"}),
        frozenset({"paid", "void"}),
    ),
    "payment_intent": (
        frozenset({"requires_payment_method", "requires_confirmation", "requires_action", "requires_capture"}),
        frozenset({"processing"}),
        frozenset({"succeeded", "canceled"}),
    ),
    "charge": (frozenset({"pending"}), frozenset({"succeeded", "failed"})),
    "dispute": (
        frozenset({"warning_needs_response", "needs_response", "appeal_needs_response"}),
        frozenset({"warning_under_review", "under_review", "appeal_under_review"}),
        frozenset({"won", "lost", "warning_closed", "prevented"}),
    ),
}
"""How far along its life a status is."""

_MILESTONES: Final = ("canceled_at", "ended_at")


@dataclass(slots=True)
class Ordering:
    """Facts in causal order, and what is known of that order.

    Each fact's ``created`` is its effective time: where a chain shows that an event happened after one of a later
    second, that second; so times never go backwards. ``unsure`` and ``needs_anchor`` name objects whose states did not
    settle their order: some event is missing, or the state before them is. ``widened`` are the spans of seconds that
    were tried as one.
    """

    facts: list[Fact]
    unsure: set[str] = field(default_factory=set)
    needs_anchor: set[str] = field(default_factory=set)
    widened: list[tuple[datetime, datetime]] = field(default_factory=list)

    @property
    def boundaries(self) -> list[int]:
        """Where a fold can be taken up again: between seconds, but not inside those that were tried as one."""
        facts = self.facts
        ends = [
            place
            for place in range(1, len(facts))
            if facts[place - 1].created < facts[place].created
            and not any(start <= facts[place - 1].created < end for start, end in self.widened)
        ]
        return [*ends, len(facts)] if facts else []


def in_causal_order(facts: Iterable[Fact]) -> list[Fact]:
    """Sort a subject's events by what caused what: a pure function of the set of events."""
    return order(facts).facts


def object_key(fact: Fact) -> str:
    """Name the object an event is about; a summary of entitlements, which has no id, by its customer."""
    subject = fact.subject
    key = subject.get("id")
    if isinstance(key, str) and key:
        return key
    customer = identifier(subject.get("customer"))
    return fact.event_id if customer is None else f"summary:{customer}"


def order(facts: Iterable[Fact], anchors: Mapping[str, Json] | None = None) -> Ordering:
    """Sort a subject's events; ``anchors`` are objects as they were before the first of these.

    An event that is given twice counts once.
    """
    by_object: dict[str, list[Fact]] = {}
    for fact in _each_once(facts):
        by_object.setdefault(object_key(fact), []).append(fact)
    ordering = Ordering([])
    keyed: list[tuple[datetime, int, str, int, Fact]] = []
    for key, some in by_object.items():
        chain = _Chain(key, (anchors or {}).get(key), ordering)
        keyed += _keyed(key, chain.through(some))
    keyed.sort(key=itemgetter(0, 1, 2, 3))
    ordering.facts = [entry[4] for entry in keyed]
    return ordering


def _each_once(facts: Iterable[Fact]) -> list[Fact]:
    first: dict[str, Fact] = {}
    for fact in facts:
        known = first.get(fact.event_id)
        if known is None or fact.position < known.position:
            first[fact.event_id] = fact
    return sorted(first.values(), key=attrgetter("created", "event_id"))


def _keyed(key: str, chain: Iterable[Fact]) -> Iterable[tuple[datetime, int, str, int, Fact]]:
    """Give each fact of an object its place among other objects' of the same second, keeping the chain's order."""
    at, stage = None, _CREATED
    for place, fact in enumerate(chain):
        stage = _stage(fact) if fact.created != at else max(stage, _stage(fact))
        at = fact.created
        yield (at, stage, key, place, fact)


def _stage(fact: Fact) -> int:
    if fact.type.endswith(".created"):
        return _CREATED
    return _DELETED if fact.type.endswith(".deleted") else _UPDATED


class _Chain:
    """One object's events, from the state before them on."""

    def __init__(self, key: str, before: Json | None, ordering: Ordering) -> None:
        self._key = key
        self._before = before
        self._ordering = ordering

    def through(self, facts: Sequence[Fact]) -> list[Fact]:
        """Return one object's facts, sorted by time, in causal order and with effective times."""
        if all(later.created - earlier.created > REACH for earlier, later in pairwise(facts)):
            return list(facts)
        groups: list[list[Fact]] = []
        for fact in facts:
            if groups and groups[-1][0].created == fact.created:
                groups[-1].append(fact)
            else:
                groups.append([fact])
        ordered: list[Fact] = []
        place = 0
        while place < len(groups):
            group = groups[place]
            alone = place + 1 == len(groups) or groups[place + 1][0].created - group[0].created > REACH
            if len(group) == 1 and alone:
                place += 1
            else:
                group, place = self._group(groups, place)
            ordered += group
            self._before = group[-1].subject
        return ordered

    def _group(self, groups: Sequence[list[Fact]], place: int) -> tuple[list[Fact], int]:
        """Settle a second, with the seconds after it that only fit together with it; return where to go on."""
        first = groups[place][0].created
        settled = _settle(groups[place], self._before)
        used = place + 1
        while used < len(groups) and groups[used][0].created - first <= REACH:
            if _fits(settled.facts[-1], groups[used]):
                break
            union = _settle([fact for group in groups[place : used + 1] for fact in group], self._before)
            if not union.sure or not union.follows:
                break
            settled = union
            used += 1
        if not settled.sure:
            self._ordering.unsure.add(self._key)
        if settled.anchorless:
            self._ordering.needs_anchor.add(self._key)
        if used > place + 1:
            self._ordering.widened.append((first, groups[used - 1][0].created))
            return _effective(settled.facts), used
        return settled.facts, used


def _effective(facts: Sequence[Fact]) -> list[Fact]:
    at = facts[0].created
    effective = []
    for fact in facts:
        at = max(at, fact.created)
        effective.append(fact if fact.created == at else replace(fact, created=at))
    return effective


def _fits(last: Fact, following: Sequence[Fact]) -> bool:
    """Tell whether some event of the following second starts where the last one left the object."""
    chained = [fact for fact in following if fact.previous and _stage(fact) == _UPDATED]
    return not chained or any(_starts_from(last.subject, fact.previous) for fact in chained)


def _starts_from(state: Json, previous: Json) -> bool:
    for key, was in previous.items():
        now = state.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            if not _starts_from(now, was):
                return False
        elif was != now:
            return False
    return True


@dataclass(slots=True)
class _Settled:
    """A group in order. ``sure``: by a trail; ``follows``: from the state before it, as far as that is known."""

    facts: list[Fact]
    sure: bool = True
    follows: bool = True
    anchorless: bool = False


@dataclass(slots=True)
class _Edge:
    """An update from one state to the next, in the keys that the group's updates change."""

    fact: Fact
    pre: bytes
    post: bytes


def _edge(fact: Fact, keys: set[str]) -> _Edge:
    return _Edge(fact, _state(_undo(fact.subject, fact.previous), keys), _state(fact.subject, keys))


def _settle(group: Sequence[Fact], before: Json | None) -> _Settled:
    if len(group) == 1:
        return _Settled(list(group))
    ranked = sorted(group, key=_rank)
    first = [fact for fact in ranked if _stage(fact) == _CREATED]
    last = [fact for fact in ranked if _stage(fact) == _DELETED]
    between = [fact for fact in ranked if _stage(fact) == _UPDATED]
    chained = [fact for fact in between if fact.previous]
    if not chained:
        return _Settled(ranked)
    keys = {key for fact in chained for key in fact.previous}
    edges = [
        _Edge(fact, _state(_undo(fact.subject, fact.previous), keys), _state(fact.subject, keys)) for fact in chained
    ]
    anchor = first[-1].subject if first else before
    start = None if anchor is None else _state(anchor, keys)
    trail, sure, anchorless = _trail(edges, start)
    placed = _place([fact for fact in between if not fact.previous], trail, keys)
    follows = start is None or trail[0].pre == start
    return _Settled([*first, *placed, *last], sure, follows, anchorless)


def _trail(edges: Sequence[_Edge], start: bytes | None) -> tuple[list[_Edge], bool, bool]:
    """Order edges so that each starts where the one before it ended; tell whether one trail used them all.

    A closed trail begins at ``start``; where that is not known, at the earliest edge of an object's life.
    """
    balance: dict[bytes, int] = {}
    for edge in edges:
        balance[edge.pre] = balance.get(edge.pre, 0) + 1
        balance[edge.post] = balance.get(edge.post, 0) - 1
    open_ends = [state for state, out in balance.items() if out == 1]
    if any(abs(out) > 1 for out in balance.values()) or len(open_ends) > 1:
        return _pieces(edges), False, False
    anchorless = not open_ends and start not in balance
    begin = open_ends[0] if open_ends else start if start in balance else edges[0].pre
    found = _euler(edges, begin)
    if len(found) < len(edges):
        return _pieces(edges), False, False
    return found, True, anchorless and len(edges) > 1


def _euler(edges: Sequence[_Edge], begin: bytes | None) -> list[_Edge]:
    """Walk every edge once from ``begin`` (Hierholzer); edges that no walk from there reaches are left out."""
    leaving: dict[bytes | None, list[_Edge]] = {}
    for edge in reversed(edges):
        leaving.setdefault(edge.pre, []).append(edge)
    walk: list[tuple[bytes | None, _Edge | None]] = [(begin, None)]
    found: list[_Edge] = []
    while walk:
        state, came_by = walk[-1]
        if waiting := leaving.get(state):
            edge = waiting.pop()
            walk.append((edge.post, edge))
        else:
            walk.pop()
            if came_by is not None:
                found.append(came_by)
    return found[::-1]


def _pieces(edges: Sequence[_Edge]) -> list[_Edge]:
    """Order edges as far as they connect: piece after piece, beginning with what nothing leads to."""
    leaving: dict[bytes, list[_Edge]] = {}
    for edge in reversed(edges):
        leaving.setdefault(edge.pre, []).append(edge)
    reached = {edge.post for edge in edges if edge.post != edge.pre}
    used: set[str] = set()
    found: list[_Edge] = []
    for edge in sorted(edges, key=lambda one: one.pre in reached):
        walk: _Edge | None = edge
        while walk is not None and walk.fact.event_id not in used:
            used.add(walk.fact.event_id)
            found.append(walk)
            waiting = leaving.get(walk.post, [])
            while waiting and waiting[-1].fact.event_id in used:
                waiting.pop()
            walk = waiting[-1] if waiting else None
    return found


def _place(others: Sequence[Fact], trail: Sequence[_Edge], keys: set[str]) -> list[Fact]:
    """Put events that say no prior state behind the update that left their object as they show it."""
    behind: dict[int, list[Fact]] = {}
    ends = {edge.post: place for place, edge in reversed(list(enumerate(trail)))}
    for fact in others:
        state = _state(fact.subject, keys)
        default = -1 if trail and state == trail[0].pre else len(trail) - 1
        behind.setdefault(ends.get(state, default), []).append(fact)
    placed = list(behind.get(-1, ()))
    for place, edge in enumerate(trail):
        placed += [edge.fact, *behind.get(place, ())]
    return placed


def _rank(fact: Fact) -> tuple[int, int, tuple[int, ...], str]:
    """Return how late in its object's life an event stands, as far as it shows."""
    subject = fact.subject
    lives = _LIVES.get(str(subject.get("object")), ())
    status = subject.get("status")
    rank = next((rank for rank, statuses in enumerate(lives) if status in statuses), 0)
    transitions = subject.get("status_transitions")
    times = [subject.get(name) for name in _MILESTONES]
    times += transitions.values() if isinstance(transitions, dict) else ()
    milestones = tuple(sorted((at for at in times if isinstance(at, int)), reverse=True))
    return (_stage(fact), rank, milestones, fact.event_id)


def _state(state: Json, keys: Iterable[str]) -> bytes:
    """Write the part of a state that matters in one form; null and absent are the same to Stripe."""
    part = {key: _without_nulls(state[key]) for key in keys if state.get(key) is not None}
    return orjson.dumps(part, option=orjson.OPT_SORT_KEYS)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return value


def _undo(state: Json, previous: Json) -> Json:
    """Put prior values back: nested objects key by key, null removes (absent and null are the same to Stripe)."""
    prior = dict(state)
    for key, was in previous.items():
        now = prior.get(key)
        if was is None:
            prior.pop(key, None)
        elif isinstance(was, dict) and isinstance(now, dict):
            prior[key] = _undo(now, was)
        else:
            prior[key] = was
    return prior

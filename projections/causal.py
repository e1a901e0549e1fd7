"""Causal order: the order in which things happened, whatever the order of arrival (stripe-domain §1.6).

Stripe's ``created`` has whole seconds and bursts fill one of them. Inside a second each update says what it changed
*from* (``previous_attributes``), which chains the updates of one object; where that does not settle it, an object's
life does (created, then updated, then deleted; a live status before a final one), and at last the event id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from ledger.event import Json, identifier
from projections.facts import Fact

_FINAL_STATUSES = {
    "subscription": frozenset({"canceled", "incomplete_expired"}),
    "invoice": frozenset({"paid", "void"}),
    "payment_intent": frozenset({"succeeded", "canceled"}),
    "dispute": frozenset({"won", "lost", "warning_closed"}),
}


def in_causal_order(facts: Iterable[Fact]) -> list[Fact]:
    """Sort a subject's events by what caused what: a pure function of the set of events."""
    ordered: list[Fact] = []
    by_second = sorted(facts, key=lambda fact: (fact.created, fact.event_id))
    for _, second in groupby(by_second, key=lambda fact: fact.created):
        ordered += _inside_a_second(list(second))
    return ordered


def _inside_a_second(facts: list[Fact]) -> list[Fact]:
    if len(facts) == 1:
        return facts
    ranked = sorted(facts, key=_rank)
    ordered: list[Fact] = []
    for _, peers in groupby(ranked, key=lambda fact: (_stage(fact), _object_key(fact))):
        ordered += _chained(list(peers))
    return ordered


def _rank(fact: Fact) -> tuple[int, str, bool, str]:
    return (_stage(fact), _object_key(fact), _is_final(fact.subject), fact.event_id)


def _stage(fact: Fact) -> int:
    if fact.type.endswith(".created"):
        return 0
    return 2 if fact.type.endswith(".deleted") else 1


def _object_key(fact: Fact) -> str:
    return identifier(fact.subject) or ""


def _is_final(subject: Json) -> bool:
    return subject.get("status") in _FINAL_STATUSES.get(str(subject.get("object")), frozenset())


def _chained(peers: list[Fact]) -> list[Fact]:
    """Order one object's updates of one second so that each starts from the state the one before it left.

    Greedy over the given (deterministic) order: an update whose prior values are another's result comes after it.
    """
    if len(peers) < 2:
        return peers
    keys = {key for fact in peers for key in fact.previous}
    remaining = list(peers)
    ordered: list[Fact] = []
    while remaining:
        first = next((fact for fact in remaining if not _follows_any(fact, remaining, keys)), remaining[0])
        remaining.remove(first)
        ordered.append(first)
    return ordered


def _follows_any(fact: Fact, others: Sequence[Fact], keys: set[str]) -> bool:
    before = _state_before(fact, keys)
    return bool(fact.previous) and any(
        other is not fact and _state_after(other, keys) == before and _state_before(other, keys) != before
        for other in others
    )


def _state_after(fact: Fact, keys: Iterable[str]) -> dict[str, Any]:
    return {key: fact.subject[key] for key in keys if fact.subject.get(key) is not None}


def _state_before(fact: Fact, keys: Iterable[str]) -> dict[str, Any]:
    prior = _undo(fact.subject, fact.previous)
    return {key: prior[key] for key in keys if prior.get(key) is not None}


def _undo(state: Json, previous: Json) -> Json:
    """Put prior values back: nested objects key by key, null removes (absent and null are the same to Stripe)."""
    prior = dict(state)
    for key, value in previous.items():
        current = prior.get(key)
        if value is None:
            prior.pop(key, None)
        elif isinstance(value, dict) and isinstance(current, dict):
            prior[key] = _undo(current, value)
        else:
            prior[key] = value
    return prior

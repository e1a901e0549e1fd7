"""Sources and a moment to answers: pure, and the only place where granted or denied is decided.

A feature is granted while any source gives it. Time never revokes what Stripe has not ended: trial and period ends
are only announced (stripe-domain §3.2). Past due grants, as ``grace``: Stripe is still trying.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal

from projections.entitlements.features import Given, features_given
from projections.entitlements.rows import ProductRow, SourceRow

State = Literal["active", "trial", "grace", "suspended", "expired"]
Value = bool | Decimal | None

GRANTS: Final[dict[str, State]] = {"active": "active", "trialing": "trial", "past_due": "grace"}
"""Statuses that give access, and the state of an answer that rests on them, best first."""

DENIES: Final[dict[str, tuple[str, State | None]]] = {
    "paused": ("paused", "suspended"),
    "unpaid": ("unpaid", "suspended"),
    "incomplete": ("incomplete", None),
    "canceled": ("canceled", "expired"),
    "incomplete_expired": ("expired", "expired"),
}
"""Statuses that give none: the reason and the state, the one nearest to access first."""

_UNKNOWN_STATUS: Final[tuple[str, State | None]] = ("incomplete", None)
_REMOVED: Final[tuple[str, State | None]] = ("expired", "expired")


@dataclass(frozen=True, slots=True)
class Contribution:
    """A source as it bears on one feature."""

    source: SourceRow
    given: Given

    @property
    def value(self) -> Value:
        """What this source alone gives."""
        return True if self.given.kind == "boolean" else self.given.value(self.source.quantity)


@dataclass(frozen=True, slots=True)
class Answer:
    """May this customer use this feature at the moment asked about, since when, by what, and why."""

    feature: str
    granted: bool
    kind: str
    value: Value
    state: State | None
    reason: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    ends_at: datetime | None = None
    sources: tuple[Contribution, ...] = ()
    because: tuple[str, ...] = ()


def answer_all(sources: Iterable[SourceRow], products: Sequence[ProductRow], at: datetime) -> list[Answer]:
    """Answer for every feature that any source has ever given up to ``at``, in order of name."""
    by_feature: dict[str, list[Contribution]] = {}
    for source in sources:
        if source.valid_from <= at:
            for given in _given(source, products, at):
                by_feature.setdefault(given.feature, []).append(Contribution(source, given))
    return [_answer(feature, by_feature[feature], at) for feature in sorted(by_feature)]


def answer_one(feature: str, answers: Iterable[Answer], *, known_customer: bool) -> Answer:
    """Pick one feature's answer; where no source ever gave it, say so."""
    for answer in answers:
        if answer.feature == feature:
            return answer
    reason = "no_source" if known_customer else "unknown_customer"
    return Answer(feature, granted=False, kind="boolean", value=False, state=None, reason=reason)


def _given(source: SourceRow, products: Sequence[ProductRow], at: datetime) -> list[Given]:
    features = next((row.features for row in products if row.product == source.product and row.holds_at(at)), "")
    return features_given(features, source.product, source.price)


def _answer(feature: str, contributions: list[Contribution], at: datetime) -> Answer:
    kind = "quantity" if any(one.given.kind == "quantity" for one in contributions) else "boolean"
    holding = [one for one in contributions if one.source.holds_at(at)]
    granting = tuple(one for one in holding if one.source.status in GRANTS)
    if not granting:
        return _denied(feature, kind, holding, contributions)
    states = [GRANTS[one.source.status] for one in granting]
    state = next(state for state in GRANTS.values() if state in states)
    return Answer(
        feature=feature,
        granted=True,
        kind=kind,
        value=_total(granting) if kind == "quantity" else True,
        state=state,
        reason=state,
        valid_from=_granted_since(contributions, at),
        ends_at=_planned_end(granting),
        sources=granting,
        because=_because(granting),
    )


def _denied(feature: str, kind: str, holding: list[Contribution], ever: list[Contribution]) -> Answer:
    value: Value = Decimal(0) if kind == "quantity" else False
    if not holding:
        last = max(ever, key=lambda one: (one.source.valid_to or one.source.valid_from, one.source.item))
        reason, state = _REMOVED
        return Answer(
            feature,
            granted=False,
            kind=kind,
            value=value,
            state=state,
            reason=reason,
            valid_until=last.source.valid_to,
            sources=(last,),
            because=last.source.because,
        )
    order = list(DENIES)
    nearest = min(
        holding,
        key=lambda one: (
            order.index(one.source.status) if one.source.status in DENIES else len(order),
            one.source.source,
            one.source.item,
        ),
    )
    reason, state = DENIES.get(nearest.source.status, _UNKNOWN_STATUS)
    return Answer(
        feature,
        granted=False,
        kind=kind,
        value=value,
        state=state,
        reason=reason,
        valid_until=nearest.source.valid_from if state is not None else None,
        sources=tuple(holding),
        because=nearest.source.because,
    )


def _total(granting: Iterable[Contribution]) -> Decimal | None:
    amounts = [one.given.value(one.source.quantity) for one in granting if one.given.kind == "quantity"]
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None


def _granted_since(contributions: list[Contribution], at: datetime) -> datetime:
    """Return the start of the unbroken time of access that ``at`` lies in."""
    since = at
    grants = [one.source for one in contributions if one.source.status in GRANTS]
    for row in sorted(grants, key=lambda row: row.valid_from, reverse=True):
        if row.valid_from <= since and (row.valid_to is None or row.valid_to >= since):
            since = row.valid_from
    return since


def _planned_end(granting: Sequence[Contribution]) -> datetime | None:
    """Return when the last source is to end; None while one of them has no planned end."""
    ends = [one.source.ends_at for one in granting]
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None


def _because(contributions: Iterable[Contribution]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(event for one in contributions for event in one.source.because))

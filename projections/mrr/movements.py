"""How a customer's worth moved: new, reactivation, expansion, contraction, churn, in each currency. Pure.

All changes within an hour of a first one (or the time the policy in force says), on one UTC day, are one movement, so
that the steps of one change do not count separately. So every sum over whole days is exact, and a movement is the
difference of two whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from projections.mrr.portfolio import Span
from projections.mrr.worth import Policy, Worth

Kind = Literal["new", "reactivation", "expansion", "contraction", "churn"]
KINDS: Final[tuple[Kind, ...]] = ("new", "reactivation", "expansion", "contraction", "churn")
GROUP: Final = timedelta(minutes=60)
"""How long after a group's first change others still belong to it, unless a published policy says otherwise."""

Grouping = Callable[[datetime], timedelta]
"""Gives that duration for a group that begins at a time."""

_CAME_BACK_FROM: Final = frozenset({"collection_paused", "paused", "unpaid"})


class Movement(NamedTuple):
    """One movement: from ``before`` to ``after``, at its group's last change; ``since`` is its first.

    ``paid_at`` is when all its subscriptions had been paid for the first time; None while one has not. ``reason`` says
    why the worth became zero, or what it came back from.
    """

    currency: str
    kind: Kind
    since: datetime
    at: datetime
    before: int
    after: int
    paid_at: datetime | None
    reason: str | None
    involuntary: bool
    subscriptions: tuple[str, ...]
    because: tuple[str, ...]

    @property
    def amount(self) -> int:
        """The size of the change, never negative; ``kind`` gives its direction."""
        return abs(self.after - self.before)


@dataclass(slots=True)
class _Group:
    """Changes that form one movement: the totals before and after, and each subscription's worth before."""

    since: datetime
    at: datetime
    before: int
    after: int
    had: bool
    was: dict[str, Worth | None] = field(default_factory=dict)
    became: dict[str, Worth] = field(default_factory=dict)
    because: list[str] = field(default_factory=list)


def by_the_hour(_: datetime) -> timedelta:
    """Return the default duration."""
    return GROUP


def movements(
    spans: Iterable[Span],
    paid: Mapping[str, datetime],
    policy: Policy = "stripe-2026",
    grouping: Grouping = by_the_hour,
) -> list[Movement]:
    """Return how a customer's worth moved, in order of time; ``paid`` is when each subscription was first paid."""
    by_currency: dict[str, list[Span]] = {}
    begun: list[datetime] = []
    whole = list(spans)
    for span in whole:
        by_currency.setdefault(span.worth.currency, []).append(span)
        if span.worth.under(policy):
            begun.append(span.since)
    first = min(begun, default=None)
    found = [
        _movement(currency, one, paid, policy)
        for currency, some in by_currency.items()
        for one in _groups(_apart(some, whole), policy, grouping, first)
        if one.before != one.after
    ]
    return _with_currency_changes(sorted(found, key=lambda one: (one.at, one.currency)), grouping)


def _apart(some: Sequence[Span], whole: Sequence[Span]) -> dict[str, list[Span]]:
    """Return the spans in one currency by subscription; one that continued in another currency ends at zero here."""
    of: dict[str, list[Span]] = {}
    keys = {span.subscription for span in some}
    currency = some[0].worth.currency
    for span in whole:
        if span.subscription in keys:
            here = span.worth.currency == currency
            gone = span.worth._replace(currency=currency, gross=0, net_forever=0, net_all=0, items=())
            of.setdefault(span.subscription, []).append(span if here else span._replace(worth=gone))
    return of


def _groups(
    lives: Mapping[str, Sequence[Span]], policy: Policy, grouping: Grouping, first: datetime | None
) -> Iterator[_Group]:
    """Yield the groups of changes in one currency. ``first`` is when the customer was first worth anything."""
    now: dict[str, Worth] = {}
    total = 0
    group: _Group | None = None
    for at, changes in _changes(lives):
        was = {span.subscription: now.get(span.subscription) for span in changes}
        now |= {span.subscription: span.worth for span in changes}
        before, total = total, sum(worth.under(policy) for worth in now.values())
        if total == before:
            continue
        if group is not None and not (at - group.since <= grouping(group.since) and at.date() == group.since.date()):
            yield group
            group = None
        if group is None:
            group = _Group(at, at, before, total, had=first is not None and first < at)
        group.at, group.after = at, total
        for span in changes:
            if span.worth.under(policy) != _under(was[span.subscription], policy):
                group.was.setdefault(span.subscription, was[span.subscription])
                group.became[span.subscription] = span.worth
                group.because += span.because
    if group is not None:
        yield group


def _changes(lives: Mapping[str, Sequence[Span]]) -> Iterator[tuple[datetime, list[Span]]]:
    by_time: dict[datetime, list[Span]] = {}
    for key in sorted(lives):
        for span in lives[key]:
            by_time.setdefault(span.since, []).append(span)
    return iter(sorted(by_time.items(), key=lambda change: change[0]))


def _under(worth: Worth | None, policy: Policy) -> int:
    return 0 if worth is None else worth.under(policy)


def _movement(currency: str, group: _Group, paid: Mapping[str, datetime], policy: Policy) -> Movement:
    kind = kind_of(group.before, group.after, had=group.had)
    moved = [key for key in sorted(group.became) if _under(group.was[key], policy) != group.became[key].under(policy)]
    decisive = _decisive(group, kind, moved, policy)
    paid_at = [paid.get(key) for key in moved]
    known = [one for one in paid_at if one is not None]
    return Movement(
        currency=currency,
        kind=kind,
        since=group.since,
        at=group.at,
        before=group.before,
        after=group.after,
        paid_at=max(known) if len(known) == len(paid_at) else None,
        reason=None if decisive is None else decisive.reason or None,
        involuntary=kind == "churn" and decisive is not None and decisive.involuntary,
        subscriptions=tuple(moved),
        because=tuple(dict.fromkeys(group.because)),
    )


def kind_of(before: int, after: int, *, had: bool) -> Kind:
    """Return what a movement between two worths is to someone who has, or never had, been worth something before."""
    if before == 0:
        return "reactivation" if had else "new"
    if after == 0:
        return "churn"
    return "expansion" if after > before else "contraction"


def _decisive(group: _Group, kind: Kind, moved: Sequence[str], policy: Policy) -> Worth | None:
    """Return the worth that explains the movement: of the last that became zero, or before the one that came back."""
    if group.after < group.before:
        ended = [group.became[key] for key in moved if group.became[key].under(policy) == 0]
        return ended[-1] if ended else None
    if kind == "new":
        return None
    back = [worth for key in moved if (worth := group.was[key]) is not None and worth.reason in _CAME_BACK_FROM]
    return back[-1] if back else None


def _with_currency_changes(found: Sequence[Movement], grouping: Grouping) -> list[Movement]:
    """Mark what ended in one currency and began in another at the same time: no customer came or left."""
    marked = list(found)
    ended = [place for place, one in enumerate(found) if one.kind == "churn"]
    begun = [place for place, one in enumerate(found) if one.before == 0]
    for out in ended if len({one.currency for one in found}) > 1 else ():
        for into in begun:
            one, other = found[out], found[into]
            length = max(grouping(one.since), grouping(other.since))
            near = abs(one.at - other.at) <= length and one.at.date() == other.at.date()
            if near and one.currency != other.currency:
                marked[out] = marked[out]._replace(reason="currency_change", involuntary=False)
                marked[into] = marked[into]._replace(reason="currency_change")
    return marked

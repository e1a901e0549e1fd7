"""From holdings, catalogs and a moment to answers: pure, and the only place where access is granted or denied.

A feature is granted while any source gives it; what several sources give is combined as the catalog says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from ledger.times import later
from projections.catalog import DEFAULT, Catalog, Given, Kind, Published, catalog_at
from projections.entitlements.belonging import counting
from projections.entitlements.features import features_given, granted_by_hand
from projections.entitlements.rows import EvidenceRow, Holdings, SourceRow
from projections.entitlements.standing import (
    GRANTS,
    NEAREST,
    STALE_AFTER,
    Span,
    Standing,
    State,
    spans,
    standing,
    turns,
)

Value = bool | Decimal | str | None

_NOTHING: Final[dict[Kind, Value]] = {"boolean": False, "quantity": Decimal(0), "choice": None}
_FIRMEST: Final = tuple(GRANTS.values())


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one source contributes to one feature, and its standing."""

    source: SourceRow
    given: Given
    standing: Standing

    @property
    def value(self) -> Value:
        """What this source alone gives."""
        if self.given.kind == "boolean":
            return True
        return self.given.choice if self.given.kind == "choice" else self.given.value(self.source.quantity)


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a holder may use a feature at the moment asked about, since when, through which sources, and why.

    ``stale`` means that a planned end is long past and Stripe has not reported what happened.
    """

    feature: str
    granted: bool
    kind: Kind
    value: Value
    state: State | None
    reason: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    ends_at: datetime | None = None
    sources: tuple[Contribution, ...] = ()
    because: tuple[str, ...] = ()
    stale: bool = False


def answer_all(holdings: Holdings, published: Sequence[Published], at: datetime) -> list[Answer]:
    """Answer for every feature that any source has ever given up to ``at``, in order of name."""
    weighing = _Weighing(holdings, published, at)
    by_feature: dict[str, list[Contribution]] = {}
    for row in weighing.rows:
        for given in weighing.given(row):
            by_feature.setdefault(given.feature, []).append(weighing.contribution(row, given))
    return [weighing.answer(feature, by_feature[feature]) for feature in sorted(by_feature)]


def answer_feature(
    holdings: Holdings, published: Sequence[Published], feature: str, at: datetime, *, known: bool
) -> Answer:
    """Answer for one feature; the reason says so if no source ever gave it, or if the holder is not ``known``."""
    weighing = _Weighing(holdings, published, at)
    found = [
        weighing.contribution(row, given)
        for row in weighing.rows
        for given in weighing.given(row)
        if given.feature == feature
    ]
    if found:
        return weighing.answer(feature, found)
    kind = weighing.kind(feature, ())
    reason = "no_source" if known else "unknown_customer"
    return Answer(feature, granted=False, kind=kind, value=_NOTHING[kind], state=None, reason=reason)


def next_turn(holdings: Holdings, published: Sequence[Published], after: datetime) -> datetime | None:
    """Return the first moment after ``after`` at which time alone can change an answer; None if there is none.

    It may be too early (nothing changes then) but never too late.
    """
    policy = (catalog_at(published, after) or DEFAULT).policy
    evidence = _by_source(holdings)
    moments = [one.effective_from for one in published if one.effective_from is not None]
    moments += [row.valid_from for row in holdings.orgs] + [row.valid_from for row in holdings.products]
    for row in holdings.sources:
        if row.valid_to is None or row.valid_to > after:
            moments += turns(row, evidence.get(row.source, ()), policy, after)
            overdue = later(row.ends_at, STALE_AFTER) if row.ends_at is not None else None
            moments += [overdue] if overdue is not None else []
    return min((moment for moment in moments if moment > after), default=None)


def _by_source(holdings: Holdings) -> dict[str, list[EvidenceRow]]:
    found: dict[str, list[EvidenceRow]] = {}
    for one in holdings.evidence:
        found.setdefault(one.source, []).append(one)
    return found


@dataclass(slots=True)
class _Weighing:
    """Everything one question is answered from, worked out once for all features."""

    holdings: Holdings
    published: Sequence[Published]
    at: datetime
    catalog: Catalog = field(init=False)
    rows: list[SourceRow] = field(init=False)
    _evidence: dict[str, list[EvidenceRow]] = field(init=False)
    _metadata: dict[str, str] | None = field(init=False)
    _standings: dict[int, Standing] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = catalog_at(self.published, self.at) or DEFAULT
        products = (row for row in self.holdings.products if row.holds_at(self.at))
        self._metadata = None if self.catalog.says_features else {row.product: row.features for row in products}
        self._evidence = _by_source(self.holdings)
        listed = self.catalog.policy.stripe_entitlements == "grant"
        rows = counting(self.holdings, self.at)
        self.rows = [row for row in rows if row.valid_from <= self.at and (listed or row.kind != "stripe")]

    def given(self, row: SourceRow) -> Sequence[Given]:
        """Return the features that a row gives: by the catalog, else by the product's metadata."""
        if row.feature is not None:
            return [granted_by_hand(row.feature, row.value)]
        if self._metadata is None:
            return self.catalog.given(row.product, row.price, row.lookup_key)
        return features_given(self._metadata.get(row.product or "", ""), row.product, row.price)

    def contribution(self, row: SourceRow, given: Given) -> Contribution:
        """Return what a row contributes to a feature."""
        if id(row) not in self._standings:
            self._standings[id(row)] = self._standing(row) if row.holds_at(self.at) else _gone(row)
        return Contribution(row, given, self._standings[id(row)])

    def _standing(self, row: SourceRow) -> Standing:
        if row.kind != "stripe":
            return standing(row, self._evidence.get(row.source, ()), self.catalog.policy, self.at)
        subscriptions = [one for one in self._subscriptions(row) if one.holds_at(self.at)]
        return _best([self._standing(one) for one in subscriptions]) or Standing(True, "active", "active")

    def _subscriptions(self, row: SourceRow) -> list[SourceRow]:
        """Return the subscriptions that may be behind one of Stripe's own entitlements, which does not name any."""
        return [one for one in self.rows if one.kind == "subscription" and one.subject == row.subject]

    def _spans(self, row: SourceRow) -> list[Span]:
        if row.kind == "stripe":
            behind = [span for one in self._subscriptions(row) for span in self._spans(one)]
            return behind or [(row.valid_from, row.valid_to)]
        return spans(row, self._evidence.get(row.source, ()), self.catalog.policy, self.at)

    def kind(self, feature: str, contributions: Sequence[Contribution]) -> Kind:
        """Return a feature's kind: as declared, else as its sources give it."""
        if (declared := self.catalog.features.get(feature)) is not None:
            return declared.kind
        kinds = {one.given.kind for one in contributions}
        return "quantity" if "quantity" in kinds else "choice" if "choice" in kinds else "boolean"

    def answer(self, feature: str, contributions: list[Contribution]) -> Answer:
        """Combine the contributions to one feature."""
        kind = self.kind(feature, contributions)
        granting = tuple(one for one in contributions if one.standing.granted)
        best = _best([one.standing for one in granting])
        if best is None:
            return self._denied(feature, kind, contributions)
        return Answer(
            feature=feature,
            granted=True,
            kind=kind,
            value=self._combined(feature, kind, granting),
            state=best.state,
            reason=best.reason,
            valid_from=self._granted_since(contributions),
            valid_until=_last([one.standing.until for one in granting]),
            ends_at=_last([one.source.ends_at for one in granting]),
            sources=granting,
            because=_because(granting),
            stale=any(one.source.ends_at and self.at - one.source.ends_at >= STALE_AFTER for one in granting),
        )

    def _denied(self, feature: str, kind: Kind, ever: list[Contribution]) -> Answer:
        """Deny for the reason closest to access or, if no source holds any more, that of the last that did."""
        holding = [one for one in ever if one.source.holds_at(self.at)]
        if holding:
            told = min(holding, key=_distance)
        else:
            told = max(ever, key=lambda one: (one.source.valid_to or one.source.valid_from, one.source.item))
        return Answer(
            feature,
            granted=False,
            kind=kind,
            value=_NOTHING[kind],
            state=told.standing.state,
            reason=told.standing.reason,
            valid_until=told.standing.until,
            sources=tuple(holding or [told]),
            because=_because([told]) if holding else (*_because([told]), *self._replaced_by(told.source)),
        )

    def _replaced_by(self, row: SourceRow) -> tuple[str, ...]:
        """Name the event that removed what a row says, or put something else in its place; none where neither was."""
        place = (row.subject, row.source, row.item, row.valid_to)
        after = [one.because for one in self.rows if (one.subject, one.source, one.item, one.valid_from) == place]
        removed = (one for one in self._evidence.get(row.source, ()) if one.kind == "removed")
        after += [one.because for one in removed if (one.subject, one.source, one.key, one.valid_from) == place]
        return tuple(because[-1] for because in after)

    def _combined(self, feature: str, kind: Kind, granting: Sequence[Contribution]) -> Value:
        if kind == "boolean":
            return True
        combine = self.catalog.combination(feature, kind)
        if kind == "choice":
            order = list(combine)
            values = [value for one in granting if isinstance(value := one.value, str)]
            return max(values, key=lambda value: (order.index(value) if value in order else -1, value), default=None)
        amounts = [value for one in granting if isinstance(value := one.value, Decimal)]
        if not amounts:
            return None
        return max(amounts) if combine == "max" else sum(amounts, Decimal(0))

    def _granted_since(self, contributions: Iterable[Contribution]) -> datetime:
        """Return the start of the unbroken span of access around the moment."""
        since = self.at
        found = [span for one in contributions for span in self._spans(one.source)]
        for start, end in sorted(found, key=lambda span: span[0], reverse=True):
            if start <= since and (end is None or end >= since):
                since = start
        return since


def _best(standings: Iterable[Standing]) -> Standing | None:
    """Return the firmest of several standings or, if none grants access, the closest to it."""
    return min(
        standings,
        key=lambda one: (not one.granted, _place(_FIRMEST, one.state) if one.granted else _place(NEAREST, one.reason)),
        default=None,
    )


def _place(order: Sequence[str], word: str | None) -> int:
    return order.index(word) if word in order else len(order)


def _distance(one: Contribution) -> tuple[int, str, str]:
    return (_place(NEAREST, one.standing.reason), one.source.source, one.source.item)


def _gone(row: SourceRow) -> Standing:
    return Standing(False, "expired", "expired", row.valid_to)


def _last(ends: Sequence[datetime | None]) -> datetime | None:
    """Return when the last of several sources ends; None while one of them has no end."""
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def _because(deciding: Iterable[Contribution]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(event for one in deciding for event in (*one.source.because, *one.standing.because)))

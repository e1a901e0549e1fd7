"""Cases to sums, by currency: what was opened, recovered, lost, is open; how well it goes; what is at risk. Pure.

Every number is a sum, a count or a median over the same cases that the list of cases shows (stripe-domain §4.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import MAXYEAR, UTC, datetime, timedelta
from fractions import Fraction
from statistics import median
from typing import Final

from projections.dunning.rows import CaseRow, ChurnRow, WorthRow
from projections.dunning.standing import Standing

LEFT_OUT: Final = frozenset({"initial", "trial_conversion"})
"""Categories that are no measure of how well renewals are collected: only shown where asked for."""

MATURE_AFTER: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many cases, and how much money."""

    count: int
    volume: int


@dataclass(frozen=True, slots=True)
class Group:
    """Some cases: what was at stake in them and what came back; ``rate`` is None where nothing was at stake."""

    opened: Tally
    recovered: Tally

    @property
    def rate(self) -> Fraction | None:
        """The part of what was at stake that came back."""
        return Fraction(self.recovered.volume, self.opened.volume) if self.opened.volume else None


@dataclass(frozen=True, slots=True)
class Cohort:
    """The cases that opened in one month; ``matured`` once no more can be expected of them."""

    month: str
    group: Group
    matured: bool


@dataclass(slots=True)
class Sums:
    """One currency's sums. ``mrr`` is all of it, of which ``at_risk_mrr`` has an open case."""

    opened: Tally
    recovered: Tally
    lost: Tally
    open: Tally
    cohorts: list[Cohort]
    by_class: dict[str, Group]
    by_attempt: dict[int, Tally]
    by_recovery: dict[str, Tally]
    median_attempts: Fraction | None
    median_hours: Fraction | None
    at_risk_mrr: int = 0
    mrr: int = 0
    churn: dict[str, int] = field(default_factory=lambda: {"voluntary": 0, "involuntary": 0})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cases to sum: those opened in ``[since, until)``, of one category or of those that are shown unasked."""

    since: datetime | None = None
    until: datetime | None = None
    category: str | None = None

    def covers(self, moment: datetime) -> bool:
        """Tell whether a moment lies in the time asked about."""
        early = self.since is not None and moment < self.since
        return not early and (self.until is None or moment < self.until)

    def takes(self, case: CaseRow) -> bool:
        """Tell whether a case counts."""
        shown = case.category == self.category if self.category else case.category not in LEFT_OUT
        return shown and self.covers(case.opened_at)


def summarise(
    standings: Sequence[Standing], worth: Sequence[WorthRow], churns: Iterable[ChurnRow], wanted: Wanted, at: datetime
) -> dict[str, Sums]:
    """Sum what stands at ``at``, ``worth`` being what holds then. What is at risk is so whatever cases are wanted."""
    chosen = [one for one in standings if wanted.takes(one.case)]
    left = churn(churns, wanted, at)
    by_currency = {row.case.currency for row in chosen} | {row.currency for row in worth if row.mrr} | set(left)
    sums = {
        currency: _sums([one for one in chosen if one.case.currency == currency], at)
        for currency in sorted(by_currency)
    }
    for row in worth:
        if row.mrr:
            sums[row.currency].mrr += row.mrr
    currencies = {(row.subject, row.subscription): row.currency for row in worth}
    for one in standings:
        if one.at_risk_mrr:
            sums[currencies[one.case.subject, one.case.subscription or ""]].at_risk_mrr += one.at_risk_mrr
    for currency, amounts in left.items():
        sums[currency].churn = amounts
    return sums


def _sums(cases: Sequence[Standing], at: datetime) -> Sums:
    recovered = [one.case for one in cases if one.case.state == "recovered"]
    hours = [Fraction(int((one.closed_at - one.opened_at).total_seconds()), 3600) for one in recovered if one.closed_at]
    attempts = [Fraction(_attempts(one)) for one in recovered if _attempts(one)]
    everything = _group(cases)
    return Sums(
        opened=everything.opened,
        recovered=everything.recovered,
        lost=Tally(sum(1 for one in cases if one.is_lost), sum(one.case.lost_volume for one in cases)),
        open=Tally(sum(1 for one in cases if one.is_open), sum(one.case.open_amount for one in cases)),
        cohorts=_cohorts(cases, at),
        by_class=_by_class(cases),
        by_attempt={n: _tally(one for one in recovered if _attempts(one) == n) for n in sorted({*map(int, attempts)})},
        by_recovery={
            how: _tally(one for one in recovered if one.recovered_by == how)
            for how in sorted({one.recovered_by or "unknown" for one in recovered})
        },
        median_attempts=median(attempts) if attempts else None,
        median_hours=median(hours) if hours else None,
    )


def _attempts(case: CaseRow) -> int:
    """Return which attempt brought the money; 0 where no attempt did."""
    return 0 if case.recovered_by in ("out_of_band", "credit") else case.attempts + 1


def _group(cases: Iterable[Standing]) -> Group:
    opened = [one.case for one in cases]
    back = sum(1 for one in opened if one.state == "recovered")
    return Group(
        Tally(len(opened), sum(one.opened_volume for one in opened)),
        Tally(back, sum(one.recovered_volume for one in opened)),
    )


def _tally(cases: Iterable[CaseRow]) -> Tally:
    some = list(cases)
    return Tally(len(some), sum(one.recovered_volume for one in some))


def _by_class(cases: Sequence[Standing]) -> dict[str, Group]:
    classes = {one.case.failure_class or "none" for one in cases}
    return {
        kind: _group(one for one in cases if (one.case.failure_class or "none") == kind) for kind in sorted(classes)
    }


def _cohorts(cases: Sequence[Standing], at: datetime) -> list[Cohort]:
    months = sorted({month_of(one.case.opened_at) for one in cases})
    found = []
    for month in months:
        own = [one for one in cases if month_of(one.case.opened_at) == month]
        settled = all(not one.is_open or one.is_lost for one in own)
        found.append(Cohort(month, _group(own), settled or at - MATURE_AFTER >= month_end(month)))
    return found


def month_of(moment: datetime) -> str:
    """Name the month (UTC) that a moment lies in."""
    return f"{moment.year:04d}-{moment.month:02d}"


def month_end(month: str) -> datetime:
    """Return the first moment after a month; the last moment of the last month there is."""
    year, number = int(month[:4]), int(month[5:])
    if (year, number) == (MAXYEAR, 12):
        return datetime.max.replace(tzinfo=UTC)
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def churn(rows: Iterable[ChurnRow], wanted: Wanted, at: datetime) -> dict[str, dict[str, int]]:
    """Add up by currency what customers were worth who came to nothing: by will, or for want of money."""
    sums: dict[str, dict[str, int]] = {}
    for row in rows:
        if row.at <= at and wanted.covers(row.at):
            own = sums.setdefault(row.currency, {"voluntary": 0, "involuntary": 0})
            own["involuntary" if row.involuntary else "voluntary"] += row.mrr
    return sums

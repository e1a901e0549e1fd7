"""Spans and a moment to answers: which cases there are, and what monthly revenue is at risk. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from projections.dunning.case import OVER
from projections.dunning.rows import CaseRow, WorthRow

Spanned = TypeVar("Spanned", CaseRow, WorthRow)

NEEDS_A_PERSON: Final = frozenset({"blocked", "action_required", "needs_payment_method", "overdue", "exhausted"})
"""States that nothing ends by itself: somebody has to write, call or decide."""


class Standing(NamedTuple):
    """A case as it stands at a moment, with what its subscription's worth at risk comes to.

    ``at_risk_mrr`` is carried by the oldest open case of a subscription and is 0 for all others.
    """

    case: CaseRow
    at_risk_mrr: int
    incomplete: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Whether there is still something to collect."""
        return self.case.state not in OVER

    @property
    def is_lost(self) -> bool:
        """Whether what was at stake is given up; a payment may still come."""
        case = self.case
        return case.state in OVER - {"recovered"} or (self.is_open and case.outcome is not None)


def present(now: datetime, as_of: datetime | None, newest: Iterable[datetime]) -> datetime:
    """Return the moment to answer for. The present is never before the newest fact: clocks differ."""
    return as_of or max([now, *newest])


def holding(rows: Iterable[Spanned], at: datetime) -> list[Spanned]:
    """Return the spans that a moment lies in."""
    return [row for row in rows if row.valid_from <= at and (row.valid_to is None or at < row.valid_to)]


def standings(cases: Sequence[CaseRow], worth: Iterable[WorthRow]) -> list[Standing]:
    """Put cases that hold at one moment beside what their subscriptions are worth then.

    ``cases`` must have every open one of the subscriptions among them: the oldest carries the worth.
    """
    carriers = _oldest_open(cases)
    by_subscription = {(row.subject, row.subscription): row for row in worth}
    found = []
    for case in cases:
        row = by_subscription.get((case.subject, case.subscription or ""))
        carries = carriers.get((case.subject, case.subscription or "")) == case.case_id
        at_risk = row.mrr if carries and row is not None else 0
        unsure = carries and (row is None or row.incomplete)
        found.append(Standing(case, at_risk, _incomplete(case) + (("at_risk_mrr",) if unsure else ())))
    return found


def _oldest_open(cases: Iterable[CaseRow]) -> dict[tuple[str, str], str]:
    """Name the case that carries each subscription's worth; one abandoned at checkout puts nothing at risk."""
    oldest: dict[tuple[str, str], tuple[datetime, str]] = {}
    for case in cases:
        if case.subscription is not None and case.state not in OVER and case.category != "initial":
            key, own = (case.subject, case.subscription), (case.opened_at, case.case_id)
            oldest[key] = min(own, oldest.get(key, own))
    return {key: case_id for key, (_, case_id) in oldest.items()}


def _incomplete(case: CaseRow) -> tuple[str, ...]:
    """Name what events could not tell of a case."""
    return ("last_failure",) if case.failures and case.failure_confidence is None else ()

"""What a case is: its words, its spans, its steps, and what it depends on besides its invoice (stripe-domain §4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from projections.dunning.facts import Remedy, Turn
from projections.dunning.reasons import Attempt
from projections.dunning.recovery import RecoveredBy

CaseState = Literal[
    "voided", "recovered", "forgiven", "written_off", "blocked", "action_required", "needs_payment_method", "overdue",
    "retrying", "exhausted",
]  # fmt: skip
Category = Literal["initial", "trial_conversion", "renewal", "manual_invoice"]
Outcome = Literal["subscription_canceled", "subscription_unpaid", "subscription_paused", "left_past_due"]

OVER: Final[frozenset[str]] = frozenset({"voided", "recovered", "forgiven", "written_off"})
"""States of a case that is not open."""

ENDS: Final[dict[str, Outcome]] = {
    "canceled": "subscription_canceled",
    "unpaid": "subscription_unpaid",
    "paused": "subscription_paused",
}


class Span(NamedTuple):
    """What a case was from ``since`` on, until the next span."""

    since: datetime
    state: CaseState
    outcome: Outcome | None
    recovered_by: RecoveredBy | None
    late: bool
    amount_due: int
    opened_volume: int
    open_amount: int
    recovered_volume: int
    lost_volume: int
    opened_at: datetime
    closed_at: datetime | None
    first_failed_at: datetime | None
    due_date: datetime | None
    stripe_attempt_count: int
    failures: int
    attempts: int
    next_attempt_at: datetime | None
    last_failure: Attempt | None
    because: tuple[str, ...]


class Step(NamedTuple):
    """Something that happened to a case, for its timeline."""

    at: datetime
    event: str
    kind: str
    amount: int | None = None
    attempt: Attempt | None = None
    next_attempt_at: datetime | None = None


class Context(NamedTuple):
    """What a case depends on besides its invoice: payment methods, its subscription's changes, credit notes."""

    category: Category
    attempts: Sequence[Attempt]
    remedies: Sequence[Remedy]
    turns: Sequence[Turn]
    credits: Sequence[tuple[datetime, int]]
    off_stripe: bool

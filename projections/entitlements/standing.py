"""Whether one source gives access at one moment, by its status, the clock and the policies. Pure.

Time alone never revokes what Stripe has not ended. Only capped grace, grants, and the effect of a dispute or refund
policy (for as long as the invoice's period lasts) end by the clock (stripe-domain §3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from ledger.times import later
from projections.catalog import Policy
from projections.entitlements.rows import EvidenceRow, SourceRow

State = Literal["active", "one_time", "manual", "trial", "grace", "suspended", "expired"]
Span = tuple[datetime, datetime | None]
"""A half-open span of time; an end of None means no end."""

GRANTS: Final[dict[str, State]] = {
    "active": "active",
    "paid": "one_time",
    "granted": "manual",
    "trialing": "trial",
    "past_due": "grace",
}
"""Statuses that give access and the state of an answer based on them, the firmest first."""

DENIES: Final[dict[str, tuple[str, State | None]]] = {
    "past_due": ("past_due", "suspended"),
    "paused": ("paused", "suspended"),
    "unpaid": ("unpaid", "suspended"),
    "disputed": ("disputed", "suspended"),
    "lost": ("disputed", "suspended"),
    "pending": ("pending", None),
    "incomplete": ("incomplete", None),
    "failed": ("payment_failed", None),
    "refunded": ("refunded", "expired"),
    "canceled": ("canceled", "expired"),
    "revoked": ("revoked", "expired"),
    "incomplete_expired": ("expired", "expired"),
}
"""Statuses that give no access, or none by policy: the reason and the state."""

NEAREST: Final = (
    "grace_over", "past_due", "disputed", "paused", "unpaid", "pending", "incomplete", "payment_failed", "refunded",
    "canceled", "revoked", "expired",
)  # fmt: skip
"""Reasons for a denial, the closest to access first."""

ENDED: Final = frozenset({"canceled", "incomplete_expired", "refunded", "lost", "failed", "revoked"})
"""Final statuses."""

STALE_AFTER: Final = timedelta(hours=72)
"""How long after a planned end Stripe may take to report it."""

_UNKNOWN_STATUS: Final[tuple[str, State | None]] = ("incomplete", None)
_INSTANT: Final = timedelta(microseconds=1)


class Standing(NamedTuple):
    """Whether a source gives access, and why. ``until`` is an end by time alone, or a past one."""

    granted: bool
    state: State | None
    reason: str
    until: datetime | None = None
    because: tuple[str, ...] = ()


def standing(row: SourceRow, evidence: Sequence[EvidenceRow], policy: Policy, at: datetime) -> Standing:
    """Return the standing of a row that holds at ``at``; ``evidence`` is that of its source."""
    state = GRANTS.get(row.status)
    if row.expires_at is not None and row.expires_at <= at:
        return Standing(False, "expired", "expired", row.expires_at)
    if row.kind == "purchase" and row.status == "paid" and row.product is None and row.price is None:
        return _denied("incomplete", None)
    if state is None:
        return _denied(*DENIES.get(row.status, _UNKNOWN_STATUS), until=row.status_since)
    if row.status == "past_due":
        return _past_due(row, evidence, policy, at)
    return _taken(evidence, policy, at) or Standing(True, state, state, row.expires_at)


def _denied(
    reason: str, state: State | None, *, until: datetime | None = None, because: tuple[str, ...] = ()
) -> Standing:
    return Standing(False, state, reason, until if state is not None else None, because)


def _past_due(row: SourceRow, evidence: Sequence[EvidenceRow], policy: Policy, at: datetime) -> Standing:
    if policy.past_due == "deny":
        return _denied("past_due", "suspended", until=row.status_since)
    over = grace_over(row, evidence, policy, at)
    owed = tuple(event for one in _owed(evidence, at) for event in one.because)
    if over is not None and over <= at:
        return _denied("grace_over", "suspended", until=over, because=owed)
    return _taken(evidence, policy, at) or Standing(True, "grace", "grace", over, owed)


def grace_over(row: SourceRow, evidence: Sequence[EvidenceRow], policy: Policy, at: datetime) -> datetime | None:
    """Return when the grace of a past-due row ends, as known at ``at``; None if nothing caps it.

    It is counted from the earliest failure or due date that is still open, so a new invoice does not begin it anew.
    """
    if not any(one.kind == "paid" and one.valid_from <= at for one in evidence):
        days = policy.trial_conversion_grace_days
    elif policy.past_due == "grace":
        days = policy.past_due_grace_days
    else:
        return None
    since = min((one.valid_from for one in _owed(evidence, at)), default=row.status_since)
    return later(since, timedelta(days=days))


def _owed(evidence: Iterable[EvidenceRow], at: datetime) -> list[EvidenceRow]:
    return [one for one in evidence if one.kind == "owed" and one.holds_at(at)]


def _taken(evidence: Sequence[EvidenceRow], policy: Policy, at: datetime) -> Standing | None:
    """Return the denial by policy for a dispute or a refund, while that invoice's period lasts; None without one."""
    for kind, state in _taking(policy):
        for one in evidence:
            if one.kind == kind and any(_within(span, at) for span in _blocked(one)):
                return Standing(False, state, kind, one.valid_from, one.because)
    return None


def _taking(policy: Policy) -> Iterator[tuple[str, State]]:
    if policy.dispute == "suspend":
        yield "disputed", "suspended"
    if policy.refund == "revoke":
        yield "refunded", "expired"


def _blocked(one: EvidenceRow) -> Iterator[Span]:
    """Return the span in which a dispute or refund can take access: while it holds, within the invoice's period."""
    if one.covers_from is not None and one.covers_to is not None:
        start = max(one.valid_from, one.covers_from)
        end = earliest(one.valid_to, one.covers_to)
        if end is not None and start < end:
            yield start, end


def _within(span: Span, at: datetime) -> bool:
    return span[0] <= at and (span[1] is None or at < span[1])


def earliest(*ends: datetime | None) -> datetime | None:
    """Return the first of several ends; None never comes."""
    return min((end for end in ends if end is not None), default=None)


def spans(row: SourceRow, evidence: Sequence[EvidenceRow], policy: Policy, at: datetime) -> list[Span]:
    """Return the spans in which a row gives access, by the policies in force at ``at``."""
    if row.status not in GRANTS or (row.status == "past_due" and policy.past_due == "deny"):
        return []
    end = earliest(row.valid_to, row.expires_at)
    if row.status == "past_due":
        seen = at if row.holds_at(at) or row.valid_to is None else row.valid_to - _INSTANT
        end = earliest(end, grace_over(row, evidence, policy, seen))
    if end is not None and end <= row.valid_from:
        return []
    taken = {kind for kind, _ in _taking(policy)}
    found: list[Span] = [(row.valid_from, end)]
    for block in (span for one in evidence if one.kind in taken for span in _blocked(one)):
        found = [part for span in found for part in _without(span, block)]
    return found


def _without(span: Span, block: Span) -> Iterator[Span]:
    start, end = span
    before, after = end is not None and end <= block[0], block[1] is not None and block[1] <= start
    if before or after:
        yield span
        return
    if start < block[0]:
        yield start, block[0]
    if block[1] is not None and (end is None or block[1] < end):
        yield block[1], end


def turns(row: SourceRow, evidence: Sequence[EvidenceRow], policy: Policy, at: datetime) -> Iterator[datetime]:
    """Yield the moments at which a row's standing can change by time alone."""
    yield row.valid_from
    if row.expires_at is not None:
        yield row.expires_at
    if row.status == "past_due" and (over := grace_over(row, evidence, policy, at)) is not None:
        yield over
    for one in evidence:
        if one.kind == "owed":
            yield one.valid_from
        else:
            yield from (moment for moment in (one.covers_from, one.covers_to) if moment is not None)

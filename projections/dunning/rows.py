"""The rows of the dunning projection, as the fold makes them and as readers get them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from projections.contract import Rows
from projections.dunning.case import Category, Context, Span, Step
from projections.dunning.course import case_of
from projections.dunning.facts import MANUAL, Bill, Contract, Remedy, State
from projections.dunning.reasons import Attempt, attempts_of
from projections.mrr.movements import movements
from projections.mrr.portfolio import spans as mrr_spans


class CaseRow(NamedTuple):
    """What a case was from ``valid_from`` until ``valid_to`` (None: until more is known). Half-open.

    A span that begins later than the subject's newest fact comes by time alone. Amounts are in ``currency``;
    ``opened_volume`` is what was at stake, of which ``recovered_volume`` was paid and ``lost_volume`` given up.
    """

    subject: str
    book: str
    customer: str
    case_id: str
    subscription: str | None
    category: str
    currency: str
    state: str
    outcome: str | None
    recovered_by: str | None
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
    failure_at: datetime | None
    failure_code: str | None
    decline_code: str | None
    failure_class: str | None
    failure_confidence: str | None
    because: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime | None


class WorthRow(NamedTuple):
    """What a subscription was worth a month from ``valid_from`` until ``valid_to`` (None: until now), and why not."""

    subject: str
    book: str
    customer: str
    subscription: str
    currency: str
    mrr: int
    reason: str
    involuntary: bool
    incomplete: bool
    because: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime | None


class MomentRow(NamedTuple):
    """Something that happened: to a case, or (``case_id`` empty) to what its customer can be charged by."""

    subject: str
    book: str
    customer: str
    at: datetime
    place: int
    kind: str
    case_id: str
    event: str
    amount: int | None
    currency: str | None
    decline_code: str | None
    failure_class: str | None
    failure_confidence: str | None
    next_attempt_at: datetime | None
    method: str | None


class ChurnRow(NamedTuple):
    """A customer who was worth something in a currency and came to nothing; ``involuntary``: no money came."""

    subject: str
    book: str
    customer: str
    currency: str
    at: datetime
    mrr: int
    involuntary: bool
    reason: str | None
    because: tuple[str, ...]


class NewestRow(NamedTuple):
    """When a subject's newest fact was: its present is never before that."""

    subject: str
    book: str
    newest: datetime


def rows_of_state(state: State) -> Rows:
    """Return what a customer's facts come to."""
    attempts = attempts_of(state)
    cases: list[CaseRow] = []
    moments: list[tuple[datetime, str, int, Bill | None, Step | Remedy]] = []
    for key in sorted(state.bills):
        bill = state.bills[key]
        if not _may_be_in_trouble(bill, attempts[key]):
            continue
        context = _context(state, bill, attempts[key])
        spans, steps = case_of(bill, context)
        cases += _case_rows(state, bill, context.category, spans)
        moments += [(step.at, key, place, bill, step) for place, step in enumerate(steps)]
    worth = list(_worth_rows(state))
    if cases:
        moments += [(one.at, "", place, None, one) for place, one in enumerate(state.remedies)]
    newest = state.newest if cases or worth else None
    return {
        "dunning_case": cases,
        "dunning_worth": worth,
        "dunning_churn": list(_churn_rows(state)),
        "dunning_moment": list(_moment_rows(state, sorted(moments, key=lambda one: one[:3]))),
        "dunning_newest": [] if newest is None else [NewestRow(state.subject.stream_id, state.subject.book, newest)],
    }


def _may_be_in_trouble(bill: Bill, attempts: list[Attempt]) -> bool:
    """Tell whether an invoice could have a case; most were collected without a word."""
    told = ("payment_action_required", "finalization_failed")
    return (
        bool(attempts)
        or not bill.automatic
        or any(one.told in told or (one.finalization_failed and one.status == "draft") for one in bill.snapshots)
    )


def _context(state: State, bill: Bill, attempts: list[Attempt]) -> Context:
    contract = state.contracts.get(bill.subscription or "")
    return Context(
        category=_category(bill, contract, attempts),
        attempts=attempts,
        remedies=[one for one in state.remedies if one.subscription in (None, bill.subscription)],
        turns=contract.turns if contract else (),
        credits=[(one.at, one.amount) for one in state.credits.values() if one.invoice == bill.id],
        off_stripe=bill.id in state.off_stripe or any(one.out_of_band for one in bill.snapshots),
    )


def _category(bill: Bill, contract: Contract | None, attempts: list[Attempt]) -> Category:
    if bill.subscription is None or bill.reason == MANUAL:
        return "manual_invoice"
    told = [one.at for one in bill.snapshots if one.told == "payment_action_required"]
    status = contract.status_at(min([*told, *(one.at for one in attempts)], default=bill.created)) if contract else None
    if bill.reason == "subscription_create" and bill.automatic and status in (None, "incomplete", "incomplete_expired"):
        return "initial"
    first = contract is not None and contract.first_due == (bill.created, bill.id)
    return "trial_conversion" if first and contract is not None and contract.trialed else "renewal"


def _case_rows(state: State, bill: Bill, category: Category, spans: list[Span]) -> Iterator[CaseRow]:
    ends: list[datetime | None] = [span.since for span in spans[1:]] + [None] * bool(spans)
    for span, end in zip(spans, ends, strict=True):
        failed = span.last_failure
        failure = failed.declined.failure if failed is not None and failed.declined is not None else None
        yield CaseRow(
            subject=state.subject.stream_id,
            book=state.subject.book,
            customer=bill.customer or state.subject.key,
            case_id=bill.id,
            subscription=bill.subscription,
            category=category,
            currency=bill.currency,
            state=span.state,
            outcome=span.outcome,
            recovered_by=span.recovered_by,
            late=span.late,
            amount_due=span.amount_due,
            opened_volume=span.opened_volume,
            open_amount=span.open_amount,
            recovered_volume=span.recovered_volume,
            lost_volume=span.lost_volume,
            opened_at=span.opened_at,
            closed_at=span.closed_at,
            first_failed_at=span.first_failed_at,
            due_date=span.due_date,
            stripe_attempt_count=span.stripe_attempt_count,
            failures=span.failures,
            attempts=span.attempts,
            next_attempt_at=span.next_attempt_at,
            failure_at=failed.at if failed else None,
            failure_code=failure.code if failure else None,
            decline_code=failure.decline_code if failure else None,
            failure_class=failed.kind if failed else None,
            failure_confidence=failed.confidence if failed else None,
            because=span.because,
            valid_from=span.since,
            valid_to=end,
        )


def _worth_rows(state: State) -> Iterator[WorthRow]:
    for span in mrr_spans(state.portfolio):
        worth = span.worth
        if span.until is not None and span.until <= span.since:
            continue
        yield WorthRow(
            subject=state.subject.stream_id,
            book=state.subject.book,
            customer=state.subject.key,
            subscription=span.subscription,
            currency=worth.currency,
            mrr=worth.net_forever,
            reason=worth.reason,
            involuntary=worth.involuntary,
            incomplete=bool(worth.incomplete),
            because=span.because,
            valid_from=span.since,
            valid_to=span.until,
        )


def _churn_rows(state: State) -> Iterator[ChurnRow]:
    paid = {key: life.paid_at for key, life in state.portfolio.lives.items() if life.paid_at is not None}
    for one in movements(mrr_spans(state.portfolio), paid):
        if one.kind == "churn" and one.reason != "currency_change":
            yield ChurnRow(
                subject=state.subject.stream_id,
                book=state.subject.book,
                customer=state.subject.key,
                currency=one.currency,
                at=one.at,
                mrr=one.amount,
                involuntary=one.involuntary,
                reason=one.reason,
                because=one.because,
            )


def _moment_rows(
    state: State, moments: Iterable[tuple[datetime, str, int, Bill | None, Step | Remedy]]
) -> Iterator[MomentRow]:
    for place, (at, _, _, bill, one) in enumerate(moments):
        step = one if isinstance(one, Step) else None
        attempt = step.attempt if step is not None else None
        failure = attempt.declined.failure if attempt is not None and attempt.declined is not None else None
        yield MomentRow(
            subject=state.subject.stream_id,
            book=state.subject.book,
            customer=bill.customer or state.subject.key if bill else state.subject.key,
            at=at,
            place=place,
            kind=one.kind,
            case_id=bill.id if bill else "",
            event=one.event,
            amount=step.amount if step else None,
            currency=bill.currency if bill and step and step.amount is not None else None,
            decline_code=failure.decline_code or failure.code if failure else None,
            failure_class=attempt.kind if attempt else None,
            failure_confidence=attempt.confidence if attempt else None,
            next_attempt_at=step.next_attempt_at if step else None,
            method=one.method if isinstance(one, Remedy) else None,
        )

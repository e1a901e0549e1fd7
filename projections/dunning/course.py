"""From one invoice's facts to its case: what it was at every moment, as spans (stripe-domain §4.2).

The facts are replayed in order of time, and after each moment the state of the case is written as a span. A change that
time alone causes (a due date, the day after the last retry) is a moment like any other; nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Final

from ledger.times import later
from projections.dunning.case import ENDS, OVER, CaseState, Context, Outcome, Span, Step
from projections.dunning.facts import CLOSED, Bill, Remedy, Snapshot, Turn
from projections.dunning.reasons import Attempt
from projections.dunning.recovery import RecoveredBy, recovered_by

LEFT_AFTER: Final = timedelta(hours=24)
"""How long a subscription may still be past due after the last retry before it counts as left so."""

_TURNS_TOLD: Final = frozenset({"active", "past_due", "incomplete_expired", *ENDS})


@dataclass(slots=True)
class _Case:
    """A case being gone through; ``spans`` and ``steps`` are what it comes to.

    ``stopped`` is when it last failed (before that: asked for action), with Stripe's count of attempts then.
    ``clean`` while all that ever went wrong is that it could not be finalised.
    """

    bill: Bill
    context: Context
    spans: list[Span] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    now: Snapshot | None = None
    before: Snapshot | None = None
    opened_at: datetime | None = None
    at_stake: Snapshot | None = None
    clean: bool = True
    overdue: bool = False
    waits_for_action: bool = False
    actions: int = 0
    stuck: bool = False
    failures: list[Attempt] = field(default_factory=list)
    stopped: tuple[datetime, int] | None = None
    status: str = ""
    exhausted_at: datetime | None = None
    outcome: Outcome | None = None
    closed_at: datetime | None = None
    closed_by: RecoveredBy | None = None
    forgiven: bool = False
    written_off: bool = False
    because: dict[str, str] = field(default_factory=dict)

    # What happens.

    def snapshot(self, one: Snapshot) -> None:
        """Apply a change of the invoice."""
        self.before, self.now = self.now, one
        if one.told == "payment_action_required":
            self.action_asked(one)
        elif one.finalization_failed and one.status == "draft":
            self.open(one.at, one.event)
            self.note(one, "finalization_failed")
        if one.next_attempt is not None and (self.before is None or self.before.next_attempt != one.next_attempt):
            self.steps.append(Step(one.at, one.event, "retry_scheduled", next_attempt_at=one.next_attempt))
        if self.opened_at is not None and one.status != (self.before.status if self.before else ""):
            self.status_changed(one)

    def action_asked(self, one: Snapshot) -> None:
        """Apply a request of the bank that the customer authenticate."""
        if self.collects_by_itself:
            self.open(one.at, one.event)
            self.waits_for_action, self.clean = True, False
            self.actions += 1
            if not self.failures:
                self.stopped = (one.at, one.attempt_count)
            self.note(one, "action_required")

    def attempt(self, one: Attempt) -> None:
        """Apply a failed attempt. After a hard decline, one without a payment was not made: Stripe only counts it."""
        if self.now is None or not self.collects_by_itself:
            return
        if self.stuck and one.declined is None and one.kind != "no_method":
            return
        self.open(one.at, one.event)
        self.waits_for_action = self.clean = False
        self.failures.append(one)
        self.stopped = (one.at, self.now.attempt_count)
        self.stuck = one.kind in ("hard", "no_method")
        self.because["failure"] = one.event
        self.steps.append(Step(one.at, one.event, "failure", self.now.amount_remaining, one))

    def remedy(self, one: Remedy) -> None:
        """Apply a change of a payment method: what could not be charged may be tried again."""
        if one.mends and self.stuck and self.failures and one.at > self.failures[-1].at:
            self.stuck = False
            self.because["remedy"] = one.event

    def turn(self, one: Turn) -> None:
        """Apply a change of the subscription."""
        self.status = one.status
        if self.is_open and self.gave_up:
            self.settle_outcome(one.event)
        if self.opened_at is not None and self.closed_at is None and one.status in _TURNS_TOLD:
            self.steps.append(Step(one.at, one.event, f"subscription_{one.status}"))

    def status_changed(self, one: Snapshot) -> None:
        """Apply a status of the invoice that ends it, or seems to."""
        if one.status == "paid":
            self.closed_at = one.at
            self.closed_by = self.how_it_was_closed(one)
            paid = one.amount_paid - (self.before.amount_paid if self.before else 0)
            self.forgiven = self.closed_by == "credit" and paid <= 0 and self.credited > 0
            self.note(one, "forgiven" if self.forgiven else "recovered")
        elif one.status in ("void", "uncollectible"):
            self.closed_at = one.at
            self.written_off = self.written_off or one.status == "uncollectible"
            self.note(one, "voided" if one.status == "void" else "written_off")
        elif one.told == "finalized":
            self.note(one, "finalized")

    def how_it_was_closed(self, one: Snapshot) -> RecoveredBy:
        """Tell what closed the invoice."""
        if self.clean:
            return "unknown"  # its finalisation failed once; then it was paid like any other
        return recovered_by(one, self.before, self.stopped, self.context.remedies, off_stripe=self.context.off_stripe)

    def falls_due(self, at: datetime) -> None:
        """Apply the due date of a sent invoice that is not paid."""
        if self.now is None:
            return
        self.open(at, self.now.event)
        self.overdue, self.clean = True, False
        self.steps.append(Step(at, self.now.event, "due", self.now.amount_remaining))

    # What that makes of it.

    def open(self, at: datetime, event: str) -> None:
        """Open the case where it is not open: from now on what remains of the invoice is at stake."""
        if self.opened_at is None:
            self.opened_at, self.at_stake = at, self.now
            self.because["opened"] = event

    def note(self, one: Snapshot, kind: str) -> None:
        """Write down what an event of the invoice said."""
        self.because["invoice"] = one.event
        self.steps.append(Step(one.at, one.event, kind, one.amount_remaining or one.amount_due))

    @property
    def collects_by_itself(self) -> bool:
        """Tell whether a failure opens a case: of an invoice that was sent, none before its due date does."""
        return self.bill.automatic or self.overdue

    @property
    def is_open(self) -> bool:
        """Whether there is something to collect, and trouble with it."""
        return self.opened_at is not None and self.now is not None and self.now.status in ("open", "uncollectible")

    @property
    def gave_up(self) -> bool:
        """Whether nothing more will be tried automatically."""
        tried = self.bill.automatic and bool(self.failures) and self.context.category != "initial"
        return tried and self.now is not None and self.now.next_attempt is None

    def settle_outcome(self, event: str) -> None:
        """Note what happened to the subscription once nothing more is tried; its first change counts."""
        if self.outcome is None and (outcome := ENDS.get(self.status)) is not None:
            self.outcome = outcome
            self.because["outcome"] = event

    def note_exhaustion(self, at: datetime) -> None:
        """Note since when nothing more is tried, or that it is again."""
        if not (self.is_open and self.gave_up):
            self.exhausted_at = None
            return
        if self.exhausted_at is None:
            self.exhausted_at = at
            turned = sum(1 for step in self.steps if step.at == at and step.kind.startswith("subscription_"))
            self.steps.insert(len(self.steps) - turned, Step(at, self.because["failure"], "exhausted"))
        self.settle_outcome("")

    @property
    def credited(self) -> int:
        """What credit notes have taken off since something was at stake."""
        if self.now is None or self.at_stake is None:
            return 0
        since = self.at_stake.at
        noted = sum(amount for at, amount in self.context.credits if since <= at <= self.now.at)
        return max(self.now.credited - self.at_stake.credited, noted, 0)

    def state(self) -> CaseState:
        """Tell the state: the first that holds."""
        now = self.now
        if now is None or now.status == "void":
            return "voided"
        if now.status == "paid":
            return "forgiven" if self.forgiven else "recovered"
        if now.status == "uncollectible":
            return "written_off"
        if now.status == "draft" and now.finalization_failed:
            return "blocked"
        if self.waits_for_action:
            return "action_required"
        if self.bill.automatic and self.stuck:
            return "needs_payment_method"
        if self.overdue:
            return "overdue"
        return "retrying" if now.next_attempt is not None else "exhausted"

    # Writing it down.

    def next_by_time(self) -> datetime | None:
        """Return when time alone changes something next."""
        now = self.now
        if now is None or now.status in CLOSED:
            return None
        if not self.bill.automatic and not self.overdue and now.status == "open" and now.amount_remaining > 0:
            return now.due_date
        if self.exhausted_at is not None and self.outcome is None and self.status == "past_due":
            return later(self.exhausted_at, LEFT_AFTER)
        return None

    def let_pass(self, until: datetime | None, last: datetime | None) -> None:
        """Apply what time alone changes after ``last`` and before ``until`` (None: for ever)."""
        while (at := self.next_by_time()) is not None and (until is None or at < until):
            moment = at if last is None else max(at, last)
            if until is not None and moment >= until:
                return
            if self.exhausted_at is not None and self.bill.automatic:
                self.outcome = "left_past_due"
                self.steps.append(Step(moment, self.because["failure"], "left_past_due"))
            else:
                self.falls_due(at)
            self.write(moment)

    def write(self, at: datetime) -> None:
        """Write the case down as it is at a moment."""
        if self.opened_at is None or self.now is None:
            return
        self.note_exhaustion(at)
        state = self.state()
        over = state in OVER
        volume, recovered, lost = self.volumes(state)
        span = Span(
            since=at,
            state=state,
            outcome=self.outcome,
            recovered_by=self.closed_by if state in ("recovered", "forgiven") else None,
            late=self.written_off and state == "recovered",
            amount_due=self.now.amount_due,
            opened_volume=volume,
            open_amount=0 if over else self.now.amount_remaining,
            recovered_volume=recovered,
            lost_volume=lost,
            opened_at=min(self.opened_at, at),
            closed_at=self.closed_at if over else None,
            first_failed_at=self.failures[0].at if self.failures else None,
            due_date=self.now.due_date,
            stripe_attempt_count=self.now.attempt_count,
            failures=len(self.failures),
            attempts=self.actions + sum(1 for one in self.failures if one.was_made),
            next_attempt_at=None if over else self.now.next_attempt,
            last_failure=self.failures[-1] if self.failures else None,
            because=tuple(dict.fromkeys(event for event in self.because.values() if event)),
        )
        if self.spans and self.spans[-1][1:] == span[1:]:
            return
        if self.spans and self.spans[-1].since == at:
            self.spans.pop()
        self.spans.append(span)

    def volumes(self, state: CaseState) -> tuple[int, int, int]:
        """Return what was at stake, and what of it has been recovered and lost."""
        if self.at_stake is None or self.now is None or (state == "recovered" and self.clean):
            return (0, 0, 0)
        whole = max(self.at_stake.amount_remaining, 0)
        credited = min(self.credited, whole)
        paid = min(max(self.now.amount_paid - self.at_stake.amount_paid, 0), whole - credited)
        if state == "recovered":
            return (whole, whole - credited, credited)
        if state in OVER or self.outcome is not None:
            return (whole, paid, whole - paid)
        return (whole, paid, credited)


def case_of(bill: Bill, context: Context) -> tuple[list[Span], list[Step]]:
    """Return an invoice's case as spans in order of time, with its timeline; empty if there was no trouble."""
    case = _Case(bill, context)
    last: datetime | None = None
    for at, group in groupby(_happenings(bill, context), key=itemgetter(0)):
        case.let_pass(at, last)
        for _, _, _, one in group:
            _apply(case, one)
        case.write(at)
        last = at
        if case.now is not None and case.now.status in CLOSED:
            break
    else:
        case.let_pass(None, last)
    opened = case.opened_at
    return case.spans, [step for step in case.steps if opened is not None and step.at >= opened]


def _apply(case: _Case, one: Snapshot | Attempt | Remedy | Turn) -> None:
    if isinstance(one, Snapshot):
        case.snapshot(one)
    elif isinstance(one, Attempt):
        case.attempt(one)
    elif isinstance(one, Remedy):
        case.remedy(one)
    else:
        case.turn(one)


_Happening = tuple[datetime, int, int, Snapshot | Attempt | Remedy | Turn]


def _happenings(bill: Bill, context: Context) -> list[_Happening]:
    """Put all that bears on a case in order: at one time methods, payments, the invoice, then the subscription.

    Only an open invoice is charged: a payment from before it was first seen so comes right after that.
    """
    signals = {one.event: one for one in context.attempts if one.signal}
    issued = next(((n, one) for n, one in enumerate(bill.snapshots) if one.status != "draft"), None)
    found: list[_Happening] = [(one.at, 0, n, one) for n, one in enumerate(context.remedies)]
    for n, one in enumerate(bill.snapshots):
        found.append((one.at, 2, 3 * n, one))
        if one.event in signals:
            found.append((one.at, 2, 3 * n + 2, signals[one.event]))
    for n, tried in enumerate(one for one in context.attempts if not one.signal):
        if issued is not None and issued[1].status == "open" and tried.at <= issued[1].at:
            found.append((issued[1].at, 2, 3 * issued[0] + 1, tried))
        else:
            found.append((tried.at, 1, n, tried))
    found += [(one.at, 3, n, one) for n, one in enumerate(context.turns)]
    return sorted(found, key=lambda one: one[:3])

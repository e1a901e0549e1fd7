"""The truth of dunning: how each invoice stood after each change, and from that its case at any moment.

An invoice has a case from its first sign of trouble on (stripe-domain §4.2).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ledger.simulator.calendar import DAY
from ledger.simulator.declines import DECLINES
from ledger.simulator.objects import Invoice, Trouble

Category = Literal["initial", "trial_conversion", "renewal", "manual_invoice"]
CLOSED: Final = frozenset({"voided", "recovered", "forgiven", "written_off"})
_UNTROUBLED: Final = Trouble()
_CHANGES: Final = {
    "canceled": "subscription_canceled",
    "unpaid": "subscription_unpaid",
    "paused": "subscription_paused",
}

Statuses = Callable[[str], list[tuple[int, str]]]
"""A subscription's statuses, oldest first, each with since when."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an invoice stood from ``at`` on."""

    at: int
    status: str
    amount_due: int
    amount_paid: int
    amount_remaining: int
    attempt_count: int
    next_attempt: int | None
    due_date: int | None
    failures: int
    attempts: int
    decline: str | None
    waits_for_action: bool
    needs_method: bool
    new_method: str | None
    was_blocked: bool
    closed_by: str | None


@dataclass(slots=True)
class Tracked:
    """An invoice with all its standings, oldest first; of one second only the last."""

    id: str
    customer: str
    subscription: str | None
    currency: str
    automatic: bool
    category: Category
    standings: list[Standing] = field(default_factory=list)

    def at(self, moment: int) -> Standing | None:
        """Return how it stood at a moment; None before there was anything to tell."""
        found = bisect_right(self.standings, moment, key=lambda one: one.at)
        return self.standings[found - 1] if found else None

    @property
    def opened(self) -> int | None:
        """When its case opens; None where it never does."""
        for one in self.standings:
            if one.was_blocked or (self.automatic and (one.failures or one.waits_for_action)):
                return one.at
        due = self.standings[-1].due_date
        standing = self.at(due) if due is not None and not self.automatic else None
        return due if standing is not None and standing.status == "open" else None

    def collectible(self, moment: int) -> bool:
        """Tell whether it could still be paid at a moment."""
        standing = self.at(moment)
        return standing is not None and standing.status in {"open", "uncollectible"}

    def since(self, standing: Standing) -> int:
        """Return since when the invoice had the status that it had in a standing."""
        before = [one.at for one in self.standings if one.at < standing.at and one.status != standing.status]
        return min(one.at for one in self.standings if not before or one.at > before[-1])

    def exhausted(self, moment: int) -> int | None:
        """Return since when no further attempt is planned after a failure, up to a moment."""
        for one in self.standings if self.automatic else ():
            over = one.status in {"open", "uncollectible"} and one.failures and not one.next_attempt
            if over and one.at <= moment:
                return one.at
        return None


def category_of(invoice: Invoice) -> Category:
    """Return what kind of payment it is that fails."""
    of = invoice.subscription
    if of is None:
        return "manual_invoice"
    if invoice.reason == "subscription_create" and of.status == "incomplete":
        return "initial"
    return "trial_conversion" if of.trial_start is not None and not of.billed else "renewal"


def standing_of(at: int, invoice: Invoice) -> Standing:
    """Write down how an invoice stands."""
    trouble = invoice.trouble or _UNTROUBLED
    return Standing(
        at=at,
        status=invoice.status,
        amount_due=invoice.amount_due,
        amount_paid=invoice.amount_paid,
        amount_remaining=invoice.amount_remaining,
        attempt_count=invoice.attempt_count,
        next_attempt=invoice.next_payment_attempt,
        due_date=invoice.due_date,
        failures=trouble.failures,
        attempts=trouble.attempts,
        decline=trouble.decline,
        waits_for_action=trouble.waits_for_action,
        needs_method=trouble.needs_method,
        new_method=trouble.new_method,
        was_blocked=trouble.was_blocked,
        closed_by=trouble.closed_by,
    )


def state_of(one: Standing, moment: int, *, automatic: bool) -> str:
    """Return the state of a case: the first that holds."""
    if one.status in {"void", "paid", "uncollectible", "draft"}:
        closed = "forgiven" if one.closed_by == "credit_note" else "recovered"
        return {"void": "voided", "paid": closed, "uncollectible": "written_off", "draft": "blocked"}[one.status]
    if one.waits_for_action:
        return "action_required"
    if automatic and one.needs_method:
        return "needs_payment_method"
    if not automatic and one.due_date is not None and moment >= one.due_date:
        return "overdue"
    return "retrying" if one.next_attempt else "exhausted"


def recovered_by(one: Standing) -> str | None:
    """Return what brought the money, by the order of stripe-domain §4.4."""
    if one.status != "paid":
        return None
    if one.was_blocked and not one.failures and not one.attempts:
        return "unknown"
    if one.closed_by in {"out_of_band", "credit", "credit_note"}:
        return "out_of_band" if one.closed_by == "out_of_band" else "credit"
    if one.new_method is not None:
        return one.new_method
    return "automatic_retry" if one.closed_by == "schedule" else "customer"


class Cases:
    """All invoices that may have a case, in one account and mode."""

    def __init__(self) -> None:
        self.invoices: dict[str, Tracked] = {}

    def note(self, at: int, invoice: Invoice) -> None:
        """Note how an invoice stands from ``at`` on."""
        tracked = self.invoices.get(invoice.id)
        if tracked is None:
            of = invoice.subscription.id if invoice.subscription else None
            automatic = invoice.collection_method == "charge_automatically"
            tracked = Tracked(
                invoice.id, invoice.customer.id, of, invoice.currency, automatic, category_of(invoice)
            )  # fmt: skip
            self.invoices[invoice.id] = tracked
        if tracked.standings and tracked.standings[-1].at == at:
            tracked.standings.pop()
        tracked.standings.append(standing_of(at, invoice))

    def at(self, moment: int, statuses: Statuses) -> list[dict[str, Any]]:
        """Return every case that has opened up to a moment, as it is then; by opening, then invoice."""
        opened = [(one.opened, one.id) for one in self.invoices.values()]
        found = sorted((at, key) for at, key in opened if at is not None and at <= moment)
        return [_case(self.invoices[key], at, moment, statuses) for at, key in found]

    def failed_since(self, subscription: str, moment: int) -> int | None:
        """Return since when something of a subscription is owed at a moment, its first payment apart."""
        owed = [
            opened
            for one in self.invoices.values()
            if one.subscription == subscription and one.category != "initial"
            and (standing := one.at(moment)) is not None and standing.status == "open"
            and (opened := one.opened) is not None and opened <= moment
        ]  # fmt: skip
        return min(owed, default=None)

    def at_risk(self, moment: int) -> Iterator[str]:
        """Name the subscriptions that have an open case at a moment, a first payment's apart."""
        seen = set()
        for one in self.invoices.values():
            if one.subscription is None or one.category == "initial" or one.subscription in seen:
                continue
            opened, standing = one.opened, one.at(moment)
            if opened is None or opened > moment or standing is None:
                continue
            if state_of(standing, moment, automatic=one.automatic) not in CLOSED:
                seen.add(one.subscription)
                yield one.subscription


def _case(of: Tracked, opened: int, moment: int, statuses: Statuses) -> dict[str, Any]:
    now, first = of.at(moment), of.at(opened)
    if now is None or first is None:
        raise ValueError(f"{of.id} has no standing at {moment}")
    state = state_of(now, moment, automatic=of.automatic)
    never_failed = now.was_blocked and not now.failures and not now.attempts
    return {
        "case": of.id,
        "customer": of.customer,
        "subscription": of.subscription,
        "currency": of.currency,
        "category": of.category,
        "state": state,
        "opened_at": opened,
        "closed_at": of.since(now) if state in CLOSED else None,
        "amount_due": now.amount_due,
        "open_amount": 0 if state in CLOSED else now.amount_remaining,
        "volume": 0 if never_failed and state == "recovered" else first.amount_remaining,
        "paid_since": now.amount_paid - first.amount_paid,
        "stripe_attempt_count": now.attempt_count,
        "failures": now.failures,
        "attempts": now.attempts,
        "next_attempt_at": None if state in CLOSED else now.next_attempt,
        "decline_code": now.decline if now.decline in DECLINES else None,
        "decline_class": _class(now.decline),
        "outcome": _outcome(of, moment, statuses),
        "recovered_by": recovered_by(now),
        "late": state == "recovered" and any(one.status == "uncollectible" for one in of.standings),
    }


def _class(code: str | None) -> str | None:
    return None if code not in DECLINES else "hard" if DECLINES[code].hard else "soft"


def _outcome(of: Tracked, moment: int, statuses: Statuses) -> str | None:
    """Return what the subscription first became when all attempts had failed, or that it stayed as it was for a day.

    What becomes of it after the invoice was closed has nothing to do with the invoice any more.
    """
    exhausted = of.exhausted(moment)
    if exhausted is None or of.subscription is None:
        return None
    states = statuses(of.subscription)
    changed = next(
        (
            (max(at, exhausted), _CHANGES[status])
            for (at, status), until in zip(states, [*(at for at, _ in states[1:]), moment + 1], strict=True)
            if status in _CHANGES and until > exhausted and at <= moment and of.collectible(max(at, exhausted))
        ),
        None,
    )
    left = exhausted + DAY
    then = [status for at, status in states if at <= left]
    if left <= moment and of.collectible(left) and then and then[-1] == "past_due":
        return changed[1] if changed is not None and changed[0] <= left else "left_past_due"
    return changed[1] if changed is not None else None

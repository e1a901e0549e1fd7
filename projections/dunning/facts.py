"""A customer's facts: invoices as events showed them, failed payments, payment methods, subscriptions.

Plain data, so that it can be kept and resumed. Lists are in causal order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from projections.contract import Subject
from projections.mrr.portfolio import Portfolio
from projections.shapes.payment import Failure

CLOSED: Final = frozenset({"paid", "void"})
"""Statuses an invoice never leaves."""


MANUAL: Final = "manual"
"""Why an invoice was made that nothing of a subscription's own course made, also where it names one."""


class Snapshot(NamedTuple):
    """An invoice as one event showed it; ``told`` is what that event said, ``asked`` whether a request caused it."""

    at: datetime
    event: str
    told: str
    asked: bool
    status: str
    amount_due: int
    amount_remaining: int
    amount_paid: int
    credited: int
    attempt_count: int
    next_attempt: datetime | None
    due_date: datetime | None
    finalization_failed: bool
    out_of_band: bool

    def shows(self) -> tuple[object, ...]:
        """Return what it shows, beside when and how that was told."""
        return self[4:]


@dataclass(slots=True)
class Bill:
    """An invoice: what never changes of it, and its snapshots."""

    id: str
    customer: str | None
    subscription: str | None
    currency: str
    reason: str | None
    automatic: bool
    created: datetime
    snapshots: list[Snapshot] = field(default_factory=list)

    @property
    def status(self) -> str:
        """What it was when it was last seen."""
        return self.snapshots[-1].status if self.snapshots else ""


class Declined(NamedTuple):
    """A payment that failed: a charge, or an attempt that came to none."""

    key: str
    at: datetime
    event: str
    intent: str | None
    charge: str | None
    invoice: str | None
    currency: str
    amount: int
    failure: Failure


class Credit(NamedTuple):
    """What a credit note took off an invoice that was still to be paid."""

    invoice: str
    at: datetime
    event: str
    amount: int


class Remedy(NamedTuple):
    """A change of what can be charged, for better or worse (``mends``); ``subscription`` where for that one alone."""

    at: datetime
    event: str
    kind: str
    method: str | None
    subscription: str | None
    mends: bool


class Turn(NamedTuple):
    """A change of a subscription's status."""

    at: datetime
    event: str
    status: str


@dataclass(slots=True)
class Contract:
    """A subscription as far as dunning goes. ``first_due`` is its first invoice with anything to pay."""

    turns: list[Turn] = field(default_factory=list)
    trialed: bool = False
    default: str | None = None
    known: bool = False
    first_due: tuple[datetime, str] | None = None

    def status_at(self, at: datetime) -> str | None:
        """Return the status at a moment; None before there was one."""
        return next((turn.status for turn in reversed(self.turns) if turn.at <= at), None)


@dataclass(slots=True)
class State:
    """What has been folded of one customer so far.

    ``methods`` says since when there was a default to charge, or none. ``links`` says which invoice a payment is for,
    and how that is known; ``off_stripe`` names the invoices paid by something Stripe did not process.
    """

    subject: Subject
    newest: datetime | None = None
    bills: dict[str, Bill] = field(default_factory=dict)
    declined: dict[str, Declined] = field(default_factory=dict)
    remedies: list[Remedy] = field(default_factory=list)
    contracts: dict[str, Contract] = field(default_factory=dict)
    default: str | None = None
    methods: list[tuple[datetime, bool]] = field(default_factory=list)
    links: dict[str, tuple[str, str]] = field(default_factory=dict)
    off_stripe: list[str] = field(default_factory=list)
    credits: dict[str, Credit] = field(default_factory=dict)
    portfolio: Portfolio = field(default_factory=Portfolio)

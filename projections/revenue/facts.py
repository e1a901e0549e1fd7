"""Natural facts of one subject: each happened once, however many events report it (stripe-domain §1.7).

Plain data, which can be kept. Times are unix seconds, amounts whole numbers in the smallest unit of ``currency``.
``because`` names the events that first told each part of a fact.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from projections.contract import Subject
from projections.revenue.policy import Ruling
from projections.revenue.pots import split
from projections.revenue.whose import customer_of


@dataclass(slots=True)
class LineFact:
    """A finalised invoice's line: what it earns without tax, when, and what it is about."""

    key: str
    net: int
    tax: int
    start: int
    end: int
    subscription: str | None = None
    product: str | None = None
    price: str | None = None
    tax_rate: str | None = None


@dataclass(slots=True)
class InvoiceFact:
    """A finalised invoice. ``balance`` is what the customer's balance paid of it (negative: what it was lent).

    ``billing_credits`` is what prepaid or given credits took off its lines before they were added up; ``off_stripe``
    is what was paid outside of Stripe, as its API said. ``payments`` are the charges and payment intents that its
    snapshots named; ``paid_steps`` say since when how much was paid, and which event said so.
    """

    key: str
    customer: str | None
    currency: str
    subscription: str | None
    reason: str | None
    collection_method: str | None
    total: int
    tax: int
    net: int
    shipping: int
    shipping_tax: int
    billing_credits: int
    amount_due: int
    pre_payment_credit_notes: int
    starting_balance: int
    balance: int
    created: int
    finalized_at: int
    due_date: int | None
    status: str = "open"
    lines: list[LineFact] = field(default_factory=list)
    incomplete: bool = False
    amount_paid: int = 0
    amount_remaining: int = 0
    out_of_band: bool = False
    off_stripe: int = 0
    payments: list[str] = field(default_factory=list)
    paid_steps: list[tuple[int, int, str]] = field(default_factory=list)
    paid_at: int | None = None
    voided_at: int | None = None
    uncollectible_at: int | None = None
    because: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class InvoicePaymentFact:
    """A payment of an invoice; ``record`` is money that did not pass through Stripe."""

    key: str
    invoice: str
    amount: int
    paid_at: int
    payment_intent: str | None
    charge: str | None
    record: bool
    because: str


@dataclass(slots=True)
class ChargeFact:
    """A charge that took money, or (``pending_at``) is about to; ``held`` is what was only authorised of it.

    ``takes`` say since when how much of it was taken in all, and which event said so: it may be taken in parts.
    ``refunded`` is what it says went back, whichever refunds are known, and since when.
    """

    key: str
    currency: str
    held: int = 0
    refunded: int = 0
    refunded_at: int = 0
    payment_intent: str | None = None
    invoice: str | None = None
    pending_at: int | None = None
    pending: int = 0
    takes: list[tuple[int, int, str]] = field(default_factory=list)
    failed_at: int | None = None
    because: dict[str, str] = field(default_factory=dict)

    @property
    def amount(self) -> int:
        """How much was taken in all."""
        return self.takes[-1][1] if self.takes else 0

    @property
    def taken_at(self) -> int | None:
        """Since when any of it was taken."""
        return self.takes[0][0] if self.takes else None


@dataclass(slots=True)
class RefundFact:
    """A refund that moved money, and when it came back; ``untold`` while none of its snapshots shows how it did."""

    key: str
    currency: str
    amount: int
    charge: str | None
    payment_intent: str | None
    created: int
    failed_at: int | None = None
    untold: bool = False
    because: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class CreditNoteLineFact:
    """What a credit note takes of one invoice line, tax included."""

    line: str | None
    amount: int


@dataclass(slots=True)
class CreditNoteFact:
    """A credit note. ``pre_payment`` is None where its shape does not say; a refund's None is the whole refund.

    ``incomplete`` while only the first page of its lines is known.
    """

    key: str
    invoice: str
    currency: str
    amount: int
    pre_payment: int | None
    out_of_band: int
    refunds: list[tuple[str, int | None]]
    lines: list[CreditNoteLineFact]
    incomplete: bool
    created: int
    voided_at: int | None = None
    because: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class DisputeMoveFact:
    """Money that a dispute took (negative) or gave back, in the balance's currency."""

    key: str
    currency: str
    amount: int
    fee: int
    at: int
    because: str


@dataclass(slots=True)
class DisputeFact:
    """A dispute and every movement of money it made."""

    key: str
    currency: str
    amount: int
    charge: str | None
    payment_intent: str | None
    moves: dict[str, DisputeMoveFact] = field(default_factory=dict)


@dataclass(slots=True)
class SessionFact:
    """A paid one-time Checkout session without an invoice; ``takes`` are its charge's, where only that tells of it."""

    key: str
    currency: str
    amount: int
    tax: int
    payment_intent: str | None
    paid_at: int
    because: str
    takes: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(slots=True)
class PayoutFact:
    """A payout to the bank."""

    key: str
    currency: str
    amount: int
    created_at: int
    paid_at: int | None = None
    failed_at: int | None = None
    because: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class TransactionFact:
    """What a charge or refund came to on Stripe's balance, in its currency: as Stripe answered when it was asked."""

    key: str
    source: str
    currency: str
    amount: int
    fee: int
    at: int
    because: str


@dataclass(slots=True)
class ConnectFact:
    """A fee taken of a connected account (``application_fee``), or a ``transfer`` to one.

    ``back`` says since when how much of it was given back, and which event said so.
    """

    key: str
    kind: str
    currency: str
    amount: int
    at: int
    because: str
    back: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(slots=True)
class CreditGrantFact:
    """Billing credits that a customer got: bought (``paid``), or given."""

    key: str
    paid: bool
    because: str


@dataclass(slots=True)
class CreditMoveFact:
    """What became of billing credits: used on an invoice's line, given back as that was voided, or gone."""

    key: str
    grant: str
    kind: Literal["applied", "reinstated", "ended"]
    currency: str
    amount: int
    at: int
    invoice: str | None
    line: str | None
    because: str


@dataclass(slots=True)
class BalanceFact:
    """A customer's balance as an event showed it (negative: credit)."""

    at: int
    currency: str
    balance: int
    because: str


@dataclass(slots=True)
class SubscriptionFact:
    """A subscription as it last was; ``incomplete`` until its first invoice is paid (``active_at``)."""

    key: str
    customer: str | None
    status: str
    currency: str
    created: int
    incomplete: bool = False
    active_at: int | None = None
    cancel_at_period_end: bool = False
    canceled_at: int | None = None
    ended_at: int | None = None
    because: str = ""


@dataclass(slots=True)
class Facts:
    """Everything a subject's events have told about its money. ``held`` are sessions that were not paid yet."""

    subject: Subject
    invoices: dict[str, InvoiceFact] = field(default_factory=dict)
    invoice_payments: dict[str, InvoicePaymentFact] = field(default_factory=dict)
    charges: dict[str, ChargeFact] = field(default_factory=dict)
    refunds: dict[str, RefundFact] = field(default_factory=dict)
    credit_notes: dict[str, CreditNoteFact] = field(default_factory=dict)
    disputes: dict[str, DisputeFact] = field(default_factory=dict)
    sessions: dict[str, SessionFact] = field(default_factory=dict)
    held: dict[str, SessionFact] = field(default_factory=dict)
    payouts: dict[str, PayoutFact] = field(default_factory=dict)
    transactions: dict[str, TransactionFact] = field(default_factory=dict)
    connect: dict[str, ConnectFact] = field(default_factory=dict)
    credit_grants: dict[str, CreditGrantFact] = field(default_factory=dict)
    credit_moves: dict[str, CreditMoveFact] = field(default_factory=dict)
    balances: list[BalanceFact] = field(default_factory=list)
    subscriptions: dict[str, SubscriptionFact] = field(default_factory=dict)
    rulings: list[Ruling] | None = None

    @property
    def sold(self) -> dict[str, SessionFact]:
        """The sessions that were paid. Of one whose payment is authorised and captured later only its charge tells."""
        taken = {one.payment_intent: one for one in self.charges.values() if one.taken_at is not None}
        found = dict(self.sessions)
        for key, session in self.held.items():
            charge = taken.get(session.payment_intent) if session.payment_intent else None
            if charge is not None and key not in found:
                _, tax = split(charge.amount, [session.amount - session.tax, session.tax])
                found[key] = replace(session, amount=charge.amount, tax=tax, takes=charge.takes)
        return found

    @property
    def returned(self) -> dict[str, RefundFact]:
        """The refunds that moved money. What was only authorised of a charge and is let go is told as a refund too."""
        if not any(one.untold for one in self.refunds.values()):
            return self.refunds
        held = {charge.key: charge.held for charge in self.charges.values()}
        held |= {charge.payment_intent: charge.held for charge in self.charges.values() if charge.payment_intent}
        return {
            key: one
            for key, one in self.refunds.items()
            if not one.untold or one.amount > held.get(one.charge or one.payment_intent or "", 0)
        }

    @property
    def customer(self) -> str | None:
        """The customer whose facts these are; None for a guest's payment or a payout."""
        return customer_of(self.subject.key)

"""What the simulated Stripe keeps: plain objects that operations change and ``render`` writes as Stripe does.

Amounts are integers in the currency's smallest unit, times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ledger.simulator.catalog import Coupon, Price, TaxRate

Json = dict[str, Any]

PausedBy = Literal["trial_end_without_payment_method", "pause_requested", "final_payment_failure"]


@dataclass(slots=True, eq=False)
class Kept:
    """Something Stripe sends events about; ``announced`` is what the last event about it said."""

    announced: Json | None = field(default=None, kw_only=True, repr=False)


@dataclass(slots=True, eq=False)
class Customer(Kept):
    """A customer; ``balance`` is Stripe's: negative is credit. ``open_invoices`` may still be paid."""

    id: str
    number: int
    currency: str
    created: int
    org: str | None = None
    method: Method | None = None
    balance: int = 0
    invoices: int = 0
    open_invoices: list[Invoice] = field(default_factory=list)
    deleted: bool = False

    @property
    def card(self) -> str | None:
        """The id of the payment method that is charged; None until one is attached."""
        return self.method.id if self.method else None


@dataclass(slots=True, eq=False)
class Method(Kept):
    """A customer's card; ``issue`` counts up when the network renews it. ``customer`` is None once detached."""

    id: str
    customer: Customer | None
    created: int
    issue: int = 0


@dataclass(slots=True, eq=False)
class Item:
    """A line of a subscription, in its own billing period."""

    id: str
    price: Price
    quantity: int
    created: int
    period_start: int
    period_end: int
    trial_end: int | None = None
    """Until when this item alone is on trial."""


@dataclass(frozen=True, slots=True)
class Discount:
    """A coupon in use on a subscription; ``end`` is None where it has none."""

    id: str
    coupon: Coupon
    start: int
    end: int | None


@dataclass(slots=True, eq=False)
class PendingUpdate:
    """Items that come into force once their invoice is paid."""

    items: list[Item]
    expires_at: int
    invoice: str


@dataclass(slots=True, eq=False)
class Subscription(Kept):
    """A subscription and everything Stripe says of it."""

    id: str
    customer: Customer
    items: list[Item]
    created: int
    anchor: int
    status: str
    collection_method: str = "charge_automatically"
    trial_start: int | None = None
    trial_end: int | None = None
    missing_payment_method: str = "create_invoice"
    cancel_at_period_end: bool = False
    cancel_at: int | None = None
    canceled_at: int | None = None
    ended_at: int | None = None
    cancel_reason: str | None = None
    pause_collection: str | None = None
    paused_by: PausedBy | None = None
    paused_at: int | None = None
    pending_update: PendingUpdate | None = None
    discount: Discount | None = None
    tax_rate: TaxRate | None = None
    latest_invoice: str | None = None
    org: str | None = None
    pending_lines: list[Line] = field(default_factory=list)
    ever_paid: bool = False
    billed: bool = False

    @property
    def currency(self) -> str:
        """The one currency it bills in."""
        return self.customer.currency

    @property
    def ended(self) -> bool:
        """Whether it can never change its status again."""
        return self.status in {"canceled", "incomplete_expired"}

    @property
    def period_end(self) -> int:
        """When the first of its items is due next."""
        return min(item.period_end for item in self.items)


@dataclass(slots=True, eq=False)
class Line:
    """A line of an invoice: ``amount`` before discounts, with inclusive tax in it."""

    id: str
    item: str
    price: Price
    quantity: int
    amount: int
    start: int
    end: int
    proration: bool = False
    invoice_item: str | None = None
    discount: int = 0
    tax: int = 0
    gross: int = 0
    """What it comes to in the invoice's total, with all tax."""


@dataclass(slots=True, eq=False)
class Invoice(Kept):
    """An invoice. Its totals follow from its lines; the identities of stripe-domain §5.2 hold from finalisation on."""

    id: str
    customer: Customer
    subscription: Subscription | None
    reason: str
    lines: list[Line]
    created: int
    discount: Discount | None = None
    tax_rate: TaxRate | None = None
    collection_method: str = "charge_automatically"
    status: str = "draft"
    number: str | None = None
    due_date: int | None = None
    starting_balance: int = 0
    ending_balance: int | None = None
    amount_paid: int = 0
    out_of_band: int = 0
    pre_credited: int = 0
    post_credited: int = 0
    credit_notes: int = 0
    attempt_count: int = 0
    attempted: bool = False
    auto_advance: bool = True
    next_payment_attempt: int | None = None
    finalization_error: str | None = None
    trouble: Trouble | None = None
    finalized_at: int | None = None
    paid_at: int | None = None
    voided_at: int | None = None
    uncollectible_at: int | None = None
    uncollectible_reason: str | None = None
    payment: Payment | None = None

    @property
    def currency(self) -> str:
        """The invoice's currency: its customer's."""
        return self.customer.currency

    @property
    def subtotal(self) -> int:
        """The sum of the lines, before discounts and exclusive tax."""
        return sum(line.amount for line in self.lines)

    @property
    def discounted(self) -> int:
        """What all discounts take off."""
        return sum(line.discount for line in self.lines)

    @property
    def tax(self) -> int:
        """All tax, inclusive or exclusive."""
        return sum(line.tax for line in self.lines)

    @property
    def total(self) -> int:
        """What it comes to with everything; negative where it owes the customer."""
        exclusive = 0 if self.tax_rate is None or self.tax_rate.inclusive else self.tax
        return self.subtotal - self.discounted + exclusive

    @property
    def amount_due(self) -> int:
        """What is to be paid after the customer's balance and what was credited before it was paid."""
        return self.total - self.from_balance - self.pre_credited

    @property
    def from_balance(self) -> int:
        """What the customer's balance paid of it; negative where it collects a debt or becomes credit."""
        return 0 if self.ending_balance is None else self.ending_balance - self.starting_balance

    @property
    def amount_remaining(self) -> int:
        """What is still to be paid."""
        return self.amount_due - self.amount_paid


@dataclass(slots=True, eq=False)
class Trouble:
    """What went wrong with collecting an invoice, and what put it right."""

    failures: int = 0
    attempts: int = 0
    decline: str | None = None
    failed_at: int | None = None
    waits_for_action: bool = False
    needs_method: bool = False
    new_method: str | None = None
    was_blocked: bool = False
    closed_by: str | None = None


@dataclass(slots=True, eq=False)
class CreditNote(Kept):
    """Less to pay, or money back: ``lines`` name an invoice's line, or none; amounts have their tax in them."""

    id: str
    number: str
    invoice: Invoice
    lines: list[tuple[str, Line | None, int]]
    created: int
    pre_payment: int = 0
    out_of_band: int = 0
    refunds: list[Refund] = field(default_factory=list)
    status: str = "issued"
    voided_at: int | None = None

    @property
    def amount(self) -> int:
        """What it comes to."""
        return sum(amount for _, _, amount in self.lines)


@dataclass(slots=True, eq=False)
class Payment(Kept):
    """A payment intent, and the charge of its latest attempt; ``pays`` is the invoice or session it is for."""

    id: str
    customer: Customer | None
    amount: int
    currency: str
    created: int
    invoice: Invoice | None = None
    method: str = "card"
    status: str = "requires_payment_method"
    metadata: dict[str, str] = field(default_factory=dict)
    charge: Charge | None = None
    decline: str | None = None
    pays: str | None = None
    canceled: tuple[int, str] | None = None


@dataclass(slots=True, eq=False)
class Charge(Kept):
    """One attempt to move money."""

    id: str
    payment: Payment
    created: int
    status: str
    card: str | None
    amount: int
    decline: str | None = None
    refunds: list[Refund] = field(default_factory=list)
    dispute: Dispute | None = None

    @property
    def amount_refunded(self) -> int:
        """What has been given back and did not come back again."""
        return sum(refund.amount for refund in self.refunds if refund.status in {"pending", "succeeded"})


@dataclass(slots=True, eq=False)
class Refund(Kept):
    """Money given back."""

    id: str
    charge: Charge
    amount: int
    created: int
    status: str
    credited: bool = False
    """Whether a credit note says what it is for."""


class Movement(NamedTuple):
    """An amount and a fee withdrawn (negative) or given back, in the currency the account is settled in."""

    id: str
    amount: int
    fee: int
    at: int
    currency: str
    rate: float | None


@dataclass(slots=True, eq=False)
class Dispute(Kept):
    """A customer's bank wants the money back."""

    id: str
    charge: Charge
    created: int
    status: str
    movements: list[Movement] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Payout(Kept):
    """Money on its way to the company's bank."""

    id: str
    amount: int
    currency: str
    created: int
    status: str = "pending"


@dataclass(slots=True, eq=False)
class Session(Kept):
    """A Checkout session for a subscription or a single purchase."""

    id: str
    customer: Customer | None
    mode: Literal["payment", "subscription"]
    price: Price
    quantity: int
    created: int
    org: str | None
    status: str = "open"
    payment_status: str = "unpaid"
    payment: Payment | None = None
    subscription: Subscription | None = None
    invoice: str | None = None
    named: bool = True
    """Whether its metadata says what is bought."""

    @property
    def currency(self) -> str:
        """The currency it is paid in."""
        return self.customer.currency if self.customer else self.price.currency

    @property
    def amount(self) -> int:
        """What it comes to."""
        return self.price.amount(self.quantity, self.currency)


@dataclass(slots=True, eq=False)
class Summary(Kept):
    """Stripe's own list of a customer's active entitlements."""

    customer: Customer
    features: tuple[str, ...] = ()

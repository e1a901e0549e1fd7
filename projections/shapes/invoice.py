"""Invoices and their lines, whatever API version wrote them (stripe-domain §2.2, §5.2)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from ledger.event import Json, identifier, mapping
from projections.facts import listing, number
from projections.shapes.common import amount, currency, first_id, first_list, has_more, moment, remembered, text, total

LineKind = Literal["subscription_item_details", "invoice_item_details"]

_KINDS: Final[dict[str, LineKind]] = {
    "subscription_item_details": "subscription_item_details",
    "invoice_item_details": "invoice_item_details",
    "subscription": "subscription_item_details",
    "invoiceitem": "invoice_item_details",
}


class Tax(NamedTuple):
    """A tax on a line: how much, whether the line's amount contains it, and by which rate."""

    amount: int
    inclusive: bool
    rate: str | None


class Line(NamedTuple):
    """One line. Amounts are in the invoice's currency; ``amount`` is before discounts and may be negative.

    ``start`` and ``end`` are the service's period. ``credited`` names the lines a proration takes back, as
    (invoice, line). ``billing_credits`` is what prepaid credits cover of it.
    """

    id: str
    kind: LineKind | None
    amount: int
    discount: int
    taxes: tuple[Tax, ...]
    billing_credits: int
    start: datetime | None
    end: datetime | None
    proration: bool
    credited: tuple[tuple[str, str], ...]
    subscription: str | None
    item: str | None
    invoice_item: str | None
    price: str | None
    product: str | None
    price_type: str | None
    unit_amount: Decimal | None
    quantity: Decimal | None

    @property
    def inclusive_tax(self) -> int:
        """The taxes that the line's amount contains."""
        return sum(tax.amount for tax in self.taxes if tax.inclusive)

    @property
    def tax(self) -> int:
        """All taxes on the line."""
        return sum(tax.amount for tax in self.taxes)

    @property
    def net(self) -> int:
        """What the line earns: its amount without discounts, contained taxes and prepaid credits (§5.2, I4)."""
        return self.amount - self.discount - self.inclusive_tax - self.billing_credits


class Invoice(NamedTuple):
    """An invoice as one snapshot shows it. Times are Stripe's; amounts are whole numbers in ``currency``.

    ``billing_credits`` is what prepaid credits pay, ``shipping`` is without its tax. ``incomplete`` says that only the
    first page of lines is shown. ``paid_out_of_band`` is None in shapes that do not say it;
    ``paid_off_stripe`` is said by Stripe's API alone, never by an event.
    """

    id: str
    customer: str | None
    subscription: str | None
    status: str
    currency: str
    billing_reason: str | None
    collection_method: str | None
    total: int
    tax: int
    total_excluding_tax: int
    discount: int
    billing_credits: int
    shipping: int
    shipping_tax: int
    amount_due: int
    amount_paid: int
    amount_remaining: int
    amount_overpaid: int
    starting_balance: int
    ending_balance: int | None
    pre_payment_credit_notes: int
    post_payment_credit_notes: int
    attempt_count: int
    attempted: bool
    next_payment_attempt: datetime | None
    auto_advance: bool | None
    due_date: datetime | None
    created: datetime | None
    finalized_at: datetime | None
    paid_at: datetime | None
    voided_at: datetime | None
    uncollectible_at: datetime | None
    uncollectible_reason: str | None
    finalization_failed: bool
    paid_out_of_band: bool | None
    paid_off_stripe: int
    payment_intent: str | None
    charge: str | None
    metadata: Json
    subscription_metadata: Json
    lines: tuple[Line, ...]
    incomplete: bool

    @property
    def balance_applied(self) -> int:
        """What the customer's balance gave (positive: paid with credit) or took at finalisation (§5.4, row 2)."""
        return 0 if self.ending_balance is None else self.ending_balance - self.starting_balance


class Standing(NamedTuple):
    """Where an invoice stands, without its lines: all that changes once it is final. Quickly read."""

    id: str
    status: str
    amount_due: int
    amount_paid: int
    amount_remaining: int
    pre_payment_credit_notes: int
    paid_at: datetime | None
    voided_at: datetime | None
    uncollectible_at: datetime | None
    paid_out_of_band: bool
    paid_off_stripe: int
    payment_intent: str | None
    charge: str | None
    incomplete: bool


def standing_of(source: Json) -> Standing | None:
    """Read where an invoice stands; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    transitions = mapping(source.get("status_transitions"))
    return Standing(
        id=key,
        status=text(source.get("status")) or "",
        amount_due=amount(source.get("amount_due")) or 0,
        amount_paid=amount(source.get("amount_paid")) or 0,
        amount_remaining=amount(source.get("amount_remaining")) or 0,
        pre_payment_credit_notes=amount(source.get("pre_payment_credit_notes_amount")) or 0,
        paid_at=moment(transitions.get("paid_at")),
        voided_at=moment(transitions.get("voided_at")),
        uncollectible_at=moment(transitions.get("marked_uncollectible_at")),
        paid_out_of_band=source.get("paid_out_of_band") is True,
        paid_off_stripe=amount(source.get("amount_paid_off_stripe")) or 0,
        payment_intent=identifier(source.get("payment_intent")),
        charge=identifier(source.get("charge")),
        incomplete=has_more(source.get("lines")),
    )


def invoice_of(source: Json, *, lines: bool = True) -> Invoice | None:
    """Read an invoice, with its ``lines`` where they are wanted; None where it has no id (an upcoming one)."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    details = _subscription_details(source)
    old_details = mapping(source.get("subscription_details"))
    transitions = mapping(source.get("status_transitions"))
    tax, total_ = _tax(source), amount(source.get("total")) or 0
    shipping_cost = mapping(source.get("shipping_cost"))
    excluding = amount(source.get("total_excluding_tax"))
    return Invoice(
        id=key,
        customer=first_id(source.get("customer"), source.get("customer_account")),
        subscription=subscription_of_invoice(source),
        status=text(source.get("status")) or "",
        currency=currency(source),
        billing_reason=text(source.get("billing_reason")),
        collection_method=text(source.get("collection_method")) or text(source.get("billing")),
        total=total_,
        tax=tax,
        total_excluding_tax=total_ - tax if excluding is None else excluding,
        discount=total(listing(source.get("total_discount_amounts"))),
        billing_credits=billing_credits_of(source, "total_pretax_credit_amounts"),
        shipping=_shipping(shipping_cost),
        shipping_tax=amount(shipping_cost.get("amount_tax")) or 0,
        amount_due=amount(source.get("amount_due")) or 0,
        amount_paid=amount(source.get("amount_paid")) or 0,
        amount_remaining=amount(source.get("amount_remaining")) or 0,
        amount_overpaid=amount(source.get("amount_overpaid")) or 0,
        starting_balance=amount(source.get("starting_balance")) or 0,
        ending_balance=amount(source.get("ending_balance")),
        pre_payment_credit_notes=amount(source.get("pre_payment_credit_notes_amount")) or 0,
        post_payment_credit_notes=amount(source.get("post_payment_credit_notes_amount")) or 0,
        attempt_count=amount(source.get("attempt_count")) or 0,
        attempted=source.get("attempted") is True,
        next_payment_attempt=moment(source.get("next_payment_attempt")),
        auto_advance=_truth(source.get("auto_advance")),
        due_date=moment(source.get("due_date")),
        created=moment(source.get("created")),
        finalized_at=moment(transitions.get("finalized_at")) or moment(source.get("finalized_at")),
        paid_at=moment(transitions.get("paid_at")),
        voided_at=moment(transitions.get("voided_at")),
        uncollectible_at=moment(transitions.get("marked_uncollectible_at")),
        uncollectible_reason=text(mapping(mapping(source.get("status_details")).get("uncollectible")).get("reason")),
        finalization_failed=bool(source.get("last_finalization_error")),
        paid_out_of_band=_truth(source.get("paid_out_of_band")),
        paid_off_stripe=amount(source.get("amount_paid_off_stripe")) or 0,
        payment_intent=identifier(source.get("payment_intent")),
        charge=identifier(source.get("charge")),
        metadata=mapping(source.get("metadata")),
        subscription_metadata=mapping(details.get("metadata")) or mapping(old_details.get("metadata")),
        lines=_lines(key, source) if lines else (),
        incomplete=has_more(source.get("lines")),
    )


def _lines(invoice: str, source: Json) -> tuple[Line, ...]:
    """Read the lines that are shown. Before 2019-12-03 a subscription's line had the subscription's own id."""
    shown = [line for line in map(line_of, listing(source.get("lines"))) if line is not None]
    return tuple(
        line._replace(id=f"{invoice}-{place}") if line.id == line.subscription else line
        for place, line in enumerate(shown, 1)
    )


def subscription_of_invoice(source: Json) -> str | None:
    """Name the subscription an invoice is for."""
    return first_id(_subscription_details(source).get("subscription"), source.get("subscription"))


def _subscription_details(source: Json) -> Json:
    return mapping(mapping(source.get("parent")).get("subscription_details"))


def lines_sold_once(source: Json) -> list[Line]:
    """Return the lines of an invoice that sell something once: no period of a subscription, no proration, no credit."""
    by_hand = [
        line_of(line)
        for line in listing(source.get("lines"))
        if _kind(line, mapping(line.get("parent"))) == "invoice_item_details"
    ]
    return [
        line for line in by_hand
        if line is not None and not line.proration and line.price_type != "recurring" and (line.price or line.product)
        and line.amount >= 0
    ]  # fmt: skip


def is_credited_whole(source: Json) -> bool:
    """Tell whether credit notes took off all that an invoice came to: it is closed then, and nobody paid it."""
    whole = amount(source.get("total")) or 0
    return 0 < whole <= (amount(source.get("pre_payment_credit_notes_amount")) or 0)


def period_of_lines(source: Json) -> tuple[datetime, datetime] | None:
    """Return from when to when an invoice's lines give service, prorations aside where there are others."""
    periods: list[tuple[bool, datetime, datetime]] = []
    for line in listing(source.get("lines")):
        period = mapping(line.get("period"))
        start, end = moment(period.get("start")), moment(period.get("end"))
        if start is not None and end is not None:
            periods.append((_is_proration(line), start, end))
    chosen = [one for one in periods if not one[0]] or periods
    return (min(one[1] for one in chosen), max(one[2] for one in chosen)) if chosen else None


def _is_proration(source: Json) -> bool:
    parent = mapping(source.get("parent"))
    details = mapping(parent.get("subscription_item_details")) or mapping(parent.get("invoice_item_details"))
    return details.get("proration") is True or source.get("proration") is True


def subscription_of(source: Json) -> str | None:
    """Read which subscription an invoice is of, and nothing else."""
    details = mapping(mapping(source.get("parent")).get("subscription_details"))
    return first_id(details.get("subscription"), source.get("subscription"))


def subscription_of_line(source: Json) -> str | None:
    """Read which subscription a line is of, and nothing else."""
    parent = mapping(source.get("parent"))
    details = mapping(parent.get("subscription_item_details")) or mapping(parent.get("invoice_item_details"))
    return first_id(details.get("subscription"), source.get("subscription"))


@remembered(100)
def line_of(source: Json) -> Line | None:
    """Read an invoice's line; None where it has no id. Old shapes call ``unique_id`` what newer ones call ``id``."""
    key = first_id(source.get("unique_id"), source.get("id"))
    if key is None:
        return None
    parent = mapping(source.get("parent"))
    by_item = mapping(parent.get("subscription_item_details"))
    by_invoice_item = mapping(parent.get("invoice_item_details"))
    details = by_item or by_invoice_item
    pricing = mapping(source.get("pricing"))
    named = mapping(pricing.get("price_details"))
    price, plan = source.get("price"), mapping(source.get("plan"))
    expanded = mapping(named.get("price")) or mapping(price)
    period = mapping(source.get("period"))
    return Line(
        id=key,
        kind=_kind(source, parent),
        amount=amount(source.get("amount")) or 0,
        discount=total(listing(source.get("discount_amounts"))),
        taxes=taxes_of(source),
        billing_credits=billing_credits_of(source, "pretax_credit_amounts"),
        start=moment(period.get("start")),
        end=moment(period.get("end")),
        proration=_is_proration(source),
        credited=tuple(_credited(details, source)),
        subscription=first_id(details.get("subscription"), source.get("subscription")),
        item=first_id(by_item.get("subscription_item"), source.get("subscription_item")),
        invoice_item=first_id(details.get("invoice_item"), source.get("invoice_item")),
        price=first_id(named.get("price"), price, plan),
        product=first_id(named.get("product"), mapping(price).get("product"), plan.get("product")),
        price_type=text(expanded.get("type")) or ("recurring" if plan else None),
        unit_amount=_unit_amount(source, pricing, expanded, plan),
        quantity=_quantity(source),
    )


def _kind(source: Json, parent: Json) -> LineKind | None:
    return _KINDS.get(text(parent.get("type")) or text(source.get("type")) or "")


def taxes_of(source: Json) -> tuple[Tax, ...]:
    """Read the taxes on a line, of an invoice or of a credit note."""
    return tuple(
        Tax(
            amount(tax.get("amount")) or 0,
            tax.get("tax_behavior") == "inclusive" or tax.get("inclusive") is True,
            first_id(mapping(tax.get("tax_rate_details")).get("tax_rate"), tax.get("tax_rate")),
        )
        for tax in first_list(source, "taxes", "tax_amounts")
    )


def _tax(source: Json) -> int:
    if source.get("total_taxes") is not None:
        return total(listing(source["total_taxes"]))
    stated = amount(source.get("tax"))
    return total(listing(source.get("total_tax_amounts"))) if stated is None else stated


def _shipping(cost: Json) -> int:
    """Return what shipping costs without tax, whether the price contains it or not."""
    whole, tax = amount(cost.get("amount_total")), amount(cost.get("amount_tax")) or 0
    return (amount(cost.get("amount_subtotal")) or 0) if whole is None else whole - tax


def billing_credits_of(source: Json, key: str) -> int:
    """Add up what billing credits took off an object before tax."""
    return total(part for part in listing(source.get(key)) if part.get("type") == "credit_balance_transaction")


def _credited(details: Json, source: Json) -> list[tuple[str, str]]:
    proration = mapping(details.get("proration_details")) or mapping(source.get("proration_details"))
    credited = mapping(proration.get("credited_items"))
    invoice, lines = identifier(credited.get("invoice")), credited.get("invoice_line_items")
    if invoice is None or not isinstance(lines, list):
        return []
    return [(invoice, line) for line in map(identifier, lines) if line is not None]


def _unit_amount(source: Json, pricing: Json, price: Json, plan: Json) -> Decimal | None:
    stated = (pricing.get("unit_amount_decimal"), price.get("unit_amount_decimal"), price.get("unit_amount"),
              plan.get("amount_decimal"), plan.get("amount"), source.get("unit_amount_excluding_tax"))  # fmt: skip
    return next((found for found in map(number, stated) if found is not None), None)


def _quantity(source: Json) -> Decimal | None:
    exact = number(source.get("quantity_decimal"))
    return number(source.get("quantity")) if exact is None else exact


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None

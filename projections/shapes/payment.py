"""Payments and what undoes them: charges, payment intents, invoice payments, refunds, disputes, credit notes."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ledger.event import Json, identifier, mapping
from projections.facts import listing
from projections.shapes.common import amount, currency, first_id, has_more, moment, text, total
from projections.shapes.invoice import billing_credits_of, taxes_of


class Failure(NamedTuple):
    """Why a payment failed, in Stripe's own words."""

    code: str | None
    decline_code: str | None
    advice_code: str | None
    network_advice_code: str | None
    network_decline_code: str | None
    payment_method: str | None


class Charge(NamedTuple):
    """A charge. ``captured`` is how much of ``amount`` was taken; an authorisation alone takes nothing."""

    id: str
    customer: str | None
    payment_intent: str | None
    invoice: str | None
    status: str
    currency: str
    amount: int
    captured: int
    refunded: int
    fully_refunded: bool
    balance_transaction: str | None
    payment_method: str | None
    created: datetime | None
    failure: Failure | None


class Intent(NamedTuple):
    """A payment intent, with the error of its last failed attempt while it shows one."""

    id: str
    customer: str | None
    invoice: str | None
    charge: str | None
    status: str
    currency: str
    amount: int
    created: datetime | None
    failure: Failure | None


class InvoicePayment(NamedTuple):
    """What ties a payment to the invoice it pays; ``kind`` is payment_intent, charge or payment_record."""

    id: str
    invoice: str | None
    status: str
    currency: str
    amount_paid: int
    kind: str | None
    payment_intent: str | None
    charge: str | None
    payment_record: str | None
    created: datetime | None
    paid_at: datetime | None


class Refund(NamedTuple):
    """A refund. It moves money while pending or succeeded, and only with a balance transaction."""

    id: str
    charge: str | None
    payment_intent: str | None
    status: str
    currency: str
    amount: int
    balance_transaction: str | None
    failure_balance_transaction: str | None
    created: datetime | None


class BalanceTransaction(NamedTuple):
    """Money moving on Stripe's balance, in the balance's currency; ``fee`` and ``net`` are Stripe's."""

    id: str
    type: str | None
    currency: str
    amount: int
    fee: int
    net: int
    exchange_rate: object
    created: datetime | None
    category: str | None


class Dispute(NamedTuple):
    """A dispute with every movement of money it made."""

    id: str
    charge: str | None
    payment_intent: str | None
    status: str
    currency: str
    amount: int
    transactions: tuple[BalanceTransaction, ...]
    created: datetime | None


class CreditNoteLine(NamedTuple):
    """A credit note's line: what it takes, without tax and discounts, and of which invoice line (None: of all)."""

    id: str
    invoice_line: str | None
    amount: int
    tax: int


class CreditNote(NamedTuple):
    """A credit note. ``refunds`` are (refund, amount); ``post_payment`` is None in old shapes.

    ``pre_payment`` is None where neither the amount nor the note's type says it. ``out_of_band`` is what goes back
    outside of Stripe, refunds of payment records among it.
    ``incomplete`` says that only the first page of lines is shown.
    """

    id: str
    invoice: str | None
    customer: str | None
    status: str
    currency: str
    amount: int
    tax: int
    pre_payment: int | None
    post_payment: int | None
    out_of_band: int
    refunds: tuple[tuple[str, int | None], ...]
    customer_balance_transaction: str | None
    lines: tuple[CreditNoteLine, ...]
    incomplete: bool
    created: datetime | None
    voided_at: datetime | None


def charge_of(source: Json) -> Charge | None:
    """Read a charge; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    whole, captured = amount(source.get("amount")) or 0, amount(source.get("amount_captured"))
    if captured is None:
        captured = whole if source.get("captured") is True else 0
    return Charge(
        id=key,
        customer=first_id(source.get("customer"), source.get("customer_account")),
        payment_intent=identifier(source.get("payment_intent")),
        invoice=identifier(source.get("invoice")),
        status=text(source.get("status")) or "",
        currency=currency(source),
        amount=whole,
        captured=captured,
        refunded=amount(source.get("amount_refunded")) or 0,
        fully_refunded=source.get("refunded") is True,
        balance_transaction=identifier(source.get("balance_transaction")),
        payment_method=first_id(source.get("payment_method"), source.get("source")),
        created=moment(source.get("created")),
        failure=_charge_failure(source),
    )


def _charge_failure(source: Json) -> Failure | None:
    outcome = mapping(source.get("outcome"))
    if text(source.get("failure_code")) is None and source.get("status") != "failed":
        return None
    return Failure(
        code=text(source.get("failure_code")),
        # A charge has no decline code of its own; its outcome's reason is one where the card's bank gave it.
        decline_code=text(outcome.get("reason")),
        advice_code=text(outcome.get("advice_code")),
        network_advice_code=text(outcome.get("network_advice_code")),
        network_decline_code=text(outcome.get("network_decline_code")),
        payment_method=first_id(source.get("payment_method"), source.get("source")),
    )


def intent_of(source: Json) -> Intent | None:
    """Read a payment intent; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    charges = listing(source.get("charges"))
    return Intent(
        id=key,
        customer=first_id(source.get("customer"), source.get("customer_account")),
        invoice=identifier(source.get("invoice")),
        charge=first_id(source.get("latest_charge"), *charges[:1]),
        status=text(source.get("status")) or "",
        currency=currency(source),
        amount=amount(source.get("amount")) or 0,
        created=moment(source.get("created")),
        failure=_intent_failure(mapping(source.get("last_payment_error"))),
    )


def _intent_failure(error: Json) -> Failure | None:
    if not error:
        return None
    return Failure(
        code=text(error.get("code")),
        decline_code=text(error.get("decline_code")),
        advice_code=text(error.get("advice_code")),
        network_advice_code=text(error.get("network_advice_code")),
        network_decline_code=text(error.get("network_decline_code")),
        payment_method=first_id(error.get("payment_method"), error.get("source")),
    )


def invoice_payment_of(source: Json) -> InvoicePayment | None:
    """Read an invoice payment; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    payment = mapping(source.get("payment"))
    return InvoicePayment(
        id=key,
        invoice=identifier(source.get("invoice")),
        status=text(source.get("status")) or "",
        currency=currency(source),
        amount_paid=amount(source.get("amount_paid")) or 0,
        kind=text(payment.get("type")),
        payment_intent=identifier(payment.get("payment_intent")),
        charge=identifier(payment.get("charge")),
        payment_record=identifier(payment.get("payment_record")),
        created=moment(source.get("created")),
        paid_at=moment(mapping(source.get("status_transitions")).get("paid_at")),
    )


def refund_of(source: Json) -> Refund | None:
    """Read a refund; None where it has no id. One of an old shape has no status: it succeeded."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    return Refund(
        id=key,
        charge=identifier(source.get("charge")),
        payment_intent=identifier(source.get("payment_intent")),
        status=text(source.get("status")) or "succeeded",
        currency=currency(source),
        amount=amount(source.get("amount")) or 0,
        balance_transaction=identifier(source.get("balance_transaction")),
        failure_balance_transaction=identifier(source.get("failure_balance_transaction")),
        created=moment(source.get("created")),
    )


def refunds_of_charge(source: Json) -> list[Refund]:
    """Return the refunds that a charge of an old shape lists itself."""
    found = (refund_of(refund) for refund in listing(source.get("refunds")))
    return [refund for refund in found if refund is not None]


def dispute_of(source: Json) -> Dispute | None:
    """Read a dispute; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    transactions = map(balance_transaction_of, listing(source.get("balance_transactions")))
    return Dispute(
        id=key,
        charge=identifier(source.get("charge")),
        payment_intent=identifier(source.get("payment_intent")),
        status=text(source.get("status")) or "",
        currency=currency(source),
        amount=amount(source.get("amount")) or 0,
        transactions=tuple(one for one in transactions if one is not None),
        created=moment(source.get("created")),
    )


def balance_transaction_of(source: Json) -> BalanceTransaction | None:
    """Read a balance transaction; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    moved, fee = amount(source.get("amount")) or 0, amount(source.get("fee")) or 0
    net = amount(source.get("net"))
    return BalanceTransaction(
        id=key,
        type=text(source.get("type")),
        currency=currency(source),
        amount=moved,
        fee=fee,
        net=moved - fee if net is None else net,
        exchange_rate=source.get("exchange_rate"),
        created=moment(source.get("created")),
        category=text(source.get("reporting_category")),
    )


def credit_note_of(source: Json) -> CreditNote | None:
    """Read a credit note; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    stated = amount(source.get("amount"))
    whole = (amount(source.get("total")) or 0) if stated is None else stated
    return CreditNote(
        id=key,
        invoice=identifier(source.get("invoice")),
        customer=first_id(source.get("customer"), source.get("customer_account")),
        status=text(source.get("status")) or "",
        currency=currency(source),
        amount=whole,
        tax=_credited_tax(source),
        pre_payment=_before_payment(source, whole),
        post_payment=amount(source.get("post_payment_amount")),
        out_of_band=(amount(source.get("out_of_band_amount")) or 0) + _refunded_off_stripe(source),
        refunds=tuple(_credited_refunds(source)),
        customer_balance_transaction=identifier(source.get("customer_balance_transaction")),
        lines=tuple(credit_note_lines_of(source)),
        incomplete=has_more(source.get("lines")),
        created=moment(source.get("created")),
        voided_at=moment(source.get("voided_at")),
    )


def _before_payment(source: Json, whole: int) -> int | None:
    """Read what reduces what is still owed. Before notes could be ``mixed``, their type said it of all they came to."""
    stated = amount(source.get("pre_payment_amount"))
    if stated is None:
        return {"pre_payment": whole, "post_payment": 0}.get(text(source.get("type")) or "")
    return stated


def _credited_tax(source: Json) -> int:
    return total(
        listing(source.get("total_taxes") if source.get("total_taxes") is not None else source.get("tax_amounts"))
    )


def _credited_refunds(source: Json) -> list[tuple[str, int | None]]:
    if source.get("refunds") is not None:
        named = [
            (identifier(one.get("refund")), amount(one.get("amount_refunded"))) for one in listing(source["refunds"])
        ]
    else:
        named = [(identifier(source.get("refund")), None)]
    return [(refund, refunded) for refund, refunded in named if refund is not None]


def _refunded_off_stripe(source: Json) -> int:
    records = (one for one in listing(source.get("refunds")) if one.get("type") == "payment_record_refund")
    return total(records, "amount_refunded")


def credit_note_lines_of(source: Json) -> list[CreditNoteLine]:
    """Return the lines that a credit note shows."""
    found = []
    for line in listing(source.get("lines")):
        if (key := identifier(line.get("id"))) is not None:
            taxes, named = taxes_of(line), identifier(line.get("invoice_line_item"))
            contained = sum(tax.amount for tax in taxes if tax.inclusive)
            off = total(listing(line.get("discount_amounts"))) + billing_credits_of(line, "pretax_credit_amounts")
            net = (amount(line.get("amount")) or 0) - off - contained
            found.append(CreditNoteLine(key, named, net, sum(tax.amount for tax in taxes)))
    return found

"""Credit notes, payment methods and payouts as Stripe writes them."""

from __future__ import annotations

from typing import Final

from ledger.simulator.objects import CreditNote, Json, Line, Method, Payout
from ledger.simulator.render import NO_ADDRESS, filled, listed, template
from ledger.simulator.render_catalog import email, tax_of

_CREDIT_NOTE: Final = template(
    "credit_note",
    "amount created currency customer customer_account customer_balance_transaction effective_at invoice lines memo "
    "number out_of_band_amount pdf post_payment_amount pre_payment_amount reason shipping_cost status subtotal "
    "subtotal_excluding_tax total total_excluding_tax type voided_at livemode _older",
    amount_shipping=0,
    discount_amount=0,
    discount_amounts=[],
    metadata={},
    pretax_credit_amounts=[],
    refunds=[],
    total_taxes=[],
)
_LINE: Final = template(
    "credit_note_line_item",
    "amount description invoice_line_item quantity type unit_amount unit_amount_decimal livemode",
    discount_amount=0,
    discount_amounts=[],
    metadata={},
    pretax_credit_amounts=[],
    tax_rates=[],
    taxes=[],
)
_METHOD: Final = template(
    "payment_method",
    "created customer customer_account livemode",
    allow_redisplay="unspecified",
    billing_details=None,
    card=None,
    metadata={},
    type="card",
)
_CARD: Final[Json] = {
    "brand": "visa",
    "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
    "country": "US",
    "display_brand": "visa",
    "exp_month": 12,
    "exp_year": 2034,
    "fingerprint": "Fingerprint00000",
    "funding": "credit",
    "generated_from": None,
    "last4": "4242",
    "networks": {"available": ["visa"], "preferred": None},
    "regulated_status": "unregulated",
    "three_d_secure_usage": {"supported": True},
    "wallet": None,
}


_PAYOUT: Final = template(
    "payout",
    "amount application_fee application_fee_amount arrival_date balance_transaction created currency description "
    "destination failure_balance_transaction failure_code failure_message original_payout payout_method reversed_by "
    "statement_descriptor status trace_id livemode",
    automatic=True,
    metadata={},
    method="standard",
    reconciliation_status="not_applicable",
    source_type="card",
    type="bank_account",
)


def credit_note(one: CreditNote, livemode: bool) -> Json:
    """Write a credit note with its lines."""
    of = one.invoice
    taxes = [(line, _tax_in(line, amount)) for _, line, amount in one.lines]
    tax = sum(amount for _, amount in taxes)
    inclusive = of.tax_rate is not None and of.tax_rate.inclusive
    post = one.amount - one.pre_payment
    refunds = [
        {"amount_refunded": refund.amount, "payment_record_refund": None, "refund": refund.id, "type": "refund"}
        for refund in one.refunds
    ]
    return filled(
        _CREDIT_NOTE,
        id=one.id,
        livemode=livemode,
        amount=one.amount,
        created=one.created,
        currency=of.currency,
        customer=of.customer.id,
        customer_balance_transaction=f"cbtxn_{one.id[3:]}" if _to_balance(one) else None,
        effective_at=one.created,
        invoice=of.id,
        lines=listed(
            [_line(key, line, amount, one, livemode) for key, line, amount in one.lines],
            f"/v1/credit_notes/{one.id}/lines",
        ),
        number=one.number,
        out_of_band_amount=one.out_of_band or None,
        pdf=f"https://invoice.example.com/c/{one.id}/pdf",
        post_payment_amount=post,
        pre_payment_amount=one.pre_payment,
        reason="order_change",
        refunds=refunds,
        status=one.status,
        subtotal=one.amount if inclusive else one.amount - tax,
        subtotal_excluding_tax=one.amount - tax,
        total=one.amount,
        total_excluding_tax=one.amount - tax,
        total_taxes=[tax_of(one.invoice, tax, one.amount - tax)] if tax else [],
        type="mixed" if one.pre_payment and post else "pre_payment" if one.pre_payment else "post_payment",
        voided_at=one.voided_at,
        _older={"refund": one.refunds[0].id if one.refunds else None},
    )


def _to_balance(one: CreditNote) -> int:
    return one.amount - one.pre_payment - one.out_of_band - sum(refund.amount for refund in one.refunds)


def _tax_in(line: Line | None, amount: int) -> int:
    """Return the tax in what is credited of a line: the share the line's own tax has of it."""
    return 0 if line is None or not line.gross else amount * line.tax // line.gross


def _line(key: str, line: Line | None, amount: int, of: CreditNote, livemode: bool) -> Json:
    tax = _tax_in(line, amount)
    rate = of.invoice.tax_rate
    written = amount if rate is None or rate.inclusive else amount - tax
    return filled(
        _LINE,
        id=key,
        livemode=livemode,
        amount=written,
        description="Credit" if line is None else f"{line.quantity} x {line.price.product.name}",
        invoice_line_item=line.id if line else None,
        quantity=1,
        taxes=[tax_of(of.invoice, tax, amount - tax)] if tax else [],
        type="custom_line_item" if line is None else "invoice_line_item",
        unit_amount=written,
        unit_amount_decimal=str(written),
    )


def method(one: Method, livemode: bool) -> Json:
    """Write a card; each time its network renews it, it has another number and lasts two years longer."""
    holder = one.customer
    return filled(
        _METHOD,
        id=one.id,
        livemode=livemode,
        billing_details={
            "address": NO_ADDRESS,
            "email": email(holder) if holder else None,
            "name": None,
            "phone": None,
            "tax_id": None,
        },
        card=_CARD | {"exp_year": 2034 + 2 * one.issue, "last4": f"{4242 + one.issue}"},
        created=one.created,
        customer=holder.id if holder else None,
    )


def payout(one: Payout, livemode: bool) -> Json:
    """Write a payout."""
    failed = one.status == "failed"
    return filled(
        _PAYOUT,
        id=one.id,
        livemode=livemode,
        amount=one.amount,
        arrival_date=one.created + 2 * 86_400,
        balance_transaction=f"txn_{one.id[3:]}",
        created=one.created,
        currency=one.currency,
        description="STRIPE PAYOUT",
        destination="ba_00000000000000000000000a",
        failure_balance_transaction=f"txn_f{one.id[3:]}" if failed else None,
        failure_code="account_closed" if failed else None,
        failure_message="The bank account has been closed." if failed else None,
        status=one.status,
    )

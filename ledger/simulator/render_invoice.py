"""Invoices, their lines and their payments as Stripe writes them."""

from __future__ import annotations

from typing import Any, Final

from ledger.simulator.objects import Customer, Invoice, Json, Line, Payment, Subscription
from ledger.simulator.render import ISSUER, filled, listed, template
from ledger.simulator.render_catalog import discount, email, tax_of, tax_rate

_LINE: Final = template(
    "line_item",
    "amount currency description invoice parent period pricing quantity quantity_decimal subscription subtotal "
    "livemode",
    discount_amounts=[],
    discountable=True,
    discounts=[],
    metadata={},
    pretax_credit_amounts=[],
    taxes=[],
)
_INVOICE: Final = template(
    "invoice",
    "account_tax_ids amount_due amount_paid amount_remaining application attempt_count attempted "
    "automatically_finalizes_at billing_reason collection_method created currency custom_fields customer "
    "customer_account customer_address customer_email customer_name customer_phone customer_shipping "
    "default_payment_method default_source description due_date effective_at ending_balance footer from_invoice "
    "hosted_invoice_url invoice_pdf last_finalization_error latest_revision lines next_payment_attempt number "
    "on_behalf_of parent period_end period_start receipt_number rendering shipping_cost shipping_details "
    "starting_balance statement_descriptor status status_details status_transitions subtotal subtotal_excluding_tax "
    "test_clock total total_excluding_tax webhooks_delivered_at livemode _older",
    account_country="US",
    account_name="Example Works",
    amount_overpaid=0,
    amount_shipping=0,
    auto_advance=True,
    automatic_tax={"disabled_reason": None, "enabled": False, "liability": None, "provider": None, "status": None},
    customer_tax_exempt="none",
    customer_tax_ids=[],
    default_tax_rates=[],
    discounts=[],
    issuer=ISSUER,
    metadata={},
    payment_settings={"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
    post_payment_credit_notes_amount=0,
    pre_payment_credit_notes_amount=0,
    total_discount_amounts=[],
    total_pretax_credit_amounts=[],
    total_taxes=[],
)
_INVOICE_ITEM: Final = template(
    "invoiceitem",
    "amount currency customer customer_account date description invoice net_amount parent period pricing proration "
    "proration_details quantity quantity_decimal test_clock livemode",
    discountable=False,
    discounts=[],
    metadata={},
    tax_rates=[],
)
_INVOICE_PAYMENT: Final = template(
    "invoice_payment",
    "amount_paid amount_requested created currency invoice payment status status_transitions livemode",
    is_default=True,
)


def invoice(one: Invoice, livemode: bool) -> Json:
    """Write an invoice with all of its lines."""
    inclusive = one.tax_rate is not None and one.tax_rate.inclusive
    without_tax = one.total - one.tax
    return filled(
        _INVOICE,
        id=one.id,
        livemode=livemode,
        amount_due=max(one.amount_due, 0),
        amount_paid=one.amount_paid,
        amount_remaining=max(one.amount_remaining, 0),
        attempt_count=one.attempt_count,
        attempted=one.attempted,
        auto_advance=one.auto_advance and one.status in {"draft", "open"},
        automatically_finalizes_at=one.created + 3600 if one.status == "draft" else None,
        billing_reason=one.reason,
        collection_method=one.collection_method,
        created=one.created,
        currency=one.currency,
        customer=one.customer.id,
        customer_email=email(one.customer),
        customer_name=f"Customer {one.customer.number}",
        default_tax_rates=[tax_rate(one.tax_rate, livemode)] if one.tax_rate else [],
        discounts=[one.discount.id] if one.discount else [],
        due_date=one.due_date,
        effective_at=one.finalized_at,
        ending_balance=one.ending_balance,
        hosted_invoice_url=_url(one, "") if one.number else None,
        invoice_pdf=_url(one, "/pdf") if one.number else None,
        lines=listed([line(each, one, livemode) for each in one.lines], f"/v1/invoices/{one.id}/lines"),
        last_finalization_error=_blocked(one.finalization_error) if one.finalization_error else None,
        next_payment_attempt=one.next_payment_attempt,
        number=one.number,
        parent=_parent(one),
        post_payment_credit_notes_amount=one.post_credited,
        pre_payment_credit_notes_amount=one.pre_credited,
        period_end=one.created,
        period_start=min((each.start for each in one.lines), default=one.created),
        starting_balance=one.starting_balance,
        status=one.status,
        status_details=_uncollectible(one) if one.status == "uncollectible" else None,
        status_transitions={
            "finalized_at": one.finalized_at,
            "marked_uncollectible_at": one.uncollectible_at,
            "paid_at": one.paid_at,
            "voided_at": one.voided_at,
        },
        subtotal=one.subtotal,
        subtotal_excluding_tax=one.subtotal - (one.tax if inclusive else 0),
        total=one.total,
        total_discount_amounts=[{"amount": one.discounted, "discount": one.discount.id}] if one.discount else [],
        total_excluding_tax=without_tax,
        total_taxes=[tax_of(one, one.tax, without_tax)] if one.tax_rate else [],
        _older={
            "payment_intent": one.payment.id if one.payment else None,
            "charge": one.payment.charge.id if one.payment and one.payment.charge else None,
            "discount": _discount(one),
            "out_of_band": one.out_of_band,
        },
    )


def line(one: Line, of: Invoice, livemode: bool) -> Json:
    """Write one line."""
    return filled(
        _LINE,
        id=one.id,
        livemode=livemode,
        amount=one.amount,
        currency=of.currency,
        description=f"{one.quantity} x {one.price.product.name}",
        discount_amounts=[{"amount": one.discount, "discount": of.discount.id}] if of.discount else [],
        discountable=not one.proration,
        invoice=of.id,
        parent=_line_parent(one, of),
        period={"end": one.end, "start": one.start},
        pricing={
            "price_details": {"price": one.price.id, "product": one.price.product.id},
            "type": "price_details",
            "unit_amount_decimal": str(one.price.unit(one.quantity, of.currency)),
        },
        quantity=one.quantity,
        quantity_decimal=str(one.quantity),
        subscription=of.subscription.id if of.subscription else None,
        subtotal=one.amount,
        taxes=[tax_of(of, one.tax, one.amount - one.discount - (one.tax if _inclusive(of) else 0))]
        if of.tax_rate
        else [],
    )


def _discount(one: Invoice) -> Json | None:
    if one.discount is None or one.subscription is None:
        return None
    return discount(one.discount, one.customer.id, one.subscription.id)


def _inclusive(one: Invoice) -> bool:
    return one.tax_rate is not None and one.tax_rate.inclusive


def _url(one: Invoice, rest: str) -> str:
    return f"https://invoice.example.com/i/{one.id}{rest}"


def _parent(one: Invoice) -> Json | None:
    if one.subscription is None:
        return None
    metadata = {"org_id": one.subscription.org} if one.subscription.org else {}
    details = {"metadata": metadata, "subscription": one.subscription.id}
    return {"quote_details": None, "subscription_details": details, "type": "subscription_details"}


def _blocked(code: str) -> Json:
    return {
        "code": code,
        "doc_url": f"https://docs.example.com/error-codes/{code}",
        "message": "The customer's location isn't recognized.",
        "type": "invalid_request_error",
    }


def _uncollectible(one: Invoice) -> Json:
    return {"uncollectible": {"reason": one.uncollectible_reason}}


def _line_parent(one: Line, of: Invoice) -> Json:
    subscription = of.subscription.id if of.subscription else None
    if one.invoice_item is not None:
        credited: Any = None
        details: Json = {
            "invoice_item": one.invoice_item,
            "proration": one.proration,
            "proration_details": {"credited_items": credited} if one.proration else None,
            "subscription": subscription,
        }
        return {"invoice_item_details": details, "subscription_item_details": None, "type": "invoice_item_details"}
    details = {
        "invoice_item": None,
        "proration": one.proration,
        "proration_details": None,
        "subscription": subscription,
        "subscription_item": one.item,
    }
    return {"invoice_item_details": None, "subscription_item_details": details, "type": "subscription_item_details"}


def invoice_item(one: Line, customer: Customer, of: Subscription | None, livemode: bool) -> Json:
    """Write a pending invoice item: a proration, or what is billed once, that waits for its invoice."""
    details = {"subscription": of.id, "subscription_item": one.item or None} if of else None
    return filled(
        _INVOICE_ITEM,
        id=one.invoice_item,
        livemode=livemode,
        amount=one.amount,
        currency=customer.currency,
        customer=customer.id,
        date=one.start,
        description=f"{one.quantity} x {one.price.product.name}",
        net_amount=one.amount,
        parent={"subscription_details": details, "type": "subscription_details"} if details else None,
        period={"end": one.end, "start": one.start},
        pricing={
            "price_details": {"price": one.price.id, "product": one.price.product.id},
            "type": "price_details",
            "unit_amount_decimal": str(one.price.unit(one.quantity, customer.currency)),
        },
        proration=one.proration,
        quantity=one.quantity,
        quantity_decimal=str(one.quantity),
    )


def invoice_payment(
    key: str, paid: Invoice, amount: int, at: int, livemode: bool, *, payment: Payment | None = None
) -> Json:
    """Write the paid invoice payment that ties a payment to its invoice; it names no customer.

    Without a ``payment`` it names the record of one made outside Stripe.
    """
    if payment is None:
        by: Json = {"payment_record": f"pr_{key[6:]}", "type": "payment_record"}
    else:
        by = {"payment_intent": payment.id, "type": "payment_intent"}
    return filled(
        _INVOICE_PAYMENT,
        id=key,
        livemode=livemode,
        amount_paid=amount,
        amount_requested=amount,
        created=payment.created if payment else at,
        currency=paid.currency,
        invoice=paid.id,
        payment=by,
        status="paid",
        status_transitions={"canceled_at": None, "paid_at": at},
    )

"""Payment intents, charges, refunds, disputes and Checkout sessions as Stripe writes them.

``_older`` carries what only older API versions say of an object; ``versions`` puts it in its place or takes it off.
"""

from __future__ import annotations

from typing import Any, Final

from ledger.simulator.declines import DECLINES
from ledger.simulator.objects import Charge, Customer, Dispute, Json, Movement, Payment, Refund, Session
from ledger.simulator.render import NO_ADDRESS, filled, template
from ledger.simulator.render_catalog import email

_CARD: Final[Json] = {
    "amount_authorized": None,
    "authorization_code": None,
    "brand": "visa",
    "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
    "country": "US",
    "exp_month": 12,
    "exp_year": 2034,
    "fingerprint": "Fingerprint00000",
    "funding": "credit",
    "installments": None,
    "last4": "4242",
    "mandate": None,
    "network": "visa",
    "network_token": {"used": False},
    "three_d_secure": None,
    "wallet": None,
}
_PAYMENT: Final = template(
    "payment_intent",
    "amount amount_details amount_received application application_fee_amount automatic_payment_methods canceled_at "
    "cancellation_reason client_secret created currency customer customer_account description "
    "excluded_payment_method_types last_payment_error latest_charge next_action on_behalf_of payment_method "
    "payment_method_configuration_details payment_method_options processing receipt_email review setup_future_usage "
    "shipping source statement_descriptor statement_descriptor_suffix status transfer_data transfer_group livemode "
    "_older",
    amount_capturable=0,
    capture_method="automatic",
    confirmation_method="automatic",
    metadata={},
    payment_method_types=["card"],
)
_CHARGE: Final = template(
    "charge",
    "amount amount_captured amount_refunded application application_fee application_fee_amount balance_transaction "
    "billing_details calculated_statement_descriptor captured created currency customer description disputed "
    "failure_balance_transaction failure_code failure_message on_behalf_of outcome paid payment_intent payment_method "
    "payment_method_details receipt_email receipt_number receipt_url refunded review shipping source source_transfer "
    "statement_descriptor statement_descriptor_suffix status transfer_data transfer_group livemode _older",
    fraud_details={},
    metadata={},
    radar_options={},
)
_REFUND: Final = template(
    "refund",
    "amount balance_transaction charge created currency customer customer_account failure_balance_transaction "
    "failure_reason payment_intent payment_method pending_reason receipt_number source_transfer_reversal status "
    "transfer_reversal",
    destination_details={"card": {"reference_status": "pending", "type": "refund"}, "type": "card"},
    metadata={},
    reason="requested_by_customer",
)
_MOVEMENT: Final = template(
    "balance_transaction",
    "amount available_on created currency exchange_rate fee net source description",
    balance_type="payments",
    fee_details=[],
    reporting_category="dispute",
    status="available",
    type="adjustment",
)
_EVIDENCE: Final[Json] = dict.fromkeys(
    (
        "access_activity_log billing_address cancellation_policy cancellation_policy_disclosure cancellation_rebuttal "
        "customer_communication customer_email_address customer_name customer_purchase_ip customer_signature "
        "duplicate_charge_documentation duplicate_charge_explanation duplicate_charge_id product_description receipt "
        "refund_policy refund_policy_disclosure refund_refusal_explanation service_date service_documentation "
        "shipping_address shipping_carrier shipping_date shipping_documentation shipping_tracking_number "
        "uncategorized_file uncategorized_text"
    ).split()
) | {"enhanced_evidence": {}}
_DISPUTE: Final = template(
    "dispute",
    "amount charge created currency intended_submission_method is_charge_refundable network_reason_code "
    "payment_intent status livemode",
    balance_transactions=[],
    enhanced_eligibility_types=[],
    evidence=_EVIDENCE,
    evidence_details=None,
    metadata={},
    payment_method_details={"card": {"brand": "visa", "case_type": "chargeback", "network": "visa",
                                     "network_reason_code": "10.4"}, "type": "card"},
    reason="fraudulent",
)  # fmt: skip
_SESSION: Final = template(
    "checkout.session",
    "adaptive_pricing after_expiration allow_promotion_codes amount_subtotal amount_total billing_address_collection "
    "branding_settings client_reference_id client_secret collected_information consent consent_collection created "
    "currency currency_conversion customer customer_account customer_creation customer_details customer_email "
    "expires_at invoice invoice_creation locale mode origin_context payment_intent payment_link "
    "payment_method_configuration_details payment_status permissions recovered_from return_url "
    "saved_payment_method_options setup_intent shipping_address_collection shipping_cost status submit_type "
    "subscription url wallet_options livemode",
    automatic_tax={"enabled": False, "liability": None, "provider": None, "status": None},
    cancel_url="https://app.example.com/plans",
    custom_fields=[],
    custom_text=dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
    discounts=[],
    metadata={},
    payment_method_collection="always",
    payment_method_options={},
    payment_method_types=["card"],
    phone_number_collection={"enabled": False},
    shipping_options=[],
    success_url="https://app.example.com/welcome",
    total_details={"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    ui_mode="hosted_page",
)
_SECONDS_OPEN: Final = 24 * 3600


def payment(one: Payment, livemode: bool) -> Json:
    """Write a payment intent, naming its latest charge."""
    succeeded = one.status == "succeeded"
    charged = one.charge
    canceled_at, canceled_because = one.canceled or (None, None)
    return filled(
        _PAYMENT,
        id=one.id,
        livemode=livemode,
        amount=one.amount,
        amount_details={"tip": {}},
        amount_received=one.amount if succeeded else 0,
        canceled_at=canceled_at,
        cancellation_reason=canceled_because,
        client_secret=None,
        created=one.created,
        currency=one.currency,
        customer=one.customer.id if one.customer else None,
        description="Subscription update" if one.invoice else None,
        last_payment_error=_last_error(one) if one.decline and not succeeded else None,
        latest_charge=charged.id if charged else None,
        metadata=one.metadata,
        next_action={"type": "use_stripe_sdk", "use_stripe_sdk": {}} if one.status == "requires_action" else None,
        payment_method=_method(one.customer) if one.status != "requires_payment_method" else None,
        payment_method_types=[one.method],
        status=one.status,
        _older={
            "invoice": one.invoice.id if one.invoice else None,
            "charges": [charge(charged, livemode)] if charged else [],
        },
    )


def _method(customer: Customer | None) -> str | None:
    return customer.card if customer else None


def _last_error(one: Payment) -> Json:
    declined = DECLINES[str(one.decline)]
    return {
        "advice_code": declined.advice,
        "charge": one.charge.id if one.charge else None,
        "code": "card_declined",
        "decline_code": one.decline,
        "message": declined.message,
        "type": "card_error",
    }


def charge(one: Charge, livemode: bool) -> Json:
    """Write a charge; ``balance_transaction`` is an id, as in every payload."""
    paid_for = one.payment
    failed, pending = one.status == "failed", one.status == "pending"
    return filled(
        _CHARGE,
        id=one.id,
        livemode=livemode,
        amount=one.amount,
        amount_captured=0 if failed else one.amount,
        amount_refunded=one.amount_refunded,
        balance_transaction=None if failed or pending else f"txn_{one.id[3:]}",
        billing_details={
            "address": NO_ADDRESS,
            "email": email(paid_for.customer) if paid_for.customer else None,
            "name": None,
            "phone": None,
            "tax_id": None,
        },
        calculated_statement_descriptor="EXAMPLE WORKS",
        captured=not failed,
        created=one.created,
        currency=paid_for.currency,
        customer=paid_for.customer.id if paid_for.customer else None,
        description="Subscription update" if paid_for.invoice else None,
        disputed=one.dispute is not None,
        failure_code="card_declined" if failed else None,
        failure_message=DECLINES[one.decline].message if one.decline else None,
        outcome=_outcome(one),
        paid=not failed,
        payment_intent=paid_for.id,
        payment_method=one.card,
        payment_method_details={paid_for.method: _CARD if paid_for.method == "card" else {}, "type": paid_for.method},
        receipt_url=None if failed else f"https://receipts.example.com/{one.id}",
        refunded=one.amount_refunded == one.amount,
        status=one.status,
        _older={
            "invoice": paid_for.invoice.id if paid_for.invoice else None,
            "refunds": [refund(each, livemode) for each in one.refunds],
        },
    )


def _outcome(one: Charge) -> Json:
    declined = one.status == "failed"
    return {
        "advice_code": DECLINES[one.decline].advice if one.decline else None,
        "network_advice_code": None,
        "network_decline_code": "51" if declined else None,
        "network_status": "declined_by_network" if declined else "approved_by_network",
        "reason": one.decline,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": "The bank declined." if declined else "Payment complete.",
        "type": "issuer_declined" if declined else "authorized",
    }


def refund(one: Refund, livemode: bool) -> Json:
    """Write a refund."""
    of = one.charge
    failed = one.status == "failed"
    return filled(
        _REFUND,
        id=one.id,
        amount=one.amount,
        balance_transaction=f"txn_{one.id[3:]}",
        charge=of.id,
        created=one.created,
        currency=of.payment.currency,
        customer=of.payment.customer.id if of.payment.customer else None,
        failure_balance_transaction=f"txn_f{one.id[3:]}" if failed else None,
        failure_reason="expired_or_canceled_card" if failed else None,
        payment_intent=of.payment.id,
        payment_method=of.card,
        status=one.status,
    )


def dispute(one: Dispute, livemode: bool) -> Json:
    """Write a dispute with the balance transactions it has caused so far."""
    of = one.charge
    details: Json = {
        "due_by": one.created + 14 * 86_400,
        "enhanced_eligibility": {},
        "has_evidence": False,
        "past_due": False,
        "submission_count": 0,
        "submission_method": "not_submitted",
    }
    return filled(
        _DISPUTE,
        id=one.id,
        livemode=livemode,
        amount=of.amount,
        balance_transactions=[_movement(one, each) for each in one.movements],
        charge=of.id,
        created=one.created,
        currency=of.payment.currency,
        evidence_details=details,
        is_charge_refundable=one.status.startswith("warning"),
        network_reason_code="10.4",
        payment_intent=of.payment.id,
        status=one.status,
    )


def _movement(of: Dispute, moved: Movement) -> Json:
    kind: dict[str, Any] = {"amount": moved.fee, "application": None, "currency": moved.currency}
    return filled(
        _MOVEMENT,
        id=moved.id,
        amount=moved.amount,
        available_on=moved.at,
        created=moved.at,
        currency=moved.currency,
        exchange_rate=moved.rate,
        fee=moved.fee,
        fee_details=[kind | {"description": "Dispute fee", "type": "stripe_fee"}],
        net=moved.amount - moved.fee,
        source=of.id,
    )


def session(one: Session, livemode: bool) -> Json:
    """Write a Checkout session; its line items are not part of it."""
    bought = (
        {
            "ledger_price": one.price.id,
            "ledger_product": one.price.product.id,
            "ledger_quantity": str(one.quantity),
        }
        if one.named
        else {}
    )
    return filled(
        _SESSION,
        id=one.id,
        livemode=livemode,
        amount_subtotal=one.amount,
        amount_total=one.amount,
        client_reference_id=one.org,
        created=one.created,
        currency=one.currency,
        customer=one.customer.id if one.customer else None,
        expires_at=one.created + _SECONDS_OPEN,
        invoice=one.invoice,
        metadata=bought | ({"org_id": one.org} if one.org else {}),
        mode=one.mode,
        payment_intent=one.payment.id if one.payment else None,
        payment_status=one.payment_status,
        status=one.status,
        subscription=one.subscription.id if one.subscription else None,
    )

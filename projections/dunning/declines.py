"""What a decline means for the next attempt: worth another try, another card, or none (stripe-domain §4.3)."""

from __future__ import annotations

from typing import Final, Literal

from projections.shapes.payment import Failure

DeclineClass = Literal["hard", "soft", "needs_card", "no_method", "unknown"]
"""``needs_card``: the card's data are wrong or out of date. ``no_method``: there was nothing to charge."""

NOT_RETRYABLE: Final = frozenset({
    "authentication_required", "card_not_supported", "highest_risk_level", "incorrect_number", "invalid_account",
    "lost_card", "no_action_taken", "not_permitted", "pickup_card", "restricted_card",
    "revocation_of_all_authorizations", "revocation_of_authorization", "stolen_card", "stop_payment_order",
    "transaction_not_allowed",
})  # fmt: skip
"""Codes after which trying the same method again is of no use: Stripe goes on to schedule and does not execute."""

WRONG_DATA: Final = frozenset({
    "expired_card", "incorrect_address", "incorrect_cvc", "incorrect_zip", "invalid_cvc", "invalid_expiry_month",
    "invalid_expiry_year", "invalid_number",
})  # fmt: skip


def class_of(failure: Failure) -> DeclineClass:
    """Tell the class of a failure from its codes and its bank's advice."""
    codes = {failure.code, failure.decline_code} - {None}
    if failure.advice_code == "do_not_try_again" or codes & NOT_RETRYABLE:
        return "hard"
    if failure.advice_code == "confirm_card_data" or codes & WRONG_DATA:
        return "needs_card"
    return "soft" if codes or failure.advice_code else "unknown"

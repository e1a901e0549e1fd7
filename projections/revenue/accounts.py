"""The accounts and their classes (stripe-domain §5.3). Names follow Stripe's chart; debits are positive."""

from __future__ import annotations

from typing import Final, Literal

Class = Literal["asset", "liability", "revenue", "contra_revenue", "expense", "gain", "equity"]

CLASSES: Final[dict[str, Class]] = {
    "stripe_balance": "asset",
    "pending_cash": "asset",
    "payments_clearing": "asset",
    "refunds_clearing": "asset",
    "fx_clearing": "asset",
    "payout_in_transit": "asset",
    "bank": "asset",
    "external_asset": "asset",
    "accounts_receivable": "asset",
    "unbilled_receivable": "asset",
    "deferred_revenue": "liability",
    "tax_liability": "liability",
    "customer_balance": "liability",
    "customer_refunds_payable": "liability",
    "billing_credits": "liability",
    "revenue": "revenue",
    "refunds": "contra_revenue",
    "disputes": "contra_revenue",
    "credit_notes": "contra_revenue",
    "voids": "contra_revenue",
    "bad_debt": "expense",
    "stripe_fees": "expense",
    "dispute_fees": "expense",
    "other_loss": "expense",
    "customer_balance_adj": "expense",
    "recoverables": "gain",
    "opening_balance": "equity",
}
"""Each account's class, in the order of a trial balance."""

CLEARING: Final = ("payments_clearing", "refunds_clearing", "fx_clearing")
"""Accounts that come back to 0 once everything that belongs together has arrived."""

CONTRA: Final = ("refunds", "disputes", "credit_notes", "voids")

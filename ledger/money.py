"""Amounts in a currency's smallest unit, and how many of them make one of its whole (stripe-domain §5.6)."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

ZERO_DECIMAL: Final = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
"""Currencies whose smallest unit is a whole one. ISK and UGX are none of these: Stripe sends them with two decimals."""

THREE_DECIMAL: Final = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))


def exponent(currency: str) -> int:
    """Return how many decimals a currency's amounts have."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def whole(amount: int, currency: str) -> Decimal:
    """Return an amount in whole units, exactly, with the currency's decimals: 1230 kwd is 1.230."""
    sign, digits = (1 if amount < 0 else 0), tuple(int(digit) for digit in str(abs(amount)))
    return Decimal((sign, digits, -exponent(currency)))

"""A book is one Stripe account in one mode, such as ``self:live`` or ``acct_123:test``. Nothing mixes two books."""

from __future__ import annotations

import re
from typing import Final

BOOK: Final = re.compile(r"[A-Za-z0-9_]+:[a-z]+")
"""How every book's name reads."""

OF_STRIPE: Final = re.compile(r"(?!ledger:)[A-Za-z0-9_]+:(live|test)")
"""How the name of a Stripe account's book reads."""

CONTROL_BOOK = "ledger:control"
"""The book of our own housekeeping: promotions, public keys, dictionaries. No Stripe event is ever in it."""


def book_of(account: str, *, livemode: bool) -> str:
    """Name the book of ``account`` (``acct_…``, or the platform's own name) in live or test mode."""
    return f"{account}:{'live' if livemode else 'test'}"

"""Whose books a subject's are: a customer's, or nobody's if Stripe names none."""

from __future__ import annotations

from typing import Final

_OTHERS: Final = (
    "ch_", "cn_", "cs_", "dp_", "du_", "evt_", "in_", "inpay_", "pi_", "po_", "py_", "pyr_", "re_", "seti_", "sub_",
    "tr_", "txn_",
)  # fmt: skip
"""How Stripe names what may have entries of its own: a guest's payment, a payout, a link that is still to come."""


def customer_of(key: str) -> str | None:
    """Return the customer that a subject's key names, by Stripe's id or the seller's own; None where it names none."""
    return None if key.startswith(_OTHERS) else key


def customer_in(book: str, subject: str) -> str | None:
    """Return the customer that a subject of a book is."""
    return customer_of(subject.removeprefix(f"{book}/"))

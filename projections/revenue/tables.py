"""The revenue projection: the parts' tables and views under one name and one version."""

from __future__ import annotations

from typing import Final

from ledger.observation import OBSERVED
from projections.contract import Projection
from projections.revenue import fold

NAME: Final = "revenue"
VERSION: Final = 13

JOINS: Final = frozenset(
    type_
    for part in fold.PARTS
    for type_ in part.types
    if type_.startswith(
        (
            "invoice_payment.",
            "charge.",
            "refund.",
            "checkout.",
            "billing.credit_balance_transaction.",
            "ledger.observation.",
        )
    )
)
"""Objects that may name no customer, and join theirs through what they pay or give back."""


def revenue() -> Projection:
    """Make the revenue projection."""
    return Projection(
        name=NAME,
        version=VERSION,
        types=frozenset(type_ for part in fold.PARTS for type_ in part.types) | {OBSERVED},
        tables=tuple(table for part in fold.PARTS for table in part.tables),
        state=fold.State,
        begin=fold.begin,
        step=fold.step,
        rows=fold.rows,
        views={name: view for part in fold.PARTS for name, view in part.views.items()},
        joins=JOINS,
        references=frozenset(type_ for part in fold.PARTS for type_ in part.references),
    )

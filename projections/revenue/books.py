"""The books part: natural facts into documents, as one fold of the revenue projection."""

from __future__ import annotations

from typing import Final

from projections.contract import Rows, Terms
from projections.facts import Fact
from projections.revenue import documents, gather
from projections.revenue.facts import Facts
from projections.revenue.part import Part


def step(facts: Facts, fact: Fact, _: Terms) -> None:
    """Let a subject see its next event."""
    if (note := gather.STEPS.get(fact.type)) is not None:
        note(facts, fact)


def rows(facts: Facts) -> Rows:
    """Return what a subject's facts come to."""
    return {
        "invoice": list(documents.invoice_rows(facts)),
        "invoice_line": list(documents.line_rows(facts)),
        "subscription": list(documents.subscription_rows(facts)),
    }


BOOKS: Final = Part(
    name="books",
    types=frozenset(gather.STEPS),
    tables=(documents.INVOICES, documents.LINES, documents.SUBSCRIPTIONS),
    begin=Facts,
    step=step,
    rows=rows,
    views={"invoices": documents.INVOICES_VIEW, "subscriptions": documents.SUBSCRIPTIONS_VIEW},
)

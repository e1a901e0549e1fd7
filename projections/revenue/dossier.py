"""One customer's documents, subscriptions and invoices: the build's rows, or folded anew as of a moment of the past.

Rows show each document as its latest event did. What it was at a moment, or was known to be, is the same fold over
the events up to then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from projections.causal import in_causal_order
from projections.contract import Projection, Subject
from projections.recall import facts_known
from projections.revenue.books import step
from projections.revenue.documents import InvoiceRow, SubscriptionRow, invoice_rows, subscription_rows
from projections.revenue.facts import Facts
from projections.stored_terms import read_terms

INVOICES_OF: Final = """
SELECT subject, book, invoice, customer, subscription, status, reason, collection_method, currency, total, tax, net,
       amount_due, amount_paid, amount_remaining, balance_applied, created, finalized_at, due_date, paid_at,
       voided_at, uncollectible_at, incomplete, because
FROM invoice
WHERE subject = $1
"""

SUBSCRIPTIONS_OF: Final = """
SELECT subject, book, subscription, customer, status, currency, created, cancel_at_period_end, canceled_at, ended_at,
       because
FROM subscription
WHERE subject = $1
"""


@dataclass(frozen=True, slots=True)
class Dossier:
    """A customer's documents, the newest first."""

    subscriptions: Sequence[SubscriptionRow]
    invoices: Sequence[InvoiceRow]


async def read_dossier(connection: asyncpg.Connection, subject: str) -> Dossier:
    """Return a customer's documents as they are. Needs a transaction in which the build was entered."""
    subscriptions = await connection.fetch(SUBSCRIPTIONS_OF, subject)
    invoices = await connection.fetch(INVOICES_OF, subject)
    return _sorted([SubscriptionRow(*row) for row in subscriptions], [InvoiceRow(*row) for row in invoices])


async def fold_dossier(
    connection: asyncpg.Connection, projection: Projection, subject: Subject, until: int, as_of: datetime | None
) -> Dossier:
    """Return a customer's documents by what had been recorded by a position and had happened by a moment."""
    known = await fold_facts(connection, projection, subject.book, [subject.stream_id], until, as_of)
    facts = [one for one in known if one.subject == subject]
    return _sorted(
        [row for one in facts for row in subscription_rows(one)], [row for one in facts for row in invoice_rows(one)]
    )


async def fold_facts(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    subjects: Sequence[str],
    until: int,
    as_of: datetime | None = None,
) -> list[Facts]:
    """Fold subjects anew from what had been recorded by a position and had happened by a moment.

    Beside them stand those of their streams that had not joined them by then.
    """
    known = await facts_known(connection, projection, book, subjects, until)
    terms = await read_terms(connection, projection, book, until)
    made = []
    for subject, told in known.items():
        facts = Facts(Subject(book, subject))
        for fact in in_causal_order(fact for fact in told if as_of is None or fact.created <= as_of):
            step(facts, fact, terms)
        made.append(facts)
    return made


def _sorted(subscriptions: list[SubscriptionRow], invoices: list[InvoiceRow]) -> Dossier:
    return Dossier(
        sorted(subscriptions, key=lambda one: (one.created, one.subscription), reverse=True),
        sorted(invoices, key=lambda one: (one.created, one.invoice), reverse=True),
    )

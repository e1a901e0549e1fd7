"""Documents as people ask for them: invoices, their lines, subscriptions. Rows, tables and views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from projections.contract import Table
from projections.revenue.facts import Facts, InvoiceFact, LineFact
from projections.revenue.prepaid import served_lines
from projections.revenue.schedule import NEVER


class InvoiceRow(NamedTuple):
    """A finalised invoice as its latest event showed it."""

    subject: str
    book: str
    invoice: str
    customer: str | None
    subscription: str | None
    status: str
    reason: str | None
    collection_method: str | None
    currency: str
    total: int
    tax: int
    net: int
    amount_due: int
    amount_paid: int
    amount_remaining: int
    balance_applied: int
    created: datetime
    finalized_at: datetime
    due_date: datetime | None
    paid_at: datetime | None
    voided_at: datetime | None
    uncollectible_at: datetime | None
    incomplete: bool
    because: list[str]


class LineRow(NamedTuple):
    """A finalised invoice's line."""

    subject: str
    book: str
    invoice: str
    line: str
    subscription: str | None
    product: str | None
    price: str | None
    tax_rate: str | None
    currency: str
    net: int
    tax: int
    period_start: datetime | None
    period_end: datetime | None


class SubscriptionRow(NamedTuple):
    """A subscription as its latest event showed it."""

    subject: str
    book: str
    subscription: str
    customer: str | None
    status: str
    currency: str
    created: datetime
    cancel_at_period_end: bool
    canceled_at: datetime | None
    ended_at: datetime | None
    because: str


INVOICES: Final = Table(
    name="invoice",
    columns=(*InvoiceRow._fields, "owed_at", "owed", "settled_at"),
    create="""
    CREATE TABLE invoice (
        subject           text          NOT NULL,
        book              text          NOT NULL,
        invoice           text          NOT NULL,
        customer          text,
        subscription      text,
        status            text          NOT NULL,
        reason            text,
        collection_method text,
        currency          text          NOT NULL,
        total             bigint        NOT NULL,
        tax               bigint        NOT NULL,
        net               bigint        NOT NULL,
        amount_due        bigint        NOT NULL,
        amount_paid       bigint        NOT NULL,
        amount_remaining  bigint        NOT NULL,
        balance_applied   bigint        NOT NULL,
        created           timestamptz   NOT NULL,
        finalized_at      timestamptz   NOT NULL,
        due_date          timestamptz,
        paid_at           timestamptz,
        voided_at         timestamptz,
        uncollectible_at  timestamptz,
        incomplete        boolean       NOT NULL,
        because           text[]        NOT NULL,
        owed_at           timestamptz[] NOT NULL,
        owed              bigint[]      NOT NULL,
        settled_at        timestamptz,
        PRIMARY KEY (subject, invoice)
    );
    CREATE INDEX ON invoice (book, settled_at, finalized_at) WHERE owed <> '{}';
    SELECT ledger.distribute('invoice', 'subject');
    """,
    month="finalized_at",
    amount=("total", "currency"),
)

LINES: Final = Table(
    name="invoice_line",
    columns=LineRow._fields,
    create="""
    CREATE TABLE invoice_line (
        subject      text   NOT NULL,
        book         text   NOT NULL,
        invoice      text   NOT NULL,
        line         text   NOT NULL,
        subscription text,
        product      text,
        price        text,
        tax_rate     text,
        currency     text   NOT NULL,
        net          bigint NOT NULL,
        tax          bigint NOT NULL,
        period_start timestamptz,
        period_end   timestamptz,
        PRIMARY KEY (subject, invoice, line)
    );
    SELECT ledger.distribute('invoice_line', 'subject');
    """,
)

SUBSCRIPTIONS: Final = Table(
    name="subscription",
    columns=SubscriptionRow._fields,
    create="""
    CREATE TABLE subscription (
        subject              text        NOT NULL,
        book                 text        NOT NULL,
        subscription         text        NOT NULL,
        customer             text,
        status               text        NOT NULL,
        currency             text        NOT NULL,
        created              timestamptz NOT NULL,
        cancel_at_period_end boolean     NOT NULL,
        canceled_at          timestamptz,
        ended_at             timestamptz,
        because              text        NOT NULL,
        PRIMARY KEY (subject, subscription)
    );
    SELECT ledger.distribute('subscription', 'subject');
    """,
)

INVOICES_VIEW: Final = """
CREATE OR REPLACE VIEW ledger.invoices AS
SELECT book, invoice, customer, subscription, status, reason, collection_method, currency, total, tax, net,
       amount_due, amount_paid, amount_remaining, balance_applied, created, finalized_at, due_date, paid_at,
       voided_at, uncollectible_at, incomplete, because
FROM invoice
"""

SUBSCRIPTIONS_VIEW: Final = """
CREATE OR REPLACE VIEW ledger.subscriptions AS
SELECT book, subscription, customer, status, currency, created, cancel_at_period_end, canceled_at, ended_at, because
FROM subscription
"""


def time_of(at: int) -> datetime:
    """Return unix seconds as a time in UTC."""
    return datetime.fromtimestamp(at, UTC)


def time_or_none(at: int | None) -> datetime | None:
    """Return unix seconds as a time in UTC, or None."""
    return None if at is None else time_of(at)


def invoice_rows(facts: Facts) -> Iterable[InvoiceRow]:
    """Return a row for each finalised invoice."""
    for key, one in sorted(facts.invoices.items()):
        yield InvoiceRow(
            facts.subject.stream_id, facts.subject.book, key, one.customer, one.subscription, one.status, one.reason,
            one.collection_method, one.currency, one.total, one.tax, one.net, one.amount_due, one.amount_paid,
            one.amount_remaining, one.balance, time_of(one.created), time_of(one.finalized_at),
            time_or_none(one.due_date), time_or_none(one.paid_at), time_or_none(one.voided_at),
            time_or_none(one.uncollectible_at), one.incomplete, list(dict.fromkeys(one.because.values())),
        )  # fmt: skip


def line_rows(facts: Facts) -> Iterable[LineRow]:
    """Return a row for each line of a finalised invoice, and for what billing credits paid of one."""
    for one, lines in _lines(facts):
        for line in sorted(lines, key=lambda line: line.key):
            has_period = line.start < line.end < NEVER
            yield LineRow(
                facts.subject.stream_id, facts.subject.book, one.key, line.key, line.subscription, line.product,
                line.price, line.tax_rate, one.currency, line.net, line.tax,
                time_of(line.start) if has_period else None, time_of(line.end) if has_period else None,
            )  # fmt: skip


def _lines(facts: Facts) -> Iterator[tuple[InvoiceFact, list[LineFact]]]:
    for _, one in sorted(facts.invoices.items()):
        yield one, one.lines
    for one, line in served_lines(facts):
        yield one, [line]


def subscription_rows(facts: Facts) -> Iterable[SubscriptionRow]:
    """Return a row for each subscription."""
    for key, one in sorted(facts.subscriptions.items()):
        yield SubscriptionRow(
            facts.subject.stream_id, facts.subject.book, key, one.customer, one.status, one.currency,
            time_of(one.created), one.cancel_at_period_end, time_or_none(one.canceled_at),
            time_or_none(one.ended_at), one.because,
        )  # fmt: skip

"""The rows that worth and its movements come to, their tables, and the view people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from projections.contract import Rows, Subject, Table
from projections.mrr.movements import Grouping, movements
from projections.mrr.portfolio import Portfolio, Span, spans
from projections.mrr.worth import POLICIES, Worth


class SpanRow(NamedTuple):
    """What one subscription was worth from ``since`` until ``until`` (None: until now). Half-open.

    ``paid_at`` is when it was first paid, ever; ``item_amounts`` are each item's share of ``net_forever``.
    """

    subject: str
    book: str
    customer: str
    subscription: str
    currency: str
    since: datetime
    until: datetime | None
    gross: int
    net_forever: int
    net_all: int
    reason: str
    involuntary: bool
    flags: list[str]
    incomplete: list[str]
    paid_at: datetime | None
    items: list[str]
    products: list[str]
    item_amounts: list[int]
    because: list[str]


class MovementRow(NamedTuple):
    """One movement of one customer in one currency, as one policy counts it; ``before`` and ``after`` are totals."""

    subject: str
    book: str
    customer: str
    policy: str
    currency: str
    kind: str
    since: datetime
    at: datetime
    before: int
    after: int
    amount: int
    paid_at: datetime | None
    reason: str | None
    involuntary: bool
    subscriptions: list[str]
    because: list[str]


SPANS: Final = Table(
    name="mrr_span",
    columns=SpanRow._fields,
    create="""
    CREATE TABLE mrr_span (
        subject      text        NOT NULL,
        book         text        NOT NULL,
        customer     text        NOT NULL,
        subscription text        NOT NULL,
        currency     text        NOT NULL,
        since        timestamptz NOT NULL,
        until        timestamptz,
        gross        bigint      NOT NULL,
        net_forever  bigint      NOT NULL,
        net_all      bigint      NOT NULL,
        reason       text        NOT NULL,
        involuntary  boolean     NOT NULL,
        flags        text[]      NOT NULL,
        incomplete   text[]      NOT NULL,
        paid_at      timestamptz,
        items        text[]      NOT NULL,
        products     text[]      NOT NULL,
        item_amounts bigint[]    NOT NULL,
        because      text[]      NOT NULL,
        PRIMARY KEY (subject, subscription, since),
        CHECK (until > since)
    );
    CREATE INDEX ON mrr_span (book, subject, currency) INCLUDE (since, until, net_forever, net_all) WHERE gross > 0;
    CREATE INDEX ON mrr_span (book, since) WHERE incomplete <> '{}';
    SELECT ledger.distribute('mrr_span', 'subject');
    """,
    month="since",
    amount=("net_forever", "currency"),
)

MOVEMENTS: Final = Table(
    name="mrr_movement",
    columns=MovementRow._fields,
    create="""
    CREATE TABLE mrr_movement (
        subject       text        NOT NULL,
        book          text        NOT NULL,
        customer      text        NOT NULL,
        policy        text        NOT NULL,
        currency      text        NOT NULL,
        kind          text        NOT NULL,
        since         timestamptz NOT NULL,
        at            timestamptz NOT NULL,
        before        bigint      NOT NULL,
        after         bigint      NOT NULL,
        amount        bigint      NOT NULL,
        paid_at       timestamptz,
        reason        text,
        involuntary   boolean     NOT NULL,
        subscriptions text[]      NOT NULL,
        because       text[]      NOT NULL,
        PRIMARY KEY (subject, policy, currency, at),
        CHECK (amount > 0 AND amount = abs(after - before))
    );
    CREATE INDEX ON mrr_movement (book, policy, at) INCLUDE (subject, currency, kind, before, after, amount);
    SELECT ledger.distribute('mrr_movement', 'subject');
    """,
    month="at",
    amount=("amount", "currency"),
)

MOVEMENTS_VIEW: Final = """
CREATE OR REPLACE VIEW ledger.mrr_movements AS
SELECT book, customer, policy, currency, kind, at, amount, before, after, paid_at, reason, involuntary, subscriptions,
       because
FROM mrr_movement
"""


def span_of(row: SpanRow) -> Span:
    """Return the span that a row was made from, but for its items."""
    worth = Worth(
        row.currency, row.gross, row.net_forever, row.net_all, (), row.reason, row.involuntary, tuple(row.flags),
        tuple(row.incomplete),
    )  # fmt: skip
    return Span(row.subscription, row.since, row.until, worth, tuple(row.because))


def movement_rows(
    subject: Subject, found: Sequence[Span], paid: Mapping[str, datetime], grouping: Grouping
) -> Iterable[MovementRow]:
    """Return how a customer's worth moved, as each policy counts it."""
    for policy in POLICIES:
        for one in movements(found, paid, policy, grouping):
            yield MovementRow(
                subject=subject.stream_id,
                book=subject.book,
                customer=subject.key,
                policy=policy,
                currency=one.currency,
                kind=one.kind,
                since=one.since,
                at=one.at,
                before=one.before,
                after=one.after,
                amount=one.amount,
                paid_at=one.paid_at,
                reason=one.reason,
                involuntary=one.involuntary,
                subscriptions=list(one.subscriptions),
                because=list(one.because),
            )


def rows_of(subject: Subject, portfolio: Portfolio, grouping: Grouping) -> Rows:
    """Return what a customer's subscriptions come to."""
    found = list(spans(portfolio))
    paid = {key: life.paid_at for key, life in portfolio.lives.items() if life.paid_at is not None}
    return {
        SPANS.name: [_span(subject, span, paid.get(span.subscription)) for span in found],
        MOVEMENTS.name: list(movement_rows(subject, found, paid, grouping)),
    }


def _span(subject: Subject, span: Span, paid_at: datetime | None) -> SpanRow:
    worth = span.worth
    return SpanRow(
        subject=subject.stream_id,
        book=subject.book,
        customer=subject.key,
        subscription=span.subscription,
        currency=worth.currency,
        since=span.since,
        until=span.until,
        gross=worth.gross,
        net_forever=worth.net_forever,
        net_all=worth.net_all,
        reason=worth.reason,
        involuntary=worth.involuntary,
        flags=list(worth.flags),
        incomplete=list(worth.incomplete),
        paid_at=paid_at,
        items=[one.item for one in worth.items],
        products=[one.product or "" for one in worth.items],
        item_amounts=[one.net_forever for one in worth.items],
        because=list(span.because),
    )

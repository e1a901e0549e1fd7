"""The tables of the dunning projection, the view people read, and the projection itself."""

from __future__ import annotations

from typing import Final

from ledger.observation import OBSERVED
from projections.contract import Projection, Table
from projections.dunning import fold
from projections.dunning.facts import State
from projections.dunning.rows import CaseRow, ChurnRow, MomentRow, NewestRow, WorthRow
from projections.mrr import portfolio

NAME: Final = "dunning"
VERSION: Final = 8

CASES: Final = Table(
    name="dunning_case",
    columns=CaseRow._fields,
    create="""
    CREATE TABLE dunning_case (
        subject              text        NOT NULL,
        book                 text        NOT NULL,
        customer             text        NOT NULL,
        case_id              text        NOT NULL,
        subscription         text,
        category             text        NOT NULL,
        currency             text        NOT NULL,
        state                text        NOT NULL,
        outcome              text,
        recovered_by         text,
        late                 boolean     NOT NULL,
        amount_due           bigint      NOT NULL,
        opened_volume        bigint      NOT NULL,
        open_amount          bigint      NOT NULL,
        recovered_volume     bigint      NOT NULL,
        lost_volume          bigint      NOT NULL,
        opened_at            timestamptz NOT NULL,
        closed_at            timestamptz,
        first_failed_at      timestamptz,
        due_date             timestamptz,
        stripe_attempt_count bigint      NOT NULL,
        failures             int         NOT NULL,
        attempts             int         NOT NULL,
        next_attempt_at      timestamptz,
        failure_at           timestamptz,
        failure_code         text,
        decline_code         text,
        failure_class        text,
        failure_confidence   text,
        because              text[]      NOT NULL,
        valid_from           timestamptz NOT NULL,
        valid_to             timestamptz,
        PRIMARY KEY (subject, case_id, valid_from),
        CHECK (valid_to > valid_from),
        CHECK (recovered_volume + lost_volume <= opened_volume)
    );
    CREATE INDEX ON dunning_case (book, opened_at, case_id);
    SELECT ledger.distribute('dunning_case', 'subject');
    """,
    month="opened_at",
    amount=("opened_volume", "currency"),
)

WORTH: Final = Table(
    name="dunning_worth",
    columns=WorthRow._fields,
    create="""
    CREATE TABLE dunning_worth (
        subject      text        NOT NULL,
        book         text        NOT NULL,
        customer     text        NOT NULL,
        subscription text        NOT NULL,
        currency     text        NOT NULL,
        mrr          bigint      NOT NULL CHECK (mrr >= 0),
        reason       text        NOT NULL,
        involuntary  boolean     NOT NULL,
        incomplete   boolean     NOT NULL,
        because      text[]      NOT NULL,
        valid_from   timestamptz NOT NULL,
        valid_to     timestamptz,
        PRIMARY KEY (subject, subscription, valid_from),
        CHECK (valid_to > valid_from)
    );
    CREATE INDEX ON dunning_worth (book, valid_from);
    SELECT ledger.distribute('dunning_worth', 'subject');
    """,
    month="valid_from",
    amount=("mrr", "currency"),
)

CHURN: Final = Table(
    name="dunning_churn",
    columns=ChurnRow._fields,
    create="""
    CREATE TABLE dunning_churn (
        subject     text        NOT NULL,
        book        text        NOT NULL,
        customer    text        NOT NULL,
        currency    text        NOT NULL,
        at          timestamptz NOT NULL,
        mrr         bigint      NOT NULL CHECK (mrr > 0),
        involuntary boolean     NOT NULL,
        reason      text,
        because     text[]      NOT NULL,
        PRIMARY KEY (subject, currency, at)
    );
    CREATE INDEX ON dunning_churn (book, at);
    SELECT ledger.distribute('dunning_churn', 'subject');
    """,
    month="at",
    amount=("mrr", "currency"),
)

MOMENTS: Final = Table(
    name="dunning_moment",
    columns=MomentRow._fields,
    create="""
    CREATE TABLE dunning_moment (
        subject            text        NOT NULL,
        book               text        NOT NULL,
        customer           text        NOT NULL,
        at                 timestamptz NOT NULL,
        place              int         NOT NULL,
        kind               text        NOT NULL,
        case_id            text        NOT NULL,
        event              text        NOT NULL,
        amount             bigint,
        currency           text,
        decline_code       text,
        failure_class      text,
        failure_confidence text,
        next_attempt_at    timestamptz,
        method             text,
        PRIMARY KEY (subject, at, place)
    );
    SELECT ledger.distribute('dunning_moment', 'subject');
    """,
    month="at",
)

NEWEST: Final = Table(
    name="dunning_newest",
    columns=NewestRow._fields,
    create="""
    CREATE TABLE dunning_newest (
        subject text        PRIMARY KEY,
        book    text        NOT NULL,
        newest  timestamptz NOT NULL
    );
    SELECT ledger.distribute('dunning_newest', 'subject');
    """,
)

DUNNING_CASES: Final = """
CREATE OR REPLACE VIEW ledger.dunning_cases AS
SELECT c.book, c.customer, c.case_id, c.subscription, c.category, c.currency, c.state, c.outcome, c.recovered_by,
       c.late, c.amount_due, c.opened_volume, c.open_amount, c.recovered_volume, c.lost_volume, c.opened_at,
       c.closed_at, c.first_failed_at, c.due_date, c.stripe_attempt_count, c.failures, c.attempts, c.next_attempt_at,
       c.failure_code, c.decline_code, c.failure_class, c.failure_confidence, c.because
FROM dunning_case AS c
JOIN dunning_newest AS n ON n.subject = c.subject
WHERE c.valid_from <= greatest(now(), n.newest)
  AND (c.valid_to IS NULL OR greatest(now(), n.newest) < c.valid_to)
"""
"""Every case as it is now."""

DUNNING: Final = Projection(
    name=NAME,
    version=VERSION,
    types=frozenset(fold.STEPS) | portfolio.TYPES,
    tables=(CASES, WORTH, CHURN, MOMENTS, NEWEST),
    state=State,
    begin=fold.begin,
    step=fold.step,
    rows=fold.rows,
    views={"dunning_cases": DUNNING_CASES},
    joins=frozenset({"invoice_payment.paid", "charge.failed", "payment_intent.payment_failed", OBSERVED}),
    references=portfolio.REFERENCES,
)

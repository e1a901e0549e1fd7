"""The tables of the periods projection, and the projection itself."""

from __future__ import annotations

from typing import Final

from projections.contract import Projection, Table
from projections.periods import fold
from projections.periods.decisions import CLOSED, REOPENED, SEALED
from projections.periods.fold import LastRow, LineRow, MovedRow, MovementRow, OwedRow, PeriodRow, PrintRow, WorthRow
from projections.revenue.sums import COLUMNS

NAME: Final = "periods"
VERSION: Final = 8

PERIODS: Final = Table(
    name="period",
    columns=PeriodRow._fields,
    create="""
    CREATE TABLE period (
        subject         text        NOT NULL,
        book            text        NOT NULL,
        month           text        NOT NULL,
        seal            int         NOT NULL,
        digest          text        NOT NULL,
        chunks          int         NOT NULL,
        position        bigint      NOT NULL,
        by              text        NOT NULL,
        at              timestamptz NOT NULL,
        reason          text        NOT NULL,
        forced          boolean     NOT NULL,
        exceptions      jsonb       NOT NULL,
        policies        jsonb       NOT NULL,
        code            text        NOT NULL,
        reopened_by     text,
        reopened_at     timestamptz,
        reopened_reason text,
        closed_event    text        NOT NULL,
        reopened_event  text,
        PRIMARY KEY (subject, month, seal)
    );
    SELECT ledger.distribute('period', 'subject');
    """,
)

LINES: Final = Table(
    name="sealed_line",
    columns=LineRow._fields,
    create="""
    CREATE TABLE sealed_line (
        subject        text        NOT NULL,
        book           text        NOT NULL,
        digest         text        NOT NULL,
        place          int         NOT NULL,
        owner          text        NOT NULL,
        customer       text        NOT NULL,
        entry          text        NOT NULL,
        kind           text        NOT NULL,
        of             text        NOT NULL,
        at             timestamptz NOT NULL,
        original_month text        NOT NULL,
        currency       text        NOT NULL,
        account        text        NOT NULL,
        amount         bigint      NOT NULL,
        invoice        text,
        line           text,
        subscription   text,
        product        text,
        price          text,
        tax_rate       text,
        because        text[]      NOT NULL,
        PRIMARY KEY (subject, place)
    );
    CREATE INDEX ON sealed_line (book, digest, at, entry COLLATE "C");
    CREATE INDEX ON sealed_line (book, customer);
    CREATE INDEX ON sealed_line (book, entry);
    CREATE INDEX ON sealed_line (book, line) WHERE line IS NOT NULL;
    CREATE INDEX ON sealed_line (book, invoice) WHERE account = 'deferred_revenue';
    SELECT ledger.distribute('sealed_line', 'subject');
    """,
    month="at",
    amount=("amount", "currency"),
)

MOVEMENTS: Final = Table(
    name="sealed_movement",
    columns=MovementRow._fields,
    create="""
    CREATE TABLE sealed_movement (
        subject      text        NOT NULL,
        book         text        NOT NULL,
        digest       text        NOT NULL,
        place        int         NOT NULL,
        owner        text        NOT NULL,
        customer     text        NOT NULL,
        policy       text        NOT NULL,
        currency     text        NOT NULL,
        kind         text        NOT NULL,
        at           timestamptz NOT NULL,
        before       bigint      NOT NULL,
        after        bigint      NOT NULL,
        prior_period boolean     NOT NULL,
        paid         boolean     NOT NULL,
        involuntary  boolean     NOT NULL,
        reason       text,
        because      text[]      NOT NULL,
        PRIMARY KEY (subject, place)
    );
    CREATE INDEX ON sealed_movement (book, digest, policy, at, customer COLLATE "C", currency COLLATE "C");
    CREATE INDEX ON sealed_movement (book, customer);
    SELECT ledger.distribute('sealed_movement', 'subject');
    """,
    month="at",
)

TOTALS: Final = Table(
    name="sealed_total",
    columns=("subject", "book", "digest", "currency", "lines", *COLUMNS),
    create=f"""
    CREATE TABLE sealed_total (
        subject  text NOT NULL,
        book     text NOT NULL,
        digest   text NOT NULL,
        currency text NOT NULL,
        lines    int  NOT NULL,
        {", ".join(f"{column} numeric" for column in COLUMNS)},
        PRIMARY KEY (subject, currency)
    );
    CREATE INDEX ON sealed_total (book, digest);
    SELECT ledger.distribute('sealed_total', 'subject');
    """,
)

OWED: Final = Table(
    name="sealed_owed",
    columns=OwedRow._fields,
    create="""
    CREATE TABLE sealed_owed (
        subject  text    NOT NULL,
        book     text    NOT NULL,
        digest   text    NOT NULL,
        place    int     NOT NULL,
        owner    text    NOT NULL,
        currency text    NOT NULL,
        invoice  text,
        amount   numeric NOT NULL,
        PRIMARY KEY (subject, place)
    );
    CREATE INDEX ON sealed_owed (book, digest);
    SELECT ledger.distribute('sealed_owed', 'subject');
    """,
)

PRINTS: Final = Table(
    name="sealed_print",
    columns=PrintRow._fields,
    create="""
    CREATE TABLE sealed_print (
        subject text     NOT NULL,
        book    text     NOT NULL,
        digest  text     NOT NULL,
        owners  text[]   NOT NULL,
        prints  bigint[] NOT NULL,
        PRIMARY KEY (subject)
    );
    CREATE INDEX ON sealed_print (book, digest);
    SELECT ledger.distribute('sealed_print', 'subject');
    """,
)

WORTH: Final = Table(
    name="sealed_worth",
    columns=WorthRow._fields,
    create="""
    CREATE TABLE sealed_worth (
        subject   text    NOT NULL,
        book      text    NOT NULL,
        digest    text    NOT NULL,
        policy    text    NOT NULL,
        currency  text    NOT NULL,
        amount    numeric NOT NULL,
        customers int     NOT NULL,
        movements int     NOT NULL,
        PRIMARY KEY (subject, policy, currency)
    );
    CREATE INDEX ON sealed_worth (book, digest);
    SELECT ledger.distribute('sealed_worth', 'subject');
    """,
)

MOVED: Final = Table(
    name="sealed_moved",
    columns=MovedRow._fields,
    create="""
    CREATE TABLE sealed_moved (
        subject  text      NOT NULL,
        book     text      NOT NULL,
        digest   text      NOT NULL,
        policy   text      NOT NULL,
        currency text      NOT NULL,
        kind     text      NOT NULL,
        amount   numeric   NOT NULL,
        days     numeric[] NOT NULL,
        PRIMARY KEY (subject, policy, currency, kind)
    );
    CREATE INDEX ON sealed_moved (book, digest);
    SELECT ledger.distribute('sealed_moved', 'subject');
    """,
)

LAST: Final = Table(
    name="sealed_last",
    columns=LastRow._fields,
    create="""
    CREATE TABLE sealed_last (
        subject  text     NOT NULL,
        book     text     NOT NULL,
        digest   text     NOT NULL,
        policy   text     NOT NULL,
        currency text     NOT NULL,
        owners   text[]   NOT NULL,
        amounts  bigint[] NOT NULL,
        PRIMARY KEY (subject, policy, currency)
    );
    CREATE INDEX ON sealed_last (book, digest);
    SELECT ledger.distribute('sealed_last', 'subject');
    """,
)

PERIODS_PROJECTION: Final = Projection(
    name=NAME,
    version=VERSION,
    types=frozenset({CLOSED, REOPENED, SEALED}),
    tables=(PERIODS, LINES, MOVEMENTS, TOTALS, OWED, PRINTS, WORTH, MOVED, LAST),
    state=fold.State,
    begin=fold.State,
    step=fold.step,
    rows=fold.rows,
    step_events=20,
)

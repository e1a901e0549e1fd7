"""The journal's tables: posted entries, recognition in closed form, sums by month, and what does not add up.

``journal_lines`` is the view people read: a row a posting, with what it is about. What time earns stands in it month
by month, at the last second of each month or span; rows later than now are what time will earn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from projections.contract import Row, Table
from projections.revenue.documents import time_of
from projections.revenue.entries import Entry, Problem
from projections.revenue.facts import Facts
from projections.revenue.recognition import Earning
from projections.revenue.sums import FALLEN, KEPT, SELDOM, USUAL


class EntryRow(NamedTuple):
    """An entry that a fact posted; ``accounts``, ``amounts`` and ``lines`` are its postings side by side."""

    subject: str
    book: str
    customer: str | None
    entry: str
    at: datetime
    kind: str
    currency: str
    invoice: str | None
    accounts: list[str]
    amounts: list[int]
    lines: list[str | None]
    because: list[str]


class SpanRow(NamedTuple):
    """A span of a line's earning (``schedule.Span``), times in unix seconds."""

    subject: str
    book: str
    customer: str | None
    invoice: str | None
    line: str
    currency: str
    account: str
    start: int
    end: int
    first: bool
    amount: int
    origin: int
    unit: int
    a: int
    b: int
    c: int
    because: list[str]


class ProblemRow(NamedTuple):
    """Something that does not add up, with its amount."""

    subject: str
    book: str
    kind: str
    key: str
    currency: str
    amount: int
    at: datetime
    because: list[str]


ENTRIES: Final = Table(
    name="journal_entry",
    columns=EntryRow._fields,
    create="""
    CREATE TABLE journal_entry (
        subject  text        NOT NULL,
        book     text        NOT NULL,
        customer text,
        entry    text        NOT NULL,
        at       timestamptz NOT NULL,
        kind     text        NOT NULL,
        currency text        NOT NULL,
        invoice  text,
        accounts text[]      NOT NULL,
        amounts  bigint[]    NOT NULL,
        lines    text[]      NOT NULL,
        because  text[]      NOT NULL,
        PRIMARY KEY (subject, entry)
    );
    CREATE INDEX ON journal_entry (book, at);
    SELECT ledger.distribute('journal_entry', 'subject');
    """,
    month="at",
)

SPANS: Final = Table(
    name="earning_span",
    columns=SpanRow._fields,
    create="""
    CREATE TABLE earning_span (
        subject  text    NOT NULL,
        book     text    NOT NULL,
        customer text,
        invoice  text,
        line     text    NOT NULL,
        currency text    NOT NULL,
        account  text    NOT NULL,
        start    bigint  NOT NULL,
        "end"    bigint  NOT NULL,
        first    boolean NOT NULL,
        amount   bigint  NOT NULL,
        origin   bigint  NOT NULL,
        unit     bigint  NOT NULL,
        a        numeric NOT NULL,
        b        numeric NOT NULL,
        c        numeric NOT NULL,
        because  text[]  NOT NULL,
        PRIMARY KEY (subject, line, account, start),
        CHECK (start < "end")
    );
    CREATE INDEX ON earning_span (book, "end", start);
    SELECT ledger.distribute('earning_span', 'subject');
    """,
)

SUMS: Final = Table(
    name="revenue_sum",
    columns=("subject", "book", "currency", "months", "period", *KEPT, *FALLEN),
    create=f"""
    CREATE TABLE revenue_sum (
        subject         text     NOT NULL,
        book            text     NOT NULL,
        currency        text     NOT NULL,
        months          smallint NOT NULL,
        period          date     NOT NULL,
        {", ".join(f"{column} bigint" for column in KEPT)},
        invoiced_first  date,
        fallen_first    bigint,
        invoiced_second date,
        fallen_second   bigint,
        invoiced_others date[],
        fallen_others   bigint[],
        PRIMARY KEY (subject, currency, months, period)
    );
    CREATE INDEX ON revenue_sum (book, months, period, currency) INCLUDE ({", ".join(USUAL)});
    CREATE INDEX ON revenue_sum (book, months, period) WHERE coalesce({", ".join(SELDOM)}) IS NOT NULL;
    CREATE INDEX ON revenue_sum (book, period, currency, invoiced_first, invoiced_second)
        INCLUDE (fallen_first, fallen_second) WHERE months = 1 AND invoiced_first IS NOT NULL;
    CREATE INDEX ON revenue_sum (book, period) WHERE months = 1 AND invoiced_others IS NOT NULL;
    SELECT ledger.distribute('revenue_sum', 'subject');
    """,
)

PROBLEMS: Final = Table(
    name="revenue_problem",
    columns=ProblemRow._fields,
    create="""
    CREATE TABLE revenue_problem (
        subject  text        NOT NULL,
        book     text        NOT NULL,
        kind     text        NOT NULL,
        key      text        NOT NULL,
        currency text        NOT NULL,
        amount   bigint      NOT NULL,
        at       timestamptz NOT NULL,
        because  text[]      NOT NULL,
        PRIMARY KEY (subject, kind, key)
    );
    SELECT ledger.distribute('revenue_problem', 'subject');
    """,
)

JOURNAL_LINES: Final = """
CREATE OR REPLACE VIEW ledger.journal_lines AS
SELECT p.book, p.entry, p.at, p.customer, p.kind, p.currency, p.original_month, p.account, p.amount, p.invoice, p.line,
       coalesce(l.subscription, i.subscription) AS subscription, l.product, l.price,
       CASE WHEN p.account = 'tax_liability' THEN l.tax_rate END AS tax_rate, p.because
FROM (
    SELECT e.subject, e.book, e.entry, e.at, e.customer, e.kind, e.currency, NULL::text AS original_month,
           posted.account, posted.amount, e.invoice, posted.line, e.because
    FROM journal_entry AS e
    CROSS JOIN LATERAL unnest(e.accounts, e.amounts, e.lines) AS posted (account, amount, line)
    UNION ALL
    SELECT s.subject, s.book,
           s.line || ':rec:' || to_char(cut.month, 'YYYY-MM')
               || CASE WHEN s.account = 'unbilled_receivable' THEN ':unbilled' ELSE '' END
               || CASE WHEN cut.from_month OR (s.first AND cut.since = s.start) THEN '' ELSE ':' || cut.since END,
           to_timestamp(cut.until - 1), s.customer, 'recognition', s.currency, NULL,
           side.account, side.sign * (before.remains - after.remains)::bigint, s.invoice, s.line, s.because
    FROM earning_span AS s
    CROSS JOIN LATERAL (
        SELECT month, greatest(s.start, extract(epoch FROM month)::bigint) AS since,
               least(s."end", extract(epoch FROM month + interval '1 month')::bigint) AS until,
               s.start <= extract(epoch FROM month)::bigint AS from_month
        FROM generate_series(date_trunc('month', to_timestamp(s.start) AT TIME ZONE 'UTC'),
                             to_timestamp(s."end" - 1) AT TIME ZONE 'UTC', interval '1 month') AS month
    ) AS cut
    CROSS JOIN LATERAL (
        SELECT abs(s.amount * (s.a - s.b * ((cut.since - s.origin) / s.unit))) AS n0,
               abs(s.amount * (s.a - s.b * ((cut.until - s.origin) / s.unit))) AS n1
    ) AS n
    CROSS JOIN LATERAL (SELECT div(n.n0, s.c) AS q0, div(n.n1, s.c) AS q1) AS q
    CROSS JOIN LATERAL (
        SELECT sign(s.amount) * (q.q0 + CASE WHEN 2 * (n.n0 - q.q0 * s.c) + q.q0 % 2 > s.c THEN 1 ELSE 0 END) AS remains
    ) AS before
    CROSS JOIN LATERAL (
        SELECT sign(s.amount) * (q.q1 + CASE WHEN 2 * (n.n1 - q.q1 * s.c) + q.q1 % 2 > s.c THEN 1 ELSE 0 END) AS remains
    ) AS after
    CROSS JOIN (VALUES (1), (-1)) AS sides (sign)
    CROSS JOIN LATERAL (
        SELECT sides.sign, CASE WHEN sides.sign = 1 THEN s.account ELSE 'revenue' END AS account
    ) AS side
    WHERE before.remains <> after.remains
) AS p
LEFT JOIN invoice AS i ON i.subject = p.subject AND i.invoice = p.invoice
LEFT JOIN invoice_line AS l ON l.subject = p.subject AND l.invoice = p.invoice AND l.line = p.line
"""
"""What is left is rounded half-even: 2r > c, or 2r = c and the whole is odd, which for whole numbers is one test."""


def entry_rows(facts: Facts, entries: Iterable[Entry]) -> list[Row]:
    """Return a row for each posted entry."""
    about = (facts.subject.stream_id, facts.subject.book, facts.customer)
    return [
        EntryRow(
            *about, entry.key, time_of(entry.at), entry.kind, entry.currency, entry.invoice,
            [posting.account for posting in entry.postings], [posting.amount for posting in entry.postings],
            [posting.line for posting in entry.postings], list(entry.because),
        )
        for entry in entries
    ]  # fmt: skip


def span_rows(facts: Facts, found: Iterable[Earning]) -> list[Row]:
    """Return a row for each span of each line."""
    about = (facts.subject.stream_id, facts.subject.book, facts.customer)
    return [
        SpanRow(*about, one.invoice, one.line, one.currency, one.account, one.span.start, one.span.end, one.first,
                *one.span[2:], list(one.because))
        for one in found
    ]  # fmt: skip


def problem_rows(facts: Facts, problems: Sequence[Problem]) -> list[Row]:
    """Return a row for each thing that does not add up."""
    about = (facts.subject.stream_id, facts.subject.book)
    each_once = {(one.kind, one.key): one for one in problems}
    return [
        ProblemRow(*about, one.kind, one.key, one.currency, one.amount, time_of(one.at), list(one.because))
        for _, one in sorted(each_once.items())
    ]

"""A journal's print: a checksum by which two journals can be compared without reading either.

It is a sum over all postings of their amounts, each times a weight that is drawn from everything else a posting is
known by. So the prints of parts add up to that of the whole, and amounts that cancel out leave nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from projections.contract import Row, Table
from projections.revenue.entries import Entry
from projections.revenue.recognition import Earning, months_of
from projections.revenue.schedule import month_name, month_of

MODULUS: Final = 2**61 - 1
"""Prints are counted modulo this prime: one that is changed by chance is the same once in so many times."""

PRINTS: Final = Table(
    name="journal_print",
    columns=("subject", "book", "months", "prints"),
    create="""
    CREATE TABLE journal_print (
        subject text     NOT NULL,
        book    text     NOT NULL,
        months  date[]   NOT NULL,
        prints  bigint[] NOT NULL,
        PRIMARY KEY (subject)
    );
    CREATE INDEX ON journal_print (book);
    SELECT ledger.distribute('journal_print', 'subject');
    """,
)
"""The print of everything up to the end of each month in which there is something."""


def print_of(entry: str, month: str, currency: str, account: str, line: str | None, amount: int) -> int:
    """Return the print of one posting: of which entry about which month, on which account, about which line."""
    return _drawn(f"{entry}\n{month}\n{currency}") * _drawn_for(line or "") * _drawn_for(account) * amount % MODULUS


def print_rows(subject: str, book: str, entries: Iterable[Entry], found: Iterable[Earning]) -> list[Row]:
    """Return a subject's row, of what facts posted and what time earns; none where there is nothing."""
    months: dict[date, int] = {}
    for entry in entries:
        parts = sum(_drawn_for(line or "") * _drawn_for(account) * amount for account, amount, line in entry.postings)
        month, whole = month_of(entry.at), _drawn(f"{entry.key}\n{month_name(entry.at)}\n{entry.currency}")
        months[month] = (months.get(month, 0) + whole * parts) % MODULUS
    for one in found:
        part = _drawn_for(one.line) * (_drawn_for(one.account) - _drawn_for("revenue"))
        for start, end in months_of(one.span):
            if amount := one.earned(start, end):
                month, whole = month_of(start), _drawn(f"{one.key(start)}\n{month_name(start)}\n{one.currency}")
                months[month] = (months.get(month, 0) + whole * part * amount) % MODULUS
    if not months:
        return []
    order, upto, prints = sorted(months), 0, []
    for month in order:
        upto = (upto + months[month]) % MODULUS
        prints.append(upto)
    return [(subject, book, order, prints)]


@lru_cache(maxsize=10_000)
def _drawn_for(name: str) -> int:
    """Draw for an account or a line: the same few come again and again."""
    return _drawn(name)


def _drawn(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) % MODULUS

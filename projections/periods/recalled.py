"""Some customers' journal as reported at a recorded position: from their seals, and from books folded now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from projections.periods.entries import SEALED_FOR, is_wanted, place_in, shown_of
from projections.periods.months import month_of
from projections.periods.query import Closed, sealed_line_of
from projections.periods.reported import prior_period
from projections.periods.seal import SealedLine
from projections.revenue.documents import time_of
from projections.revenue.journal import Books
from projections.revenue.pages import Wanted
from projections.revenue.shown import Shown, show_all

SEALED: Final = """
SELECT owner, entry, kind, of, at, original_month, currency, account, amount, invoice, line, subscription, product,
       price, tax_rate, because
FROM sealed_line
WHERE book = $1 AND digest = ANY ($2) AND customer = ANY ($3)
ORDER BY subject, place
"""


@dataclass(frozen=True, slots=True)
class Seals:
    """Which months were closed, and what was sealed of some owners."""

    closed: Closed
    lines: Sequence[SealedLine]


async def read_sealed_owners(connection: asyncpg.Connection, book: str, closed: Closed, name: str) -> list[str]:
    """Return the owners for whom an entry or line was sealed; the connection has entered a build of periods."""
    of, line = name.partition(":prior:")[0], name.partition(":")[0]
    rows = await connection.fetch(SEALED_FOR, book, closed.digests(), [of, name], line)
    return [row["owner"] for row in rows]


async def read_seals(connection: asyncpg.Connection, book: str, closed: Closed, subjects: Iterable[str]) -> Seals:
    """Return what was sealed about some owners; the connection has entered a build of periods."""
    customers = [one.removeprefix(f"{book}/") for one in subjects]
    rows = await connection.fetch(SEALED, book, closed.digests(), customers)
    return Seals(closed, [sealed_line_of(row) for row in rows])


def reported_as_known(made: Iterable[Books], seals: Seals, wanted: Wanted) -> list[Shown]:
    """Return the wanted entries: as sealed, then from the first open month on the effective ones and later changes."""
    books, closed = list(made), seals.closed
    until = 0 if closed.until is None else int(closed.until.timestamp())
    found = show_all(books, max(wanted.since, until), wanted.until)
    reported = [one for one in seals.lines if wanted.since <= one.at.timestamp() <= wanted.until]
    if closed.first_open is not None and wanted.prior and wanted.since <= until <= wanted.until:
        now = [line for one in books for line in _lines_of(one, until)]
        reported += prior_period(now, seals.lines, closed.first_open)
    return sorted([*shown_of(reported, wanted), *(one for one in found if is_wanted(one, wanted))], key=place_in)


def _lines_of(books: Books, until: int) -> Iterable[SealedLine]:
    """Give an owner's postings before a second, as they would be sealed."""
    owner = books.facts.subject.stream_id
    for one in show_all([books], 0, until - 1):
        at = time_of(one.at)
        for line in one.lines:
            yield SealedLine(
                owner,
                one.entry,
                one.kind,
                one.kind,
                at,
                month_of(at),
                one.currency,
                *line,
                one.because,
            )

"""A month of a whole book's journal, piece by piece in order of time and name: a page needs few of its entries.

Entries of facts are read by the time they stand at. Those of time stand at the last second of their span's month: of
spans that end within the month one after the other, and of all that go on beyond it in the month's own last second.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final

import asyncpg

from projections.revenue.documents import time_of
from projections.revenue.entries import Entry, Posting
from projections.revenue.recognition import Earning, entries_of_time
from projections.revenue.schedule import Span, month_start

POSTED: Final = """
SELECT subject, customer, entry, extract(epoch FROM at)::bigint AS at, kind, currency, invoice, accounts, amounts,
       lines, because
FROM journal_entry
WHERE book = $1 AND at >= $2 AND at <= $3 AND (at, entry COLLATE "C") > ($2, $4)
  AND ($5::text IS NULL OR accounts @> ARRAY[$5])
ORDER BY journal_entry.at, entry COLLATE "C"
LIMIT $6
"""

ENDING: Final = """
SELECT subject, customer, invoice, line, currency, account, start, "end", first, amount, origin, unit, a, b, c, because
FROM earning_span
WHERE book = $1 AND "end" > $2 AND "end" < $3 AND start <= $4 AND ($5::text IS NULL OR $5 IN (account, 'revenue'))
ORDER BY "end"
FETCH FIRST $6 ROWS WITH TIES
"""

GOING_ON: Final = """
SELECT subject, customer, invoice, line, currency, account, start, "end", first, amount, origin, unit, a, b, c, because
FROM earning_span
WHERE book = $1 AND "end" >= $2 AND start <= $3 AND (line || ':rec:') COLLATE "C" >= $4
  AND ($5::text IS NULL OR $5 IN (account, 'revenue'))
ORDER BY (line || ':rec:') COLLATE "C"
FETCH FIRST $6 ROWS WITH TIES
"""

Place = tuple[int, str]
"""A time in seconds and an entry's name, by which a journal is ordered."""

Found = tuple[str, str | None, Entry]
"""An entry of a subject, and whose it is."""

_FEW: Final = 250
_MANY: Final = 16_000
_RECOGNISED: Final = ":rec:"
_AFTER_ALL: Final = "\U0010ffff"


async def read_pieces(
    connection: asyncpg.Connection, book: str, account: str | None, start: int, until: int, after: Place
) -> AsyncIterator[list[Found]]:
    """Give the entries from ``start`` to ``until``, which lie in one month, that come after a place."""
    ended = month_start(start, 1)
    last, place, size, more = ended - 1, max(after, (start, "")), _FEW, True
    while more and place < (last, ""):
        since = time_of(place[0])
        posted = await connection.fetch(POSTED, book, since, time_of(min(until, last - 1)), place[1], account, size)
        begin = place[0] + (place[1] == _AFTER_ALL)
        earned = await connection.fetch(ENDING, book, begin, ended, until, account, size)
        ends = [(posted[-1]["at"], posted[-1]["entry"])] if len(posted) == size else []
        ends += [(earned[-1]["end"] - 1, _AFTER_ALL)] if len(earned) >= size else []
        upto = min(ends, default=(last - 1, _AFTER_ALL))
        yield _between(place, upto, entries_of(posted), earnings_of(earned, start, until))
        place, size, more = upto, min(size * 2, _MANY), bool(ends)
    place, more = max(place, (last, "")), True
    while more:
        posted = await connection.fetch(POSTED, book, time_of(last), time_of(until), place[1], account, size)
        earned = await connection.fetch(GOING_ON, book, ended, until, _line_at(place[1]), account, size)
        ends = [(last, posted[-1]["entry"])] if len(posted) == size else []
        ends += [(last, f"{earned[-1]['line']}{_RECOGNISED}{_AFTER_ALL}")] if len(earned) >= size else []
        upto = min(ends, default=(last, _AFTER_ALL))
        yield _between(place, upto, entries_of(posted), earnings_of(earned, start, until))
        place, size, more = upto, min(size * 2, _MANY), bool(ends)


def _line_at(name: str) -> str:
    """Return where among lines' names those begin whose entries may come after an entry's name."""
    line, is_of_time, rest = name.partition(_RECOGNISED)
    return name if not is_of_time or rest == _AFTER_ALL else line + _RECOGNISED


def _between(place: Place, upto: Place, *found: Iterable[Found]) -> list[Found]:
    some = [one for each in found for one in each if place < (one[2].at, one[2].key) <= upto]
    return sorted(some, key=lambda one: (one[2].at, one[2].key))


def entries_of(rows: Iterable[asyncpg.Record]) -> Iterable[Found]:
    """Give rows as the entries of facts that they are."""
    for row in rows:
        postings = tuple(map(Posting, row["accounts"], row["amounts"], row["lines"]))
        about = (row["kind"], row["currency"], postings, row["invoice"], tuple(row["because"]))
        yield row["subject"], row["customer"], Entry(row["entry"], row["at"], *about)


def earnings_of(rows: Iterable[asyncpg.Record], start: int, until: int) -> Iterable[Found]:
    """Give what rows' spans earn in the month that ``start`` lies in as entries, as far as they come by ``until``."""
    month = month_start(start)
    for row in rows:
        for entry in entries_of_time([_earning(row, month)], until):
            if entry.at >= start:
                yield row["subject"], row["customer"], entry


def _earning(row: asyncpg.Record, month: int) -> Earning:
    """Return a row's span, as far as it lies in a month."""
    start = max(row["start"], month)
    end = min(row["end"], month_start(month, 1))
    span = Span(start, end, row["amount"], row["origin"], row["unit"], int(row["a"]), int(row["b"]), int(row["c"]))
    first = row["first"] and row["start"] == start
    return Earning(row["invoice"], row["line"], row["currency"], row["account"], span, first, tuple(row["because"]))

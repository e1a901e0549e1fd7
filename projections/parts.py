"""Cutting the work of a rebuild into parts, and reading the streams that must be read for links before any is folded.

A stream belongs to a customer, or to an object whose events name none. Links say to whom an object belongs, and the
last of them may be in any customer's history. So the objects' own events, which are few, are read for links here;
customers are folded next, each with what its own events claim (``claims``); and objects that then still belong to
nobody are folded by themselves, in parts that wait until all customers are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import asyncpg

from projections.claims import Claims, write_claims
from projections.contract import Projection
from projections.links import customers_of, linking
from projections.reading import read_in_pieces

PARTS_PER_BOOK: Final = 16
_EVENTS_PER_PART: Final = 20_000
_STREAMS_AT_ONCE: Final = 2_000
_SAMPLED: Final = 2_000

SPLITS: Final = """
SELECT unnest(percentile_disc($3::float8[]) WITHIN GROUP (ORDER BY stream_id)) AS stream_id
FROM ledger.event
WHERE book = $1 AND position = ANY ($2) AND stream_id ^@ ANY ($4)
"""

FOLDED_OF_SAMPLE: Final = """
SELECT count(*) AS folded, count(*) FILTER (WHERE stream_id ^@ ANY ($4)) AS of_customers
FROM ledger.event
WHERE book = $1 AND position = ANY ($2) AND type = ANY ($3)
"""

# Grouped, so that the planner does not search backwards through all books' streams.
LAST_STREAM: Final = """
SELECT max(stream_id)
FROM ledger.event
WHERE book = $1 AND position <= $2
GROUP BY book
"""

# What a stream's name begins with comes before it in every collation.
CUSTOMERS: Final = """
SELECT (SELECT min(stream_id) FROM ledger.event
        WHERE stream_id > $1 AND stream_id <= $2 AND stream_id ^@ ANY ($3)) AS first,
       (SELECT max(stream_id) FROM ledger.event
        WHERE stream_id > $1 AND stream_id <= $2 AND stream_id ^@ ANY ($3)) AS last
"""

# Else the planner fetches everything and sorts it.
IN_KEY_ORDER: Final = """
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_sort = off;
"""

# Answered by the index alone, without reading events.
NO_CUSTOMERS: Final = """
SELECT stream_id, count(*) AS events
FROM ledger.event
WHERE stream_id > $1 AND stream_id <= $2 AND stream_id ^@ ($3 || '/') AND NOT stream_id ^@ ANY ($4)
GROUP BY stream_id
ORDER BY stream_id
LIMIT $5
"""

# A crash may lose the last of it, which is then read again.
COMMIT_WITHOUT_WAITING: Final = "SET LOCAL synchronous_commit = off"


class Part(NamedTuple):
    """A range of a book's streams, and about how many events of it are folded."""

    book: str
    after: str
    until: str
    expected: int


async def cut(connection: asyncpg.Connection, projection: Projection, book: str, target: int) -> list[Part]:
    """Cut a book's streams into parts of about the same number of events. Customers' parts end with a customer's
    stream and come first, where a projection joins objects to customers; the links those make are written by then."""
    last = await connection.fetchval(LAST_STREAM, book, target) or book
    sample = sorted({1 + target * step // _SAMPLED for step in range(_SAMPLED)})
    counts = await connection.fetchrow(FOLDED_OF_SAMPLE, book, sample, list(projection.types), customers_of(book))
    folded, of_customers = (target * counts[name] // max(len(sample), 1) for name in ("folded", "of_customers"))
    if not projection.joins:
        return await _even(connection, book, sample, Part(book, book, last, folded), [f"{book}/"])
    async with connection.transaction(readonly=True):
        await connection.execute(IN_KEY_ORDER)
        ends = await connection.fetchrow(CUSTOMERS, book, last, customers_of(book))
    if ends["last"] is None:
        spans = await _linked(connection, projection, book, target, (book, last))
        return _shared(book, spans or [(book, last)], folded)
    borders = [book, ends["first"], ends["last"], last]
    found = [await _linked(connection, projection, book, target, span) for span in pairwise(borders)]
    before = found[0][-1][1] if found[0] else book
    customers = Part(book, before, ends["last"], of_customers)
    others = _shared(book, [span for spans in found for span in spans], folded - of_customers)
    return [*await _even(connection, book, sample, customers, customers_of(book)), *others]


async def _even(
    connection: asyncpg.Connection, book: str, sample: Sequence[int], whole: Part, begins: Sequence[str]
) -> list[Part]:
    """Cut a range into parts of about the same number of events, judging by a sample of them."""
    parts = min(PARTS_PER_BOOK, 1 + sample[-1] // _EVENTS_PER_PART)
    shares = [step / parts for step in range(1, parts)]
    rows = await connection.fetch(SPLITS, book, sample, shares, list(begins))
    cuts = list(dict.fromkeys(row["stream_id"] for row in rows if row["stream_id"] not in (None, whole.until)))
    return _shared(book, list(zip([whole.after, *cuts], [*cuts, whole.until], strict=True)), whole.expected)


def _shared(book: str, spans: Sequence[tuple[str, str]], expected: int) -> list[Part]:
    return [Part(book, after, until, expected // len(spans)) for after, until in spans]


async def _linked(
    connection: asyncpg.Connection, projection: Projection, book: str, target: int, span: tuple[str, str]
) -> list[tuple[str, str]]:
    """Write the links made by the events of objects between two streams; return that range, cut into parts."""
    parts: list[tuple[str, str]] = []
    at, until = span
    start, events = at, 0
    while rows := await _no_customers(connection, book, at, until):
        streams = [row["stream_id"] for row in rows]
        await _link(connection, projection, book, target, streams)
        at, events = streams[-1], events + sum(row["events"] for row in rows)
        if events >= _EVENTS_PER_PART:
            parts.append((start, at))
            start, events = at, 0
    return [*parts, (start, at)] if events else parts


async def _no_customers(connection: asyncpg.Connection, book: str, after: str, until: str) -> list[asyncpg.Record]:
    async with connection.transaction(readonly=True):
        await connection.execute(IN_KEY_ORDER)
        rows: list[asyncpg.Record] = await connection.fetch(
            NO_CUSTOMERS, after, until, book, customers_of(book), _STREAMS_AT_ONCE
        )
    return rows


async def _link(
    connection: asyncpg.Connection, projection: Projection, book: str, target: int, streams: Sequence[str]
) -> None:
    async for facts in read_in_pieces(connection, linking(projection.types), book, streams, target):
        claims = Claims()
        claims.add(book, None, facts)
        async with connection.transaction():
            await connection.execute(COMMIT_WITHOUT_WAITING)
            await write_claims(connection, book, claims.links)

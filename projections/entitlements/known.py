"""What was known at a position: histories as recorded by then, folded now with today's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from projections.contract import Projection, Row, Subject
from projections.facts import Fact
from projections.folding import rows_of
from projections.links import linking, links, merged, root_of
from projections.reading import facts_of
from projections.stored_links import streams_below

EVERYTHING: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id = ANY ($1) AND position <= $2
ORDER BY stream_id, version
"""


async def fold_subjects(
    connection: asyncpg.Connection, projection: Projection, book: str, subjects: Sequence[str], position: int
) -> dict[str, list[Row]]:
    """Fold subjects up to a position. The build's schema must be entered.

    The build says which streams belong to a subject now; which of them did then is read off the events of that time.
    """
    rows: dict[str, list[Row]] = {table.name: [] for table in projection.tables}
    below = await streams_below(connection, projection, subjects)
    streams = sorted({stream for some in below.values() for stream in some})
    found = await connection.fetch(EVERYTHING, streams, position)
    told: dict[str, list[Fact]] = {stream: [] for stream in streams}
    folded: dict[str, list[Fact]] = {stream: [] for stream in streams}
    for row, fact in zip(found, await facts_of(connection, found), strict=True):
        if row["type"] in linking(projection.types):
            told[row["stream_id"]].append(fact)
        if row["type"] in projection.types:
            folded[row["stream_id"]].append(fact)
    for subject, own in below.items():
        standing = merged({}, [link for stream in own for fact in told[stream] for link in links(book, fact)])
        joined = [stream for stream in own if root_of(stream, standing) == subject]
        facts = [fact for stream in joined for fact in folded[stream]]
        for table, some in rows_of(projection, Subject(book, subject), facts).items():
            rows[table] += some
    return rows

"""What had been recorded about some subjects by a position, folded with today's code."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from projections.contract import Projection, Row, Subject
from projections.facts import Fact
from projections.folding import rows_of
from projections.links import linking, links, merged, root_of
from projections.reading import read_histories
from projections.stored_links import streams_below
from projections.stored_terms import read_terms


async def facts_known(
    connection: asyncpg.Connection, projection: Projection, book: str, subjects: Sequence[str], position: int
) -> dict[str, list[Fact]]:
    """Return the facts of some subjects' histories up to a position, by the subject each was known to belong to then.

    The build must be entered: it says which streams may be theirs. A stream not joined by then is its own subject.
    """
    candidates = await streams_below(connection, projection, subjects)
    streams = sorted({stream for some in candidates.values() for stream in some})
    types = linking(projection.types) if projection.joins else projection.types
    histories = await read_histories(connection, types, streams, position)
    known = merged({}, [link for facts in histories.values() for fact in facts for link in links(book, fact)])
    found: dict[str, list[Fact]] = {subject: [] for subject in subjects}
    for stream, facts in histories.items():
        own = [fact for fact in facts if fact.type in projection.types]
        if own:
            found.setdefault(root_of(stream, known), []).extend(own)
    return found


async def rows_known(
    connection: asyncpg.Connection, projection: Projection, book: str, customer: str, position: int
) -> dict[str, Sequence[Row]]:
    """Return the rows of a customer's history up to a position. The build must be entered."""
    subject = f"{book}/{customer}"
    facts = (await facts_known(connection, projection, book, [subject], position))[subject]
    terms = await read_terms(connection, projection, book, position)
    return dict(rows_of(projection, Subject(book, subject), facts, terms))

"""What had been recorded of one customer by a position, folded with today's code."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from projections.contract import Projection, Row, Subject
from projections.folding import rows_of
from projections.joining import read_terms, streams_below
from projections.links import links, merged, root_of
from projections.reading import read_histories


async def rows_known(
    connection: asyncpg.Connection, projection: Projection, book: str, customer: str, position: int
) -> dict[str, Sequence[Row]]:
    """Return the rows of a customer's history up to a position.

    The build must be entered: it says which streams may be the customer's; which were is told by what was known.
    """
    subject = f"{book}/{customer}"
    candidates = (await streams_below(connection, projection, [subject]))[subject]
    histories = await read_histories(connection, projection.types, candidates, position)
    known = merged({}, [link for facts in histories.values() for fact in facts for link in links(book, fact)])
    facts = [fact for stream, some in histories.items() if root_of(stream, known) == subject for fact in some]
    terms = await read_terms(connection, projection, book, position)
    return dict(rows_of(projection, Subject(book, subject), facts, terms))

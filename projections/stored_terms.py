"""The terms of reference objects as the log has them: read once and kept, and which of them some news change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg

from ledger.event import identifier
from ledger.reader import Heading
from projections.contract import Projection
from projections.reading import facts_of, read_each
from projections.terms import KnownTerms

USERS: Final = "SELECT DISTINCT subject FROM reference_use WHERE reference = ANY ($1)"

REFERENCES: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE book = $1 AND position > $2 AND position <= $3 AND type = ANY ($4)
ORDER BY position
"""

TERMS_BEFORE: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id = ANY ($1) AND position < $2 AND type = ANY ($3)
ORDER BY position
"""


class TermsReader:
    """Reads the terms of reference objects and keeps them, so that a follower's next step reads only new ones."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, KnownTerms]] = {}

    def forget(self, book: str) -> None:
        """Forget a book's terms, because an event they came from may have been erased."""
        self._known.pop(book, None)

    async def read(self, connection: asyncpg.Connection, projection: Projection, book: str, until: int) -> KnownTerms:
        """Return the terms of every reference object of a book, as known by a position."""
        if not projection.references:
            return KnownTerms()
        position, terms = self._known.get(book, (0, KnownTerms()))
        if position > until:
            position, terms = 0, KnownTerms()
        rows = await connection.fetch(REFERENCES, book, position, until, list(projection.references))
        facts = await facts_of(connection, rows)
        terms.add(facts)
        for row, fact in zip(rows, facts, strict=True):
            if fact.unread is not None:  # the stream of a reference object is named after it
                terms.lack(row["stream_id"].partition("/")[2], fact.unread)
        self._known[book] = until, terms
        return terms


async def read_terms(connection: asyncpg.Connection, projection: Projection, book: str, until: int) -> KnownTerms:
    """Return the terms of every reference object of a book, as known by a position, once."""
    return await TermsReader().read(connection, projection, book, until)


async def users_of(connection: asyncpg.Connection, references: Iterable[str]) -> set[str]:
    """Return the subjects that have looked up some reference objects, given by their streams."""
    return {row["subject"] for row in await connection.fetch(USERS, sorted(references))}


async def changed_terms(
    connection: asyncpg.Connection, projection: Projection, book: str, news: Sequence[Heading]
) -> set[str]:
    """Name the streams of the reference objects whose terms some news change: many news only repeat them.

    An event that cannot be read counts as a change.
    """
    told = [fact async for fact in read_each(connection, book, [event.position for event in news])]
    streams = sorted({f"{book}/{name}" for fact in told if (name := identifier(fact.subject))})
    rows = await connection.fetch(TERMS_BEFORE, streams, news[0].position, list(projection.references))
    before = await facts_of(connection, rows)
    changed = KnownTerms([*before, *told]).differing_from(KnownTerms(before))
    unread = {fact.position for fact in told if fact.unread is not None}
    return {f"{book}/{name}" for name in changed} | {event.stream_id for event in news if event.position in unread}

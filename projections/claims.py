"""The links that a rebuild's workers learn while they fold, and how concurrent workers write them.

A customer's events claim the objects they name. The earliest claim stands, whichever worker writes first: a worker that
finds another claim waits until that is committed, and compares. Claims that lost are kept, and settled when
everything has been read (``rivals``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from projections import rivals
from projections.facts import Fact
from projections.links import Link, links_among, losing, merged, named, root_of

# In order of the children, so that two workers cannot deadlock.
CLAIM: Final = """
INSERT INTO link (child, book, parent, created, event_id)
SELECT child, $1, parent, created, event_id
FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[]) AS new (child, parent, created, event_id)
ON CONFLICT (child) DO NOTHING
RETURNING child
"""

STANDING: Final = """
SELECT child, parent, created, event_id
FROM link
WHERE child = ANY ($1)
ORDER BY child COLLATE "C"
FOR UPDATE
"""

REPLACE: Final = """
UPDATE link
SET parent = new.parent, created = new.created, event_id = new.event_id
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) AS new (child, parent, created, event_id)
WHERE link.child = new.child
"""


class Claims:
    """The links that some events make: the first of each child to each parent."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], Link] = {}
        self._strange: set[tuple[str, str]] = set()

    def add(self, book: str, stream: str | None, facts: Iterable[Fact]) -> None:
        """Add the links of more events, from a customer's ``stream`` or, with None, from any."""
        # Most events name the same as others before them: the first of those is enough.
        told: dict[tuple[str, ...], tuple[datetime, str]] = {}
        for fact in facts:
            names = named(fact)
            if len(names) > 1:
                rank = (fact.created, fact.event_id)
                if rank <= told.setdefault(names, rank):
                    told[names] = rank
        for names, rank in told.items():
            for link in links_among(book, names, *rank):
                key = (link.child, link.parent)
                standing = self._first.get(key)
                if standing is None or link.rank < standing.rank:
                    self._first[key] = link
                if stream is not None and link.parent != stream:
                    self._strange.add((link.child, stream))

    @property
    def children(self) -> list[str]:
        """The claimed streams."""
        return sorted({child for child, _ in self._first})

    def strays(self, standing: Mapping[str, Link]) -> list[str]:
        """Return children that a customer's stream names but that belong elsewhere, as an observation may do."""
        return sorted({child for child, stream in self._strange if root_of(child, standing) != stream})

    @property
    def links(self) -> Sequence[Link]:
        """The claims."""
        return list(self._first.values())


async def write_claims(connection: asyncpg.Connection, book: str, claims: Sequence[Link]) -> None:
    """Write each child's first link, and keep those that lost to it."""
    first = merged({}, claims)
    children = sorted(first)
    if not children:
        return
    rows = await connection.fetch(CLAIM, book, *_columns([first[child] for child in children]))
    rest = sorted(first.keys() - {row["child"] for row in rows})
    before = {row["child"]: Link(*row) for row in await connection.fetch(STANDING, rest)} if rest else {}
    after = merged(first, before.values())
    if changed := [after[child] for child in rest if after[child] != before[child]]:
        await connection.execute(REPLACE, *_columns(changed))
    await rivals.note(connection, book, set(losing(claims, before, after)))


def _columns(some: Sequence[Link]) -> tuple[list[object], ...]:
    return tuple([*column] for column in zip(*some, strict=True))

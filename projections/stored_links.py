"""The links that a build has written: which streams they join, above, below and around given ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import asyncpg

from projections.contract import Projection
from projections.links import Link, is_customer, root_of

LINKS_UP: Final = """
WITH RECURSIVE up AS (
    SELECT child, parent, created, event_id, 1 AS depth FROM link WHERE child = ANY ($1)
    UNION
    SELECT l.child, l.parent, l.created, l.event_id, up.depth + 1
    FROM link AS l
    JOIN up ON l.child = up.parent
    WHERE up.depth < 8
)
SELECT DISTINCT child, parent, created, event_id FROM up
"""

LINKS_DOWN: Final = """
WITH RECURSIVE down AS (
    SELECT child, parent, created, event_id, 1 AS depth FROM link WHERE parent = ANY ($1)
    UNION
    SELECT l.child, l.parent, l.created, l.event_id, down.depth + 1
    FROM link AS l
    JOIN down ON l.parent = down.child
    WHERE down.depth < 8
)
SELECT DISTINCT child, parent, created, event_id FROM down
"""

LINKS_AT: Final = """
SELECT child, parent, created, event_id FROM link WHERE child = ANY ($1)
UNION ALL
SELECT child, parent, created, event_id FROM link WHERE parent = ANY ($1)
"""


async def streams_below(
    connection: asyncpg.Connection,
    projection: Projection,
    subjects: Sequence[str],
    known: Mapping[str, Link] | None = None,
    *,
    also: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Return the streams of each subject: its own and every one linked below it.

    ``known`` are links that stand but are not written yet; ``also`` were roots before those links.
    """
    if not projection.joins or not subjects:
        return {subject: [subject] for subject in subjects}
    rows = await connection.fetch(LINKS_DOWN, sorted({*subjects, *also}))
    return below(subjects, {row["child"]: Link(*row) for row in rows} | dict(known or {}))


def below(subjects: Sequence[str], standing: Mapping[str, Link]) -> dict[str, list[str]]:
    """Return the streams of each subject, given all the links below them."""
    found: dict[str, set[str]] = {subject: {subject} for subject in subjects}
    for child in standing:
        root = root_of(child, standing)
        if root in found:
            found[root].add(child)
    return {subject: sorted(found[subject]) for subject in subjects}


async def roots_of(connection: asyncpg.Connection, projection: Projection, streams: Sequence[str]) -> dict[str, str]:
    """Return the subject each stream belongs to, according to the links written so far."""
    known = await read_up(connection, streams) if projection.joins else {}
    return {stream: root_of(stream, known) for stream in streams}


async def read_around(connection: asyncpg.Connection, streams: Iterable[str]) -> dict[str, Link]:
    """Return the written links of some streams, of what they lead to, and of everything below them, by child.

    Streams below other customers are left out. Reads step by step: one or two steps are the rule, and quicker than
    planning a recursive query.
    """
    found: dict[str, Link] = {}
    seen, new = set[str](), set(streams)
    while new:
        seen |= new
        links_ = [Link(*row) for row in await connection.fetch(LINKS_AT, sorted(new))]
        found |= {link.child: link for link in links_}
        ends = {end for link in links_ for end in (link.child, link.parent)} - seen
        new = {end for end in ends if not is_customer(end)}
    return found


async def read_up(connection: asyncpg.Connection, streams: Sequence[str]) -> dict[str, Link]:
    """Return the written links of some streams and of what they lead to, by child."""
    if not streams:
        return {}
    return {row["child"]: Link(*row) for row in await connection.fetch(LINKS_UP, list(streams))}

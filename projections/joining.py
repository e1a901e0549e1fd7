"""Which subject new events belong to if they name no customer, and who is affected when links or terms arrive late.

For a projection without ``joins`` and ``references`` this costs nothing: each stream is its own subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg

from ledger.reader import Heading
from projections.contract import Projection
from projections.links import Link, LinkChange, linking, links, losing, path_of, root_of
from projections.reading import read_each
from projections.refold import Wanted
from projections.stored_links import LINKS_DOWN, read_up, streams_below
from projections.stored_terms import changed_terms, users_of
from projections.warm import Warm

LINK: Final = """
INSERT INTO link (child, book, parent, created, event_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (child) DO UPDATE
SET parent = excluded.parent, created = excluded.created, event_id = excluded.event_id
WHERE (excluded.created, excluded.event_id COLLATE "C") < (link.created, link.event_id)
"""

HAD_EVENTS: Final = "SELECT DISTINCT stream_id FROM ledger.event WHERE stream_id = ANY ($1) AND position < $2"

MARK_DIRTY: Final = """
INSERT INTO dirty (subject, book, why)
SELECT DISTINCT subject, $2, $3
FROM unnest($1::text[]) AS subject
ORDER BY subject
ON CONFLICT (subject) DO NOTHING
"""


@dataclass(slots=True)
class Joined:
    """What a batch of news means: subjects to refold, former roots whose rows must go, links and marks to write."""

    book: str
    wanted: list[Wanted] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)
    no_longer_roots: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    losing: list[Link] = field(default_factory=list)
    dirty: set[str] = field(default_factory=set)


async def join(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    news: Sequence[Heading],
    warm: Warm | None = None,
) -> Joined:
    """Find the subjects that a batch of news concerns. The build's schema must be entered.

    For subjects that ``warm`` remembers, the streams are known, unless a stream with a past joins them.
    """
    own = [event for event in news if event.type in projection.types]
    if projection.joins:
        joined = await _join_links(connection, projection, book, news, own, warm)
    else:
        joined = Joined(book, _wanted(own, {}, {}))
    if terms_news := [event for event in news if event.type in projection.references]:
        joined.dirty |= await users_of(connection, await changed_terms(connection, projection, book, terms_news))
    return joined


async def _join_links(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    news: Sequence[Heading],
    own: Sequence[Heading],
    warm: Warm | None,
) -> Joined:
    """Join the streams of some news to their subjects, by the links written so far and those that the news make."""
    telling = linking(projection.types)
    positions = [event.position for event in news if event.type in telling]
    new = [link async for fact in read_each(connection, book, positions) for link in links(book, fact)]
    streams = sorted({event.stream_id for event in own} | {end for link in new for end in (link.child, link.parent)})
    change = LinkChange.of(await read_up(connection, streams), new)
    roots = {stream: root_of(stream, change.after) for stream in streams}
    # A child that joins a root brings its past along, and one that leaves takes it away: both roots are refolded whole.
    moved = await _with_a_past(connection, change.moved, change.after, news[0].position)
    affected, gone = change.roots_of(moved), change.former_roots(moved)
    whole = affected - gone
    streams_of = _remembered(own, roots, whole, warm)
    unknown = sorted((whole | {roots[event.stream_id] for event in own}) - streams_of.keys())
    streams_of |= await streams_below(connection, projection, unknown, change.after, also=sorted(affected))
    wanted = _wanted(own, roots, streams_of, whole)
    return Joined(book, wanted, roots, sorted(gone), change.written, losing(new, change.before, change.after))


async def _with_a_past(
    connection: asyncpg.Connection, moved: set[str], after: Mapping[str, Link], position: int
) -> set[str]:
    """Return those of some streams that had events before a position, themselves or through a stream below them.

    Hardly any has: an event that names its customer is in the customer's stream, and other streams are only named.
    """
    if not moved:
        return set()
    standing = {row["child"]: Link(*row) for row in await connection.fetch(LINKS_DOWN, sorted(moved))} | dict(after)
    rows = await connection.fetch(HAD_EVENTS, sorted(moved | standing.keys()), position)
    return {one for row in rows for one in path_of(row["stream_id"], standing) if one in moved}


def _remembered(
    own: Sequence[Heading], roots: Mapping[str, str], whole: set[str], warm: Warm | None
) -> dict[str, list[str]]:
    """Return the streams of remembered subjects: those they had, and those of their news."""
    found: dict[str, list[str]] = {}
    for event in own:
        root = roots[event.stream_id]
        known = warm.get(root) if warm and root not in whole else None
        if known is not None:
            found.setdefault(root, list(known.streams)).append(event.stream_id)
    return {root: list(dict.fromkeys(streams)) for root, streams in found.items()}


def _wanted(
    own: Iterable[Heading],
    roots: Mapping[str, str],
    streams_of: Mapping[str, Sequence[str]],
    whole: Iterable[str] = (),
) -> list[Wanted]:
    """Gather news by subject; a subject to be refolded whole is wanted without its news."""
    news: dict[str, list[tuple[datetime, int]]] = {}
    for event in own:
        news.setdefault(roots.get(event.stream_id, event.stream_id), []).append((event.created, event.position))
    news |= {subject: [] for subject in whole}
    return [Wanted(subject, tuple(streams_of.get(subject, [subject])), tuple(some)) for subject, some in news.items()]


async def write(connection: asyncpg.Connection, joined: Joined) -> None:
    """Write new links, and mark the subjects that changed terms affect."""
    if joined.links:
        records = [(link.child, joined.book, link.parent, link.created, link.event_id) for link in joined.links]
        await connection.executemany(LINK, records)
    if joined.dirty:
        await connection.execute(MARK_DIRTY, sorted(joined.dirty), joined.book, "terms")

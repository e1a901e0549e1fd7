"""Which subject new events belong to if they name no customer, and who is affected when links or terms arrive late.

For a projection without ``joins`` and ``references`` this costs nothing: each stream is its own subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg

from ledger.event import identifier
from ledger.reader import Heading
from projections.contract import Projection
from projections.links import Link, LinkChange, is_customer, linking, links, losing, path_of, root_of
from projections.reading import facts_of, read_each
from projections.refold import Wanted
from projections.terms import KnownTerms
from projections.warm import Warm

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

LINK: Final = """
INSERT INTO link (child, book, parent, created, event_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (child) DO UPDATE
SET parent = excluded.parent, created = excluded.created, event_id = excluded.event_id
WHERE (excluded.created, excluded.event_id) < (link.created, link.event_id)
"""

LINKS_AT: Final = """
SELECT child, parent, created, event_id FROM link WHERE child = ANY ($1)
UNION ALL
SELECT child, parent, created, event_id FROM link WHERE parent = ANY ($1)
"""

HAD_EVENTS: Final = "SELECT DISTINCT stream_id FROM ledger.event WHERE stream_id = ANY ($1) AND position < $2"

MARK_DIRTY: Final = """
INSERT INTO dirty (subject, book, why)
SELECT DISTINCT subject, $2, $3
FROM unnest($1::text[]) AS subject
ORDER BY subject
ON CONFLICT (subject) DO NOTHING
"""

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
        changed = await _changed_terms(connection, projection, book, terms_news)
        joined.dirty |= {row["subject"] for row in await connection.fetch(USERS, sorted(changed))}
    return joined


async def _changed_terms(
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

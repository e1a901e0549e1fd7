"""Rebuilding: folding all of history into a new build, beside the live one, with any number of workers.

The streams of every book are cut into parts (``parts``). A worker takes a part that nobody works on, folds some of its
subjects whole (a *piece*), and writes their rows, their claims (``claims``) and the part's progress in one transaction;
so an interrupted rebuild resumes where it was. While it writes one piece, it already reads and folds the next
(``ahead``). When every part is done, the build's checkpoints are set to where the parts ended, and it follows the log
like the live build: from there on, live and rebuild are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import asyncpg

from projections import joining, rivals, stored_links, stored_terms
from projections.ahead import PIECE_ROWS, Ahead, Place, read, working_ahead
from projections.builds import Build, enter, set_phase
from projections.claims import Claims, write_claims
from projections.collecting import collector_paused
from projections.contract import Projection
from projections.facts import Fact
from projections.links import CUSTOMERS, Link, is_customer, linking, merged
from projections.parts import cut
from projections.reading import parsed, prepare, read_in_pieces, read_rows
from projections.refold import Refolding, Wanted, Work, fold_long, fold_one
from projections.terms import KnownTerms
from projections.writing import keep, park, write_new

_Rows = list[asyncpg.Record]

_JOINED_ROWS: Final = PIECE_ROWS
"""If the streams below a piece's subjects have more events than this, they are read subject by subject."""

_UNINTERRUPTED: Final = 50
"""How many events are parsed before the loop yields to the piece that is being written."""

ADD_PART: Final = """
INSERT INTO ledger.build_part (build_id, part, book, after_stream, until_stream, expected)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
"""

# First the part whose next piece is already prepared ($2). Parts of objects wait until no part of customers is left;
# the end of a customers' part matches the pattern $3.
TAKE_PART: Final = """
SELECT part, book, after_stream, until_stream
FROM ledger.build_part AS one
WHERE build_id = $1 AND NOT done
  AND ($3::text IS NULL OR until_stream ~ $3 OR NOT EXISTS (
    SELECT FROM ledger.build_part AS other
    WHERE other.build_id = $1 AND other.book = one.book AND NOT other.done AND other.until_stream ~ $3
  ))
ORDER BY until_stream IS DISTINCT FROM $2, part
LIMIT 1
FOR UPDATE SKIP LOCKED
"""

WITHOUT_EVENTS: Final = """
SELECT subject
FROM unnest($1::text[]) AS subject
WHERE NOT EXISTS (
    SELECT FROM ledger.event WHERE stream_id = subject AND type = ANY ($2) AND position <= $3
)
ORDER BY subject
"""

# A new table has no statistics yet, and the planner reads a table it believes small whole for every row of another.
LEARN_LINKS: Final = "ANALYZE link, rival_link"

# A crash may undo the last pieces: rows and progress are lost together, and are folded again. Links must be read by
# key: while they grow, the table has no statistics to plan with.
WRITE_A_PIECE: Final = """
SET LOCAL synchronous_commit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
"""

MOVE_PART: Final = """
UPDATE ledger.build_part
SET after_stream = $3, events = events + $4, done = $5
WHERE build_id = $1 AND part = $2
"""

PARTS: Final = """
SELECT count(*) AS parts, count(*) FILTER (WHERE done) AS done, coalesce(sum(events), 0)::bigint AS events,
       coalesce(sum(CASE WHEN done THEN events ELSE greatest(events, expected) END), 0)::bigint AS expected
FROM ledger.build_part
WHERE build_id = $1
"""

LOCK_BUILD: Final = "SELECT phase FROM ledger.build WHERE build_id = $1 FOR UPDATE"

SET_CHECKPOINT: Final = """
INSERT INTO ledger.checkpoint (build_id, book, position)
VALUES ($1, $2, $3)
ON CONFLICT (build_id, book) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is: parts and those done, the events folded, and about how many it will be in all."""

    parts: int
    done: int
    events: int
    expected: int

    @property
    def finished(self) -> bool:
        """Whether nothing is left to fold except what was appended since."""
        return self.done == self.parts


@dataclass(slots=True)
class _Piece:
    """Some whole subjects of a part, the part's progress after them, and the reader of the next piece."""

    subjects: dict[str, _Rows]
    long: str | None
    after: str
    done: bool
    events: int
    ahead: Ahead[_Rows]


class _Folded(NamedTuple):
    """A folded piece: its subjects, their claims, who must be folded again, and the part's progress after it."""

    refolding: Refolding
    claims: Sequence[Link]
    again: Sequence[str]
    after: str
    done: bool
    events: int


async def plan(connection: asyncpg.Connection, projection: Projection, build: Build) -> None:
    """Cut a new build's work into parts, after reading the links between objects; a second call changes nothing."""
    if (await read_progress(connection, build)).parts:
        return
    await enter(connection, build.schema_name)
    with collector_paused():
        books = sorted(build.targets.items())
        parts = [part for book, target in books for part in await cut(connection, projection, book, target)]
    async with connection.transaction():
        for number, part in enumerate(parts, 1):
            await connection.execute(ADD_PART, build.build_id, number, *part)


async def read_progress(connection: asyncpg.Connection, build: Build) -> Progress:
    """Return how far a rebuild is."""
    return Progress(**dict(await connection.fetchrow(PARTS, build.build_id)))


@contextlib.asynccontextmanager
async def folding_ahead(
    reading: asyncpg.Connection, projection: Projection, build: Build, terms: Mapping[str, KnownTerms]
) -> AsyncIterator[Ahead[_Folded]]:
    """Fold a piece over this connection while the one before is written over another, and meanwhile read the next."""
    await enter(reading, build.schema_name)
    read_some = partial(read, limit=_at_once(projection))
    # Parsed events have no cycles, and collecting among them would cost a third of the time.
    with collector_paused():
        async with working_ahead(reading, read_some) as rows:

            async def fold(connection: asyncpg.Connection, place: Place) -> _Folded:
                return await _fold(connection, projection, place, terms.get(place.book, KnownTerms()), rows)

            async with working_ahead(reading, fold) as ahead:
                yield ahead


async def fold_piece(
    connection: asyncpg.Connection, projection: Projection, build: Build, ahead: Ahead[_Folded]
) -> bool:
    """Fold a piece of a part that nobody else works on; return whether there was one."""
    await enter(connection, build.schema_name)
    async with connection.transaction():
        await connection.execute(WRITE_A_PIECE)
        pattern = CUSTOMERS if projection.joins else None
        part = await connection.fetchrow(TAKE_PART, build.build_id, ahead.until, pattern)
        if part is None:
            return False
        book, until = part["book"], part["until_stream"]
        types = linking(projection.types) if projection.joins else projection.types
        customers = is_customer(until) if projection.joins else None
        place = Place(part["after_stream"], until, book, build.targets[book], tuple(sorted(types)), customers)
        folded = await ahead.piece(place)
        if not folded.done:
            ahead.begin(place._replace(after=folded.after))
        await write_claims(connection, book, folded.claims)
        await write_new(connection, projection, folded.refolding)
        await keep(connection, folded.refolding.done)
        await park(connection, build.build_id, book, folded.refolding, {})
        if folded.again:
            await connection.execute(joining.MARK_DIRTY, folded.again, book, "joined")
        await connection.execute(MOVE_PART, build.build_id, part["part"], folded.after, folded.events, folded.done)
    if folded.refolding.failed:
        gc.collect()  # an exception and its frames refer to each other
    return True


async def read_all_terms(connection: asyncpg.Connection, projection: Projection, build: Build) -> dict[str, KnownTerms]:
    """Return the terms of every book as of the build's target position."""
    return {book: await stored_terms.read_terms(connection, projection, book, at) for book, at in build.targets.items()}


async def finish(connection: asyncpg.Connection, build: Build) -> bool:
    """Once all parts are done, let the build follow the log (or stay, if bounded); return whether they are.

    Customers that claimed the same object were folded without knowing of each other: they are marked to be refolded.
    """
    async with connection.transaction():
        if await connection.fetchval(LOCK_BUILD, build.build_id) != "folding":
            return True
        if not (await read_progress(connection, build)).finished:
            return False
        await enter(connection, build.schema_name)
        await connection.execute(LEARN_LINKS)
        for book, target in build.targets.items():
            if claimants := await rivals.settle_all(connection, build.build_id, book):
                await connection.execute(joining.MARK_DIRTY, claimants, book, "joined")
            await connection.execute(SET_CHECKPOINT, build.build_id, book, target)
        await set_phase(connection, build, "ready" if build.bounded else "catching_up")
    return True


def _at_once(projection: Projection) -> int:
    """Return how many rows are read at once: no more than the projection folds at once."""
    return min(PIECE_ROWS, projection.step_events or PIECE_ROWS)


async def _piece(connection: asyncpg.Connection, projection: Projection, place: Place, ahead: Ahead[_Rows]) -> _Piece:
    """Read the whole subjects of a piece. The last stream of a full read may continue, so it waits for the next."""
    rows = await ahead.piece(place)
    full = len(rows) == _at_once(projection)
    last = rows[-1]["stream_id"] if rows else ""
    if full and rows[0]["stream_id"] == last:
        return _Piece({}, last, last, done=False, events=_count(projection, rows), ahead=ahead)
    used = [row for row in rows if row["stream_id"] != last] if full else rows
    await prepare(connection, used)
    subjects = {stream: list(some) for stream, some in groupby(used, key=itemgetter("stream_id"))}
    after = used[-1]["stream_id"] if used else place.after
    return _Piece(subjects, None, after, done=not full, events=_count(projection, used), ahead=ahead)


def _count(projection: Projection, rows: Sequence[asyncpg.Record]) -> int:
    return sum(row["type"] in projection.types for row in rows)


async def _fold(
    connection: asyncpg.Connection, projection: Projection, place: Place, terms: KnownTerms, ahead: Ahead[_Rows]
) -> _Folded:
    piece = await _piece(connection, projection, place, ahead)
    if place.customers is None:
        whole = [piece.long] if piece.long else list(piece.subjects)
        refolding = await _fold_subjects(connection, projection, place, terms, piece, {one: [one] for one in whole}, {})
        return _Folded(refolding, (), (), piece.after, piece.done, piece.events)
    if place.customers:
        return await _fold_customers(connection, projection, place, terms, piece)
    return await _fold_objects(connection, projection, place, terms, piece)


async def _fold_customers(
    connection: asyncpg.Connection, projection: Projection, place: Place, terms: KnownTerms, piece: _Piece
) -> _Folded:
    """Fold customers with the objects that their own events link to them and those already linked below."""
    claims = Claims()
    told: dict[str, list[Fact]] = {}
    if piece.long:
        told[piece.long] = []
        async for some in read_in_pieces(connection, place.types, place.book, [piece.long], place.target):
            claims.add(place.book, piece.long, some)
    for stream in list(piece.subjects):
        rows = piece.subjects.pop(stream)
        facts: list[Fact] = []
        for start in range(0, len(rows), _UNINTERRUPTED):
            await asyncio.sleep(0)  # let in what is being written
            facts += parsed(rows[start : start + _UNINTERRUPTED])
        claims.add(place.book, stream, facts)
        told[stream] = [fact for row, fact in zip(rows, facts, strict=True) if row["type"] in projection.types]
    standing = merged(await stored_links.read_around(connection, [*told, *claims.children]), claims.links)
    below = stored_links.below(list(told), standing)
    refolding = await _fold_subjects(connection, projection, place, terms, piece, below, told)
    return _Folded(refolding, claims.links, claims.strays(standing), piece.after, piece.done, piece.events)


async def _fold_objects(
    connection: asyncpg.Connection, projection: Projection, place: Place, terms: KnownTerms, piece: _Piece
) -> _Folded:
    """Fold streams that belong to no customer, now that all links are written."""
    streams = [piece.long] if piece.long else list(piece.subjects)
    roots = await stored_links.roots_of(connection, projection, streams)
    # A subject without events of its own is in no part, so it must be marked to be refolded.
    elsewhere = sorted(set(roots.values()) - set(streams))
    silent = [row["subject"] for row in await connection.fetch(WITHOUT_EVENTS, elsewhere, place.types, place.target)]
    whole = [stream for stream in streams if roots[stream] == stream]
    below = await stored_links.streams_below(connection, projection, whole)
    refolding = await _fold_subjects(connection, projection, place, terms, piece, below, {})
    return _Folded(refolding, (), silent, piece.after, piece.done, piece.events)


async def _fold_subjects(
    connection: asyncpg.Connection,
    projection: Projection,
    place: Place,
    terms: KnownTerms,
    piece: _Piece,
    below: Mapping[str, Sequence[str]],
    told: dict[str, list[Fact]],
) -> Refolding:
    """Fold subjects of a piece with the streams below them; their own facts are in ``told``, or in the piece's rows."""
    work = Work(connection, projection, place.book, place.target, terms)
    others = [stream for subject, streams in below.items() for stream in streams if stream != subject]
    joined = None if piece.long else await read_rows(connection, projection.types, others, place.target, _JOINED_ROWS)
    if joined is not None and not piece.done:
        piece.ahead.begin(place._replace(after=piece.after))  # this piece needs the connection no more
    for subject, streams in below.items():
        await asyncio.sleep(0)  # let in what is being written
        if joined is None:
            await fold_long(work, Wanted(subject, tuple(streams)))
            continue
        # Decode one subject at a time, so that only its parsed events are in memory.
        rows = [row for row in piece.subjects.pop(subject, ()) if row["type"] in projection.types]
        rows += [row for stream in streams for row in joined.pop(stream, ())]
        facts = [*told.pop(subject, ()), *parsed(rows)]
        if facts:
            fold_one(work, subject, facts)
    return work.result

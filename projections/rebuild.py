"""Rebuilding: folding all of history into a new build, beside the live one, by any number of workers.

The streams of every book are cut into parts. A worker takes a part that nobody works on, folds some of its subjects
whole, and writes their rows together with how far the part has come; so a rebuild that is stopped, however, goes on
where it was. While it writes, it reads and folds what comes next (``ahead``). When every part is done, the build's
checkpoints are set to where the parts ended and it follows the log like the live one: from there, live and rebuild are
the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import asyncpg

from projections import joining, rivals
from projections.ahead import PIECE_ROWS, Ahead, Place, read, working_ahead
from projections.builds import Build, enter, set_phase
from projections.contract import Projection, Subject
from projections.reading import parsed, prepare, read_rows
from projections.refold import Refolding, Wanted, fold_long, fold_one
from projections.terms import KnownTerms
from projections.writing import keep, park, write_new

PARTS_PER_BOOK: Final = 16
_EVENTS_PER_PART: Final = 20_000
_LINKED_AT_ONCE: Final = 2_000
_SAMPLED: Final = 2_000
_JOINED_ROWS: Final = PIECE_ROWS
"""More events than this below a piece's subjects are read in pieces, subject by subject."""

SPLITS: Final = """
SELECT unnest(percentile_disc($3::float8[]) WITHIN GROUP (ORDER BY stream_id)) AS stream_id
FROM ledger.event
WHERE book = $1 AND position = ANY ($2)
"""

# Grouped, so that it is not looked for from the end of all books' streams.
LAST_STREAM: Final = """
SELECT max(stream_id)
FROM ledger.event
WHERE book = $1 AND position <= $2
GROUP BY book
"""

FOLDED_OF_SAMPLE: Final = """
SELECT count(*)
FROM ledger.event
WHERE book = $1 AND position = ANY ($2) AND type = ANY ($3)
"""

ADD_PART: Final = """
INSERT INTO ledger.build_part (build_id, part, book, after_stream, until_stream, expected)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
"""

# The part goes first whose next piece is there already.
TAKE_PART: Final = """
SELECT part, book, after_stream, until_stream
FROM ledger.build_part
WHERE build_id = $1 AND NOT done
ORDER BY until_stream IS DISTINCT FROM $2, part
LIMIT 1
FOR UPDATE SKIP LOCKED
"""

WITH_OWN_EVENTS: Final = """
SELECT DISTINCT stream_id
FROM ledger.event
WHERE stream_id = ANY ($1) AND type = ANY ($2) AND position <= $3
"""

# Nothing has counted a new table yet, and what is believed to be small is read whole for every row of another.
LEARN_LINKS: Final = "ANALYZE link"

# A crash may take back the last pieces: their rows and how far their part had come go together, and are folded again.
COMMIT_WITHOUT_WAITING: Final = "SET LOCAL synchronous_commit = off"

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

ALL_EVENTS: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE book = $1 AND position > $2 AND position <= $3
ORDER BY position
LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is: parts done of parts, the events folded in them, and about how many it will be in all."""

    parts: int
    done: int
    events: int
    expected: int

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to fold but what has been appended since."""
        return self.done == self.parts


@dataclass(slots=True)
class _Piece:
    """Some whole subjects of a part, and where the part stands after them."""

    subjects: dict[str, list[asyncpg.Record]]
    long: str | None
    after: str
    done: bool
    events: int


class _Folded(NamedTuple):
    """What a piece comes to: its subjects folded, the roots that no part comes past, and where the part stands then."""

    refolding: Refolding
    silent: list[str]
    after: str
    done: bool
    events: int


async def plan(connection: asyncpg.Connection, projection: Projection, build: Build) -> None:
    """Cut a new build's work into parts, after reading what links subjects; done again, it changes nothing."""
    if (await read_progress(connection, build)).parts:
        return
    await enter(connection, build.schema_name)
    if projection.joins:
        with _collector_paused():
            for book, target in build.targets.items():
                await _link(connection, build, book, target)
        await connection.execute(LEARN_LINKS)
    async with connection.transaction():
        part = 0
        for book, target in sorted(build.targets.items()):
            cuts = await _cuts(connection, book, target)
            expected = await _expected(connection, projection, book, target) // (len(cuts) + 1)
            # A part without an end would be looked for in every later book, piece by piece. What a stream's name
            # begins with comes before it in every collation.
            last = await connection.fetchval(LAST_STREAM, book, target) or book
            for after, until in zip([book, *cuts], [*cuts, last], strict=True):
                part += 1
                await connection.execute(ADD_PART, build.build_id, part, book, after, until, expected)


async def _cuts(connection: asyncpg.Connection, book: str, target: int) -> list[str]:
    """Return streams that cut a book into parts of about the same number of events."""
    parts = min(PARTS_PER_BOOK, 1 + target // _EVENTS_PER_PART)
    shares = [step / parts for step in range(1, parts)]
    rows = await connection.fetch(SPLITS, book, _sample(target), shares)
    return list(dict.fromkeys(row["stream_id"] for row in rows if row["stream_id"] is not None))


def _sample(target: int) -> list[int]:
    return sorted({1 + target * step // _SAMPLED for step in range(_SAMPLED)})


async def _expected(connection: asyncpg.Connection, projection: Projection, book: str, target: int) -> int:
    """Return about how many events of a book the projection folds, from a sample of them."""
    sample = _sample(target)
    found = int(await connection.fetchval(FOLDED_OF_SAMPLE, book, sample, list(projection.types)))
    return target * found // max(len(sample), 1)


async def _link(connection: asyncpg.Connection, build: Build, book: str, target: int) -> None:
    """Pass over a book's events for what links streams, and what two customers claim."""
    after = 0
    while rows := await connection.fetch(ALL_EVENTS, book, after, target, _LINKED_AT_ONCE):
        await prepare(connection, rows)
        after = rows[-1]["position"]
        async with connection.transaction():
            await connection.execute(COMMIT_WITHOUT_WAITING)
            # Parsed one by one: each is gone before the next.
            facts = (fact for row in rows for fact in parsed([row]))
            touched, losing = await joining.write_links(connection, book, facts)
            await rivals.note(connection, book, losing)
            if touched:
                await rivals.settle(connection, build.build_id, book, touched)


async def read_progress(connection: asyncpg.Connection, build: Build) -> Progress:
    """Return how far a rebuild is."""
    return Progress(**dict(await connection.fetchrow(PARTS, build.build_id)))


@contextlib.asynccontextmanager
async def folding_ahead(
    reading: asyncpg.Connection, projection: Projection, build: Build, terms: Mapping[str, KnownTerms]
) -> AsyncIterator[Ahead[_Folded]]:
    """Use a connection to fold a piece while the one before it is written over another."""
    await enter(reading, build.schema_name)

    async def fold(connection: asyncpg.Connection, place: Place) -> _Folded:
        return await _fold(connection, projection, place, terms.get(place.book, KnownTerms()))

    async with working_ahead(reading, fold) as ahead:
        yield ahead


async def fold_piece(
    connection: asyncpg.Connection, projection: Projection, build: Build, ahead: Ahead[_Folded]
) -> bool:
    """Fold a piece of whatever part nobody else works on; return whether there was one."""
    await enter(connection, build.schema_name)
    with _collector_paused():
        return await _fold_piece(connection, projection, build, ahead)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Fold without looking for cycles: parsed events have none, and looking through them all costs a third."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


async def _fold_piece(
    connection: asyncpg.Connection, projection: Projection, build: Build, ahead: Ahead[_Folded]
) -> bool:
    async with connection.transaction():
        await connection.execute(COMMIT_WITHOUT_WAITING)
        part = await connection.fetchrow(TAKE_PART, build.build_id, ahead.until)
        if part is None:
            return False
        book, target = part["book"], build.targets[part["book"]]
        place = Place(part["after_stream"], part["until_stream"], book, target, tuple(sorted(projection.types)))
        folded = await ahead.piece(place)
        if not folded.done:
            ahead.begin(place._replace(after=folded.after))
        await write_new(connection, projection, folded.refolding)
        await keep(connection, folded.refolding.done)
        await park(connection, build.build_id, book, folded.refolding, {})
        if folded.silent:
            # No part comes past subjects without events of their own.
            await connection.execute(joining.MARK_DIRTY, folded.silent, book, "joined")
        await connection.execute(MOVE_PART, build.build_id, part["part"], folded.after, folded.events, folded.done)
    return True


async def read_all_terms(connection: asyncpg.Connection, projection: Projection, build: Build) -> dict[str, KnownTerms]:
    """Return the terms of every book as the build's target has them."""
    return {book: await joining.read_terms(connection, projection, book, at) for book, at in build.targets.items()}


async def finish(connection: asyncpg.Connection, build: Build) -> bool:
    """Set a build whose parts are all done to follow the log, or to stay; return whether they are."""
    async with connection.transaction():
        if await connection.fetchval(LOCK_BUILD, build.build_id) != "folding":
            return True
        if not (await read_progress(connection, build)).finished:
            return False
        for book, target in build.targets.items():
            await connection.execute(SET_CHECKPOINT, build.build_id, book, target)
        await set_phase(connection, build, "ready" if build.bounded else "catching_up")
    return True


async def _piece(connection: asyncpg.Connection, projection: Projection, place: Place) -> _Piece:
    """Read the whole subjects of a piece, as many as a projection folds at once; the last stream of a full read may go
    on, and waits."""
    limit = min(PIECE_ROWS, projection.step_events or PIECE_ROWS)
    rows = await read(connection, place, limit)
    full = len(rows) == limit
    last = rows[-1]["stream_id"] if rows else ""
    if full and rows[0]["stream_id"] == last:
        return _Piece({}, last, last, done=False, events=len(rows))
    used = [row for row in rows if row["stream_id"] != last] if full else rows
    await prepare(connection, used)
    subjects = {stream: list(some) for stream, some in groupby(used, key=itemgetter("stream_id"))}
    after = used[-1]["stream_id"] if used else place.after
    return _Piece(subjects, None, after, done=not full, events=len(used))


async def _fold(connection: asyncpg.Connection, projection: Projection, place: Place, terms: KnownTerms) -> _Folded:
    piece = await _piece(connection, projection, place)
    book, target = place.book, place.target
    refolding = Refolding()
    streams = [piece.long] if piece.long else list(piece.subjects)
    roots = await joining.roots_of(connection, projection, streams)
    silent = await _silent(connection, projection, set(roots.values()) - set(streams), target)
    # What is below another is folded with the subject it belongs to.
    whole = [stream for stream in streams if roots.get(stream, stream) == stream]
    joined = None if piece.long else await _joined(connection, projection, whole, target)
    for stream in whole:
        await asyncio.sleep(0)  # let in what is being written
        if joined is None:
            below = await joining.streams_below(connection, projection, [stream])
            wanted = Wanted(stream, tuple(below[stream]))
            await fold_long(connection, projection, book, wanted, target, terms, refolding)
        else:
            # Decoded one by one: what is parsed is folded while it is at hand, and gone before the next.
            facts = parsed([*piece.subjects.pop(stream), *joined.pop(stream, ())])
            fold_one(projection, Subject(book, stream), facts, target, terms, refolding)
    return _Folded(refolding, silent, piece.after, piece.done, piece.events)


async def _joined(
    connection: asyncpg.Connection, projection: Projection, subjects: Sequence[str], target: int
) -> dict[str, list[asyncpg.Record]] | None:
    """Return what joins each subject from streams below it; None where that is too much to have in memory at once."""
    below = await joining.all_below(connection, projection, subjects)
    found = await read_rows(connection, projection.types, below, target, _JOINED_ROWS)
    if found is None:
        return None
    joined: dict[str, list[asyncpg.Record]] = {}
    for stream, root in (await joining.roots_of(connection, projection, list(found))).items():
        if stream != root:
            joined.setdefault(root, []).extend(found[stream])
    return joined


async def _silent(connection: asyncpg.Connection, projection: Projection, roots: set[str], target: int) -> list[str]:
    """Return subjects without events of their own."""
    rows = await connection.fetch(WITH_OWN_EVENTS, sorted(roots), list(projection.types), target) if roots else ()
    return sorted(roots - {row["stream_id"] for row in rows})

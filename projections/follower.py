"""The follower: tails the log and keeps a build's rows equal to the fold of everything up to its checkpoint.

A step reads the next events of a book (its ``news``), refolds each subject that has any, and in one transaction
replaces the rows and moves the checkpoint. The checkpoint moves only if nobody moved it since the step began (not even
to the same position), and never under an older term. So two followers of one build cannot overwrite each other: the
slower one's step is rolled back. The log never changes, so reading and folding need no transaction, and a follower that
stalls blocks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import asyncpg
import structlog

from ledger.reader import Heading, read_tail_headings
from projections import joining, rivals, stored_links
from projections.builds import Build, enter
from projections.contract import Projection
from projections.refold import Refolding, Wanted, refold
from projections.stored_terms import TermsReader
from projections.warm import Warm
from projections.writing import park, write

_log = structlog.get_logger()

STEP_EVENTS: Final = 1_000
DIRTY_AT_ONCE: Final = 100

CHECKPOINT: Final = "SELECT position, moves, term FROM ledger.checkpoint WHERE build_id = $1 AND book = $2"

START: Final = """
INSERT INTO ledger.checkpoint (build_id, book, position, term)
VALUES ($1, $2, 0, $3)
ON CONFLICT DO NOTHING
"""

MOVE: Final = """
UPDATE ledger.checkpoint
SET position = $4, term = $5, moves = moves + 1
WHERE build_id = $1 AND book = $2 AND position = $3 AND moves = $6 AND term <= $5
RETURNING moves
"""

BOOKS: Final = "SELECT book FROM ledger.head WHERE position > 0 AND book <> 'ledger:control' ORDER BY book"

DIRTY: Final = "SELECT subject FROM dirty WHERE book = $1 ORDER BY subject LIMIT $2"

NOTHING_DIRTY: Final = "SELECT NOT EXISTS (SELECT FROM dirty)"

CLEAN: Final = "DELETE FROM dirty WHERE subject = ANY ($1)"

NO_LONGER_ROOTS: Final = "DELETE FROM subject_state WHERE subject = ANY ($1)"

LACKING: Final = "DELETE FROM subject_state WHERE subject = $1 AND ($2::timestamptz IS NULL OR at >= $2)"


class Checkpoint(NamedTuple):
    """A build's checkpoint in a book: its position, and how often it was moved."""

    position: int
    moves: int


@dataclass(frozen=True, slots=True)
class _Followed:
    """A book of a build that is followed over one connection, under a term, and what its follower remembers."""

    connection: asyncpg.Connection
    projection: Projection
    build: Build
    book: str
    term: int
    terms: TermsReader
    warm: Warm | None


class CheckpointMovedError(Exception):
    """Another follower of the same build was faster, or leads it now; this step's work is discarded."""


async def follow(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    term: int = 0,
    *,
    terms: TermsReader | None = None,
    limit: int = STEP_EVENTS,
    warm: Warm | None = None,
) -> int:
    """Take one step in every book; return how much was done. 0 means the build has caught up and nothing is dirty.

    Whoever follows a build for long passes the same ``terms`` and ``warm`` each time, to avoid reading and folding
    again.
    """
    terms = terms or TermsReader()
    passed = 0
    for row in await connection.fetch(BOOKS):
        passed += await step(connection, projection, build, row["book"], limit, term, terms, warm)
        passed += await clean(connection, projection, build, row["book"], term=term, terms=terms, warm=warm)
    return passed


async def step(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    book: str,
    limit: int = STEP_EVENTS,
    term: int = 0,
    terms: TermsReader | None = None,
    warm: Warm | None = None,
) -> int:
    """Fold the next ``limit`` events of a book; return how many there were.

    Raises ``CheckpointMovedError`` when another follower of this build has moved the checkpoint meanwhile.
    """
    at = _Followed(connection, projection, build, book, term, terms or TermsReader(), warm)
    checkpoint = await _checkpoint(at)
    _begin(at, checkpoint)
    news = _at_once(projection, await read_tail_headings(connection, book, checkpoint.position, limit))
    if not news:
        return 0
    last = news[-1].position
    await enter(connection, build.schema_name)
    joined = await joining.join(connection, projection, book, news, warm)
    refolding = await _refold(at, joined.wanted, last)
    newest = _newest(joined.roots, news)
    async with connection.transaction():
        checkpoint = await _move(at, checkpoint, last)
        await joining.write(connection, joined)
        await rivals.note(connection, book, joined.losing)
        await _drop(at, joined.no_longer_roots)
        await _commit(at, last, refolding, newest, joined.no_longer_roots)
        await _let_go(at, joined.wanted, refolding)
        if touched := sorted({link.child for link in (*joined.links, *joined.losing)}):
            await rivals.settle(connection, build.build_id, book, touched)
    _remember(at, checkpoint, refolding, joined.no_longer_roots)
    return len(news)


def _begin(at: _Followed, checkpoint: Checkpoint) -> None:
    """Forget what somebody else's write or erasure may have outdated: at once, even without news."""
    if at.warm and not at.warm.at(at.book, checkpoint):
        at.terms.forget(at.book)


def _remember(at: _Followed, checkpoint: Checkpoint, refolding: Refolding, gone: Iterable[str]) -> None:
    """Remember what was written, once it is committed."""
    if at.warm:
        at.warm.forget([*gone, *refolding.failed])
        at.warm.keep(at.book, checkpoint, [(one.subject, one.remembered) for one in refolding.done])


async def _refold(at: _Followed, wanted: Sequence[Wanted], position: int) -> Refolding:
    in_force = await at.terms.read(at.connection, at.projection, at.book, position)
    return await refold(at.connection, at.projection, at.book, wanted, position, in_force, at.warm)


def _at_once(projection: Projection, news: list[Heading]) -> list[Heading]:
    """Return the first of some news, no more than a projection folds at once."""
    own = [place for place, one in enumerate(news) if one.type in projection.types]
    most = projection.step_events
    return news if most is None or len(own) <= most else news[: own[most]]


async def clean(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    book: str,
    *,
    term: int = 0,
    terms: TermsReader | None = None,
    warm: Warm | None = None,
) -> int:
    """Refold some dirty subjects, which links or terms that arrived late have changed; return how many."""
    if not projection.joins and not projection.references:
        return 0
    at = _Followed(connection, projection, build, book, term, terms or TermsReader(), warm)
    checkpoint = await _checkpoint(at)
    await enter(connection, build.schema_name)
    dirty = [row["subject"] for row in await connection.fetch(DIRTY, book, DIRTY_AT_ONCE)]
    if dirty:
        _begin(at, checkpoint)
        await _refold_whole(at, dirty, checkpoint)
    return len(dirty)


async def _refold_whole(at: _Followed, subjects: Sequence[str], checkpoint: Checkpoint) -> Refolding:
    """Refold subjects whole, as of the checkpoint's position; afterwards they are clean, or parked.

    A child is folded with the subject it belongs to, and stays parked while another customer claims it.
    """
    connection, build_id = at.connection, at.build.build_id
    # A stream that was a subject of its own may belong to another by now.
    roots = await stored_links.roots_of(connection, at.projection, subjects)
    whole = sorted({roots.get(subject, subject) for subject in subjects})
    streams = await stored_links.streams_below(connection, at.projection, whole)
    wanted = [Wanted(subject, tuple(streams[subject])) for subject in whole]
    position = checkpoint.position
    refolding = await _refold(at, wanted, position)
    async with connection.transaction():
        checkpoint = await _move(at, checkpoint, position)
        await connection.execute(CLEAN, list(subjects))
        await _commit(at, position, refolding, {})
        await _let_go(at, wanted, refolding)
        if children := sorted(set(subjects) - set(whole)):
            await rivals.let_go(connection, build_id, children)
            claimed = await rivals.settle(connection, build_id, at.book, children)
            refolding.failed |= {child: claimed[child] for child in children if child in claimed}
    _remember(at, checkpoint, refolding, subjects)
    return refolding


async def replay(
    connection: asyncpg.Connection, projection: Projection, build: Build, book: str, subjects: Sequence[str]
) -> Refolding:
    """Refold subjects from the beginning, even if another process leads the build; those that fold are unparked."""
    await enter(connection, build.schema_name)
    while True:
        row = await connection.fetchrow(CHECKPOINT, build.build_id, book)
        checkpoint, term = (Checkpoint(row["position"], row["moves"]), row["term"]) if row else (Checkpoint(0, 0), 0)
        try:
            at = _Followed(connection, projection, build, book, term, TermsReader(), None)
            return await _refold_whole(at, subjects, checkpoint)
        except CheckpointMovedError:
            continue  # the runner was at work; fold up to where it is now


async def _checkpoint(at: _Followed) -> Checkpoint:
    row = await at.connection.fetchrow(CHECKPOINT, at.build.build_id, at.book)
    if row is None:
        await at.connection.execute(START, at.build.build_id, at.book, at.term)
        return Checkpoint(0, 0)
    return Checkpoint(row["position"], row["moves"])


async def _move(at: _Followed, checkpoint: Checkpoint, last: int) -> Checkpoint:
    build_id = at.build.build_id
    moves = await at.connection.fetchval(MOVE, build_id, at.book, checkpoint.position, last, at.term, checkpoint.moves)
    if moves is None:
        raise CheckpointMovedError
    return Checkpoint(last, moves)


async def _drop(at: _Followed, subjects: Sequence[str]) -> None:
    """Delete the rows of streams that turned out to belong to another subject, which is parked in their place."""
    if subjects:
        await rivals.let_go(at.connection, at.build.build_id, subjects)
        for table in at.projection.tables:
            await at.connection.execute(table.delete_subjects, list(subjects))
        await at.connection.execute(NO_LONGER_ROOTS, list(subjects))


async def _commit(
    at: _Followed, position: int, refolding: Refolding, newest: dict[str, str], gone: Sequence[str] = ()
) -> None:
    build_id = at.build.build_id
    await write(at.connection, at.projection, refolding)
    for subject, error in refolding.failed.items():
        _log.error("subject_parked", build=build_id, subject=subject, error=error)
    await park(at.connection, build_id, at.book, refolding, newest)
    tables = len(at.projection.tables)
    written = [one.subject for one in refolding.done if len(one.same) < tables]
    subjects = [*written, *refolding.failed, *gone]
    if at.projection.consumer is not None and subjects:
        await at.projection.consumer.changed(at.connection, build_id, at.book, position, subjects)


async def _let_go(at: _Followed, wanted: Sequence[Wanted], refolding: Refolding) -> None:
    """Delete the kept states of parked subjects that lack the news which could not be folded: the next fold would
    begin after those news, succeed without them, and pass for whole.
    """
    lacking = [(one.subject, one.changes_from) for one in wanted if one.subject in refolding.failed]
    if lacking:
        await at.connection.executemany(LACKING, lacking)


def _newest(roots: dict[str, str], news: Iterable[Heading]) -> dict[str, str]:
    """Return each subject's newest event among some news."""
    return {roots.get(event.stream_id, event.stream_id): event.event_id for event in news}

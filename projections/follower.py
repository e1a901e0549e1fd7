"""The follower: tails the log and keeps a build's rows equal to the fold of everything up to its checkpoint.

A step reads the next events of a book (its ``news``), refolds each subject that has any, and in one transaction
replaces the rows and moves the checkpoint. The checkpoint moves only if nobody moved it since the step began (not even
to the same position), and never under an older term. So two followers of one build cannot overwrite each other: the
slower one's step is rolled back. The log never changes, so reading and folding need no transaction, and a follower that
stalls blocks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import asyncpg
import structlog

from ledger.reader import Heading, read_tail_headings
from projections import joining, rivals
from projections.builds import Build, enter
from projections.contract import Projection
from projections.joining import TermsReader
from projections.refold import Refolding, Wanted, refold
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


class Stand(NamedTuple):
    """A build's checkpoint in a book: its position, and how often it was moved."""

    position: int
    moves: int


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
    stand = await _stand(connection, build, book, term)
    _begin(warm, terms, book, stand)
    news = _at_once(projection, await read_tail_headings(connection, book, stand.position, limit))
    if not news:
        return 0
    last = news[-1].position
    await enter(connection, build.schema_name)
    joined = await joining.join(connection, projection, book, news, warm)
    in_force = await (terms or TermsReader()).read(connection, projection, book, last)
    refolding = await refold(connection, projection, book, joined.wanted, last, in_force, warm)
    newest = _newest(joined.roots, news)
    async with connection.transaction():
        stand = await _move(connection, build, book, stand, last, term)
        await joining.write(connection, joined)
        await rivals.note(connection, book, joined.losing)
        await _drop(connection, projection, joined.no_longer_roots)
        await _commit(connection, projection, build, book, last, refolding, newest, joined.no_longer_roots)
        if touched := sorted({link.child for link in (*joined.links, *joined.losing)}):
            await rivals.settle(connection, build.build_id, book, touched)
    _remember(warm, book, stand, refolding, joined.no_longer_roots)
    return len(news)


def _begin(warm: Warm | None, terms: TermsReader | None, book: str, stand: Stand) -> None:
    """Forget what somebody else's write or erasure may have outdated: at once, even without news."""
    if warm and not warm.at(book, stand) and terms:
        terms.forget(book)


def _remember(warm: Warm | None, book: str, stand: Stand, refolding: Refolding, gone: Iterable[str]) -> None:
    """Remember what was written, once it is committed."""
    if warm:
        warm.forget([*gone, *refolding.failed])
        warm.keep(book, stand, [(one.subject, one.remembered) for one in refolding.done])


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
    stand = await _stand(connection, build, book, term)
    await enter(connection, build.schema_name)
    dirty = [row["subject"] for row in await connection.fetch(DIRTY, book, DIRTY_AT_ONCE)]
    if dirty:
        _begin(warm, terms, book, stand)
        await refold_subjects(connection, projection, build, book, dirty, stand, term, terms, warm)
    return len(dirty)


async def refold_subjects(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    book: str,
    subjects: Sequence[str],
    stand: Stand,
    term: int,
    terms: TermsReader | None = None,
    warm: Warm | None = None,
) -> Refolding:
    """Refold subjects whole, as of the checkpoint's position; afterwards they are clean, or parked.

    A child is folded with the subject it belongs to, and stays parked while another customer claims it.
    """
    # A stream that was a subject of its own may belong to another by now.
    roots = await joining.roots_of(connection, projection, subjects)
    whole = sorted({roots.get(subject, subject) for subject in subjects})
    streams = await joining.streams_below(connection, projection, whole)
    wanted = [Wanted(subject, tuple(streams[subject])) for subject in whole]
    position = stand.position
    in_force = await (terms or TermsReader()).read(connection, projection, book, position)
    refolding = await refold(connection, projection, book, wanted, position, in_force, warm)
    async with connection.transaction():
        stand = await _move(connection, build, book, stand, position, term)
        await connection.execute(CLEAN, list(subjects))
        await _commit(connection, projection, build, book, position, refolding, {})
        if children := sorted(set(subjects) - set(whole)):
            await rivals.let_go(connection, build.build_id, children)
            claimed = await rivals.settle(connection, build.build_id, book, children)
            refolding.failed |= {child: claimed[child] for child in children if child in claimed}
    _remember(warm, book, stand, refolding, subjects)
    return refolding


async def replay(
    connection: asyncpg.Connection, projection: Projection, build: Build, book: str, subjects: Sequence[str]
) -> Refolding:
    """Refold subjects from the beginning, even if another process leads the build; those that fold are unparked."""
    await enter(connection, build.schema_name)
    while True:
        row = await connection.fetchrow(CHECKPOINT, build.build_id, book)
        stand, term = (Stand(row["position"], row["moves"]), row["term"]) if row else (Stand(0, 0), 0)
        try:
            return await refold_subjects(connection, projection, build, book, subjects, stand, term)
        except CheckpointMovedError:
            continue  # the runner was at work; fold up to where it is now


async def _stand(connection: asyncpg.Connection, build: Build, book: str, term: int) -> Stand:
    row = await connection.fetchrow(CHECKPOINT, build.build_id, book)
    if row is None:
        await connection.execute(START, build.build_id, book, term)
        return Stand(0, 0)
    return Stand(row["position"], row["moves"])


async def _move(connection: asyncpg.Connection, build: Build, book: str, stand: Stand, last: int, term: int) -> Stand:
    moves = await connection.fetchval(MOVE, build.build_id, book, stand.position, last, term, stand.moves)
    if moves is None:
        raise CheckpointMovedError
    return Stand(last, moves)


async def _drop(connection: asyncpg.Connection, projection: Projection, subjects: Sequence[str]) -> None:
    """Delete the rows of streams that turned out to belong to another subject."""
    if subjects:
        for table in projection.tables:
            await connection.execute(table.delete_subjects, list(subjects))
        await connection.execute(NO_LONGER_ROOTS, list(subjects))


async def _commit(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    book: str,
    position: int,
    refolding: Refolding,
    newest: dict[str, str],
    gone: Sequence[str] = (),
) -> None:
    await write(connection, projection, refolding)
    for subject, error in refolding.failed.items():
        _log.error("subject_parked", build=build.build_id, subject=subject, error=error)
    await park(connection, build.build_id, book, refolding, newest)
    tables = len(projection.tables)
    written = [one.subject for one in refolding.done if len(one.same) < tables]
    subjects = [*written, *refolding.failed, *gone]
    if projection.consumer is not None and subjects:
        await projection.consumer.changed(connection, build.build_id, book, position, subjects)


def _newest(roots: dict[str, str], news: Iterable[Heading]) -> dict[str, str]:
    """Return each subject's newest event among some news."""
    return {roots.get(event.stream_id, event.stream_id): event.event_id for event in news}

"""The follower: tails the log and keeps a build's rows equal to the fold of everything up to its checkpoint.

A step reads the next events of a book, refolds each subject that has news from all of its history, replaces its
rows and moves the checkpoint, all in one transaction. The checkpoint moves only from where the step started, so
two followers of one build cannot write over each other: the slower one's step is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import structlog

from ledger.reader import Heading, StoredEvent, read_streams, read_tail_headings
from projections.builds import Build, enter
from projections.causal import in_causal_order
from projections.contract import Projection, Rows, Subject
from projections.facts import fact_of

_log = structlog.get_logger()

STEP_EVENTS: Final = 1_000

CHECKPOINT = "SELECT position FROM ledger.checkpoint WHERE build_id = $1 AND book = $2"

START = "INSERT INTO ledger.checkpoint (build_id, book, position) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING"

MOVE = """
UPDATE ledger.checkpoint
SET position = $4
WHERE build_id = $1 AND book = $2 AND position = $3
RETURNING position
"""

PARK = """
INSERT INTO ledger.parked (build_id, subject, book, event_id, error)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (build_id, subject) DO UPDATE SET event_id = excluded.event_id, error = excluded.error
"""

UNPARK = "DELETE FROM ledger.parked WHERE build_id = $1 AND subject = ANY ($2)"

BOOKS = "SELECT book FROM ledger.head WHERE position > 0 ORDER BY book"


class CheckpointMovedError(Exception):
    """Another follower of the same build was faster; this step's work is dropped."""


@dataclass(slots=True)
class Folded:
    """What folding a set of subjects gave: rows by table, and why some subjects could not be folded."""

    rows: dict[str, dict[str, list[tuple[object, ...]]]] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)


def fold_subject(projection: Projection, subject: Subject, events: Iterable[StoredEvent]) -> Rows:
    """Fold one subject's events, given in any order: the one function that live, rebuild and tests share."""
    facts = [fact_of(one.event_id, one.type, one.created, one.position, one.body) for one in events]
    return projection.fold(subject, in_causal_order(facts))


async def follow(connection: asyncpg.Connection, projection: Projection, build: Build) -> int:
    """Take one step in every book; return how many events were passed. 0 means the build has caught up."""
    passed = 0
    for row in await connection.fetch(BOOKS):
        passed += await step(connection, projection, build, row["book"])
    return passed


async def step(
    connection: asyncpg.Connection, projection: Projection, build: Build, book: str, limit: int = STEP_EVENTS
) -> int:
    """Fold the next ``limit`` events of a book; return how many there were.

    Raises ``CheckpointMovedError`` when another follower of this build has moved the checkpoint meanwhile.
    """
    async with connection.transaction():
        position = await connection.fetchval(CHECKPOINT, build.build_id, book)
        if position is None:
            await connection.execute(START, build.build_id, book)
            position = 0
        news = await read_tail_headings(connection, book, position, limit)
        if not news:
            return 0
        last = news[-1].position
        if await connection.fetchval(MOVE, build.build_id, book, position, last) is None:
            raise CheckpointMovedError
        await enter(connection, build.schema_name)
        await _refold(connection, projection, build, book, _newest_by_subject(projection, news), last)
        return len(news)


def _newest_by_subject(projection: Projection, news: Iterable[Heading]) -> dict[str, str]:
    """Return the subjects that have news this projection folds, each with the id of its newest event."""
    return {event.stream_id: event.event_id for event in news if event.type in projection.types}


async def _refold(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    book: str,
    newest: dict[str, str],
    until: int,
) -> None:
    if not newest:
        return
    histories = await read_streams(connection, newest, projection.types, until)
    folded = _fold_each(projection, book, histories)
    await _write(connection, projection, folded)
    written = [subject for subject in newest if subject not in folded.failed]
    await connection.execute(UNPARK, build.build_id, written)
    for subject, error in folded.failed.items():
        _log.error("subject_parked", build=build.build_id, subject=subject, error=repr(error))
        await connection.execute(PARK, build.build_id, subject, book, newest[subject], repr(error))


def _fold_each(projection: Projection, book: str, histories: dict[str, list[StoredEvent]]) -> Folded:
    folded = Folded()
    for stream_id, events in histories.items():
        try:
            rows = fold_subject(projection, Subject(book, stream_id), events)
            folded.rows[stream_id] = {table: list(some) for table, some in rows.items()}
        except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
            folded.failed[stream_id] = error
    return folded


async def _write(connection: asyncpg.Connection, projection: Projection, folded: Folded) -> None:
    """Replace the subjects' rows; where the database refuses some, halve until only the culprits fail."""
    pending = [list(folded.rows)]
    while pending:
        subjects = pending.pop()
        if not subjects:
            continue
        try:
            async with connection.transaction():
                await _replace_rows(connection, projection, subjects, folded)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, OverflowError, ValueError) as error:
            if len(subjects) == 1:
                folded.failed[subjects[0]] = error
            else:
                middle = len(subjects) // 2
                pending += [subjects[:middle], subjects[middle:]]


async def _replace_rows(
    connection: asyncpg.Connection, projection: Projection, subjects: Sequence[str], folded: Folded
) -> None:
    for table in projection.tables:
        await connection.execute(table.delete, subjects)
        rows = [row for subject in subjects for row in folded.rows[subject].get(table.name, ())]
        if rows:
            await connection.copy_records_to_table(table.name, records=rows, columns=table.columns)

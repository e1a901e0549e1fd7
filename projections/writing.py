"""Writing what was folded: rows, kept states and used references, in one transaction with the checkpoint.

If the database refuses a subject's rows (a NUL, an overflow, a CHECK), halving finds that subject, and it alone is
parked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg
import orjson

from ledger.errors import UnreadableEventError
from projections.contract import Projection, Table
from projections.folding import Kept, thinned, told_of
from projections.reading import read_kept
from projections.refold import Refolded, Refolding

DROP_KEPT: Final = """
DELETE FROM subject_state
WHERE subject = $1 AND ($2::timestamptz IS NULL OR at > $2) AND ($3::timestamptz IS NULL OR at <= $3)
"""

KEEP: Final = """
INSERT INTO subject_state (subject, at, seen, first_after, last_within, state, anchors, unsure, late)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

INHERIT: Final = "UPDATE subject_state SET last_within = $3, late = $4 WHERE subject = $1 AND at = $2"

THIN: Final = "DELETE FROM subject_state WHERE subject = $1 AND at = $2"

USES: Final = "INSERT INTO reference_use (subject, reference) VALUES ($1, $2) ON CONFLICT DO NOTHING"

PARK: Final = """
INSERT INTO ledger.parked (build_id, subject, book, event_id, error)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (build_id, subject) DO UPDATE
SET event_id = coalesce(nullif(excluded.event_id, ''), parked.event_id), error = excluded.error
"""
"""Folded again without news, as by a replay, it is still that event which stands in the way."""

UNPARK: Final = "DELETE FROM ledger.parked WHERE build_id = $1 AND subject = ANY ($2)"

_NEVER: Final = datetime.max.replace(tzinfo=UTC)

_REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # a key that is too long for an index
    OverflowError,
    ValueError,
)


_Writing = Callable[[asyncpg.Connection, Projection, Sequence[Refolded]], Awaitable[None]]


async def write(connection: asyncpg.Connection, projection: Projection, refolding: Refolding) -> None:
    """Replace the subjects' rows; move those that the database refuses to ``refolding.failed``."""
    await _halving(connection, projection, refolding, _write)


async def _halving(
    connection: asyncpg.Connection, projection: Projection, refolding: Refolding, write_some: _Writing
) -> None:
    pending = [list(refolding.done)]
    refolding.done = []
    while pending:
        some = pending.pop()
        try:
            async with connection.transaction():
                await write_some(connection, projection, some)
            refolding.done += some
        except _REFUSED as error:
            if len(some) == 1:
                refolding.failed[some[0].subject] = error
            else:
                middle = len(some) // 2
                pending += [some[:middle], some[middle:]]


async def write_new(connection: asyncpg.Connection, projection: Projection, refolding: Refolding) -> None:
    """Write the rows of subjects that have none yet; those the database refuses go to ``refolding.failed``."""
    await _halving(connection, projection, refolding, _write_new)


async def _write_new(connection: asyncpg.Connection, projection: Projection, some: Sequence[Refolded]) -> None:
    await _copy(connection, projection, some)
    await _note_use(connection, some)


async def _write(connection: asyncpg.Connection, projection: Projection, some: Sequence[Refolded]) -> None:
    whole = [one for one in some if one.since is None]
    parts = [one for one in some if one.since is not None]
    for table in projection.tables:
        others = [one.subject for one in whole if table.name not in one.same]
        await _delete(connection, table, others, parts)
    await _copy(connection, projection, some)
    if whole:
        await connection.execute("DELETE FROM subject_state WHERE subject = ANY ($1)", [one.subject for one in whole])
    if parts:
        await connection.executemany(DROP_KEPT, [(one.subject, one.since, one.until) for one in parts])
    await keep(connection, some)
    if more := [one.subject for one in parts if one.kept]:
        await _thin(connection, more)
    await _note_use(connection, some)


async def _copy(connection: asyncpg.Connection, projection: Projection, some: Sequence[Refolded]) -> None:
    for table in projection.tables:
        rows = [row for one in some if table.name not in one.same for row in one.rows.get(table.name, ())]
        if rows:
            await connection.copy_records_to_table(table.name, records=rows, columns=table.columns)


def in_book(subject: str, reference: str) -> str:
    """Name a reference object within its subject's book: other books may have another one with the same id."""
    return f"{subject.partition('/')[0]}/{reference}"


async def _note_use(connection: asyncpg.Connection, some: Sequence[Refolded]) -> None:
    uses = [(one.subject, in_book(one.subject, reference)) for one in some for reference in sorted(one.used)]
    if uses:
        await connection.executemany(USES, uses)


async def _delete(
    connection: asyncpg.Connection, table: Table, whole: Sequence[str], parts: Sequence[Refolded]
) -> None:
    """Delete the rows that new ones stand for: all of some subjects; of a part what is final in its span, and open ones
    where it has no end. Where no row of the table is final, a part without an end has all.
    """
    ended = [(one.subject, one.since, one.until or _NEVER) for one in parts]
    open_ = [one.subject for one in parts if one.until is None]
    if table.final is None:
        whole, ended, open_ = [*whole, *open_], [], []
    if whole:
        await connection.execute(table.delete_subjects, whole)
    if ended:
        await connection.executemany(table.delete_between, ended)
    if open_:
        await connection.execute(table.delete_open, open_)


async def keep(connection: asyncpg.Connection, some: Sequence[Refolded]) -> None:
    """Write down the states to keep."""
    records = [
        (
            one.subject,
            kept.at,
            kept.seen,
            kept.first_after,
            kept.last_within,
            kept.state,
            orjson.dumps(kept.anchors).decode(),
            kept.unsure,
            kept.late,
        )
        for one in some
        for kept in one.kept
    ]
    if records:
        await connection.executemany(KEEP, records)


async def _thin(connection: asyncpg.Connection, subjects: Sequence[str]) -> None:
    """Delete the states that are too many; the next one that stays inherits which late events each was told of."""
    superfluous: list[tuple[str, datetime]] = []
    inherited: list[tuple[str, datetime, int, tuple[int, ...]]] = []
    for subject, kept in (await read_kept(connection, subjects)).items():
        staying = thinned([(one.at, one.seen) for one in kept])
        passed: list[Kept] = []
        for one in kept:
            passed.append(one)
            if one.at not in staying:
                superfluous.append((subject, one.at))
                continue
            if (told := told_of(passed)) != (one.last_within, one.late):
                inherited.append((subject, one.at, *told))
            passed = []
    if superfluous:
        await connection.executemany(INHERIT, inherited)
        await connection.executemany(THIN, superfluous)


async def park(
    connection: asyncpg.Connection, build_id: str, book: str, refolding: Refolding, newest: dict[str, str]
) -> None:
    """Note which subjects could not be folded, with the event that cannot be read or their newest, and which can be
    again: those folded to their end, for what stands in the way may be behind a part."""
    await connection.execute(UNPARK, build_id, [one.subject for one in refolding.done if one.until is None])
    for subject, error in refolding.failed.items():
        event = error.event_id if isinstance(error, UnreadableEventError) else newest.get(subject, "")
        await connection.execute(PARK, build_id, subject, book, event, repr(error))

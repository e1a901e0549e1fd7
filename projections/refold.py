"""Refolding what has news: from the newest kept state it cannot have changed, as far as it makes a difference.

Most subjects are short and folded whole. A long one goes on from a kept state; an event that comes late into its
past is folded up to the next kept state, and where that comes out the same, everything after it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import asyncpg
import orjson

from ledger.postgres import AWAY
from projections.causal import REACH
from projections.contract import Projection, Row, Subject
from projections.facts import Fact
from projections.folding import Folding, Kept, newest_before
from projections.reading import PIECE_EVENTS, read_anchors, read_histories, read_in_pieces, read_since
from projections.terms import KnownTerms

KEPT: Final = """
SELECT subject, at, seen, first_after, last_within, late
FROM subject_state
WHERE subject = ANY ($1)
ORDER BY subject, at
"""

KEPT_STATE: Final = "SELECT state, anchors, unsure FROM subject_state WHERE subject = $1 AND at = $2"

_LATE_MAX: Final = 64
_AT_ONCE: Final = 50
"""Subjects folded together: bounds what is in memory at a time."""


@dataclass(slots=True)
class Refolded:
    """A subject's new rows, and which of its old ones they stand for.

    Rows that were final at ``since`` stand (None: none do); so do those that become so after ``until`` (None: none
    do). ``kept`` replaces the states kept in that span. ``used`` are the references its fold looked up.
    """

    subject: str
    rows: dict[str, list[Row]]
    since: datetime | None = None
    until: datetime | None = None
    kept: list[Kept] = field(default_factory=list)
    used: frozenset[str] = frozenset()


@dataclass(slots=True)
class Refolding:
    """What refolding some subjects came to: new rows, and why some could not be folded."""

    done: list[Refolded] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subject to refold: its streams, and when its news were created (empty: refold it whole)."""

    subject: str
    streams: tuple[str, ...]
    news: tuple[tuple[datetime, int], ...] = ()


async def refold(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    wanted: Sequence[Wanted],
    until: int,
    terms: KnownTerms,
) -> Refolding:
    """Refold subjects of a book up to a position. The build's schema must be entered for the whole session."""
    refolding = Refolding()
    kept = await _kept(connection, [one.subject for one in wanted if one.news])
    whole: list[Wanted] = []
    for one in wanted:
        state = newest_before(kept.get(one.subject, []), min(one.news)[0]) if one.news else None
        long = bool(kept.get(one.subject)) and kept[one.subject][-1].seen > PIECE_EVENTS
        if state is None and not long:
            whole.append(one)
            continue
        if state is None:
            await fold_long(connection, projection, book, one, until, terms, refolding)
            continue
        try:
            refolding.done.append(
                await _resume(connection, projection, book, one, kept[one.subject], state, until, terms)
            )
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
            refolding.failed[one.subject] = error
    for start in range(0, len(whole), _AT_ONCE):
        await _fold_whole(connection, projection, book, whole[start : start + _AT_ONCE], until, terms, refolding)
    return refolding


async def _fold_whole(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    wanted: Sequence[Wanted],
    until: int,
    terms: KnownTerms,
    refolding: Refolding,
) -> None:
    streams = [stream for one in wanted for stream in one.streams]
    histories = await read_histories(connection, projection.types, streams, until)
    for one in wanted:
        facts = [fact for stream in one.streams for fact in histories.pop(stream, ())]
        fold_one(projection, Subject(book, one.subject), facts, until, terms, refolding)


async def fold_long(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    wanted: Wanted,
    until: int,
    terms: KnownTerms,
    into: Refolding,
) -> None:
    """Fold one long subject whole, without having all of it in memory."""
    using = terms.noting_use()
    try:
        folding = Folding(projection, Subject(book, wanted.subject), using)
        async for piece in read_in_pieces(connection, projection.types, book, wanted.streams, until):
            folding.feed(piece)
        folded = folding.finish(until)
    except AWAY:
        raise
    except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
        into.failed[wanted.subject] = error
        return
    into.done.append(Refolded(wanted.subject, folded.rows, kept=folded.kept, used=frozenset(using.used)))


def fold_one(
    projection: Projection, subject: Subject, facts: Iterable[Fact], until: int, terms: KnownTerms, into: Refolding
) -> None:
    """Fold one subject's whole history; what goes wrong is its own affair."""
    using = terms.noting_use()
    try:
        folding = Folding(projection, subject, using)
        folding.hold(facts)
        folded = folding.finish(until)
    except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
        into.failed[subject.stream_id] = error
        return
    into.done.append(Refolded(subject.stream_id, folded.rows, kept=folded.kept, used=frozenset(using.used)))


async def _resume(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    wanted: Wanted,
    kept: Sequence[Kept],
    state: Kept,
    until: int,
    terms: KnownTerms,
) -> Refolded:
    state = await _with_state(connection, wanted.subject, state)
    anchors = await read_anchors(connection, book, state)
    target = _next_after(kept, max(wanted.news)[0])
    if target is not None:
        found = await _up_to(connection, projection, book, wanted, state, anchors, target, terms)
        if found is not None:
            return found
    using = terms.noting_use()
    folding = Folding(projection, Subject(book, wanted.subject), using, resume=state, anchors=anchors)
    folding.feed(await read_since(connection, projection, wanted.streams, state, until))
    folded = folding.finish(until)
    return Refolded(wanted.subject, folded.rows, state.at, None, folded.kept, frozenset(using.used))


async def _up_to(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    wanted: Wanted,
    state: Kept,
    anchors: Mapping[str, Fact],
    target: Kept,
    terms: KnownTerms,
) -> Refolded | None:
    """Refold up to a kept state; None where the news make it another one, so that the rest changes too."""
    late = sorted({*target.late, *(position for _, position in wanted.news if position > target.last_within)})
    using = terms.noting_use()
    folding = Folding(projection, Subject(book, wanted.subject), using, resume=state, anchors=anchors)
    facts = await read_since(connection, projection, wanted.streams, state, target.last_within, target.at, late)
    folding.feed(facts)
    folded = folding.stop_at(target.at)
    target = await _with_state(connection, wanted.subject, target)
    reached = folded.kept[-1]
    if (reached.state, reached.anchors) != (target.state, target.anchors):
        return None
    # The state is the one that was kept; only what one has to read to reach it is news.
    again = replace(target, seen=reached.seen, unsure=target.unsure or folded.unsure, late=tuple(late))
    if len(late) > _LATE_MAX:
        again = replace(again, last_within=late[-1], late=())
    return Refolded(wanted.subject, folded.rows, state.at, target.at, [again], frozenset(using.used))


def _next_after(kept: Sequence[Kept], moment: datetime) -> Kept | None:
    """Return the first kept state that news up to ``moment`` are surely part of."""
    return min((one for one in kept if one.at > moment + 2 * REACH), key=lambda one: one.at, default=None)


async def _kept(connection: asyncpg.Connection, subjects: Sequence[str]) -> dict[str, list[Kept]]:
    kept: dict[str, list[Kept]] = {}
    for row in await connection.fetch(KEPT, subjects) if subjects else ():
        place = (row["at"], row["seen"], row["first_after"], row["last_within"])
        one = Kept(*place, b"", (), late=tuple(row["late"]))
        kept.setdefault(row["subject"], []).append(one)
    return kept


async def _with_state(connection: asyncpg.Connection, subject: str, kept: Kept) -> Kept:
    row = await connection.fetchrow(KEPT_STATE, subject, kept.at)
    anchors = tuple((key, position) for key, position in orjson.loads(row["anchors"]))
    return replace(kept, state=row["state"], anchors=anchors, unsure=row["unsure"])

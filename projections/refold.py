"""Refolding subjects with new events (``news``): from the newest kept state that these cannot have changed.

Most subjects are short and folded whole. A long one resumes from a kept state. An event late into its past is folded
only up to the next kept state, and if that comes out the same, everything after it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import orjson

from ledger.postgres import AWAY
from projections.causal import REACH
from projections.contract import Projection, Row, Subject
from projections.facts import Fact
from projections.folding import Folding, Kept, newest_before, shown_last, told_of
from projections.reading import (
    PIECE_EVENTS,
    parsed,
    read_anchors,
    read_in_pieces,
    read_kept,
    read_late,
    read_rows,
    read_since,
)
from projections.terms import KnownTerms
from projections.warm import Remembered, Warm, digests_of

KEPT_STATES: Final = """
SELECT s.subject, s.at, s.state, s.anchors, s.unsure
FROM unnest($1::text[], $2::timestamptz[]) AS wanted (subject, at)
JOIN subject_state AS s ON s.subject = wanted.subject AND s.at = wanted.at
"""

_LATE_MAX: Final = 64
BUSY_AGE: Final = timedelta(minutes=1)
"""A long subject whose new events follow a kept state within this time is busy: its fold is remembered."""

_AT_ONCE: Final = 50
_NEWS_AT_ONCE: Final = 500
"""How many subjects, and new events, are read and folded together: a bound on memory."""

_ROWS_AT_ONCE: Final = 10_000
"""How many events of subjects are held to be folded at once; a subject with more to fold is folded whole, in pieces."""


@dataclass(slots=True)
class Refolded:
    """A subject's new rows, and which of its old rows they replace.

    Old rows that were final at ``since`` stay (None: none do), and so do those that became final after ``until``
    (None: none do). ``kept`` replaces the states kept between the two. ``used`` are the references the fold looked up,
    ``same`` the tables whose rows are unchanged, ``remembered`` what its follower may remember about it.
    """

    subject: str
    rows: dict[str, list[Row]]
    since: datetime | None = None
    until: datetime | None = None
    kept: list[Kept] = field(default_factory=list)
    used: frozenset[str] = frozenset()
    same: frozenset[str] = frozenset()
    remembered: Remembered | None = None


@dataclass(slots=True)
class Refolding:
    """The result of refolding some subjects: new rows, and why some could not be folded."""

    done: list[Refolded] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """What some subjects of a book are refolded with, up to which position, and the ``result`` so far.

    The build's schema must be entered for the whole session.
    """

    connection: asyncpg.Connection
    projection: Projection
    book: str
    until: int
    terms: KnownTerms
    result: Refolding = field(default_factory=Refolding)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subject to refold: its streams, and its news as (created, position); without news it is refolded whole."""

    subject: str
    streams: tuple[str, ...]
    news: tuple[tuple[datetime, int], ...] = ()

    @property
    def changes_from(self) -> datetime | None:
        """The time from which on its news may change kept states; None for a subject to be refolded whole."""
        return min(self.news)[0] - 2 * REACH if self.news else None


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the fold of a subject begins that is to be remembered afterwards: at what is ``known``, if anything is."""

    streams: tuple[str, ...]
    known: Remembered | None = None
    anchors: Mapping[int, Fact] = field(default_factory=dict)


async def refold(
    connection: asyncpg.Connection,
    projection: Projection,
    book: str,
    wanted: Sequence[Wanted],
    until: int,
    terms: KnownTerms,
    warm: Warm | None = None,
) -> Refolding:
    """Refold subjects of a book up to a position. The build's schema must be entered for the whole session.

    Subjects that ``warm`` remembers resume from there; the result says what may be remembered about the others.
    """
    work = Work(connection, projection, book, until, terms)
    known = {one.subject: found for one in wanted if warm and (found := _known(warm, one))}
    if warm and known:
        going_on = [one for one in wanted if one.subject in known]
        # Going on changes a remembered fold, so it no longer matches the rows: forget it until they are committed.
        warm.forget(known)
        for some in _portions(going_on):
            await _fold_warm(work, going_on[some], known)
        folded = {one.subject for one in work.result.done} | work.result.failed.keys()
        wanted = [one for one in wanted if one.subject not in folded]
    kept = await read_kept(connection, [one.subject for one in wanted if one.news])
    whole: list[Wanted] = []
    resumed: list[tuple[Wanted, Kept]] = []
    for one in wanted:
        states = kept.get(one.subject, [])
        state = newest_before(states, min(one.news)[0]) if one.news else None
        if state is None and states and states[-1].seen > PIECE_EVENTS:
            await fold_long(work, one)
        elif state is None:
            whole.append(one)
        elif not (passed := _passed(states, state, max(one.news)[0])) or not await _fold_up_to(
            work, one, state, passed
        ):
            if states[-1].seen - state.seen > _ROWS_AT_ONCE:
                await fold_long(work, one)
            else:
                resumed.append((one, state))
    for some in _portions([one for one, _ in resumed]):
        await _fold_on(work, resumed[some], remember=warm is not None)
    for start in range(0, len(whole), _AT_ONCE):
        await _fold_whole(work, whole[start : start + _AT_ONCE], remember=warm is not None)
    return work.result


def _portions(wanted: Sequence[Wanted]) -> Iterator[slice]:
    """Divide subjects into portions to fold together, bounded by their number and their news."""
    start = news = 0
    for place, one in enumerate(wanted):
        if place > start and (place - start == _AT_ONCE or news + len(one.news) > _NEWS_AT_ONCE):
            yield slice(start, place)
            start, news = place, 0
        news += len(one.news)
    if start < len(wanted):
        yield slice(start, len(wanted))


def _known(warm: Warm, wanted: Wanted) -> Remembered | None:
    """Return what is remembered of a subject, unless its news may have changed that."""
    known = warm.get(wanted.subject)
    if known is None or not wanted.news:
        return None
    return known if newest_before([known.state], min(wanted.news)[0]) else None


async def _fold_warm(work: Work, wanted: Sequence[Wanted], known: Mapping[str, Remembered]) -> None:
    states = {one.subject: known[one.subject].state for one in wanted}
    starts = [(one.streams, states[one.subject]) for one in wanted]
    found = await read_since(work.connection, work.projection, starts, work.until)
    facts = {one.subject: [fact for stream in one.streams for fact in found[stream]] for one in wanted}
    going = {subject: one.going for subject, one in known.items() if one.going is not None}
    strange = {subject: going[subject].strange(some) for subject, some in facts.items() if subject in going}
    anchors = await read_anchors(
        work.connection, work.book, [(states[subject], some) for subject, some in (facts | strange).items()]
    )
    for one in wanted:
        if one.subject in going:
            _go_on(work, one, known[one.subject], facts.pop(one.subject), anchors)
            continue
        fold_one(work, one.subject, facts.pop(one.subject), Begun(one.streams, known[one.subject], anchors))


def _go_on(work: Work, wanted: Wanted, known: Remembered, facts: Sequence[Fact], anchors: Mapping[int, Fact]) -> None:
    """Let a remembered fold go on from its end, if its news belong there; otherwise leave it to ``refold``."""
    using = work.terms.noting_use()
    try:
        shown = shown_last(known.state.anchors, anchors)
        folded = known.going.go_on(facts, using, shown) if known.going else None
    except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
        work.result.failed[wanted.subject] = error
        return
    if folded is not None:
        done = Refolded(wanted.subject, folded.rows, known.since, used=frozenset(using.used))
        state = replace(known.state, first_after=work.until + 1)
        done.remembered = replace(known, streams=wanted.streams, state=state)
        work.result.done.append(done)


async def _fold_whole(work: Work, wanted: Sequence[Wanted], *, remember: bool) -> None:
    streams = [stream for one in wanted for stream in one.streams]
    histories = await read_rows(work.connection, work.projection.types, streams, work.until, _ROWS_AT_ONCE)
    if histories is None and len(wanted) == 1:
        await fold_long(work, wanted[0])
        return
    if histories is None:
        middle = len(wanted) // 2
        await _fold_whole(work, wanted[:middle], remember=remember)
        await _fold_whole(work, wanted[middle:], remember=remember)
        return
    for one in wanted:
        begun = Begun(tuple(stream for stream in one.streams if stream in histories)) if remember else None
        facts = parsed([row for stream in one.streams for row in histories.pop(stream, ())])
        fold_one(work, one.subject, facts, begun)


async def fold_long(work: Work, wanted: Wanted) -> None:
    """Fold one long subject whole, without holding all of it in memory."""
    using = work.terms.noting_use()
    try:
        folding = Folding(work.projection, Subject(work.book, wanted.subject), using)
        types = work.projection.types
        async for piece in read_in_pieces(work.connection, types, work.book, wanted.streams, work.until):
            folding.feed(piece)
        folded = folding.finish(work.until)
    except AWAY:
        raise
    except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
        work.result.failed[wanted.subject] = error
        return
    work.result.done.append(Refolded(wanted.subject, folded.rows, kept=folded.kept, used=frozenset(using.used)))


def fold_one(work: Work, stream_id: str, facts: Iterable[Fact], begun: Begun | None = None) -> None:
    """Fold one subject's whole history, or what is new since ``begun``; a failure affects it alone."""
    using = work.terms.noting_use()
    known = begun.known if begun else None
    resume, anchors = (known.state if known else None), (begun.anchors if begun else {})
    try:
        folding = Folding(work.projection, Subject(work.book, stream_id), using, resume=resume, anchors=anchors)
        folding.hold(facts)
        folded = folding.finish(work.until, ready=begun is not None)
    except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
        work.result.failed[stream_id] = error
        return
    done = Refolded(stream_id, folded.rows, kept=folded.kept, used=frozenset(using.used))
    if begun is not None and folded.ready is not None:
        digests = digests_of(folded.rows)
        done.remembered = Remembered(begun.streams, folded.ready, digests)
        done.same = frozenset(table for table, digest in digests.items() if known and known.digests[table] == digest)
    work.result.done.append(done)


async def _fold_on(work: Work, resumed: Sequence[tuple[Wanted, Kept]], *, remember: bool) -> None:
    """Fold from kept states to the end; subjects are read together, since busy ones have news at the same time."""
    kept = await _with_states(work.connection, [(one.subject, state) for one, state in resumed])
    states = {one.subject: state for (one, _), state in zip(resumed, kept, strict=True)}
    starts = [(one.streams, states[one.subject]) for one, _ in resumed]
    found = await read_since(work.connection, work.projection, starts, work.until)
    facts = {one.subject: [fact for stream in one.streams for fact in found[stream]] for one, _ in resumed}
    anchors = await read_anchors(
        work.connection, work.book, [(states[subject], some) for subject, some in facts.items()]
    )
    for one, _ in resumed:
        state, using = states[one.subject], work.terms.noting_use()
        try:
            folding = Folding(work.projection, Subject(work.book, one.subject), using, resume=state, anchors=anchors)
            folding.hold(facts.pop(one.subject))
            folded = folding.finish(work.until)
        except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
            work.result.failed[one.subject] = error
            continue
        done = Refolded(one.subject, folded.rows, state.at, kept=folded.kept, used=frozenset(using.used))
        if remember and max(one.news)[0] - state.at < BUSY_AGE:
            since = folded.kept[-1].at if folded.kept else state.at
            state = replace(state, first_after=work.until + 1)
            done.remembered = Remembered(one.streams, state, going=folding.finished, since=since)
        work.result.done.append(done)


async def _fold_up_to(work: Work, wanted: Wanted, state: Kept, passed: Sequence[Kept]) -> bool:
    """Refold late news from a kept state up to the last of those passed; return whether that was enough (or failed)."""
    try:
        found = await _up_to(work, wanted, state, passed)
    except AWAY:
        raise
    except Exception as error:  # noqa: BLE001 - whatever one subject's history does, the others go on
        work.result.failed[wanted.subject] = error
        return True
    if found is not None:
        work.result.done.append(found)
    return found is not None


async def _up_to(work: Work, wanted: Wanted, state: Kept, passed: Sequence[Kept]) -> Refolded | None:
    """Refold up to the last state passed; None if the news change that state, so that the rest changes too.

    Earlier late events are known to the first state after each, and perhaps to no later one.
    """
    connection, projection = work.connection, work.projection
    state, target = await _with_states(connection, [(wanted.subject, state), (wanted.subject, passed[-1])])
    last_within, told = told_of(passed)
    late = sorted({*told, *(position for _, position in wanted.news if position > last_within)})
    using = work.terms.noting_use()
    found = await read_since(connection, projection, [(wanted.streams, state)], last_within, target.at)
    facts = [fact for some in found.values() for fact in some]
    if late:
        beyond = await read_late(connection, projection, work.book, late, state.at, target.at)
        facts += [fact for fact in beyond if not state.first_after <= fact.position <= last_within]
    anchors = await read_anchors(connection, work.book, [(state, facts)])
    folding = Folding(projection, Subject(work.book, wanted.subject), using, resume=state, anchors=anchors)
    folding.feed(facts)
    folded = folding.stop_at(target.at)
    reached = folded.kept[-1]
    if (reached.state, reached.anchors) != (target.state, target.anchors):
        return None
    # The state is unchanged; only the positions to read in order to reach it are new.
    unsure = target.unsure or folded.unsure
    again = replace(target, seen=reached.seen, last_within=last_within, unsure=unsure, late=tuple(late))
    if len(late) > _LATE_MAX:
        again = replace(again, last_within=late[-1], late=())
    return Refolded(wanted.subject, folded.rows, state.at, target.at, [again], frozenset(using.used))


def _passed(kept: Sequence[Kept], state: Kept, moment: datetime) -> list[Kept]:
    """Return the states kept after ``state``, up to the first that is late enough to include news up to ``moment``,
    whatever their order; none where no state is that late.
    """
    after = [one for one in kept if one.at > state.at]
    end = next((place for place, one in enumerate(after, 1) if one.at - moment > 2 * REACH), 0)
    return after[:end]


async def _with_states(connection: asyncpg.Connection, wanted: Sequence[tuple[str, Kept]]) -> list[Kept]:
    """Return the same kept states with their contents read, in the same order."""
    subjects, times = [subject for subject, _ in wanted], [kept.at for _, kept in wanted]
    rows = {(row["subject"], row["at"]): row for row in await connection.fetch(KEPT_STATES, subjects, times)}
    return [_with_state(kept, rows[subject, kept.at]) for subject, kept in wanted]


def _with_state(kept: Kept, row: asyncpg.Record) -> Kept:
    anchors = tuple((key, position) for key, position in orjson.loads(row["anchors"]))
    return replace(kept, state=row["state"], anchors=anchors, unsure=row["unsure"])

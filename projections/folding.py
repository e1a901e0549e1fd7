"""Folding a subject: causal order, one step per event, and states kept where a fold can be resumed.

Pure. The follower, rebuilds, answers about what was known, and tests all fold with this module; they differ only in
where they begin and what they do with the rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import TypeAdapter

from ledger.event import Json
from projections.causal import REACH, Ordering, object_key, order
from projections.contract import Projection, Row, Rows, Subject, Terms
from projections.facts import Fact, readable

KEEP_EVERY: Final = 250
"""How many events lie between states that are stored."""

KEEP_FROM: Final = 512
"""A subject with fewer events is folded from its beginning, which is quicker than reading a state."""

REMEMBER_FROM: Final = 32
"""From this many events on, the fold of a subject below ``KEEP_FROM`` says where it can be resumed (``warm``)."""

_SETTLED_AGE: Final = timedelta(minutes=10)
_REMEMBERED_AGE: Final = timedelta(minutes=1)
_RECENT_KEPT: Final = 8
_RECENT_EVERY: Final = 16
_ANCHORS: Final = 512
"""Of how many objects a state says which event showed each last: of all, below ``KEEP_FROM`` events."""

_NONE_YET: Final = 2**63 - 1


class NoTerms:
    """The terms of a projection without references."""

    def forms(self, kind: str, reference: str) -> Sequence[tuple[datetime, Json]]:
        """Know nothing."""
        return ()

    def at(self, kind: str, reference: str, moment: datetime) -> Json | None:
        """Know nothing."""
        return None


@dataclass(frozen=True, slots=True)
class Kept:
    """A fold's state after every event up to ``at``, ``seen`` events in all.

    ``last_within`` is the highest position among them, except for the ``late`` ones that arrived after the state was
    kept; ``first_after`` is the lowest position that an event after them has or can get. A late event is known only to
    the first state after it (``told_of``). ``anchors`` are the positions of the events that last showed each recent
    object: a later chain of that object begins there.
    """

    at: datetime
    seen: int
    first_after: int
    last_within: int
    state: bytes
    anchors: tuple[tuple[str, int], ...]
    unsure: bool = False
    late: tuple[int, ...] = ()


@dataclass(slots=True)
class Folded:
    """The result of folding: rows by table, the states to keep, and whether states left some order ``unsure``.

    ``ready`` is a state from which all of these rows can be folded again: nothing was settled out of it.
    """

    rows: dict[str, list[Row]]
    kept: list[Kept] = field(default_factory=list)
    unsure: bool = False
    ready: Kept | None = None


_ADAPTERS: Final[dict[type[Any], TypeAdapter[Any]]] = {}


def _adapter(state: type[Any]) -> TypeAdapter[Any]:
    if state not in _ADAPTERS:
        _ADAPTERS[state] = TypeAdapter(state)
    return _ADAPTERS[state]


def shown_last(anchors: Iterable[tuple[str, int]], facts: Mapping[int, Fact]) -> dict[str, Json]:
    """Return what objects showed last, for those whose anchors are among some facts, which may be others' too."""
    own = {key: facts[at] for key, at in anchors if at in facts}
    return {key: fact.subject for key, fact in zip(own, readable(own.values()), strict=True)}


class _Seen:
    """What a kept state says of the events before it: how many, up to which position, and what each object showed."""

    def __init__(self, resume: Kept | None, anchors: Mapping[int, Fact]) -> None:
        self.count = resume.seen if resume else 0
        self.unsure = resume.unsure if resume else False
        self._last_within = resume.last_within if resume else 0
        self._anchors: OrderedDict[str, int] = OrderedDict(resume.anchors if resume else ())
        self.shown = shown_last(self._anchors.items(), anchors)

    def add(self, fact: Fact) -> None:
        """See one more event, which is now the last that showed its object."""
        self.count += 1
        self._last_within = max(self._last_within, fact.position)
        key = object_key(fact)
        self._anchors[key] = fact.position
        self._anchors.move_to_end(key)
        self.shown[key] = fact.subject
        if len(self._anchors) > _ANCHORS:
            self.shown.pop(self._anchors.popitem(last=False)[0], None)

    def kept(self, at: datetime, state: bytes) -> Kept:
        """Return a state as it is kept after these events."""
        return Kept(at, self.count, _NONE_YET, self._last_within, state, tuple(self._anchors.items()), self.unsure)


class _States:
    """The states kept while a subject is folded, each with the lowest position folded between it and the next."""

    def __init__(self, seen: int) -> None:
        self.kept: list[Kept] = []
        self._lowest_since: list[int] = []
        self._seen = seen

    def wanted(self, seen: int, count: int, ends: Sequence[int], *, last: bool) -> set[int]:
        """Choose the boundaries, among ``count`` events after those seen, after which to keep a state.

        They are at wide intervals, and denser near the end.
        """
        if not ends or seen + count < KEEP_FROM:
            return set()
        wanted: set[int] = set()
        since = self._seen - seen
        # The newest state is replaced by each fold and is usually too new to resume from, so keep several.
        recent = count - _RECENT_KEPT * _RECENT_EVERY if last else count
        for end in ends:
            if end - since >= (KEEP_EVERY if end < recent else _RECENT_EVERY):
                wanted.add(end)
                since = end
        return wanted

    def keep(self, state: Kept) -> None:
        """Keep a state after all events so far."""
        self.kept.append(state)
        self._lowest_since.append(_NONE_YET)
        self._seen = state.seen

    def passed(self, fact: Fact) -> None:
        """Note an event that was folded after the newest state."""
        if self._lowest_since:
            self._lowest_since[-1] = min(self._lowest_since[-1], fact.position)

    def up_to(self, until: int) -> list[Kept]:
        """Return the states with the lowest position after each, if the log was read up to a position."""
        lowest = until + 1
        found: list[Kept] = []
        for kept, since in zip(reversed(self.kept), reversed(self._lowest_since), strict=True):
            lowest = min(lowest, since)
            found.append(replace(kept, first_after=lowest))
        return found[::-1]


class Folding:
    """One subject being folded, from its beginning or a kept state, in pieces, so that it need not fit in memory."""

    def __init__(
        self,
        projection: Projection,
        subject: Subject,
        terms: Terms | None = None,
        *,
        resume: Kept | None = None,
        anchors: Mapping[int, Fact] | None = None,
    ) -> None:
        """Begin. With ``resume`` go the facts its anchors name, by position, for objects that occur again."""
        self._projection = projection
        self._terms = terms or NoTerms()
        self._rows: dict[str, list[Row]] = {table.name: [] for table in projection.tables}
        self._waiting: list[Fact] = []
        self._seen = _Seen(resume, anchors or {})
        self._states = _States(self._seen.count)
        self._before = dict(self._seen.shown)
        self._ready = resume
        self.finished: Finished | None = None
        self._state = _adapter(projection.state).validate_json(resume.state) if resume else projection.begin(subject)

    def feed(self, facts: Iterable[Fact]) -> None:
        """Fold more facts. No later call may bring one more than ``REACH`` older than the newest of these."""
        self._waiting += readable(facts)
        if not self._waiting:
            return
        ordering = order(self._waiting, self._seen.shown)
        ends = _settled(ordering)
        if ends:
            self._take(ordering.facts[: ends[-1]], ends, unsure=bool(ordering.unsure))
            # Keep them as they came: ordering has moved some of their times, and they will be ordered again.
            left = {fact.event_id for fact in ordering.facts[ends[-1] :]}
            self._waiting = [fact for fact in self._waiting if fact.event_id in left]

    def hold(self, facts: Iterable[Fact]) -> None:
        """Take all facts at once, in any order; ``finish`` folds them."""
        self._waiting += readable(facts)

    def finish(self, until: int = 0, *, ready: bool = False) -> Folded:
        """Fold what waits and return the result. ``until`` is the position up to which the log was read.

        With ``ready``, a subject that is not long says where it can be resumed; all its facts must still wait.
        """
        ordering = order(self._waiting, self._seen.shown)
        total = self._seen.count + len(ordering.facts)
        ready = ready and total < KEEP_FROM
        done = self._make_ready(ordering) if ready and total >= REMEMBER_FROM else 0
        ends = _settled(ordering) if total >= KEEP_FROM else ()
        self._take(ordering.facts[done:], ends, unsure=bool(ordering.unsure), last=True)
        self.finished = Finished(self._projection, self._state, self._before, self._waiting, ordering.facts)
        self._waiting = []
        for table, rows in self._projection.rows(self._state).items():
            self._rows[table] += rows
        written, self._rows = self._rows, {}
        return Folded(written, self._states.up_to(until), self._seen.unsure, self._ready if ready else None)

    def _make_ready(self, ordering: Ordering) -> int:
        """Fold up to the best place to resume from; return how many facts that are."""
        facts = ordering.facts
        done = _pause(facts, _settled(ordering))
        if done:
            self._take(facts[:done], (), unsure=bool(ordering.unsure))
            first_after = min(fact.position for fact in facts[done:])
            self._ready = replace(self._state_now(facts[done - 1].created), first_after=first_after)
        return done

    def stop_at(self, moment: datetime) -> Folded:
        """Fold what waits and keep the state as of ``moment``; the rows are those that are final by then."""
        ordering = order(self._waiting, self._seen.shown)
        self._take(ordering.facts, (), unsure=bool(ordering.unsure))
        self._waiting = []
        self._keep(moment)
        return Folded(self._rows, self._states.kept, self._seen.unsure)

    def _take(self, facts: Sequence[Fact], ends: Sequence[int], *, unsure: bool, last: bool = False) -> None:
        self._seen.unsure = self._seen.unsure or unsure
        wanted = self._states.wanted(self._seen.count, len(facts), ends, last=last)
        if last and not wanted and not self._states.kept:
            # A short subject, or the end of one: no state within these facts will be kept.
            for fact in facts:
                self._projection.step(self._state, fact, self._terms)
            return
        for count, fact in enumerate(facts, 1):
            self._projection.step(self._state, fact, self._terms)
            self._states.passed(fact)
            self._seen.add(fact)
            if count in wanted:
                self._keep(fact.created)

    def _keep(self, at: datetime) -> None:
        if self._projection.settle is not None:
            for table, rows in self._projection.settle(self._state).items():
                self._rows[table] += rows
        self._states.keep(self._state_now(at))

    def _state_now(self, at: datetime) -> Kept:
        return self._seen.kept(at, _adapter(self._projection.state).dump_json(self._state))


class Finished:
    """A finished fold, which can go on from its end while new events sort after all earlier ones."""

    def __init__(
        self, projection: Projection, state: Any, before: dict[str, Json], came: list[Fact], ordered: list[Fact]
    ) -> None:
        """``came`` are the facts as they came, ``ordered`` the same in order; ``before`` is what objects showed."""
        self._projection = projection
        self._state = state
        self._before = before
        self._came = came
        self._ordered = ordered
        self._more = 0

    @property
    def held(self) -> int:
        """How many facts it holds to be able to go on."""
        return len(self._came)

    def strange(self, facts: Iterable[Fact]) -> list[Fact]:
        """Return those of some facts of whose objects it was not told what they showed before it began."""
        return [fact for fact in facts if object_key(fact) not in self._before]

    def go_on(self, facts: Sequence[Fact], terms: Terms | None = None, shown: Mapping[str, Json] = {}) -> Folded | None:
        """Fold more facts; None if they do not sort after all earlier ones, or a state is due.

        ``shown`` is what ``strange`` objects showed before it began. The rows are those not final in the newest state
        kept so far.
        """
        if self._more + len(facts) > _RECENT_EVERY:
            return None
        self._before |= shown
        ordered = order([*self._came, *readable(facts)], self._before).facts
        stood = len(self._ordered)
        if ordered[:stood] != self._ordered:
            return None
        for fact in ordered[stood:]:
            self._projection.step(self._state, fact, terms or NoTerms())
        self._came, self._ordered, self._more = [*self._came, *facts], ordered, self._more + len(facts)
        rows = self._projection.rows(self._state)
        return Folded({table.name: list(rows.get(table.name, ())) for table in self._projection.tables})


def _settled(ordering: Ordering) -> list[int]:
    """Return the boundaries so far before the last fact that no fact at its time or later can move them."""
    facts = ordering.facts
    return [end for end in ordering.boundaries if facts[-1].created - facts[end - 1].created > REACH]


def _pause(facts: Sequence[Fact], ends: Sequence[int]) -> int:
    """Return the last settled boundary before the last minute, into which the next events usually fall."""
    return next((end for end in reversed(ends) if facts[-1].created - facts[end - 1].created > _REMEMBERED_AGE), 0)


def fold(projection: Projection, subject: Subject, facts: Iterable[Fact], terms: Terms | None = None) -> Folded:
    """Fold a subject's facts, given in any order, into its rows."""
    folding = Folding(projection, subject, terms)
    folding.hold(facts)
    return folding.finish()


def rows_of(projection: Projection, subject: Subject, facts: Iterable[Fact], terms: Terms | None = None) -> Rows:
    """Fold a subject's facts, given in any order, into its rows alone."""
    return fold(projection, subject, facts, terms).rows


def newest_before(kept: Sequence[Kept], moment: datetime) -> Kept | None:
    """Return the newest state that an event at ``moment`` cannot change."""
    return max((one for one in kept if moment - one.at > 2 * REACH), key=lambda one: one.at, default=None)


def told_of(kept: Iterable[Kept]) -> tuple[int, tuple[int, ...]]:
    """Return ``last_within`` and ``late`` of a span that ends with the last of some states and passes the others."""
    states = list(kept)
    last_within = max(one.last_within for one in states)
    return last_within, tuple(sorted({at for one in states for at in one.late if at > last_within}))


def thinned(kept: Sequence[tuple[datetime, int]]) -> set[datetime]:
    """Choose which states to keep, given the time and the number of events seen of each.

    The last eight, the newest that is older than ten minutes, and the first in every ``KEEP_EVERY`` events.
    """
    by_time = sorted(kept)
    wanted = {at for at, _ in by_time[-_RECENT_KEPT:]}
    if by_time:
        settled = [at for at, _ in by_time if by_time[-1][0] - at > _SETTLED_AGE]
        wanted |= set(settled[-1:])
    first_of_span: dict[int, datetime] = {}
    for at, seen in by_time:
        first_of_span.setdefault(seen // KEEP_EVERY, at)
    return wanted | {at for span, at in first_of_span.items() if span > 0}

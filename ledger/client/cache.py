"""Answers kept in memory, right as long as the stream is heard.

The service states an answer as stale where it may be more than a second behind. So an answer to a question asked
within a second after a change that concerns it is given, and not kept; any other one is kept until the stream says
that it changed, or until the time it is valid until.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ledger.client.answers import Answer
from ledger.client.events import Event, EventParser

SETTLE_SECONDS: Final = 1.0
_SEEN_MAX: Final = 10_000

Key = tuple[str, str]


@dataclass(slots=True)
class _Kept:
    answer: Answer
    right_at: float
    """When it was last known to be right, unless the stream has been heard since."""
    live: bool
    """Whether the stream keeps it right."""


class Cache:
    """Bounded. ``clock`` counts seconds, ``now`` tells the time in UTC, ``lock`` keeps threads apart."""

    def __init__(
        self,
        *,
        entries_max: int,
        stale_after: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        lock: AbstractContextManager[object],
    ) -> None:
        self._entries_max = entries_max
        self._stale_after = stale_after
        self._clock = clock
        self._now = now
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._changed: OrderedDict[Key | None, float] = OrderedDict()
        self._heard: float | None = None
        self._began = 0.0
        self._caught_up = False
        self._parser = EventParser()
        self._lock = lock
        self.last_id: str | None = None

    def get(self, key: Key, min_position: int | None) -> Answer | None:
        """Return an answer that the stream keeps right; None where it is to be asked for."""
        kept, heard = self._kept.get(key), self._heard
        if kept is None or heard is None or not kept.live:
            return None
        answer, age = kept.answer, self._clock() - heard
        if age > self._stale_after or self._has_ended(answer):
            return None
        if min_position is not None and (answer.freshness is None or answer.freshness.position < min_position):
            return None
        return answer if age < SETTLE_SECONDS else replace(answer, age_seconds=age)

    def _has_ended(self, answer: Answer) -> bool:
        return answer.valid_until is not None and answer.valid_until <= self._now()

    def last_known(self, key: Key) -> tuple[Answer | None, float]:
        """Return the last answer, right or not, and how long ago it was last known to be right.

        None for a grant that has ended by time since: that is known without the service.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or (kept.answer.granted and self._has_ended(kept.answer)):
                return None, 0.0
            right_at = max(kept.right_at, self._heard or 0.0) if kept.live else kept.right_at
            return kept.answer, self._clock() - right_at

    def keep(self, answer: Answer, asked_at: float) -> None:
        """Keep an answer to a question that was asked at ``asked_at``."""
        key = (answer.customer, answer.feature)
        with self._lock:
            changed = max(self._changed.get(key, 0.0), self._changed.get(None, 0.0), self._began)
            live = self._heard is not None and not answer.stale and asked_at >= changed + SETTLE_SECONDS
            self._kept[key] = _Kept(replace(answer, origin="cache"), asked_at, live)
            self._kept.move_to_end(key)
            if len(self._kept) > self._entries_max:
                self._kept.popitem(last=False)

    def begin(self) -> None:
        """Begin to hear a stream, after ``last_id`` where there is one: first what was missed, then where it is."""
        self._parser = EventParser()
        self._caught_up = False

    def hear(self, some: bytes) -> None:
        """Take a piece of the stream. Raises ``ValueError`` for what is no stream."""
        with self._lock:
            for event in self._parser.feed(some):
                self._take(event)
            if self._caught_up:
                self._heard = self._clock()

    def _take(self, event: Event) -> None:
        if self._heard is None or event.name == "reset":
            self._forget_all()
            self._began = self._clock()
        elif event.name == "message" and event.data:
            content = json.loads(event.data)
            if content["customer"] is None:
                self._forget_all()
            else:
                self._forget((content["customer"], content["feature"]))
        if event.event_id is not None:
            self.last_id = event.event_id
            self._caught_up = self._caught_up or event.name == "reset" or not event.data
            self._heard = self._heard or self._clock()

    def _forget_all(self) -> None:
        self._changed = OrderedDict({None: self._clock()})
        for kept in self._kept.values():
            self._end(kept)

    def _forget(self, key: Key) -> None:
        if kept := self._kept.get(key):
            self._end(kept)
        self._changed[key] = self._clock()
        self._changed.move_to_end(key)
        while len(self._changed) > _SEEN_MAX:
            _, at = self._changed.popitem(last=False)
            self._changed[None] = max(at, self._changed.get(None, 0.0))

    def _end(self, kept: _Kept) -> None:
        """Keep it as the last known answer alone."""
        if kept.live:
            kept.live, kept.right_at = False, self._clock()

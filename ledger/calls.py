"""The answers given to requests under an Idempotency-Key, so that a retry gets the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventsourcing.domain import event

from ledger.books import CONTROL_BOOK
from ledger.event import NewEvent
from ledger.operator import OperatorAggregate


def call_name(what: str, *key: str) -> str:
    """Name the stream that keeps the answer to a request, by what it does and its Idempotency-Key with its owner."""
    return f"{what}-{hashlib.sha256(' '.join(key).encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """A request with an Idempotency-Key: the name of the stream that keeps its answer, and what it asked for."""

    name: str
    wanted: Mapping[str, Any]

    def answered(self, answer: Mapping[str, Any], now: datetime) -> list[NewEvent]:
        """Return the events that record its answer, to be appended together with what the request does."""
        call = Call.restore(self.name)
        call.answer(self.wanted, answer)
        return call.new_events(CONTROL_BOOK, now)


class Call(OperatorAggregate):
    """The aggregate of one such request: what it asked for, and the answer."""

    def __init__(self) -> None:
        self.wanted: Mapping[str, Any] = {}
        self.answered: Mapping[str, Any] | None = None

    @event("Answered", topic="ledger.call.answered")
    def answer(self, wanted: Mapping[str, Any], answered: Mapping[str, Any]) -> None:
        """Record the answer."""
        self.wanted, self.answered = wanted, answered

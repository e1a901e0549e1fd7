"""What a request was answered with that its sender had called something, so as to send it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventsourcing.domain import event

from ledger.operator import OperatorAggregate


class Call(OperatorAggregate):
    """One such request: what it asked for, and the answer."""

    def __init__(self) -> None:
        self.wanted: Mapping[str, Any] = {}
        self.answered: Mapping[str, Any] | None = None

    @event("Answered", topic="ledger.call.answered")
    def answer(self, wanted: Mapping[str, Any], answered: Mapping[str, Any]) -> None:
        """Answer it."""
        self.wanted, self.answered = wanted, answered

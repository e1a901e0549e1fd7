"""A build's life as the log tells it: who asked for it, what was certified of it, who made it live and why.

The registry says what is, in one transaction with the rows; these events say who decided that, and stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eventsourcing.domain import event

from ledger.operator import OperatorAggregate

SWAPS: Final = ("ledger.build.promoted", "ledger.build.rolled_back")
"""The types of the events that say which build became the live one."""


class KeyedRebuild(OperatorAggregate):
    """Which build a rebuild request under an Idempotency-Key began."""

    def __init__(self) -> None:
        self.build: str | None = None
        self.wanted: Mapping[str, Any] = {}

    @event("Answered", topic="ledger.rebuild.answered")
    def answer(self, build: str, wanted: Mapping[str, Any]) -> None:
        """Record the build as its answer."""
        self.build, self.wanted = build, wanted


class BuildLife(OperatorAggregate):
    """The decisions about one build; its stream is named after the build."""

    @event("Requested", topic="ledger.build.requested")
    def request(
        self, projection: str, version: int, bounded: bool, targets: Mapping[str, int], by: str, reason: str | None
    ) -> None:
        """Ask for it."""

    @event("Certified", topic="ledger.build.certified")
    def certify(
        self, build: str, projection: str, version: int, source: str, digest: str, books: Mapping[str, Any]
    ) -> None:
        """Bind its digest to the log's roots, its version and the source of its fold."""

    @event("Promoted", topic=SWAPS[0])
    def promote(
        self,
        projection: str,
        build: str,
        previous: str | None,
        positions: Mapping[str, int],
        lag_seconds: int,
        by: str,
        reason: str,
        forced: bool,
    ) -> None:
        """Make it the live one."""

    @event("RolledBack", topic=SWAPS[1])
    def roll_back(
        self,
        projection: str,
        build: str,
        previous: str | None,
        positions: Mapping[str, int],
        lag_seconds: int,
        by: str,
        reason: str,
        forced: bool,
    ) -> None:
        """Make it the live one again."""

    @event("Dropped", topic="ledger.build.dropped")
    def drop(self, by: str, reason: str | None) -> None:
        """Throw it away."""

"""Which catalogs a book has published: one after another, each by somebody, each for good.

What a catalog may say is not the log's affair; here it is a text that holds from a moment on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from eventsourcing.domain import event

from ledger.operator import OperatorAggregate

STREAM: Final = "catalog"
PUBLISHED: Final = "ledger.catalog.published"


class Publication(NamedTuple):
    """A catalog as it was published. ``effective_from`` is an RFC 3339 time; None: it holds from the beginning."""

    number: int
    content: str
    effective_from: str | None
    by: str


class Catalogs(OperatorAggregate):
    """A book's catalogs, oldest first."""

    def __init__(self) -> None:
        self.published: list[Publication] = []

    def publish(self, content: str, effective_from: str | None, now: str, by: str) -> None:
        """Publish a text from a time on, or from now; the first one says what always held.

        The text that was published last is published again only from another time on.
        """
        last = self.published[-1] if self.published else None
        if last is not None and last.content == content and effective_from in (None, last.effective_from):
            return
        since = None if last is None else effective_from or now
        self._published(len(self.published) + 1, content, since, by)

    @event("Published", topic=PUBLISHED)
    def _published(self, number: int, content: str, effective_from: str | None, by: str) -> None:
        self.published.append(Publication(number, content, effective_from, by))

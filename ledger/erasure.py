"""Erasing the body of one event, as the law may require: the log still shows that it was there, and every proof holds.

First a signed event says what is erased and why; then body and salt are overwritten, as the log's owner, and the later
copies kept of the event are deleted. If it is interrupted, ``verify`` lists what is still to be erased, and erasing
again completes it. Our own decisions are not personal data and are never erased.
"""

from __future__ import annotations

from typing import Final

import asyncpg
from eventsourcing.domain import event

from ledger.errors import MistakeError
from ledger.event import Source
from ledger.observation import OBSERVATIONS
from ledger.operator import OperatorAggregate
from ledger.reader import StoredEvent
from ledger.verify import BODY_ERASED

ERASURES_STREAM: Final = "erasures"

LET_CHANGE: Final = "ALTER TABLE ledger.event DISABLE TRIGGER event_is_immutable"

OVERWRITE: Final = """
UPDATE ledger.event
SET body = '', salt = ''
WHERE stream_id = $1 AND version = $2 AND salt <> ''
"""

REFUSE_CHANGE: Final = "ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER event_is_immutable"

DROP_COPIES: Final = "DELETE FROM ledger.event_conflict WHERE event_id = $1 AND book = $2"

# The old row leaves the file only when its space is freed.
FREE: Final = "VACUUM ledger.event, ledger.event_conflict"

_LOCK_SECONDS: Final = 10


class NotErasableError(MistakeError):
    """The event is a decision of our own: the log, its builds and its books depend on its content."""


class Erasures(OperatorAggregate):
    """The erasures of a book."""

    def __init__(self) -> None:
        self.positions: set[int] = set()

    def record(self, found: StoredEvent, reason: str, by: str) -> None:
        """Decide to erase an event's body. Raises ``NotErasableError``."""
        if found.source == Source.OPERATOR and found.type not in OBSERVATIONS:
            raise NotErasableError(f"{found.event_id} is a {found.type}, a decision of our own: it cannot be erased")
        if found.position not in self.positions:
            self.erase(found.event_id, found.position, reason, by)

    @event("Erased", topic=BODY_ERASED)
    def erase(self, event_id: str, position: int, reason: str, by: str) -> None:
        """Erase the body of the event at a position."""
        self.positions.add(position)


async def overwrite(owner: asyncpg.Connection, found: StoredEvent) -> bool:
    """Overwrite an event's body and salt with nothing, as the log's owner; return whether they were there.

    Appending waits meanwhile, for milliseconds. Only what a signed erasure names may be overwritten.
    """
    async with owner.transaction():
        await owner.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        await owner.execute("SET LOCAL ROLE ledger_owner")
        await owner.execute(LET_CHANGE)
        done = await owner.execute(OVERWRITE, found.stream_id, found.version)
        await owner.execute(REFUSE_CHANGE)
        await owner.execute(DROP_COPIES, found.event_id, found.book)
    return str(done) == "UPDATE 1"


async def free_the_place(owner: asyncpg.Connection) -> None:
    """Give free the place where an overwritten row stood."""
    await owner.execute("SET ROLE ledger_owner")
    await owner.execute(FREE)

"""Who the log is: its origin and the keys that sign for it, as facts in the control book.

The origin names this log to the world; a log that lost events to a restore goes on under a new one. Keys are
registered before they sign, and stay known when another takes over: old checkpoints keep their worth.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import asyncpg
from eventsourcing.domain import event

from ledger.appender import Appender
from ledger.books import CONTROL_BOOK
from ledger.decisions import decide, restore
from ledger.errors import LedgerError
from ledger.note import VerifierKey, parse_verifier_key
from ledger.operator import OperatorAggregate

LOG_STREAM: Final = "log"
OPENED: Final = "ledger.log.opened"
KEY_REGISTERED: Final = "ledger.key.registered"


class NoIdentityError(LedgerError):
    """The log has no origin yet: nothing has been signed, so nothing can be proved."""


class Identity(OperatorAggregate):
    """Every origin the log ever had, and its registered keys."""

    def __init__(self) -> None:
        self.origins: list[str] = []
        self.keys: list[VerifierKey] = []

    @property
    def origin(self) -> str:
        """The origin that checkpoints are signed under now. Raises ``NoIdentityError``."""
        if not self.origins:
            raise NoIdentityError("this log has signed nothing yet: start the service, or run `ledger log checkpoint`")
        return self.origins[-1]

    def origin_of(self, book: str) -> str:
        """Return the origin line of a book's checkpoints."""
        return f"{self.origin}/{book}"

    def establish(self, key: VerifierKey) -> None:
        """Make sure that the log has an origin, at first the key's name, and that the key is registered."""
        if not self.origins:
            self.open(key.name)
        if key not in self.keys:
            self.register(key.encode())

    @event("Opened", topic=OPENED)
    def open(self, origin: str) -> None:
        """Go on under a new origin."""
        self.origins.append(origin)

    @event("KeyRegistered", topic=KEY_REGISTERED)
    def register(self, key: str) -> None:
        """Know a key from now on."""
        self.keys.append(parse_verifier_key(key))


async def read_identity(connection: asyncpg.Connection) -> Identity:
    """Return who the log is."""
    return await restore(connection, Identity, CONTROL_BOOK, LOG_STREAM)


async def establish(connection: asyncpg.Connection, appender: Appender, key: VerifierKey, *, now: datetime) -> Identity:
    """Return the identity after making sure that the log has an origin and that ``key`` is registered."""
    decided = await decide(
        connection, appender, Identity, CONTROL_BOOK, LOG_STREAM, lambda log: log.establish(key), now=now
    )
    return decided.aggregate

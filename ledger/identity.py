"""Who the log is: its origin and the keys that sign for it, as facts in the control book.

The origin names this log to the world; a log that lost events to a restore goes on under a new one. Keys are
registered before they sign, and stay known when another takes over: old checkpoints keep their worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from ledger.appender import Appender
from ledger.books import CONTROL_BOOK
from ledger.errors import LedgerError, VersionConflictError
from ledger.note import VerifierKey, parse_verifier_key
from ledger.operator import operator_event
from ledger.reader import Filter, StoredEvent, read_page

LOG_STREAM: Final = "log"
OPENED: Final = "ledger.log.opened"
KEY_REGISTERED: Final = "ledger.key.registered"

_STREAM_EVENTS_MAX: Final = 10_000


class NoIdentityError(LedgerError):
    """The log has no origin yet: nothing has been signed, so nothing can be proved."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The log's origin now, every origin it ever had, its registered keys, and the version of that stream."""

    origins: tuple[str, ...]
    keys: tuple[VerifierKey, ...]
    version: int

    @property
    def origin(self) -> str:
        """The origin that checkpoints are signed under now. Raises ``NoIdentityError``."""
        if not self.origins:
            raise NoIdentityError("this log has signed nothing yet: start the service, or run `ledger log checkpoint`")
        return self.origins[-1]

    def origin_of(self, book: str) -> str:
        """Return the origin line of a book's checkpoints."""
        return f"{self.origin}/{book}"


async def read_identity(connection: asyncpg.Connection) -> Identity:
    """Fold the control book's stream of identity."""
    stream = Filter(stream_id=f"{CONTROL_BOOK}/{LOG_STREAM}")
    return fold_identity(await read_page(connection, CONTROL_BOOK, stream, _STREAM_EVENTS_MAX))


def fold_identity(events: Sequence[StoredEvent]) -> Identity:
    """Read origins and keys off the events that opened the log and registered keys."""
    contents = [(event.type, orjson.loads(event.body)["data"]["object"]) for event in events]
    return Identity(
        origins=tuple(content["origin"] for type_, content in contents if type_ == OPENED),
        keys=tuple(parse_verifier_key(content["key"]) for type_, content in contents if type_ == KEY_REGISTERED),
        version=len(contents),
    )


async def establish(connection: asyncpg.Connection, appender: Appender, key: VerifierKey, *, now: datetime) -> Identity:
    """Return the identity after making sure that the log has an origin and that ``key`` is registered.

    The first key's name is the first origin. Several processes may ask at once.
    """
    while True:
        identity = await read_identity(connection)
        if not identity.origins:
            missing: tuple[str, dict[str, Any]] = (OPENED, {"origin": key.name})
        elif key not in identity.keys:
            missing = (KEY_REGISTERED, {"key": key.encode()})
        else:
            return identity
        await _decide(appender, identity, *missing, now=now)


async def open_new_origin(appender: Appender, identity: Identity, origin: str, *, now: datetime) -> None:
    """Let the log go on under a new origin. Raises ``VersionConflictError`` when somebody else was faster."""
    event = operator_event(CONTROL_BOOK, LOG_STREAM, identity.version + 1, OPENED, {"origin": origin}, now=now)
    await appender.append([event])


async def _decide(
    appender: Appender, identity: Identity, type_: str, content: dict[str, Any], *, now: datetime
) -> None:
    event = operator_event(CONTROL_BOOK, LOG_STREAM, identity.version + 1, type_, content, now=now)
    try:
        await appender.append([event])
    except VersionConflictError:
        return  # another process decided meanwhile; look again

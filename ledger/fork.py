"""Going on after a restore that lost events: a new origin whose first event in each book names what was lost.

The lost events were signed and may have been acted on, so the log does not pretend they never were: ``verify`` reports
the range for ever, and complains about anything else that was signed and is gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg
from eventsourcing.domain import event

from ledger.appender import Appender
from ledger.books import CONTROL_BOOK
from ledger.decisions import restore, save
from ledger.errors import MistakeError
from ledger.identity import read_identity
from ledger.note import NoteError, VerifierKey, open_note, parse_checkpoint
from ledger.operator import OperatorAggregate
from ledger.reader import read_head
from ledger.verify import LOG_FORKED

FORKS_STREAM: Final = "forks"


class Forks(OperatorAggregate):
    """What restores have lost of one book."""

    @event("Forked", topic=LOG_FORKED)
    def fork(self, origin: str, kept: int, lost: int, reason: str, checkpoint: str) -> None:
        """Name as lost what follows ``kept`` up to ``lost``, which was signed under ``origin`` with a checkpoint."""


class NothingLostError(MistakeError):
    """Everything that was ever signed is still in the log: there is no reason to fork it."""


async def fork_log(
    connection: asyncpg.Connection,
    appender: Appender,
    outside_notes: Sequence[str],
    trusted: Sequence[VerifierKey],
    *,
    reason: str,
    now: datetime,
) -> dict[str, tuple[int, int]]:
    """Fork every book that is shorter than what was signed of it; return the lost ranges by book, both ends included.

    Raises ``NothingLostError`` when no book is, ``VersionConflictError`` when somebody else forks just now.
    """
    identity = await read_identity(connection)
    newest = _newest_by_book(outside_notes, trusted, identity.origin)
    lost: dict[str, tuple[int, int]] = {}
    for book, (size, note) in sorted(newest.items()):
        head = await read_head(connection, book)
        if size > head:
            forks = await restore(connection, Forks, book, FORKS_STREAM)
            forks.fork(identity.origin_of(book), head, size, reason, note)
            await save(appender, book, forks, now=now)
            lost[book] = (head + 1, size)
    if not lost:
        raise NothingLostError("everything that was signed is in the log: nothing to fork")
    # The control book may itself have been forked: look again.
    identity = await read_identity(connection)
    identity.open(f"{identity.origins[0].partition('~')[0]}~{secrets.token_hex(4)}")
    await save(appender, CONTROL_BOOK, identity, now=now)
    return lost


def _newest_by_book(
    notes: Sequence[str], trusted: Sequence[VerifierKey], log_origin: str
) -> dict[str, tuple[int, str]]:
    newest: dict[str, tuple[int, str]] = {}
    for note in notes:
        try:
            checkpoint = parse_checkpoint(open_note(note, trusted).text)
        except NoteError:
            continue  # verify says what is wrong with it
        origin, _, book = checkpoint.origin.rpartition("/")
        if origin == log_origin and checkpoint.size > newest.get(book, (0, ""))[0]:
            newest[book] = (checkpoint.size, note)
    return newest

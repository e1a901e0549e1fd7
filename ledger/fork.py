"""Going on after a restore that lost events: a new origin, and an event in each book that names what was lost.

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
from ledger.note import NoteError, UnknownSignerError, VerifierKey, open_note, parse_checkpoint, parse_note
from ledger.operator import OperatorAggregate
from ledger.reader import read_head
from ledger.verify import LOG_FORKED

FORKS_STREAM: Final = "forks"

NEWEST_KEPT: Final = "SELECT coalesce(max(position), 0) FROM ledger.log_checkpoint WHERE book = $1 AND origin = $2"


class Forks(OperatorAggregate):
    """What restores have lost of one book."""

    @event("Forked", topic=LOG_FORKED)
    def fork(self, origin: str, kept: int, lost: int, reason: str, checkpoint: str) -> None:
        """Name as lost what follows ``kept`` up to ``lost``, which was signed under ``origin`` with a checkpoint."""


class NothingLostError(MistakeError):
    """Everything that was ever signed is still in the log: there is no reason to fork it."""


class UnknownKeyError(MistakeError):
    """A checkpoint outside was signed by a key unknown here: whether it is a loss to be named cannot be told."""

    def __init__(self, book: str, size: int, signers: Sequence[str]) -> None:
        super().__init__(
            f"book {book} at {size} events was signed by {', '.join(signers)}, a key this machine does not know: add "
            "its line, from the machine that signs with it, to `verifier-keys.txt` here, and fork again"
        )


async def fork_log(
    connection: asyncpg.Connection,
    appender: Appender,
    outside_notes: Sequence[str],
    trusted: Sequence[VerifierKey],
    *,
    reason: str,
    now: datetime,
) -> dict[str, tuple[int, int]]:
    """Fork every book that lacks what was signed of it; return the lost ranges by book, both ends included.

    Where events came after the restore, up to where something else was signed, what both histories have in common ends
    at the newest head that the database knows of; else it is all that is there.
    Raises ``NothingLostError`` when no book is, ``VersionConflictError`` when somebody else forks just now, and before
    anything is written ``UnknownKeyError``: no later fork excuses what was signed under the origin that ends here.
    """
    identity = await read_identity(connection)
    lost: dict[str, tuple[int, int]] = {}
    for book, signed in sorted(_signed_by_book(outside_notes, trusted, identity.origin).items()):
        origin = identity.origin_of(book)
        known = await connection.fetchval(NEWEST_KEPT, book, origin)
        unknown = sorted(size for size in signed if size > known)
        if unknown:
            head = await read_head(connection, book)
            kept = head if unknown[0] > head else known
            forks = await restore(connection, Forks, book, FORKS_STREAM)
            forks.fork(origin, kept, unknown[-1], reason, signed[unknown[-1]])
            await save(appender, book, forks, now=now)
            lost[book] = (kept + 1, unknown[-1])
    if not lost:
        raise NothingLostError("the log has everything that was signed: nothing to fork")
    # The control book may itself have been forked: look again.
    identity = await read_identity(connection)
    identity.open(f"{identity.origins[0].partition('~')[0]}~{secrets.token_hex(4)}")
    await save(appender, CONTROL_BOOK, identity, now=now)
    return lost


def _signed_by_book(notes: Sequence[str], trusted: Sequence[VerifierKey], log_origin: str) -> dict[str, dict[int, str]]:
    """Return the notes that were signed under an origin, by book and size."""
    signed: dict[str, dict[int, str]] = {}
    for note in notes:
        try:
            checkpoint = parse_checkpoint(parse_note(note).text)
            origin, _, book = checkpoint.origin.rpartition("/")
            if origin == log_origin:
                open_note(note, trusted)
                signed.setdefault(book, {})[checkpoint.size] = note
        except UnknownSignerError as error:
            raise UnknownKeyError(book, checkpoint.size, error.signers) from error
        except NoteError:
            continue  # verify says what is wrong with it
    return signed

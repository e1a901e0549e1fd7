"""Going on after a restore that lost events: a new origin whose first event in each book names what was lost.

The lost events were signed and may have been acted on, so the log does not pretend they never were: ``verify`` reports
the range for ever, and complains about anything else that was signed and is gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from ledger.appender import Appender
from ledger.errors import MistakeError
from ledger.identity import open_new_origin, read_identity
from ledger.note import NoteError, VerifierKey, open_note, parse_checkpoint
from ledger.operator import operator_event
from ledger.reader import Filter, read_head, read_page
from ledger.verify import LOG_FORKED

_FORKS_MAX = 10_000


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

    Raises ``NothingLostError`` when no book is.
    """
    identity = await read_identity(connection)
    newest = _newest_by_book(outside_notes, trusted, identity.origin)
    lost: dict[str, tuple[int, int]] = {}
    for book, (size, note) in sorted(newest.items()):
        head = await read_head(connection, book)
        if size > head:
            content = {
                "origin": f"{identity.origin}/{book}",
                "kept": head,
                "lost": size,
                "reason": reason,
                "checkpoint": note,
            }
            forks = await read_page(connection, book, Filter(stream_id=f"{book}/forks"), _FORKS_MAX)
            await appender.append([operator_event(book, "forks", len(forks) + 1, LOG_FORKED, content, now=now)])
            lost[book] = (head + 1, size)
    if not lost:
        raise NothingLostError("everything that was signed is in the log: nothing to fork")
    # The control book may itself have been forked: look again.
    origin = f"{identity.origins[0].partition('~')[0]}~{secrets.token_hex(4)}"
    await open_new_origin(appender, await read_identity(connection), origin, now=now)
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

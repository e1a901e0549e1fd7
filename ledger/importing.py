"""Bulk import: files of raw events, one a line, through the same append as webhooks; marked as unsigned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from ledger.appender import Appender
from ledger.errors import MalformedEventError, MistakeError
from ledger.event import NewEvent, Source, parse_envelope, received_event
from ledger.flush import Appended

BATCH_EVENTS: Final = 1_000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""What is read at once is bounded by its size too: a queue takes only so much, and refuses what is more for good."""

_BATCHES_AT_ONCE: Final = 4

_TOLD: Final = {"book", "position", "recorded_at"}
"""What stands in an exported event alone. Mode and account do not: it would be stored in another book, rewritten."""


class ImportLineError(MistakeError):
    """A line of the file is no event; everything before it is imported, and importing again goes on there."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path}, line {line}: {why}")
        self.line = line


@dataclass(slots=True)
class Imported:
    """What an import did: new events, and those the log had already."""

    appended: int = 0
    duplicates: int = 0


async def import_file(
    appender: Appender,
    path: Path,
    *,
    platform_account: str,
    now: datetime,
    progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Append every line of ``path`` in its order. Doing it again adds nothing. ``progress`` is told of bytes passed.

    Raises ``ImportLineError``; what was appended before it stays.
    """
    imported = Imported()
    waiting: list[tuple[asyncio.Task[list[Appended]], int]] = []
    batches = _batches(path, platform_account, now)
    try:
        # Read in a thread, so that one batch is parsed while another commits; a few wait together, in their order.
        while (read := await asyncio.to_thread(next, batches, None)) is not None:
            batch, size = read
            waiting.append((asyncio.create_task(appender.append(batch)), size))
            if len(waiting) >= _BATCHES_AT_ONCE:
                await _settle(*waiting.pop(0), imported, progress)
    finally:
        await asyncio.gather(*(task for task, _ in waiting), return_exceptions=True)  # the first failure speaks for all
        for task, size in waiting:
            await _settle(task, size, imported, progress)
    return imported


async def _settle(
    task: asyncio.Task[list[Appended]], size: int, imported: Imported, progress: Callable[[int], None]
) -> None:
    for place in await task:
        if place.duplicate:
            imported.duplicates += 1
        else:
            imported.appended += 1
    progress(size)


def _batches(path: Path, platform_account: str, now: datetime) -> Iterator[tuple[list[NewEvent], int]]:
    batch: list[NewEvent] = []
    size = 0  # of the lines since the last batch
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            size += len(line)
            body = line.rstrip(b"\r\n")
            if not body.strip():
                continue
            try:
                batch.append(_event(body, platform_account, now))
            except MalformedEventError as error:
                if batch:
                    yield batch, size
                raise ImportLineError(path, number, str(error)) from error
            if len(batch) == BATCH_EVENTS or size >= BATCH_BYTES:
                yield batch, size
                batch, size = [], 0
    if batch:
        yield batch, size


def _event(body: bytes, platform_account: str, now: datetime) -> NewEvent:
    envelope = parse_envelope(body)
    if envelope.parsed.keys() >= _TOLD:
        raise MalformedEventError(
            "this is an event as the ledger renders it, not as Stripe sent it: `ledger backup` moves a log, "
            "`ledger events EVENT --raw` writes the bytes of one"
        )
    return received_event(
        envelope,
        body,
        platform_account=platform_account,
        source=Source.IMPORT,
        received_at=now,
        signature=None,
    )

"""Writing an archive of the log that anybody can verify offline: events, tiles, checkpoints, keys and the verifier.

The archive is a folder, laid out as ``offline_verify`` describes it. Nothing in it needs the ledger to be read.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

import asyncpg
import orjson

from ledger.identity import read_identity
from ledger.merkle import tiles_grown
from ledger.outside import Outside
from ledger.reader import StoredEvent, read_books, read_stored
from ledger.tiles import read_tile
from ledger.times import rfc3339

_BATCH_EVENTS = 1_000

NOTES = """
SELECT note, position, origin
FROM ledger.log_checkpoint
WHERE book = $1
ORDER BY position, origin
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """How much an archive holds."""

    books: int
    events: int
    checkpoints: int


async def export_archive(
    connection: asyncpg.Connection,
    folder: Path,
    outside: Outside,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Exported:
    """Write every book to ``folder``, which must not exist yet, up to its newest checkpoint.

    Needs a transaction that sees one state of the database. Raises ``FileExistsError``.
    """
    folder.mkdir(parents=True)  # noqa: ASYNC240 - a command of its own, on a loop nobody shares
    identity = await read_identity(connection)
    keys = dict.fromkeys([*outside.keys(), *identity.keys])
    (folder / "keys.txt").write_text("".join(f"{key.encode()}\n" for key in keys), "utf-8")
    verifier = resources.files("ledger").joinpath("offline_verify.py").read_bytes()
    (folder / "verify.py").write_bytes(verifier)
    events = checkpoints = 0
    books = [head.book for head in await read_books(connection)]
    with (folder / "events.jsonl").open("wb") as lines:
        for book in books:
            signed = await connection.fetch(NOTES, book)
            # A checkpoint that a restore lost may be larger than the log that goes on under the present origin.
            size = max((row["position"] for row in signed if row["origin"] == identity.origin_of(book)), default=0)
            events += await _write_events(connection, book, size, lines, progress)
            _write_notes(folder, book, [row["note"] for row in signed])
            await _write_tiles(connection, folder, book, size)
            checkpoints += len(signed)
    return Exported(len(books), events, checkpoints)


async def _write_events(
    connection: asyncpg.Connection, book: str, until: int, lines: IO[bytes], progress: Callable[[int], None]
) -> int:
    written = 0
    async for batch in _batches(connection, book, until):
        lines.writelines(orjson.dumps(_line(event), option=orjson.OPT_APPEND_NEWLINE) for event in batch)
        written += len(batch)
        progress(len(batch))
    return written


async def _batches(connection: asyncpg.Connection, book: str, until: int) -> AsyncIterator[list[StoredEvent]]:
    position = 0
    while position < until:
        batch = await read_stored(connection, book, position, min(until, position + _BATCH_EVENTS))
        if not batch:
            return
        yield batch
        position = batch[-1].position


def _line(event: StoredEvent) -> dict[str, object]:
    line: dict[str, object] = {
        "header": event.header.decode(),
        "salt": event.salt.hex(),
        "body": base64.b64encode(event.body).decode(),
        "envelope": {
            "version": event.version,
            "received_at": rfc3339(event.received_at),
            "signature": event.signature,
            "api_version": event.api_version,
            "encoding": event.encoding,
            "dictionary_id": event.dictionary_id,
        },
    }
    return line if event.salt else line | {"erased": True}


def _write_notes(folder: Path, book: str, notes: Sequence[str]) -> None:
    file = folder / "checkpoints" / f"{_name(book)}.log"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{note}\n" for note in notes), "utf-8")


async def _write_tiles(connection: asyncpg.Connection, folder: Path, book: str, size: int) -> None:
    for tile in tiles_grown(0, size):
        file = folder / "tiles" / _name(book) / tile.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(await read_tile(connection, book, tile))


def _name(book: str) -> str:
    """Write a book's name for file systems that know no colon."""
    return book.replace(":", ".")

"""Dictionaries stand in the log: a body compressed with one can be read wherever the log can."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import asyncpg
from eventsourcing.domain import event

from ledger.codec import BodyCodec, dictionary_id_of
from ledger.errors import UndecodableBodyError
from ledger.operator import OperatorAggregate, Recorded

STREAM: Final = "dictionaries"
REGISTERED: Final = "ledger.dictionary.registered"

DICTIONARIES = """
SELECT version, type, created, encoding, body
FROM ledger.event
WHERE stream_id = 'ledger:control/dictionaries'
ORDER BY version
"""


class Dictionaries(OperatorAggregate):
    """Every dictionary the log holds, oldest first."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def add(self, content: bytes) -> None:
        """Make sure that the log holds a dictionary."""
        if content not in self.contents:
            self.register(dictionary_id_of(content), base64.b64encode(content).decode())

    @event("Registered", topic=REGISTERED)
    def register(self, dictionary_id: int, content: str) -> None:
        """Hold a dictionary from now on."""
        self.contents.append(base64.b64decode(content))


async def read_dictionaries(connection: asyncpg.Connection) -> Dictionaries:
    """Return the dictionaries the log holds; they themselves are written without one.

    Raises ``UndecodableBodyError`` where one of them cannot be read.
    """
    codec = BodyCodec()
    rows = await connection.fetch(DICTIONARIES)
    try:
        stored = [
            Recorded(row["version"], row["type"], row["created"], codec.decode(row["encoding"], row["body"]))
            for row in rows
        ]
        return Dictionaries.restore(STREAM, stored)
    except (ValueError, KeyError, TypeError) as error:  # no JSON, or none of ours
        raise UndecodableBodyError(f"a dictionary is damaged: {error}") from error


class BodyReader:
    """Decodes the bodies of rows, reading the dictionaries they need from the log as they turn up."""

    def __init__(self) -> None:
        self._codec = BodyCodec()
        self._known: set[int] = set()

    async def prepare(self, connection: asyncpg.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Learn the dictionaries these rows need; asks the database only for one that is new to this process.

        Where they cannot be read, the rows that need one cannot be decoded.
        """
        if any(row["dictionary_id"] not in self._known for row in rows if row["dictionary_id"] is not None):
            with contextlib.suppress(UndecodableBodyError):
                dictionaries = await read_dictionaries(connection)
                self._known.update([self._codec.learn(content) for content in dictionaries.contents])

    def decode(self, row: Mapping[str, Any]) -> bytes:
        """Return a prepared row's exact bytes; none for a body that was erased. Raises ``UndecodableBodyError``."""
        if not row["salt"]:
            return b""
        return self._codec.decode(row["encoding"], row["body"], row["dictionary_id"])

"""Dictionaries stand in the log: a body compressed with one can be read wherever the log can."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from ledger.books import CONTROL_BOOK
from ledger.codec import BodyCodec, dictionary_id_of
from ledger.event import NewEvent
from ledger.operator import operator_event

STREAM: Final = "dictionaries"
REGISTERED: Final = "ledger.dictionary.registered"

DICTIONARIES = """
SELECT version, encoding, body
FROM ledger.event
WHERE stream_id = 'ledger:control/dictionaries'
ORDER BY version
"""


async def read_dictionaries(connection: asyncpg.Connection) -> list[bytes]:
    """Return every dictionary the log holds, oldest first."""
    codec = BodyCodec()
    bodies = [codec.decode(row["encoding"], row["body"]) for row in await connection.fetch(DICTIONARIES)]
    return [base64.b64decode(orjson.loads(body)["data"]["object"]["content"]) for body in bodies]


def registration(content: bytes, version: int, now: datetime) -> NewEvent:
    """Make the event that registers a dictionary as the ``version``-th."""
    described = {"dictionary_id": dictionary_id_of(content), "content": base64.b64encode(content).decode()}
    return operator_event(CONTROL_BOOK, STREAM, version, REGISTERED, described, now=now)


class BodyReader:
    """Decodes the bodies of rows, reading the dictionaries they need from the log as they turn up."""

    def __init__(self) -> None:
        self._codec = BodyCodec()
        self._known: set[int] = set()

    async def prepare(self, connection: asyncpg.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Learn the dictionaries these rows need; asks the database only for one that is new to this process."""
        if any(row["dictionary_id"] not in self._known for row in rows if row["dictionary_id"] is not None):
            self._known.update([self._codec.learn(content) for content in await read_dictionaries(connection)])

    def decode(self, row: Mapping[str, Any]) -> bytes:
        """Return a prepared row's exact bytes; none for a body that was erased. Raises ``UndecodableBodyError``."""
        if not row["salt"]:
            return b""
        return self._codec.decode(row["encoding"], row["body"], row["dictionary_id"])

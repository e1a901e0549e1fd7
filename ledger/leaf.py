"""What is proved about an event: a canonical header, hashed as a leaf of the book's Merkle tree (RFC 6962).

The header contains the body only as ``SHA-256(salt ‖ body)``, so a body can be erased together with its salt while
every proof over it still holds. What the header leaves out (signature, times of arrival, storage) is bound by the
*envelope chain*, a hash chain over all of a book's events in order, which log checkpoints sign as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

FORMAT = 1
EMPTY_ENVELOPE = bytes(32)
"""The envelope chain of a book without events."""

_AS_RFC3339: Final = orjson.OPT_UTC_Z
"""Times in UTC are written as ``ledger.times.rfc3339`` does, in a tenth of the time."""


class Header(NamedTuple):
    """The canonical header of one event; ``body_digest`` is 32 bytes."""

    book: str
    position: int
    event_id: str
    stream_id: str
    type: str
    source: str
    created: datetime
    recorded_at: datetime
    body_digest: bytes

    def encode(self) -> bytes:
        """Write the header as UTF-8 JSON with sorted keys and no white space: the entry the log proves."""
        return orjson.dumps(
            {
                "body": self.body_digest.hex(),
                "book": self.book,
                "created": self.created.astimezone(UTC),
                "event_id": self.event_id,
                "format": FORMAT,
                "position": self.position,
                "recorded_at": self.recorded_at.astimezone(UTC),
                "source": self.source,
                "stream_id": self.stream_id,
                "type": self.type,
            },
            option=_AS_RFC3339,
        )


HEADER_COLUMNS: Final = Header._fields
"""The columns of ``ledger.event`` that a header is made of."""


def header_of(columns: Mapping[str, Any]) -> Header:
    """Make the header of an event from its columns, by name."""
    return Header(**{name: columns[name] for name in HEADER_COLUMNS})


def body_digest(salt: bytes, body: bytes) -> bytes:
    """Commit to a body: SHA-256 of its 16 random bytes of salt followed by its raw bytes."""
    return hashlib.sha256(salt + body).digest()


def chain_envelope(
    previous: bytes,
    *,
    version: int,
    received_at: datetime,
    signature: str | None,
    api_version: str | None,
    encoding: int,
    dictionary_id: int | None,
) -> bytes:
    """Extend the envelope chain by the columns of one event that its header leaves out."""
    columns = [version, received_at.astimezone(UTC), signature, api_version, encoding, dictionary_id]
    return hashlib.sha256(previous + orjson.dumps(columns, option=_AS_RFC3339)).digest()

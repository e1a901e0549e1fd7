"""Numbering and hashing a batch on top of the heads it extends: pure, so that it can be repeated on newer heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ledger.event import NewEvent
from ledger.leaf import EMPTY_ENVELOPE, Header, body_digest, chain_envelope
from ledger.merkle import extend, leaf_hash
from ledger.times import EPOCH

Key = tuple[str, str]
"""The identity of an event: (book, event id)."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a book's log, from which the next event is numbered, hashed and timed."""

    position: int = 0
    recorded_at: datetime = EPOCH
    frontier: bytes = b""
    envelope: bytes = EMPTY_ENVELOPE


class Prepared(NamedTuple):
    """An event whose body is compressed and committed to, waiting for its number."""

    key: Key
    event: NewEvent
    salt: bytes
    body_digest: bytes
    encoding: int
    stored_body: bytes
    dictionary_id: int | None


class Numbered(NamedTuple):
    """An event with its place in the log and its leaf."""

    prepared: Prepared
    position: int
    version: int
    recorded_at: datetime
    leaf: bytes


def prepare(
    event: NewEvent, *, salt: bytes, encoding: int, stored_body: bytes, dictionary_id: int | None = None
) -> Prepared:
    """Commit to an event's body under ``salt`` (16 random bytes)."""
    key = (event.book, event.event_id)
    return Prepared(key, event, salt, body_digest(salt, event.body), encoding, stored_body, dictionary_id)


def number(
    prepared: Iterable[Prepared], heads: Mapping[str, Head], recorded_at: Callable[[NewEvent], datetime]
) -> tuple[list[Numbered], dict[str, Head]]:
    """Number events on top of their books' heads, in the order given; return them and the heads they lead to.

    ``recorded_at`` gives an event's recording time; if it is earlier than the head's, the head's is used.
    """
    by_book: dict[str, list[Prepared]] = {}
    for one in prepared:
        by_book.setdefault(one.event.book, []).append(one)
    numbered: list[Numbered] = []
    advanced: dict[str, Head] = {}
    for book, events in by_book.items():
        rows, advanced[book] = _number_book(events, heads.get(book, Head()), recorded_at)
        numbered += rows
    return numbered, advanced


def _number_book(
    events: Sequence[Prepared], head: Head, when: Callable[[NewEvent], datetime]
) -> tuple[list[Numbered], Head]:
    recorded_at = head.recorded_at
    envelope = head.envelope
    rows = []
    for position, prepared in enumerate(events, head.position + 1):
        event = prepared.event
        recorded_at = max(recorded_at, when(event))
        header = Header(
            book=event.book,
            position=position,
            event_id=event.event_id,
            stream_id=event.stream_id,
            type=event.type,
            source=event.source,
            created=event.created,
            recorded_at=recorded_at,
            body_digest=prepared.body_digest,
        )
        version = position if event.version is None else event.version
        envelope = chain_envelope(
            envelope,
            version=version,
            received_at=event.received_at,
            signature=event.signature,
            api_version=event.api_version,
            encoding=prepared.encoding,
            dictionary_id=prepared.dictionary_id,
        )
        rows.append(Numbered(prepared, position, version, recorded_at, leaf_hash(header.encode())))
    frontier = extend(head.position, head.frontier, [row.leaf for row in rows])
    return rows, Head(head.position + len(rows), recorded_at, frontier, envelope)

"""What a follower remembers of recently folded subjects: where to resume each fold, and digests of its rows.

Refolding a subject costs time in proportion to its history, and events come in bursts, several of one customer within
an hour. The memory can be dropped at any time: subjects not in it are folded from the log. It is valid only if nobody
else wrote rows meanwhile, that is, while each checkpoint has the position and the count of moves that this follower's
own steps left (releases from before moves were counted do not raise the count).

How far folding has come has a word for each extent: ``Kept`` is one fold's state after some of its events;
``Remembered`` a subject, with such a state and digests of its rows; ``Warm`` all remembered subjects of a build;
``Begun`` where the next fold of one of them begins; and ``Checkpoint`` the position up to which a whole book is folded.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

import orjson
import zstandard

from ledger.times import parse_rfc3339
from projections.contract import Row
from projections.folding import Finished, Kept

MOST_BYTES: Final = 4 * 2**20
"""The bound on memory per build: enough for about a thousand customers of two years."""

_ENTRY_BYTES: Final = 600
"""The memory a subject takes besides its compressed content: its name, its dictionary entry and object headers."""

_FACT_BYTES: Final = 10_000
_STATE_FACTOR: Final = 5
"""Estimates: the memory of a parsed fact, and how many times larger a live state is than its serialised text."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A subject as it was last folded: its streams, a state before its last events, and its rows' digests by table.

    For a long subject it is the fold itself (``going``), which can go on from its end; only rows ``since`` a time are
    then rewritten. In both cases the state says from which position on events are new.
    """

    streams: tuple[str, ...]
    state: Kept
    digests: Mapping[str, bytes] = field(default_factory=dict)
    going: Finished | None = None
    since: datetime | None = None


class _Packed(NamedTuple):
    """A remembered subject: compressed, except for a fold that can go on; and about how many bytes both take."""

    written: bytes
    going: Finished | None
    size: int


@dataclass(slots=True)
class Warm:
    """The recently folded subjects of one build, and each book's checkpoint as this follower left it."""

    most_bytes: int = MOST_BYTES
    _compressor: zstandard.ZstdCompressor = field(default_factory=lambda: zstandard.ZstdCompressor(level=1))
    _decompressor: zstandard.ZstdDecompressor = field(default_factory=zstandard.ZstdDecompressor)
    _subjects: OrderedDict[str, _Packed] = field(default_factory=OrderedDict)
    _checkpoints: dict[str, tuple[int, int]] = field(default_factory=dict)
    _size: int = 0

    def at(self, book: str, checkpoint: tuple[int, int]) -> bool:
        """Begin a step: forget a book's subjects if somebody else has moved its checkpoint meanwhile.

        Return whether the checkpoint is as this follower left it.
        """
        if self._checkpoints.get(book) == checkpoint:
            return True
        self.forget([subject for subject in self._subjects if subject.startswith(f"{book}/")])
        return False

    def get(self, subject: str) -> Remembered | None:
        """Return what is remembered of a subject."""
        found = self._subjects.get(subject)
        return self._unpack(found) if found else None

    def keep(self, book: str, checkpoint: tuple[int, int], folded: Iterable[tuple[str, Remembered | None]]) -> None:
        """Remember what a committed step wrote, and the checkpoint it left."""
        self._checkpoints[book] = checkpoint
        for subject, remembered in folded:
            self.forget([subject])
            if remembered is not None:
                self._subjects[subject] = packed = self._pack(remembered)
                self._size += packed.size
        while self._size > self.most_bytes:
            self.forget([next(iter(self._subjects))])

    def forget(self, subjects: Iterable[str]) -> None:
        """Forget subjects."""
        for subject in subjects:
            if (known := self._subjects.pop(subject, None)) is not None:
                self._size -= known.size

    def _pack(self, remembered: Remembered) -> _Packed:
        kept = remembered.state
        digests = {table: digest.hex() for table, digest in remembered.digests.items()}
        about = (remembered.streams, digests, remembered.since, *_but_state(kept))
        # Copy it: the compressor's result still occupies its worst-case size.
        written = bytes(memoryview(self._compressor.compress(b"\n".join((orjson.dumps(about), kept.state)))))
        size = _ENTRY_BYTES + len(written)
        if remembered.going:
            size += remembered.going.held * _FACT_BYTES + _STATE_FACTOR * len(kept.state)
        return _Packed(written, remembered.going, size)

    def _unpack(self, found: _Packed) -> Remembered:
        about, _, state = self._decompressor.decompress(found.written).partition(b"\n")
        streams, digests, since, at, seen, first_after, last_within, anchors, unsure, late = orjson.loads(about)
        known = tuple((key, position) for key, position in anchors)
        kept = Kept(parse_rfc3339(at), seen, first_after, last_within, state, known, unsure, tuple(late))
        rows = {table: bytes.fromhex(digest) for table, digest in digests.items()}
        return Remembered(tuple(streams), kept, rows, found.going, parse_rfc3339(since) if since else None)


def _but_state(kept: Kept) -> tuple[object, ...]:
    return kept.at, kept.seen, kept.first_after, kept.last_within, kept.anchors, kept.unsure, kept.late


def digests_of(rows: Mapping[str, Sequence[Row]]) -> dict[str, bytes]:
    """Return a digest of the rows of each table, as they are written."""
    return {table: hashlib.blake2b(_as_bytes(some), digest_size=16).digest() for table, some in rows.items()}


def _as_bytes(rows: Sequence[Row]) -> bytes:
    plain = [tuple(row) for row in rows]  # JSON takes no named ones, and Python writes those slowly
    try:
        return orjson.dumps(plain, default=repr)
    except orjson.JSONEncodeError:
        # What JSON cannot say, such as half a surrogate pair: the database may well refuse it, but not here.
        return repr(plain).encode()

"""Checking the log against every checkpoint ever signed: what ``ledger verify`` recomputes, and what it finds.

Each leaf is recomputed from its row, the Merkle root and the envelope chain from leaves and rows, and both are compared
with every checkpoint ever signed, inside the database and outside. ``full`` also decodes every body and recomputes its
digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import orjson

from ledger.dictionary import BodyReader
from ledger.errors import UndecodableBodyError
from ledger.event import Source
from ledger.leaf import EMPTY_ENVELOPE, body_digest, chain_envelope, header_of
from ledger.merkle import extend, leaf_hash, root
from ledger.note import Checkpoint, NoteError, VerifierKey, from_base64, open_note, parse_checkpoint

BODY_ERASED: Final = "ledger.body.erased"
LOG_FORKED: Final = "ledger.log.forked"
_BATCH_EVENTS: Final = 2_000
_PROBLEMS_SHOWN: Final = 100

ROWS = """
SELECT stream_id, version, book, position, event_id, type, created, recorded_at, received_at, source, api_version,
       signature, encoding, dictionary_id, salt, body, body_digest, leaf
FROM ledger.event
WHERE book = $1 AND position > $2
ORDER BY position, stream_id
LIMIT $3
"""

ROWS_WITHOUT_BODIES = """
SELECT stream_id, version, book, position, event_id, type, created, recorded_at, received_at, source, api_version,
       signature, encoding, dictionary_id, length(salt) AS salt_bytes, length(body) AS body_bytes, body_digest, leaf
FROM ledger.event
WHERE book = $1 AND position > $2
ORDER BY position, stream_id
LIMIT $3
"""

BOOKS = "SELECT book FROM ledger.event GROUP BY book UNION SELECT book FROM ledger.head ORDER BY book"

HEAD = "SELECT position, recorded_at, frontier, envelope FROM ledger.head WHERE book = $1"

NOTES = "SELECT note FROM ledger.log_checkpoint ORDER BY book, position, origin"

KEYS_ASTRAY = """
SELECT coalesce(k.event_id, e.event_id) AS event_id, coalesce(k.position, e.position) AS position
FROM (SELECT event_id, book, stream_id, position, version FROM ledger.event_key WHERE book = $1) AS k
FULL JOIN (SELECT event_id, book, stream_id, position, version FROM ledger.event WHERE book = $1) AS e
     ON e.event_id = k.event_id AND e.book = k.book
WHERE k.event_id IS NULL OR e.event_id IS NULL
   OR (k.stream_id, k.position, k.version) <> (e.stream_id, e.position, e.version)
ORDER BY 2
LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint verified with a trusted key, and whether it is in the database or only outside."""

    checkpoint: Checkpoint
    book: str
    inside: bool

    @property
    def envelope(self) -> bytes | None:
        """The envelope chain at this size, where the checkpoint binds it."""
        for line in self.checkpoint.extensions:
            name, _, value = line.partition(" ")
            if name == "envelope-chain":
                return from_base64(value)
        return None


@dataclass(slots=True)
class Report:
    """What was checked, and everything found wrong; bodies in ``to_erase`` match, but their erasure is not done yet."""

    events: int = 0
    checkpoints: int = 0
    erased: list[str] = field(default_factory=list)
    to_erase: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def true(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems

    def complain(self, problem: str) -> None:
        """Note a problem, up to a limit: a log that is wrong everywhere is not listed row by row."""
        if len(self.problems) < _PROBLEMS_SHOWN:
            self.problems.append(problem)


async def verify_log(
    connection: asyncpg.Connection,
    trusted: Sequence[VerifierKey],
    outside_notes: Sequence[str],
    *,
    full: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Recompute the log of every book and compare it with every checkpoint. ``progress`` is told of events passed.

    Needs a transaction that sees one state of the database (repeatable read), or events arriving meanwhile would
    look like tampering.
    """
    report = Report()
    inside_notes = [row["note"] for row in await connection.fetch(NOTES)]
    signed = _open_all(inside_notes, outside_notes, trusted, report)
    books = [row["book"] for row in await connection.fetch(BOOKS)]
    for book in sorted({*books, *(one.book for one in signed)}):
        of_book = sorted((one for one in signed if one.book == book), key=lambda one: one.checkpoint.size)
        await _BookCheck(connection, book, of_book, report, full=full, progress=progress).run()
    report.checkpoints = len(signed)
    return report


def _open_all(
    inside: Iterable[str], outside: Iterable[str], trusted: Sequence[VerifierKey], report: Report
) -> list[Signed]:
    inside_set, outside_set = dict.fromkeys(inside), dict.fromkeys(outside)
    signed = []
    for note in inside_set | outside_set:
        where = "in the database" if note in inside_set else "outside the database"
        try:
            checkpoint = parse_checkpoint(open_note(note, trusted).text)
        except NoteError as error:
            report.complain(f"a checkpoint {where} cannot be trusted: {error}")
            continue
        book = checkpoint.origin.rpartition("/")[2]
        signed.append(Signed(checkpoint, book, inside=note in inside_set))
    return signed


class _BookCheck:
    """One pass over one book: the state of the recomputation, and what it is compared with."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        book: str,
        signed: Sequence[Signed],
        report: Report,
        *,
        full: bool,
        progress: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._book = book
        self._signed = list(signed)
        self._report = report
        self._full = full
        self._progress = progress
        self._bodies = BodyReader()
        self._size = 0
        self._frontier = b""
        self._envelope = EMPTY_ENVELOPE
        self._recorded_at: Any = None
        self._leaves: list[bytes] = []
        self._unread_bodies: dict[str, int] = {}
        self._erasures: dict[int, str] = {}
        self._forks: list[dict[str, Any]] = []
        self._untrue: list[tuple[Signed, str]] = []

    async def run(self) -> None:
        """Recompute the book from its first event, comparing at every signed size."""
        position = 0
        while rows := await self._connection.fetch(
            ROWS if self._full else ROWS_WITHOUT_BODIES, self._book, position, _BATCH_EVENTS
        ):
            await self._bodies.prepare(self._connection, rows)
            for row in rows:
                await self._take(row)
            position = rows[-1]["position"]
            self._progress(len(rows))
        self._advance()
        self._report.events += self._size
        self._judge_signed()
        self._judge_unread_bodies()
        await self._compare_head()
        for row in await self._connection.fetch(KEYS_ASTRAY, self._book, _PROBLEMS_SHOWN):
            self._complain(row["position"], f"event_key and event disagree about {row['event_id']}")

    async def _take(self, row: asyncpg.Record) -> None:
        expected = self._size + len(self._leaves) + 1
        if row["position"] != expected:
            kind = "is missing" if row["position"] > expected else "stands there twice"
            self._complain(min(row["position"], expected), kind)
        leaf = leaf_hash(header_of(row).encode())
        if leaf != row["leaf"]:
            self._complain(row["position"], f"{row['event_id']} was changed: its leaf is not that of its columns")
        if self._recorded_at is not None and row["recorded_at"] < self._recorded_at:
            self._complain(row["position"], "was recorded before the event in front of it")
        self._recorded_at = row["recorded_at"]
        self._check_body(row)
        if row["source"] == Source.OPERATOR:
            await self._read_own(row)
        self._leaves.append(leaf)
        self._envelope = _chained(self._envelope, row)
        self._compare_signed()

    def _check_body(self, row: asyncpg.Record) -> None:
        if not self._full:
            if row["salt_bytes"] == 0:
                self._unread_bodies[row["event_id"]] = row["position"]
            return
        if not row["salt"] and not row["body"]:
            self._unread_bodies[row["event_id"]] = row["position"]
            return
        try:
            body = self._bodies.decode(row)
        except UndecodableBodyError as error:
            self._complain(row["position"], f"the body of {row['event_id']} was changed: {error}")
            return
        if body_digest(row["salt"], body) != row["body_digest"]:
            self._complain(row["position"], f"the body or salt of {row['event_id']} was changed")

    async def _read_own(self, row: asyncpg.Record) -> None:
        """Read our own events that explain a difference: what was erased, and what a restore lost."""
        if row["type"] not in (BODY_ERASED, LOG_FORKED):
            return
        whole = row if self._full else await self._connection.fetchrow(BODY, row["stream_id"], row["version"])
        content = orjson.loads(self._bodies.decode(whole))["data"]["object"]
        if row["type"] == BODY_ERASED:
            self._erasures[content["position"]] = content["event_id"]
        else:
            self._forks.append(content)

    def _compare_signed(self) -> None:
        """Compare root and envelope chain with the checkpoints of exactly this size."""
        size = self._size + len(self._leaves)
        due = [one for one in self._signed if one.checkpoint.size == size]
        if not due:
            if len(self._leaves) >= _BATCH_EVENTS:
                self._advance()
            return
        self._advance()
        for one in due:
            if root(self._frontier) != one.checkpoint.root:
                self._untrue.append(
                    (one, f"the log up to here is not the one that was signed as {one.checkpoint.origin}")
                )
            elif one.envelope is not None and one.envelope != self._envelope:
                self._untrue.append((one, "signatures, times of arrival or storage up to here are not what was signed"))

    def _advance(self) -> None:
        self._frontier = extend(self._size, self._frontier, self._leaves)
        self._size += len(self._leaves)
        self._leaves = []

    def _judge_signed(self) -> None:
        """Complain of signed events that are gone (changed or cut off), unless a fork says that a restore lost them.

        The fork may come late: after a restore the service takes events, also where others were signed before.
        """
        for one, problem in self._untrue:
            if self._fork_that_lost(one) is None:
                self._complain(one.checkpoint.size, problem)
        for one in self._signed:
            size, origin = one.checkpoint.size, one.checkpoint.origin
            if (fork := self._fork_that_lost(one)) is not None:
                self._report.lost.append(f"{self._book}: {fork['kept'] + 1} to {size} ({fork['reason']})")
                continue
            if size > self._size:
                self._complain(self._size + 1, f"and what follows is gone: {size} events were signed as {origin}")
            if not one.inside:
                self._complain(size, f"the checkpoint of {size} events was deleted from the database")

    def _fork_that_lost(self, one: Signed) -> dict[str, Any] | None:
        """Return the fork that names this checkpoint's events as lost."""
        size, origin = one.checkpoint.size, one.checkpoint.origin
        forks = (fork for fork in self._forks if fork["origin"] == origin and fork["kept"] < size <= fork["lost"])
        return next(forks, None)

    def _judge_unread_bodies(self) -> None:
        for event_id, position in self._unread_bodies.items():
            if self._erasures.pop(position, None) == event_id:
                self._report.erased.append(f"{self._book}: {event_id}")
            else:
                self._complain(position, f"the body of {event_id} is gone, and no erasure says why")
        # Decided but not carried out: interrupted, or undone by a restore.
        self._report.to_erase += [f"{self._book}: {event_id}" for event_id in self._erasures.values()]

    async def _compare_head(self) -> None:
        head = await self._connection.fetchrow(HEAD, self._book)
        if head is None:
            if self._size:
                self._complain(self._size, "the book has events and no head")
            return
        if head["position"] != self._size:
            self._complain(self._size, f"the head says {head['position']}, the log has {self._size} events")
        elif head["frontier"] != self._frontier:
            self._complain(self._size, "the head's Merkle frontier is not that of the events")
        elif head["envelope"] != self._envelope:
            self._complain(self._size, "the head's envelope chain is not that of the events")
        elif self._size and head["recorded_at"] != self._recorded_at:
            self._complain(self._size, "the head's time is not that of the newest event")

    def _complain(self, position: int, problem: str) -> None:
        self._report.complain(f"{self._book} {position}: {problem}")


BODY = "SELECT encoding, dictionary_id, salt, body FROM ledger.event WHERE stream_id = $1 AND version = $2"


def _chained(envelope: bytes, row: asyncpg.Record) -> bytes:
    return chain_envelope(
        envelope,
        version=row["version"],
        received_at=row["received_at"],
        signature=row["signature"],
        api_version=row["api_version"],
        encoding=row["encoding"],
        dictionary_id=row["dictionary_id"],
    )

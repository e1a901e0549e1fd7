"""The notary: signs the heads of books as C2SP log checkpoints, keeps them, publishes them outside, proves events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from ledger.appender import Appender
from ledger.errors import LedgerError
from ledger.identity import Identity, establish
from ledger.merkle import prove_inclusion, root, tiles_for_inclusion
from ledger.note import Checkpoint, Note, SignerKey, open_note, parse_checkpoint, parse_note, sign_note, to_base64
from ledger.outside import Outside
from ledger.reader import StoredEvent, read_books
from ledger.tiles import fetch_tiles, grow_tiles
from ledger.tlog_proof import LogProof

ENVELOPE_CHAIN = "envelope-chain"
"""The extension line of our checkpoints that binds the columns leaf headers leave out."""

HEAD = "SELECT position, frontier, envelope FROM ledger.head WHERE book = $1"

NEWEST = """
SELECT note
FROM ledger.log_checkpoint
WHERE book = $1 AND origin = $2
ORDER BY position DESC
LIMIT 1
"""

NEWEST_BY = """
SELECT note
FROM ledger.log_checkpoint
WHERE book = $1 AND origin = $2 AND signed_at <= $3
ORDER BY position DESC
LIMIT 1
"""

SINCE = """
SELECT position, note
FROM ledger.log_checkpoint
WHERE book = $1 AND origin = $2 AND position > $3
ORDER BY position
"""

KEEP = """
INSERT INTO ledger.log_checkpoint (book, position, origin, signed_at, note)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""


IS_KEPT = "SELECT EXISTS (SELECT FROM ledger.log_checkpoint WHERE book = $1 AND origin = $2 AND position = $3)"


class NotProvableError(LedgerError):
    """The book is not that long, or nothing that covers the position had been signed by then."""


class ForkNeededError(LedgerError):
    """A checkpoint outside is not in the database: it was restored from an older backup, or changed."""

    def __init__(self, book: str, size: int) -> None:
        super().__init__(
            f"book {book} was signed at {size} events, and the database does not know of it: run `ledger verify`; "
            "after a restore that lost events, `ledger log fork --reason …`"
        )
        self.book = book
        self.size = size


@dataclass(frozen=True, slots=True)
class Notary:
    """Signs and proves for one log. ``appender`` writes the log's identity, ``outside`` gets every checkpoint."""

    pool: asyncpg.Pool
    appender: Appender
    signer: SignerKey
    outside: Outside
    clock: Callable[[], datetime]

    async def sign_all(self) -> int:
        """Sign every book whose head has moved since it was last signed; return how many that were."""
        async with self.pool.acquire() as connection:
            identity = await self._identity(connection)
            signed = 0
            for head in await read_books(connection):
                signed += await self._sign(connection, identity, head.book)
        return signed

    async def checkpoint(self, book: str, at_least: int = 1, as_of: datetime | None = None) -> str:
        """Return the book's newest signed note that covers position ``at_least``, signing one if needed.

        With ``as_of`` in the past, return the newest signed by then. Raises ``NotProvableError`` if the log is not, or
        was not, that long.
        """
        async with self.pool.acquire() as connection:
            identity = await self._identity(connection)
            if as_of is not None and as_of < self.clock():
                note = await connection.fetchval(NEWEST_BY, book, identity.origin_of(book), as_of)
                if note is None or _size(note) < at_least:
                    raise NotProvableError(f"nothing of book {book} had been signed by then that covers {at_least}")
                return self._vouched(note, identity)
            note = await connection.fetchval(NEWEST, book, identity.origin_of(book))
            if note is None or _size(note) < at_least:
                await self._sign(connection, identity, book)
                note = await connection.fetchval(NEWEST, book, identity.origin_of(book))
            if note is None or _size(note) < at_least:
                raise NotProvableError(f"book {book} has no event at position {at_least}")
            return self._vouched(note, identity)

    def _vouched(self, note: str, identity: Identity) -> str:
        """Add the present key's signature to a note signed by an earlier one, since callers check with the present key.

        Raises ``NoteError`` if none of the log's keys has signed it.
        """
        own = self.signer.verifier
        known = open_note(note, identity.keys)
        if any((one.name, one.key_id) == (own.name, own.key_id) for one in known.signatures):
            return note
        return Note(known.text, (*known.signatures, self.signer.sign(known.text))).encode()

    async def prove(self, event: StoredEvent) -> LogProof:
        """Prove that the event is in the log, under a signed checkpoint."""
        note = await self.checkpoint(event.book, event.position)
        size = _size(note)
        index = event.position - 1
        async with self.pool.acquire() as connection:
            read = await fetch_tiles(connection, event.book, tiles_for_inclusion(index, size))
        return LogProof(index, tuple(prove_inclusion(index, size, read)), note)

    async def _identity(self, connection: asyncpg.Connection) -> Identity:
        identity = await establish(connection, self.appender, self.signer.verifier, now=self.clock())
        self.outside.remember_key(self.signer.verifier)
        return identity

    async def _sign(self, connection: asyncpg.Connection, identity: Identity, book: str) -> bool:
        """Sign a book's head unless that is done; publish the checkpoints that are not outside yet."""
        head = await connection.fetchrow(HEAD, book)
        if head is None or head["position"] == 0:
            return False
        origin = identity.origin_of(book)
        await self._check_continuity(connection, book, origin)
        newest = await connection.fetchval(NEWEST, book, origin)
        moved = newest is None or _size(newest) < head["position"]
        if moved:
            await grow_tiles(connection, book, head["position"])
            extension = f"{ENVELOPE_CHAIN} {to_base64(head['envelope'])}"
            text = Checkpoint(origin, head["position"], root(head["frontier"]), (extension,)).encode()
            note = sign_note(text, [self.signer])
            await connection.execute(KEEP, book, head["position"], origin, self.clock(), note)
        # The database first: a checkpoint that exists only outside would look like a deletion.
        rows = await connection.fetch(SINCE, book, origin, self.outside.published(origin))
        self.outside.publish(origin, [(row["position"], row["note"]) for row in rows])
        return moved

    async def _check_continuity(self, connection: asyncpg.Connection, book: str, origin: str) -> None:
        """Refuse to sign a log without what was signed before: that would be two histories under one name."""
        size = self.outside.newest(origin)
        if size and not await connection.fetchval(IS_KEPT, book, origin, size):
            raise ForkNeededError(book, size)


def _size(note: str) -> int:
    return parse_checkpoint(parse_note(note).text).size

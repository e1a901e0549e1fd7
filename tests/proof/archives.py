"""Archives for the offline verifier, made with the ledger's own rooms: what it signs is what the verifier reads."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.leaf import EMPTY_ENVELOPE, Header, body_digest, chain_envelope
from ledger.merkle import extend, leaf_hash, root, tile_parent, tiles_grown
from ledger.note import Checkpoint, SignerKey, sign_note, to_base64
from ledger.times import rfc3339

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
BOOK = "self:live"
LOG = "billing.example.com/log"


def key(number: int) -> SignerKey:
    return SignerKey(LOG, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


KEY = key(1)


@dataclass(frozen=True)
class Event:
    """One event as stored, position and hashes aside."""

    header: Header
    salt: bytes
    body: bytes
    signature: str | None = None
    encoding: int = 1
    erased: bool = False
    misspelled: bytes = b""

    def entry(self) -> bytes:
        """The log entry: the header, or what a lying log put in its place."""
        return self.misspelled or self.header.encode()

    @property
    def received_at(self) -> datetime:
        return self.header.recorded_at - timedelta(milliseconds=3)

    def extend_chain(self, chain: bytes) -> bytes:
        return chain_envelope(
            chain,
            version=self.header.position,
            received_at=self.received_at,
            signature=self.signature,
            api_version="2026-01-28.clover",
            encoding=self.encoding,
            dictionary_id=None,
        )

    def line(self) -> dict[str, Any]:
        line = {
            "header": self.entry().decode(),
            "salt": "" if self.erased else self.salt.hex(),
            "body": "" if self.erased else b64encode(self.body).decode(),
            "envelope": {
                "version": self.header.position,
                "received_at": rfc3339(self.received_at),
                "signature": self.signature,
                "api_version": "2026-01-28.clover",
                "encoding": self.encoding,
                "dictionary_id": None,
            },
        }
        return line | ({"erased": True} if self.erased else {})


def event(position: int, *, book: str = BOOK, type: str = "invoice.paid", record: Any = None, **over: Any) -> Event:  # noqa: A002
    """An event; ``record`` makes it one of the ledger's own."""
    event_id = f"evt_{position}"
    body = json.dumps({"id": event_id, "type": type, "name": "Zoë\u2028\x7f", "data": {"object": record}}).encode()
    salt = hashlib.sha256(b"salt%d" % position).digest()[:16]
    header = Header(
        book=book,
        position=position,
        event_id=event_id,
        stream_id=f"{book}/cus_ë{position % 7}",
        type=type,
        source="webhook" if record is None else "operator",
        created=START + timedelta(seconds=position // 3),
        recorded_at=START + timedelta(milliseconds=250 * position),
        body_digest=body_digest(salt, body),
    )
    return Event(header._replace(**over), salt, body, signature=f"t=1,v1={position:064x}")


def events(count: int, book: str = BOOK) -> list[Event]:
    return [event(position, book=book) for position in range(1, count + 1)]


@dataclass
class Files:
    """An archive as files by name, to be changed before it is written."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        for name, content in self.contents.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return folder

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.contents["events.jsonl"].splitlines()]

    def put_lines(self, lines: list[dict[str, Any]]) -> Files:
        self.contents["events.jsonl"] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return self


def archive(stored: list[Event], *, signed: list[int] | None = None, signer: SignerKey = KEY, log: str = LOG) -> Files:
    """Write the events of one book as an archive with checkpoints at the sizes ``signed``, else at the end."""
    book = stored[0].header.book if stored else BOOK
    name = book.replace(":", ".")
    contents = {
        "keys.txt": f"# the keys of this log\n{signer.verifier.encode()}\n".encode(),
        "verify.py": b"",
        f"checkpoints/{name}.log": "\n".join(
            checkpoint(stored, size, signer, log) for size in (signed or [len(stored)])
        ).encode(),
    }
    for path, hashes in tiles(stored).items():
        contents[f"tiles/{name}/{path}"] = hashes
    return Files(contents).put_lines([one.line() for one in stored])


def checkpoint(stored: list[Event], size: int, signer: SignerKey = KEY, log: str = LOG) -> str:
    """Sign the head the book had at ``size``."""
    frontier, chain = b"", EMPTY_ENVELOPE
    for at, one in enumerate(stored[:size]):
        frontier = extend(at, frontier, [leaf_hash(one.entry())])
        chain = one.extend_chain(chain)
    book = stored[0].header.book if stored else BOOK
    extension = f"envelope-chain {to_base64(chain)}"
    return sign_note(Checkpoint(f"{log}/{book}", size, root(frontier), (extension,)).encode(), [signer])


def tiles(stored: list[Event]) -> dict[str, bytes]:
    """Build the tiles the archive needs."""
    rows = [[leaf_hash(one.entry()) for one in stored]]
    found: dict[str, bytes] = {}
    for tile in tiles_grown(0, len(stored)):
        if tile.level == len(rows):
            below = rows[-1]
            rows.append([tile_parent(b"".join(below[at : at + 256])) for at in range(0, len(below) // 256 * 256, 256)])
        found[tile.path] = b"".join(rows[tile.level][tile.index * 256 : tile.index * 256 + tile.width])
    return found

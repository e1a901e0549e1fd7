"""Verify an archive of the ledger's log offline, with Python 3.11 or newer and `cryptography` alone.

    python verify.py ARCHIVE [--verifier-key KEY]... [--checkpoints FILE]...

ARCHIVE is a folder, or that folder as .tar or .tar.gz. BOOK is a book's name with "." for ":".

    keys.txt                    verifier keys (c2sp.org/signed-note), one a line; lines that start with # are comments
    events.jsonl                one event a line, those of one book in order of position
    checkpoints/BOOK.log        all checkpoints (c2sp.org/tlog-checkpoint), one after another, of origin "…/" + book
    tiles/BOOK/tile/L/N[.p/W]   the Merkle tree's tiles at the newest checkpoint (c2sp.org/tlog-tiles)
    verify.py                   this file; take it from a release you trust rather than from the archive

A line of events.jsonl is {"header", "salt", "body", "envelope"}. `header`, a string, is the log entry: JSON with sorted
keys and no white space of {"body", "book", "created", "event_id", "format": 1, "position", "recorded_at", "source",
"stream_id", "type"}, where `body` is hex SHA-256(salt ‖ raw body). `salt` is 16 bytes in hex, `body` the raw body in
base64; where it was erased both are "", with "erased": true. Its proof still holds, and a later event of the book, of
type `ledger.body.erased` and source `operator`, must name it in its body, {"data": {"object": {"event_id",
"position"}}}. `envelope` is {"version", "received_at", "signature", "api_version", "encoding", "dictionary_id"}, what
the header leaves out, bound by a chain from 32 zero bytes on, SHA-256(previous ‖ JSON list of these six without white
space), that a checkpoint signs in an extension line "envelope-chain BASE64".

Checked are: headers, bodies, positions 1, 2, 3 …, times of record that never go back; Merkle root (RFC 6962, leaf
SHA-256(0x00 ‖ header)) and envelope chain at every checkpoint; that the newest covers every event; tiles; signatures.
Checkpoints that a restored backup fell behind are excused, and reported, where an operator's event of type
`ledger.log.forked` says so: {"data": {"object": {"origin", "kept", "lost"}}}, the positions of `origin` after `kept`
up to `lost`. Without --verifier-key the archive is held only against the keys it names itself; with it a key you gave
must have signed the newest checkpoint of each book. --checkpoints adds checkpoints kept elsewhere (of books that are in
the archive), which is what shows that nothing was cut off the end. Exit status: 0 all is true, 1 not, 2 no archive.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tarfile
import zlib
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEADER = {"body": str, "book": str, "created": str, "event_id": str, "format": int, "position": int}
HEADER |= {"recorded_at": str, "source": str, "stream_id": str, "type": str}
ENVELOPE = ("version", "received_at", "signature", "api_version", "encoding", "dictionary_id")
UNREADABLE = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
ENVELOPE_CHAIN, SALT_BYTES = "envelope-chain ", 16
ERASED, FORKED = "ledger.body.erased", "ledger.log.forked"
MAX_LINE_BYTES, SHOWN_PROBLEMS = 64 * 1024 * 1024, 20
BOOK = re.compile(r"[A-Za-z0-9_]+:[a-z]+")
NOTE = re.compile("\n+|((?:[^\n]+\n)+)\n((?:\u2014 [^\n]+\n)+)|(?s:.+?)(?:\n\n|\\Z)")


class UntrueError(ValueError):
    """Something in the archive is not as it should be."""


class Archive:
    """The files of an archive, read in place: nothing is unpacked, so nothing can be written elsewhere."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        found: dict[str, Callable[[], Any]]
        if path.is_dir():
            files = [file for file in path.rglob("*") if file.is_file()]
            found = {file.relative_to(path).as_posix(): partial(file.open, "rb") for file in files}
        else:
            tar = stack.enter_context(tarfile.open(path))  # noqa: SIM115 - the stack closes it
            found = {one.name.removeprefix("./"): partial(tar.extractfile, one) for one in tar if one.isfile()}
        names = [name for name in found if name.rpartition("/")[2] == "events.jsonl"]
        if not names:
            raise FileNotFoundError("it holds no events.jsonl")
        root = min(names, key=len).removesuffix("events.jsonl")
        self._files = {name.removeprefix(root): file for name, file in found.items() if name.startswith(root)}

    def below(self, folder: str) -> list[str]:
        """Name the files in a folder, at any depth."""
        return sorted(name for name in self._files if name.startswith(folder))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; an empty one where there is none."""
        return self._files[name]() if name in self._files else BytesIO()

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        with self.open(name) as stream:
            return stream.read()


class Key(NamedTuple):
    """A verifier key: name, key id in hex, and the Ed25519 key."""

    name: str
    key_id: str
    public: bytes


class Checkpoint(NamedTuple):
    """A checkpoint whose signature was verified, and the keys that signed it."""

    origin: str
    size: int
    root: bytes
    chain: bytes | None
    signers: frozenset[Key]

    @property
    def book(self) -> str:
        """The book it is of, as the archive's paths spell it: not every file system takes colons."""
        return self.origin.rpartition("/")[2].replace(":", ".")


def parse_key(text: str) -> Key:
    """Read a verifier key, name+id+base64(0x01 ‖ Ed25519 key)."""
    parts = re.fullmatch(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", text)
    material = b64decode(parts[3]) if parts else b""
    if not parts or material[0] != 1 or sha256(f"{parts[1]}\n".encode() + material).hexdigest()[:8] != parts[2]:
        raise UntrueError(f"{text!r} is not a verifier key for Ed25519 signatures")
    return Key(parts[1], parts[2], material[1:])


def checkpoints_of(text: str, keys: Sequence[Key], problems: list[str]) -> Iterator[Checkpoint]:
    """Read notes that follow one another; what no known key has signed as it stands is a problem."""
    for note in NOTE.finditer(text):
        try:
            if note[1]:
                yield parse_checkpoint(note[1], verified(note[1], note[2], keys))
            elif note[0].strip("\n"):
                raise UntrueError("it is cut off, or no signed note")
        except ValueError as error:
            problems.append(f"a checkpoint cannot be believed: {error}")


def verified(text: str, lines: str, keys: Sequence[Key]) -> frozenset[Key]:
    """Return the known keys that signed a note's text; there must be one, and no wrong signature by any."""
    known = {(key.name, key.key_id): key for key in keys}
    signers = set()
    for line in lines[:-1].split("\n"):
        name, _, encoded = line[2:].partition(" ")
        try:
            value = from_base64(encoded)
            if key := known.get((name, value[:4].hex())):
                Ed25519PublicKey.from_public_bytes(key.public).verify(value[4:], text.encode())
                signers.add(key)
        except (ValueError, InvalidSignature) as error:
            raise UntrueError(f"the signature by {name} does not fit the checkpoint {text.split()[:2]}") from error
    if not signers:
        raise UntrueError(f"no known key has signed the checkpoint {text.split()[:2]}")
    return frozenset(signers)


def parse_checkpoint(text: str, signers: frozenset[Key]) -> Checkpoint:
    """Read a verified note's text as a checkpoint."""
    origin, *rest = text[:-1].split("\n")
    if len(rest) < 2 or not re.fullmatch("0|[1-9][0-9]{0,18}", rest[0]):
        raise UntrueError(f"what was signed as {origin} is not a checkpoint")
    chains = [line.removeprefix(ENVELOPE_CHAIN) for line in rest[2:] if line.startswith(ENVELOPE_CHAIN)]
    root, *chain = map(from_base64, [rest[1], *chains])
    return Checkpoint(origin, int(rest[0]), root, chain[0] if chain else None, signers)


def parse_header(text: object) -> dict[str, Any]:
    """Read a log entry, refusing every spelling but the canonical one."""
    if not isinstance(text, str):
        raise UntrueError("it has no header")
    header = json.loads(text)
    if compact(header) != text.encode() or not isinstance(header, dict) or list(header) != list(HEADER):
        raise UntrueError("its header is not spelled as it must be")
    if header["format"] != 1 or any(type(header[name]) is not kind for name, kind in HEADER.items()):
        raise UntrueError("its header is of no format known here")
    if not (BOOK.fullmatch(header["book"]) and is_time(header["created"]) and is_time(header["recorded_at"])):
        raise UntrueError("its header names no book, or a time that is not spelled as it must be")
    return header


def parse_body(event: dict[str, Any], digest: str) -> bytes | None:
    """Return the raw body once it fits its digest; None where it was erased."""
    salt, body = bytes.fromhex(event["salt"]), from_base64(event["body"])
    erased = not salt and not body
    if event.get("erased", False) is not erased:
        raise UntrueError("it is marked as erased and is not, or the other way round")
    if erased:
        return None
    # A salt of another length would let bytes move between salt and body under the same digest.
    if len(salt) != SALT_BYTES or sha256(salt + body).hexdigest() != digest:
        raise UntrueError("its body is not the one that was recorded")
    return body


class Book:
    """What was read of one book: its tree, its envelope chain, and what can be told at its end alone."""

    def __init__(self) -> None:
        self.checkpoints: defaultdict[int, dict[Checkpoint, None]] = defaultdict(dict)
        self.problems: list[str] = []
        self.size = self.position = 0
        self.tiles: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._erased: list[tuple[str, int]] = []
        self._frontier: list[bytes] = []
        self._chain = bytes(32)
        self._recorded_at = ""
        self._erasures: dict[tuple[str, int], int] = {}
        self._forks: list[tuple[str, int, int]] = []
        self._wrong: list[Checkpoint] = []

    def take(self, header: dict[str, Any], event: dict[str, Any]) -> None:
        """Take the next event; what is untrue of it is noted, and reading goes on."""
        position = header["position"]
        if position != self.position + 1:
            self.problems.append(f"position {position} follows {self.position}")
        recorded_at = header["recorded_at"].removesuffix("Z")  # so that a fraction sorts behind the whole second
        if recorded_at < self._recorded_at:
            self.problems.append(f"position {position} was recorded before the one it follows")
        self.position, self._recorded_at = position, recorded_at
        try:
            self._take_body(header, parse_body(event, header["body"]))
        except UNREADABLE as error:
            self.problems.append(f"position {position} ({header['event_id']}): {error}")
        envelope = event.get("envelope")
        columns = [envelope.get(name) for name in ENVELOPE] if isinstance(envelope, dict) else []
        self._chain = sha256(self._chain + compact(columns)).digest()
        self._grow(sha256(b"\x00" + event["header"].encode()).digest())
        self.compare()

    def _take_body(self, header: dict[str, Any], body: bytes | None) -> None:
        if body is None:
            self._erased.append((header["event_id"], header["position"]))
        elif header["source"] == "operator" and header["type"] in (ERASED, FORKED):
            record = json.loads(body)["data"]["object"]
            if header["type"] == ERASED:
                self._erasures[str(record["event_id"]), int(record["position"])] = header["position"]
            else:
                self._forks.append((str(record["origin"]), int(record["kept"]), int(record["lost"])))

    def _grow(self, leaf: bytes) -> None:
        """Add a leaf to the tree, keeping the hashes of every eighth level: these are the tiles."""
        self.tiles[0] += leaf
        node, carry, level = leaf, self.size, 0
        while carry & 1:
            node = sha256(b"\x01" + self._frontier.pop() + node).digest()
            carry, level = carry >> 1, level + 1
            if level % 8 == 0:
                self.tiles[level // 8] += node
        self._frontier.append(node)
        self.size += 1

    def _root(self) -> bytes:
        *rest, top = self._frontier or [sha256(b"").digest()]
        for left in reversed(rest):
            top = sha256(b"\x01" + left + top).digest()
        return top

    def compare(self) -> None:
        """Compare the book so far with the checkpoints of this size."""
        for one in self.checkpoints.get(self.size, ()):
            if one.root != self._root() or one.chain not in (None, self._chain):
                self._wrong.append(one)

    def settle(self, trusted: Sequence[Key]) -> str:
        """Judge what needs the whole book; return the line of the report."""
        every = [one for size in sorted(self.checkpoints) for one in self.checkpoints[size]]
        missed = [*self._wrong, *(one for one in every if one.size > self.size)]
        lost = [
            one for one in missed for fork in self._forks if fork[0] == one.origin and fork[1] < one.size <= fork[2]
        ]
        wrong = [one for one in missed if one not in lost]
        self.problems += [f"the events are not those of checkpoint {one.origin} {one.size}" for one in wrong]
        covered = max((one.size for one in set(every) - set(lost)), default=0)
        newest = [one for one in every if one.size == covered and one not in lost]
        if covered < self.size:
            self.problems.append(f"no checkpoint covers the events after {covered}")
        if trusted and not any(one.signers & set(trusted) for one in newest):
            self.problems.append("the newest checkpoint is signed by none of the keys you gave")
        for event_id, position in self._erased:
            if self._erasures.get((event_id, position), 0) <= position:
                self.problems.append(f"position {position} ({event_id}): its body is gone and no erasure is on record")
        origins = ", ".join(sorted({one.origin for one in newest}))
        erased = f"{self.size} events, {len(self._erased)} erased"
        return f"{erased}; {len(every)} checkpoints, {len(lost)} lost, the newest {origins} {covered}"

    def check_tiles(self, archive: Archive, folder: str) -> None:
        """Compare every tile the archive has with the tree, and see that none is missing."""
        true: dict[str, bytes] = {}
        for level, hashes in self.tiles.items():
            for at in range(0, len(hashes), 8192):
                *groups, last = f"{at // 8192:,}".split(",")
                tile = bytes(hashes[at : at + 8192])
                name = "".join(f"x{group:0>3}/" for group in groups) + f"{last:0>3}"
                partial_width = "" if len(tile) == 8192 else f".p/{len(tile) // 32}"
                true[f"{folder}tile/{level}/{name}{partial_width}"] = tile
        found = archive.below(folder)
        wrong = [name for name in found if archive.read(name) != true.get(name)]
        self.problems += [f"{name} is not a tile of the tree" for name in wrong]
        self.problems += [f"{name} is missing" for name in sorted(true.keys() - set(found))]


def verify(archive: Archive, trusted: Sequence[Key], outside: str = "") -> tuple[list[str], list[str]]:
    """Check everything; return the lines of the report and what is untrue."""
    problems: list[str] = []
    keys = [*trusted, *archive_keys(archive, problems)]
    books: defaultdict[str, Book] = defaultdict(Book)
    inside = "\n".join(archive.read(name).decode("utf-8") for name in archive.below("checkpoints/"))
    for one in checkpoints_of(inside, keys, problems):
        books[one.book].checkpoints[one.size][one] = None
    for one in checkpoints_of(outside, keys, problems):
        if one.book in books:
            books[one.book].checkpoints[one.size][one] = None
    for book in books.values():
        book.compare()
    read_events(archive, books, problems)
    report = []
    for name, book in sorted(books.items()):
        report.append(f"{name}: {book.settle(trusted)}")
        book.check_tiles(archive, f"tiles/{name}/")
        problems += [f"{name}: {problem}" for problem in book.problems]
    if not books:
        problems.append("the archive holds no book")
    return report, problems


def archive_keys(archive: Archive, problems: list[str]) -> Iterator[Key]:
    """Read the keys the archive names."""
    for line in archive.read("keys.txt").decode("utf-8", "replace").split("\n"):
        if line and not line.startswith("#"):
            try:
                yield parse_key(line)
            except ValueError as error:
                problems.append(f"keys.txt: {error}")


def read_events(archive: Archive, books: defaultdict[str, Book], problems: list[str]) -> None:
    """Hand every event to its book."""
    with archive.open("events.jsonl") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES), b""), 1):
            try:
                event = json.loads(line)
                header = parse_header(event["header"])
                books[header["book"].replace(":", ".")].take(header, event)
            except UNREADABLE as error:
                problems.append(f"events.jsonl line {number} is not an event: {error}")


def compact(value: object) -> bytes:
    """Write JSON with sorted keys and without white space, as UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def is_time(text: str) -> bool:
    """Tell whether a time is RFC 3339 in UTC in the one spelling the ledger uses; may raise ValueError if not."""
    return datetime.fromisoformat(text.removesuffix("Z")).isoformat() + "Z" == text


def from_base64(text: str) -> bytes:
    """Read base64 in its one canonical spelling."""
    value = b64decode(text, validate=True)
    if b64encode(value).decode() != text:
        raise ValueError("no canonical base64")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the archive named on the command line."""
    parser = argparse.ArgumentParser(description="Verify an archive of the ledger's log offline.")
    parser.add_argument("archive", type=Path, help="the archive: a folder or a tar file")
    parser.add_argument("--verifier-key", action="append", default=[], help="a key you trust, as name+id+base64")
    parser.add_argument("--checkpoints", action="append", default=[], type=Path, help="checkpoints kept elsewhere")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        trusted = [parse_key(text) for text in options.verifier_key]
        outside = "".join(path.read_text("utf-8") + "\n" for path in options.checkpoints)
        with ExitStack() as stack:
            report, problems = verify(Archive(options.archive, stack), trusted, outside)
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        sys.stderr.write(f"{options.archive}: {error}\n")
        return 2
    if options.json:
        told = {"true": not problems, "books": report, "trusted_keys_given": bool(trusted), "problems": problems}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return 1 if problems else 0
    whose = "the keys you gave" if trusted else "the archive's own keys.txt: compare its keys with the published ones"
    lines = [*report, f"checked against {whose}"]
    lines += [f"UNTRUE: {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    lines.append(f"NOT VERIFIED: {len(problems)} problems" if problems else "VERIFIED")
    # What an archive says of itself must not steer the terminal of whoever checks it.
    sys.stdout.writelines("".join(char if char.isprintable() else "?" for char in line) + "\n" for line in lines)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

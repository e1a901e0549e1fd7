"""C2SP signed notes and the log checkpoints written in them (c2sp.org/signed-note, c2sp.org/tlog-checkpoint).

A note is text, an empty line and signature lines. Only what ``open_note`` returns may be believed: it has been
signed by a key the caller named. Ed25519 is the only signature type here; signatures of other types and by unknown keys
are skipped, as the specification demands, so that a witness may add its own. Keys are always passed in.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import LedgerError

MAX_NOTE_CHARACTERS: Final = 65_536
MAX_SIGNATURES: Final = 64
"""Bounds on what an outsider may have us parse and verify; the specification asks for 16 signatures at least."""

_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
_ROOT_BYTES: Final = 32
_DASH: Final = "\u2014 "
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_PARTS_OF_FILE: Final = re.compile(r"\n+|(?:[^\n]+\n)+\n(?:\u2014 [^\n]*\n)+|(?s:.+?)(?:\n\n|\Z)")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteError(LedgerError, ValueError):
    """A note, key or checkpoint cannot be taken at its word."""


class MalformedNoteError(NoteError):
    """The text is not a signed note."""


class MalformedKeyError(NoteError):
    """The text is not an Ed25519 verifier key, or its name is not allowed."""


class MalformedCheckpointError(NoteError):
    """The text of a note is not a log checkpoint."""


class UnknownSignerError(NoteError):
    """No known key has signed the note; ``signers`` are the names of those that claim to have."""

    def __init__(self, signers: Sequence[str]) -> None:
        super().__init__(f"no known key has signed the note, only {', '.join(signers)}")
        self.signers = tuple(signers)


class BadSignatureError(NoteError):
    """The signature of the known key ``name`` does not fit the text: one of the two has been changed."""

    def __init__(self, name: str, key_id: bytes) -> None:
        super().__init__(f"the signature by {name}+{key_id.hex()} does not fit the text")
        self.name = name
        self.key_id = key_id


# Keys


@dataclass(frozen=True)
class VerifierKey:
    """A key that may have signed: its name and the 32 bytes of its Ed25519 public key."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not _is_key_name(self.name):
            raise MalformedKeyError(f"{self.name!r} is empty or holds a space, a control character or a plus")
        if len(self.public_key) != _KEY_BYTES:
            raise MalformedKeyError(f"an Ed25519 public key has {_KEY_BYTES} bytes")

    @cached_property
    def key_id(self) -> bytes:
        """The four bytes that name the key on a signature line: SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key)[:4]."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_ID_BYTES]

    def encode(self) -> str:
        """Write the key as ``name+id+base64``, the form verifiers are configured with."""
        return f"{self.name}+{self.key_id.hex()}+{to_base64(_ED25519 + self.public_key)}"

    def verify(self, text: str, signature: bytes) -> None:
        """Check a signature (without the key id) over the text. Raises ``BadSignatureError``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except (InvalidSignature, ValueError) as error:
            raise BadSignatureError(self.name, self.key_id) from error


@dataclass(frozen=True)
class SignerKey:
    """A key that signs, under its name."""

    name: str
    private_key: Ed25519PrivateKey

    @cached_property
    def verifier(self) -> VerifierKey:
        """The public half, for those who check."""
        return VerifierKey(self.name, self.private_key.public_key().public_bytes_raw())

    def sign(self, text: str) -> Signature:
        """Sign the text of a note, its final newline included."""
        return Signature(self.name, self.verifier.key_id, self.private_key.sign(text.encode()))


def parse_verifier_key(text: str) -> VerifierKey:
    """Read ``name+id+base64``. Raises ``MalformedKeyError``, also where the id is not that of name and key."""
    parts = text.split("+", 2)  # the base64 part may hold a plus, the name never does
    if len(parts) != 3:
        raise MalformedKeyError("a verifier key reads name+id+base64")
    name, key_id, encoded = parts
    try:
        material = from_base64(encoded)
    except ValueError as error:
        raise MalformedKeyError("the verifier key's last part is not base64") from error
    if material[:1] != _ED25519:
        raise MalformedKeyError("the verifier key is not one for Ed25519 signatures")
    key = VerifierKey(name, material[1:])
    if key.key_id.hex() != key_id:
        raise MalformedKeyError(f"the verifier key's id is {key_id!r}, but its name and key give {key.key_id.hex()!r}")
    return key


# Notes


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who claims to have signed, and the bytes that show it."""

    name: str
    key_id: bytes
    signature: bytes

    def encode(self) -> str:
        """Write the line, newline included."""
        return f"{_DASH}{self.name} {to_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note as parsed, of which nothing is verified, or as opened: then ``signatures`` are the verified ones."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> str:
        """Write the note: its text, an empty line, its signature lines."""
        return f"{self.text}\n{''.join(signature.encode() for signature in self.signatures)}"


def sign_note(text: str, signers: Sequence[SignerKey]) -> str:
    """Sign a text that ends in a newline. Raises ``MalformedNoteError`` for a text no verifier would accept."""
    _check_characters(text)
    note = Note(text, tuple(signer.sign(text) for signer in signers)).encode()
    if parse_note(note).text != text:
        raise MalformedNoteError("the text cannot be told from its signatures")
    return note


def parse_note(note: str) -> Note:
    """Take a note apart without believing it. Raises ``MalformedNoteError``."""
    _check_characters(note)
    text, gap, tail = note.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise MalformedNoteError("a note is text, an empty line and signature lines that end in a newline")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedNoteError(f"the note has {len(lines)} signatures, more than {MAX_SIGNATURES}")
    return Note(text + "\n", tuple(_parse_signature(line) for line in lines))


def open_note(note: str, known: Iterable[VerifierKey]) -> Note:
    """Return the note with the signatures that were verified, at least one.

    A signature by a name and key id that are not both known is passed over. Raises ``MalformedNoteError``,
    ``BadSignatureError`` where a known key's signature does not fit, ``UnknownSignerError`` where no known key signed.
    """
    parsed = parse_note(note)
    keys = {(key.name, key.key_id): key for key in known}
    verified = []
    for signature in parsed.signatures:
        key = keys.get((signature.name, signature.key_id))
        if key is not None:
            key.verify(parsed.text, signature.signature)
            verified.append(signature)
    if not verified:
        raise UnknownSignerError([signature.name for signature in parsed.signatures])
    return Note(parsed.text, tuple(verified))


def split_notes(text: str) -> Iterator[str]:
    """Split a file of notes whose texts hold no empty line, such as the checkpoints of a log, into its notes.

    Notes follow one another with or without an empty line between. What is no note, say of a write that a crash cut
    short, is given out too, up to the next empty line, and is for ``parse_note`` to refuse.
    """
    for part in _PARTS_OF_FILE.finditer(text):
        if part[0].strip("\n"):
            yield part[0]


# Checkpoints


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: whose it is, how many leaves it has, their root; extension lines are the log's own."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def encode(self) -> str:
        """Write the text to sign. Raises ``MalformedCheckpointError`` for parts that cannot be read back."""
        text = "".join(f"{line}\n" for line in (self.origin, self.size, to_base64(self.root), *self.extensions))
        if parse_checkpoint(text) != self:
            raise MalformedCheckpointError("the checkpoint has a part that cannot be read back")
        return text


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a note, as opened, as a log checkpoint. Raises ``MalformedCheckpointError``."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise MalformedCheckpointError("a checkpoint is three lines or more, none of them empty")
    origin, size, root, *extensions = lines
    if not _DECIMAL.fullmatch(size):
        raise MalformedCheckpointError(f"{size!r} is not a tree size")
    try:
        digest = from_base64(root)
    except ValueError as error:
        raise MalformedCheckpointError("the root is not base64") from error
    if len(digest) != _ROOT_BYTES:
        raise MalformedCheckpointError(f"a root has {_ROOT_BYTES} bytes, not {len(digest)}")
    return Checkpoint(origin, int(size), digest, tuple(extensions))


# Shared spelling


def to_base64(value: bytes) -> str:
    """Write bytes in the one base64 all these formats use (RFC 4648 §4, padded)."""
    return b2a_base64(value, newline=False).decode("ascii")


def from_base64(text: str) -> bytes:
    """Read base64, refusing with ``ValueError`` all but the one spelling ``to_base64`` gives."""
    try:
        value = a2b_base64(text, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise ValueError("no base64") from error
    # Strict mode still takes stray bits in the last character: one value must not have two spellings.
    if to_base64(value) != text:
        raise ValueError("no canonical base64")
    return value


def _check_characters(note: str) -> None:
    if len(note) > MAX_NOTE_CHARACTERS:
        raise MalformedNoteError(f"the note is longer than {MAX_NOTE_CHARACTERS} characters")
    if _CONTROL.search(note):
        raise MalformedNoteError("the note holds a control character")
    try:
        note.encode()
    except UnicodeEncodeError as error:
        raise MalformedNoteError("the note cannot be written as UTF-8") from error


def _parse_signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _is_key_name(name):
        raise MalformedNoteError("a signature line reads: em dash, key name, base64")
    try:
        value = from_base64(encoded)
    except ValueError as error:
        raise MalformedNoteError(f"the signature by {name} is not base64") from error
    if len(value) <= _KEY_ID_BYTES:
        raise MalformedNoteError(f"the signature by {name} is too short")
    return Signature(name, value[:_KEY_ID_BYTES], value[_KEY_ID_BYTES:])


def _is_key_name(name: str) -> bool:
    return bool(name) and not _CONTROL.search(name) and not any(char.isspace() or char == "+" for char in name)

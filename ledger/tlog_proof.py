"""The proof for one event as a text anyone can keep and check offline (c2sp.org/tlog-proof).

It holds the entry's index, its inclusion proof and the signed log checkpoint it leads to; at most about 1.3 kB in a
log of a million events, so that an entry can ride along as extra data. What proves is the entry itself, handed in by
the one who checks: extra data is nobody's word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ledger.errors import LedgerError
from ledger.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from ledger.note import Checkpoint, VerifierKey, from_base64, open_note, parse_checkpoint, to_base64

MAX_HASHES: Final = 63
"""The depth of the largest tree there can be."""

_HEADING: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")
_EXTRA: Final = "extra "


class LogProofError(LedgerError, ValueError):
    """A log proof does not prove what it is shown for."""


class MalformedLogProofError(LogProofError):
    """The text is no log proof."""


class ForeignOriginError(LogProofError):
    """The checkpoint is of another log: ``origin``, where ``expected`` was asked for."""

    def __init__(self, origin: str, expected: str) -> None:
        super().__init__(f"the checkpoint is of log {origin!r}, not of {expected!r}")
        self.origin = origin
        self.expected = expected


class NotIncludedError(LogProofError):
    """The entry is not shown to stand at ``index`` in the tree of ``size`` entries."""

    def __init__(self, index: int, size: int) -> None:
        super().__init__(f"the entry is not shown to stand at index {index} in the log of {size}")
        self.index = index
        self.size = size


@dataclass(frozen=True, slots=True)
class LogProof:
    """A proof that some entry stands at ``index``.

    ``hashes`` is the inclusion proof from the leaf's sibling up, ``checkpoint`` the signed note verbatim.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def encode(self) -> str:
        """Write the proof. Raises ``MalformedLogProofError`` for parts that cannot be read back."""
        extra = [] if self.extra is None else [_EXTRA + to_base64(self.extra)]
        lines = [_HEADING, *extra, f"index {self.index}", *map(to_base64, self.hashes)]
        text = "\n".join(lines) + "\n\n" + self.checkpoint
        if parse_log_proof(text) != self:
            raise MalformedLogProofError("the proof has a part that cannot be read back")
        return text


def parse_log_proof(text: str) -> LogProof:
    """Read a proof without believing it. Raises ``MalformedLogProofError``."""
    head, gap, checkpoint = text.partition("\n\n")
    heading, *lines = head.split("\n")
    if heading != _HEADING or not gap:
        raise MalformedLogProofError(f"a log proof starts with {_HEADING} and ends with a checkpoint")
    extra = _decode(lines.pop(0).removeprefix(_EXTRA)) if lines and lines[0].startswith(_EXTRA) else None
    index = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if not index:
        raise MalformedLogProofError("the proof does not say at which index its entry stands")
    if len(lines) > MAX_HASHES:
        raise MalformedLogProofError(f"the proof holds {len(lines)} hashes, more than any tree is deep")
    hashes = tuple(map(_decode, lines))
    if any(len(value) != HASH_BYTES for value in hashes):
        raise MalformedLogProofError(f"a hash of the proof has not {HASH_BYTES} bytes")
    return LogProof(int(index[1]), hashes, checkpoint, extra)


def verify_log_proof(proof: LogProof, entry: bytes, origin: str, known: Iterable[VerifierKey]) -> Checkpoint:
    """Check that ``entry`` stands at the proof's index in the log ``origin``; return the checkpoint it is under.

    Raises what ``open_note`` and ``parse_checkpoint`` raise, ``ForeignOriginError`` and ``NotIncludedError``.
    """
    checkpoint = parse_checkpoint(open_note(proof.checkpoint, known).text)
    if checkpoint.origin != origin:
        raise ForeignOriginError(checkpoint.origin, origin)
    if not verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root):
        raise NotIncludedError(proof.index, checkpoint.size)
    return checkpoint


def _decode(text: str) -> bytes:
    try:
        return from_base64(text)
    except ValueError as error:
        raise MalformedLogProofError("a line of the proof is not base64") from error

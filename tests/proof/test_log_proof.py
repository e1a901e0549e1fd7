"""The proof of one event as a text: what it says, how long it is, and what it does not prove."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.merkle import extend, leaf_hash, node_hash, prove_inclusion, read_from_tiles, root
from ledger.note import (
    BadSignatureError,
    Checkpoint,
    MalformedCheckpointError,
    SignerKey,
    UnknownSignerError,
    sign_note,
)
from ledger.tlog_proof import (
    ForeignOriginError,
    LogProof,
    MalformedLogProofError,
    NotIncludedError,
    parse_log_proof,
    verify_log_proof,
)

ORIGIN = "billing.example.com/log/self:live"
KEY = SignerKey("billing.example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
ENTRIES = [f'{{"position":{number}}}'.encode() for number in range(1, 6)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def proof_of(index: int, extra: bytes | None = None) -> LogProof:
    checkpoint = Checkpoint(ORIGIN, 5, root(extend(0, b"", LEAVES)))
    hashes = prove_inclusion(index, 5, read_from_tiles({(0, 0): b"".join(LEAVES)}))
    return LogProof(index, tuple(hashes), sign_note(checkpoint.encode(), [KEY]), extra)


def test_a_proof_reads_as_c2sp_writes_it() -> None:
    lines = proof_of(4, extra=b"told").encode().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra dG9sZA==", "index 4"]
    assert [len(line) for line in lines[3:5]] == [44, 0]
    assert lines[5:7] == [ORIGIN, "5"]
    assert lines[9].startswith("\u2014 billing.example.com/log ")


@pytest.mark.parametrize("extra", [None, b"", b"a header"])
@pytest.mark.parametrize("index", range(5))
def test_a_proof_comes_back_as_it_was_and_verifies(index: int, extra: bytes | None) -> None:
    proof = parse_log_proof(proof_of(index, extra).encode())
    assert proof == proof_of(index, extra)
    checkpoint = verify_log_proof(proof, ENTRIES[index], ORIGIN, [KEY.verifier])
    assert (checkpoint.origin, checkpoint.size) == (ORIGIN, 5)


def test_the_only_event_of_a_log_needs_no_hash() -> None:
    note = sign_note(Checkpoint(ORIGIN, 1, LEAVES[0]).encode(), [KEY])
    text = LogProof(0, (), note).encode()
    assert verify_log_proof(parse_log_proof(text), ENTRIES[0], ORIGIN, [KEY.verifier]).size == 1


def test_a_proof_among_a_million_events_with_its_entry_fits_2_kb() -> None:
    size = 2**20
    hashes, top = [], leaf_hash(b"x" * 400)
    for level in range(20):
        hashes.append(leaf_hash(bytes([level])))
        top = node_hash(top, hashes[-1])
    envelope = "envelope-chain " + "A" * 43 + "="
    note = sign_note(Checkpoint(ORIGIN, size, top, (envelope,)).encode(), [KEY])
    text = LogProof(0, tuple(hashes), note, extra=b"x" * 400).encode()
    assert verify_log_proof(parse_log_proof(text), b"x" * 400, ORIGIN, [KEY.verifier]).size == size
    assert len(text.encode()) <= 2_000
    assert len(LogProof(0, tuple(hashes), note).encode().encode()) <= 1_400


def test_another_entry_or_index_is_not_included() -> None:
    proof = proof_of(2)
    for entry, wrong in [(ENTRIES[1], proof), (ENTRIES[2], dataclasses.replace(proof, index=3))]:
        with pytest.raises(NotIncludedError) as refused:
            verify_log_proof(wrong, entry, ORIGIN, [KEY.verifier])
        assert (refused.value.index, refused.value.size) == (wrong.index, 5)


def test_a_changed_hash_does_not_prove() -> None:
    proof = proof_of(2)
    for at in range(len(proof.hashes)):
        hashes = [*proof.hashes[:at], bytes(32), *proof.hashes[at + 1 :]]
        with pytest.raises(NotIncludedError):
            verify_log_proof(dataclasses.replace(proof, hashes=tuple(hashes)), ENTRIES[2], ORIGIN, [KEY.verifier])


def test_the_checkpoint_of_another_log_does_not_prove() -> None:
    with pytest.raises(ForeignOriginError) as refused:
        verify_log_proof(proof_of(0), ENTRIES[0], "billing.example.com/log/self:test", [KEY.verifier])
    assert refused.value.origin == ORIGIN


def test_an_unsigned_changed_or_meaningless_checkpoint_does_not_prove() -> None:
    stranger = SignerKey(KEY.name, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(UnknownSignerError):
        verify_log_proof(proof_of(0), ENTRIES[0], ORIGIN, [stranger.verifier])
    proof = proof_of(0)
    changed = dataclasses.replace(proof, checkpoint=proof.checkpoint.replace("\n5\n", "\n6\n"))
    with pytest.raises(BadSignatureError):
        verify_log_proof(changed, ENTRIES[0], ORIGIN, [KEY.verifier])
    poem = dataclasses.replace(proof, checkpoint=sign_note("a poem\n", [KEY]))
    with pytest.raises(MalformedCheckpointError):
        verify_log_proof(poem, ENTRIES[0], ORIGIN, [KEY.verifier])


HASH = "A" * 43 + "="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v1",
        "c2sp.org/tlog-proof@v1\n\nnote",
        "c2sp.org/tlog-proof@v2\nindex 0\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\nnote",
        "c2sp.org/tlog-proof@v1\nindex 00\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex -1\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex \u0661\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0 \n\nnote",
        f"c2sp.org/tlog-proof@v1\nindex 1{'0' * 40}\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\nextra AAAA\n\nnote",
        "c2sp.org/tlog-proof@v1\nextra AAA\nindex 0\n\nnote",
        "c2sp.org/tlog-proof@v1\nextra AAAA\nextra AAAA\nindex 0\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\nnote",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{HASH} \n\nnote",
        f"c2sp.org/tlog-proof@v1\r\nindex 0\r\n{HASH}\r\n\r\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + f"{HASH}\n" * 64 + "\nnote",
    ],
)
def test_what_is_no_log_proof_is_refused(text: str) -> None:
    with pytest.raises(MalformedLogProofError):
        parse_log_proof(text)


def test_a_proof_that_could_not_be_read_back_is_not_written() -> None:
    for wrong in (LogProof(-1, (), "note"), LogProof(0, (bytes(31),), "note")):
        with pytest.raises(MalformedLogProofError):
            wrong.encode()

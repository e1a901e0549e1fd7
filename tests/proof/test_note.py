"""Signed notes, verifier keys and checkpoints: published vectors, round trips, and what is refused."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import offline_verify
from ledger.note import (
    MAX_SIGNATURES,
    BadSignatureError,
    Checkpoint,
    MalformedCheckpointError,
    MalformedKeyError,
    MalformedNoteError,
    NoteError,
    SignerKey,
    UnknownSignerError,
    VerifierKey,
    from_base64,
    open_note,
    parse_checkpoint,
    parse_note,
    parse_verifier_key,
    sign_note,
    split_notes,
    to_base64,
)

# The published key and note of the reference implementation, golang.org/x/mod/sumdb/note (note_test.go).
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)  # fmt: skip
GO_NOTE = (
    f"{GO_TEXT}\n"
    "\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

# The example notes of c2sp.org/signed-note and c2sp.org/tlog-checkpoint, whose keys are not published.
C2SP_NOTE = (
    "Ognuno sta solo sul cuor della terra\n"
    "trafitto da un raggio di sole:\n"
    "\n"
    "ed è subito sera.\n"
    "\n"
    "\u2014 quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)
C2SP_CHECKPOINT = (
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "\u2014 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)


def signer(number: int = 1, name: str = "ledger.example/log") -> SignerKey:
    return SignerKey(name, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def test_the_published_note_verifies_and_is_signed_again_byte_for_byte() -> None:
    key = parse_verifier_key(GO_KEY)
    assert key.encode() == GO_KEY
    assert open_note(GO_NOTE, [key]).text == GO_TEXT
    peter = SignerKey("PeterNeumann", Ed25519PrivateKey.from_private_bytes(GO_SEED))
    assert peter.verifier == key
    assert sign_note(GO_TEXT, [peter]) == GO_NOTE


def test_the_published_examples_are_taken_apart_and_put_together() -> None:
    note = parse_note(C2SP_NOTE)
    assert note.text.endswith("\n\ned è subito sera.\n")
    assert note.encode() == C2SP_NOTE
    checkpoint = parse_checkpoint(parse_note(C2SP_CHECKPOINT).text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert checkpoint.encode() == parse_note(C2SP_CHECKPOINT).text


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=200).map(
    lambda text: text + "\n"
)


@given(texts, st.sets(st.integers(1, 5), min_size=1))
def test_what_is_signed_opens_for_each_signer(text: str, numbers: set[int]) -> None:
    signers = [signer(number, f"key{number}") for number in numbers]
    note = sign_note(text, signers)
    opened = open_note(note, [one.verifier for one in signers])
    assert (opened.text, len(opened.signatures)) == (text, len(signers))
    assert opened.encode() == note
    for one in signers:
        assert [line.name for line in open_note(note, [signer(9).verifier, one.verifier]).signatures] == [one.name]


@given(texts, st.data())
def test_a_changed_note_never_opens_as_it_was_not_signed(text: str, data: st.DataObject) -> None:
    note = sign_note(text, [signer()])
    at = data.draw(st.integers(0, len(note) - 1))
    changed = note[:at] + data.draw(st.sampled_from(["", "x", "\n", "=", note[at] * 2])) + note[at + 1 :]
    try:
        assert open_note(changed, [signer().verifier]).text == text
    except NoteError:
        return
    assert changed == note


def test_a_signature_by_an_unknown_key_is_passed_over() -> None:
    note = sign_note("text\n", [signer(1), signer(2, "witness.example")])
    assert [line.name for line in open_note(note, [signer(2, "witness.example").verifier]).signatures] == [
        "witness.example"
    ]


def test_a_note_that_no_known_key_signed_names_who_did() -> None:
    note = sign_note("text\n", [signer(1)])
    with pytest.raises(UnknownSignerError) as refused:
        open_note(note, [signer(2).verifier, signer(1, "another.name").verifier])
    assert refused.value.signers == ("ledger.example/log",)


def test_a_known_key_whose_signature_does_not_fit_spoils_the_note() -> None:
    text = sign_note("text\n", [signer(1), signer(2, "two")]).replace("text", "test")
    with pytest.raises(BadSignatureError) as refused:
        open_note(text, [signer(2, "two").verifier])
    assert (refused.value.name, refused.value.key_id) == ("two", signer(2, "two").verifier.key_id)


GOOD = GO_NOTE.splitlines(keepends=True)[-1]


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "text\n",
        "text\n\n",
        f"text\n{GOOD}",
        f"text\n\n{GOOD}"[:-1],
        f"text\n\n{GOOD}\n",
        f"text\n\n{GOOD.replace(chr(0x2014), '-')}",
        f"text\n\n\u2014  {GOOD[2:]}",
        f"text\n\n\u2014{GOOD[2:]}",
        f"text\n\n{GOOD.replace('PeterNeumann', 'Peter+Neumann')}",
        f"text\n\n{GOOD.replace('PeterNeumann', 'Peter' + chr(0xA0))}",
        f"text\n\n{GOOD.replace('nAM=', 'nAM')}",
        f"text\n\n{GOOD.replace('nAM=', 'nAN=')}",
        f"text\n\n{GOOD.replace('x08g', 'x0 8g')}",
        f"text\n\n{GOOD.replace('x08g', 'x08-')}",
        "text\n\n\u2014 name x08gow==\n",
        "text\n\n\u2014 name \n",
        "text\n\n\u2014 name\n",
        f"te\txt\n\n{GOOD}",
        f"te\rxt\n\n{GOOD}",
        f"te\x00xt\n\n{GOOD}",
        f"te\ud800xt\n\n{GOOD}",
        f"text\n\n{GOOD * (MAX_SIGNATURES + 1)}",
        f"{'x' * 100_000}\n\n{GOOD}",
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(MalformedNoteError):
        parse_note(note)


@pytest.mark.parametrize("text", ["", "no newline", "control\x07\n", "lone \udc00\n"])
def test_a_text_no_verifier_would_take_is_not_signed(text: str) -> None:
    with pytest.raises(MalformedNoteError):
        sign_note(text, [signer()])


def test_a_note_is_signed_by_somebody() -> None:
    with pytest.raises(MalformedNoteError):
        sign_note("text\n", [])


@pytest.mark.parametrize("end", range(len(GO_KEY)))
def test_a_part_of_a_verifier_key_is_refused(end: int) -> None:
    with pytest.raises(MalformedKeyError):
        parse_verifier_key(GO_KEY[:end])


@pytest.mark.parametrize(
    "key",
    [
        GO_KEY.replace("Peter", "peter"),
        GO_KEY.replace("c74f20a3", "C74F20A3"),
        GO_KEY.replace("c74f20a3", "00000000"),
        GO_KEY.replace("+ARpc", "+AhpC"),
        GO_KEY.replace("10TW", "10TX"),
        f"{GO_KEY}\n",
        f" {GO_KEY}",
    ],
)
def test_a_changed_verifier_key_is_refused(key: str) -> None:
    with pytest.raises(MalformedKeyError):
        parse_verifier_key(key)


def other_type_of_key(type_byte: int) -> str:
    """Write the published key as one of another signature type, with the id that goes with it."""
    material = bytes([type_byte]) + parse_verifier_key(GO_KEY).public_key
    key_id = hashlib.sha256(b"PeterNeumann\n" + material).hexdigest()[:8]
    return f"PeterNeumann+{key_id}+{to_base64(material)}"


@pytest.mark.parametrize("parse", [parse_verifier_key, offline_verify.parse_key])
def test_a_key_for_another_type_of_signature_is_refused(parse: Callable[[str], object]) -> None:
    assert other_type_of_key(1) == GO_KEY
    assert parse(GO_KEY)
    with pytest.raises(ValueError, match="Ed25519"):
        parse(other_type_of_key(4))
    with pytest.raises(ValueError, match="key"):
        parse(GO_KEY.replace("c74f20a3", "00000000"))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b", "a\x01b"])
def test_a_name_that_cannot_stand_on_a_signature_line_is_refused(name: str) -> None:
    with pytest.raises(MalformedKeyError):
        VerifierKey(name, bytes(32))


origins = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@given(origins, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.lists(origins, max_size=3))
def test_checkpoints_come_back_as_they_were(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(checkpoint.encode()) == checkpoint


ROOT = to_base64(bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"origin\n5\n{ROOT}",
        f"origin\n{ROOT}\n",
        f"\n5\n{ROOT}\n",
        f"origin\n05\n{ROOT}\n",
        f"origin\n+5\n{ROOT}\n",
        f"origin\n-1\n{ROOT}\n",
        f"origin\n5_0\n{ROOT}\n",
        f"origin\n\u0665\n{ROOT}\n",
        f"origin\n{10**30}\n{ROOT}\n",
        f"origin\n5\n{ROOT} \n",
        f"origin\n5\n{ROOT[:-2]}\n",
        f"origin\n5\n{to_base64(bytes(31))}\n",
        f"origin\n5\n{ROOT}\n\n",
        f"origin\n5\n{ROOT}\n\nmore\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(MalformedCheckpointError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint("", 1, bytes(32)),
        Checkpoint("a\nb", 1, bytes(32)),
        Checkpoint("a", -1, bytes(32)),
        Checkpoint("a", 1, bytes(31)),
        Checkpoint("a", 1, bytes(32), ("",)),
        Checkpoint("a", 1, bytes(32), ("a\nb",)),
    ],
)
def test_a_checkpoint_that_could_not_be_read_back_is_not_written(checkpoint: Checkpoint) -> None:
    with pytest.raises(MalformedCheckpointError):
        checkpoint.encode()


@pytest.mark.parametrize("gap", ["", "\n", "\n\n\n"])
def test_notes_in_a_file_are_told_apart(gap: str) -> None:
    notes = [
        sign_note(Checkpoint("ledger.example/log", size, bytes(32)).encode(), [signer(), signer(2, "witness")])
        for size in range(5)
    ]
    assert list(split_notes(gap.join(notes))) == notes
    assert list(split_notes(gap + gap.join(notes) + "ledger.example/log\n7\ncut o")) == [
        *notes,
        "ledger.example/log\n7\ncut o",
    ]
    assert list(split_notes("")) == []


@pytest.mark.parametrize("torn", ["ledger", "ledger\n", "ledger\n7\nAA", "ledger\n7\nAA\n", "ledger\n7\n\n\u2014 ledg"])
def test_a_write_cut_short_does_not_take_the_notes_around_it_along(torn: str) -> None:
    notes = [sign_note(f"{number}\n", [signer()]) for number in range(4)]
    found = list(split_notes("\n".join(notes[:2]) + torn + "\n\n" + "\n".join(notes[2:])))
    assert [note for note in found if note in notes] == notes
    for junk in set(found) - set(notes):
        with pytest.raises(MalformedNoteError):
            parse_note(junk)


@given(st.binary(max_size=70))
def test_base64_has_one_spelling(value: bytes) -> None:
    text = to_base64(value)
    assert from_base64(text) == value
    for other in (text + "\n", f" {text}", text.replace("=", ""), text + "="):
        if other != text:
            with pytest.raises(ValueError, match="base64"):
                from_base64(other)

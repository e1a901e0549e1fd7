"""The verifier an archive carries: true archives pass, and whatever is changed in one is found."""

from __future__ import annotations

import ast
import gzip
import json
import subprocess
import sys
import tarfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import offline_verify
from tests.proof.archives import BOOK, KEY, LOG, Event, Files, archive, checkpoint, event, events, key, tiles

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Write the archive, verify it, and return the exit status and what was printed."""

    def run(files: Files, *options: str) -> tuple[int, str]:
        status = offline_verify.main([str(files.write(tmp_path / "archive")), *options])
        return status, capsys.readouterr().out

    return run


def test_it_speaks_json(check: Check) -> None:
    files = archive(events(5))
    status, said = check(files, "--json")
    told = json.loads(said)
    assert (status, told["true"], told["problems"]) == (0, True, [])
    assert told["books"] == check(files)[1].splitlines()[: len(told["books"])]
    status, said = check(replace(files, contents={**files.contents, "keys.txt": b"nonsense"}), "--json")
    told = json.loads(said)
    assert (status, told["true"], bool(told["problems"])) == (1, False, True)


def test_a_true_archive_is_verified(check: Check) -> None:
    status, report = check(archive(events(300), signed=[1, 2, 255, 256, 257, 300]))
    assert report.splitlines() == [
        "self.live: 300 events, 0 erased; 6 checkpoints, 0 lost, the newest billing.example.com/log/self:live 300",
        "checked against the archive's own keys.txt: compare its keys with the published ones",
        "VERIFIED",
    ]
    assert status == 0


def test_every_book_is_checked_by_itself(check: Check) -> None:
    files = archive(events(5))
    control = archive(events(3, "ledger:control"))
    files.contents |= {name: content for name, content in control.contents.items() if "control" in name}
    both = [line for pair in zip(files.lines(), control.lines(), strict=False) for line in pair]
    files.put_lines([*both, *files.lines()[3:]])
    status, report = check(files)
    assert status == 0
    assert "ledger.control: 3 events" in report
    assert "self.live: 5 events" in report


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_is_verified_inside_its_tar_file(mode: Any, tmp_path: Path) -> None:
    files = archive(events(20))
    tar_file = tmp_path / "export.tar"
    with tarfile.open(tar_file, mode) as tar:
        tar.add(files.write(tmp_path / "export-2026"), "./export-2026")
    assert offline_verify.main([str(tar_file)]) == 0
    files.contents["events.jsonl"] = files.contents["events.jsonl"].replace(b"evt_7", b"evt_8")
    with tarfile.open(tar_file, mode) as tar:
        tar.add(files.write(tmp_path / "export-2026"), "export-2026")
    assert offline_verify.main([str(tar_file)]) == 1


def test_it_runs_alone(tmp_path: Path) -> None:
    """As an auditor would: a copy of the file, isolated from this project, on the command line."""
    files = archive(events(10))
    files.contents["verify.py"] = Path(offline_verify.__file__).read_bytes()
    folder = files.write(tmp_path / "archive")
    command = [sys.executable, "-I", str(folder / "verify.py"), str(folder)]
    told = subprocess.run(
        [*command, "--verifier-key", KEY.verifier.encode()], check=False, capture_output=True, text=True
    )
    assert (told.returncode, told.stdout.splitlines()[-2:]) == (0, ["checked against the keys you gave", "VERIFIED"])
    (folder / "keys.txt").unlink()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1


def test_it_imports_the_standard_library_and_cryptography_alone() -> None:
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(offline_verify.__file__).read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add((node.module or "").partition(".")[0])
    assert found <= sys.stdlib_module_names | {"cryptography"}


def change_line(position: int, **changes: Any) -> Callable[[Files], Files]:
    return lambda files: files.put_lines(
        [line | changes if number == position else line for number, line in enumerate(files.lines(), 1)]
    )


def change_header(**changes: Any) -> Callable[[Files], Files]:
    """Change the header of the fifth event and spell it as it must be."""
    header = json.loads(events(5)[4].header.encode()) | changes
    return change_line(5, header=json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def spell_header(respell: Callable[[str], str]) -> Callable[[Files], Files]:
    return change_line(5, header=respell(events(5)[4].header.encode().decode()))


def change_body(change: Callable[[bytes], bytes]) -> Callable[[Files], Files]:
    return change_line(5, body=b64encode(change(events(5)[4].body)).decode())


def change_envelope(**changes: Any) -> Callable[[Files], Files]:
    return change_line(5, envelope=events(5)[4].line()["envelope"] | changes)


def rearrange(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Files], Files]:
    return lambda files: files.put_lines(change(files.lines()))


def change_file(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Files], Files]:
    def tamper(files: Files) -> Files:
        content = change(files.contents.pop(name, b""))
        if content is not None:
            files.contents[name] = content
        return files

    return tamper


def move_into_salt(files: Files) -> Files:
    """Move a byte from the body to the salt: the digest stays the same."""
    line = files.lines()[4]
    body = b64decode(line["body"])
    return change_line(5, salt=line["salt"] + body[:1].hex(), body=b64encode(body[1:]).decode())(files)


CHECKPOINTS = "checkpoints/self.live.log"
LEAVES = "tiles/self.live/tile/0/000"

TAMPERED = {
    "header: body": change_header(body="00" * 32),
    "header: book": change_header(book="self:test"),
    "header: created": change_header(created="2026-01-15T12:00:00Z"),
    "header: event id": change_header(event_id="evt_x"),
    "header: format": change_header(format=2),
    "header: format is true": change_header(format=True),
    "header: position": change_header(position=6),
    "header: position is a float": change_header(position=5.0),
    "header: recorded at": change_header(recorded_at="2026-01-15T12:00:01.260000Z"),
    "header: source": change_header(source="operator"),
    "header: stream": change_header(stream_id="self:live/cus_x"),
    "header: type": change_header(type="invoice.voided"),
    "header: one more key": change_header(amount=1),
    "header: time spelled otherwise": change_header(created="2026-01-15T12:00:01+00:00"),
    "header: no time": change_header(created="yesterday"),
    "header: no text": change_header(type=7),
    "header: no book": change_header(book="../self"),
    "header: white space": spell_header(lambda text: text.replace(",", ", ")),
    "header: escapes": spell_header(lambda text: text.replace("ë", "\\u00eb")),
    "header: twice a key": spell_header(lambda text: text[:-1] + ',"type":"invoice.paid"}'),
    "header: lone surrogate": spell_header(lambda text: text.replace("ë", "\\ud800")),
    "header: no JSON": spell_header(lambda text: text[:-1]),
    "header: a list": spell_header(lambda text: "[]"),
    "header: none": change_line(5, header=None),
    "body: one bit": change_body(lambda body: bytes([body[0] ^ 1]) + body[1:]),
    "body: longer": change_body(lambda body: body + b" "),
    "body: of another event": change_line(5, body=b64encode(events(6)[5].body).decode()),
    "body: no base64": change_line(5, body="!"),
    "body: no text": change_line(5, body=5),
    "salt: changed": change_line(5, salt="00" * 16),
    "salt: no hex": change_line(5, salt="zz"),
    "salt: longer": move_into_salt,
    "erased: without a record": change_line(5, salt="", body="", erased=True),
    "erased: without the mark": change_line(5, salt="", body=""),
    "erased: with the body still there": change_line(5, erased=True),
    "erased: salt alone": change_line(5, salt="", erased=True),
    "envelope: version": change_envelope(version=6),
    "envelope: received at": change_envelope(received_at="2026-01-15T12:00:00Z"),
    "envelope: signature": change_envelope(signature=None),
    "envelope: api version": change_envelope(api_version="2020-01-01"),
    "envelope: encoding": change_envelope(encoding=0),
    "envelope: dictionary": change_envelope(dictionary_id=1),
    "envelope: lone surrogate": change_envelope(signature="\ud800"),
    "envelope: none": change_line(5, envelope=None),
    "events: first deleted": rearrange(lambda lines: lines[1:]),
    "events: middle deleted": rearrange(lambda lines: lines[:100] + lines[101:]),
    "events: last deleted": rearrange(lambda lines: lines[:-1]),
    "events: all deleted": rearrange(lambda lines: []),
    "events: two swapped": rearrange(lambda lines: [*lines[:10], lines[11], lines[10], *lines[12:]]),
    "events: one inserted": rearrange(lambda lines: [*lines[:10], lines[10], *lines[10:]]),
    "events: one added": rearrange(lambda lines: [*lines, event(301).line()]),
    "events: of a book nobody signed": rearrange(lambda lines: [*lines, event(1, book="self:test").line()]),
    "events: no JSON": change_file("events.jsonl", lambda content: content + b"{\n"),
    "events: no object": change_file("events.jsonl", lambda content: content + b"7\n"),
    "events: no UTF-8": change_file("events.jsonl", lambda content: content + b"\xff\n"),
    "checkpoints: none": change_file(CHECKPOINTS, lambda content: None),
    "checkpoints: newest deleted": change_file(
        CHECKPOINTS, lambda content: content[: content.rindex(b"\n\n" + LOG.encode()) + 1]
    ),
    "checkpoints: cut off": change_file(CHECKPOINTS, lambda content: content[:-20]),
    "checkpoints: cut off in the middle": change_file(CHECKPOINTS, lambda content: content[:150] + b"\n\n" + content),
    "checkpoints: size": change_file(CHECKPOINTS, lambda content: content.replace(b"\n300\n", b"\n299\n")),
    "checkpoints: origin": change_file(CHECKPOINTS, lambda content: content.replace(b"self:live\n", b"self:test\n")),
    "checkpoints: one nobody known signed": change_file(
        CHECKPOINTS, lambda content: content + b"\n" + checkpoint(events(3), 3, key(2)).encode()
    ),
    "checkpoints: a signed lie": change_file(
        CHECKPOINTS, lambda content: content + b"\n" + checkpoint(events(9)[2:], 7).encode()
    ),
    "keys: none": change_file("keys.txt", lambda content: None),
    "keys: another": change_file("keys.txt", lambda content: key(2).verifier.encode().encode()),
    "keys: damaged": change_file("keys.txt", lambda content: content + b"name+00000000+AAAA\n"),
    "tiles: one bit": change_file(LEAVES, lambda content: bytes([content[0] ^ 1]) + content[1:]),
    "tiles: too short": change_file(LEAVES, lambda content: content[:-32]),
    "tiles: too long": change_file(f"{LEAVES[:-3]}001.p/44", lambda content: content + bytes(32)),
    "tiles: missing": change_file(LEAVES, lambda content: None),
    "tiles: upper level": change_file("tiles/self.live/tile/1/000.p/1", lambda content: bytes(32)),
    "tiles: one that is none": change_file("tiles/self.live/tile/2/000.p/1", lambda content: bytes(32)),
}  # fmt: skip


@pytest.fixture(scope="module")
def true_files() -> dict[str, bytes]:
    return archive(events(300), signed=[4, 5, 256, 300]).contents


@pytest.mark.parametrize("kind", TAMPERED)
def test_what_was_changed_is_found(kind: str, true_files: dict[str, bytes], check: Check) -> None:
    status, report = check(TAMPERED[kind](Files(dict(true_files))))
    assert status == 1
    assert "UNTRUE: " in report
    assert report.splitlines()[-1].startswith("NOT VERIFIED: ")


def test_events_and_tiles_rewritten_together_are_found_by_the_checkpoint_alone(check: Check) -> None:
    stored = events(10)
    rewritten = [*stored[:4], replace(stored[4], header=stored[4].header._replace(type="invoice.voided")), *stored[5:]]
    files = archive(rewritten)
    files.contents[CHECKPOINTS] = checkpoint(stored, 10).encode()
    status, report = check(files)
    assert status == 1
    assert [line for line in report.splitlines() if line.startswith("UNTRUE")] == [
        "UNTRUE: self.live: the events are not those of checkpoint billing.example.com/log/self:live 10"
    ]


@pytest.mark.parametrize(
    "lie",
    [
        lambda text: text.replace(",", ", "),
        lambda text: text.replace("ë", "\\u00eb"),
        lambda text: text[:-1] + ',"zeal":1}',
        lambda text: text.replace('"format":1', '"format":2'),
        lambda text: text.replace('"format":1', '"format":true'),
        lambda text: text.replace('"position":5', '"position":6'),
        lambda text: text.replace('"position":5', '"position":4'),
        lambda text: text.replace("Z", "+00:00"),
        lambda text: text.replace("2026-01-15T12:00:01Z", "2026-01-15"),
    ],
)
def test_what_the_log_itself_misspelled_and_signed_is_found(lie: Callable[[str], str], check: Check) -> None:
    stored = events(10)
    stored[4] = replace(stored[4], misspelled=lie(stored[4].header.encode().decode()).encode())
    assert check(archive(stored))[0] == 1


def test_a_book_is_named_as_books_are(check: Check) -> None:
    status, report = check(archive(events(3, "self.live")))
    assert status == 1
    assert "its header names no book" in report


def erase(stored: list[Event], position: int) -> list[Event]:
    return [replace(one, erased=True) if one.header.position == position else one for one in stored]


def test_an_erased_body_is_erased_where_that_is_on_record_and_tampered_elsewhere(check: Check) -> None:
    record = event(11, type="ledger.body.erased", record={"event_id": "evt_5", "position": 5})
    status, report = check(archive(erase([*events(10), record], 5)))
    assert status == 0
    assert "11 events, 1 erased" in report
    status, report = check(archive(erase([*events(10), record], 6)))
    assert status == 1
    assert "position 6 (evt_6): its body is gone and no erasure is on record" in report


@pytest.mark.parametrize(
    "record",
    [
        event(11, type="ledger.body.erased", record={"event_id": "evt_5", "position": 6}),
        event(11, type="ledger.body.erased", record={"event_id": "evt_6", "position": 5}),
        event(11, type="ledger.body.erased", record={"event_id": "evt_5"}),
        event(11, type="ledger.body.erased", record=[]),
        event(11, type="ledger.body.erased", record={"event_id": "evt_5", "position": float("inf")}),
        event(11, type="ledger.body.erased", record={"event_id": "evt_5", "position": 5}, source="webhook"),
        event(11, type="ledger.body.kept", record={"event_id": "evt_5", "position": 5}),
        replace(event(11, type="ledger.body.erased", record={"event_id": "evt_5", "position": 5}), erased=True),
    ],
)
def test_what_does_not_record_the_erasure_does_not_excuse_it(record: Event, check: Check) -> None:
    assert check(archive(erase([*events(10), record], 5)))[0] == 1


def test_an_erasure_is_recorded_after_what_it_erased(check: Check) -> None:
    record = event(1, type="ledger.body.erased", record={"event_id": "evt_5", "position": 5})
    assert check(archive(erase([record, *events(10)[1:]], 5)))[0] == 1


def test_times_of_record_that_go_back_are_found_though_signed(check: Check) -> None:
    stored = events(10)
    early = stored[4].header._replace(recorded_at=stored[4].header.recorded_at - timedelta(minutes=1))
    status, report = check(archive([*stored[:4], replace(stored[4], header=early), *stored[5:]]))
    assert status == 1
    assert "position 5 was recorded before the one it follows" in report


def test_a_whole_archive_signed_by_another_key_is_found_with_a_key_from_elsewhere(check: Check) -> None:
    forged = archive(events(10), signer=key(2))
    assert check(forged)[0] == 0
    status, report = check(forged, "--verifier-key", KEY.verifier.encode())
    assert status == 1
    assert "the newest checkpoint is signed by none of the keys you gave" in report


def test_checkpoints_of_a_key_before_the_one_now_trusted_still_count(check: Check) -> None:
    files = archive(events(10))
    files.contents[CHECKPOINTS] = (checkpoint(events(4), 4, key(2)) + "\n" + checkpoint(events(10), 10)).encode()
    files.contents["keys.txt"] += key(2).verifier.encode().encode()
    assert check(files, "--verifier-key", KEY.verifier.encode())[0] == 0
    assert check(files, "--verifier-key", key(2).verifier.encode())[0] == 1


def test_an_older_state_is_found_with_a_checkpoint_kept_elsewhere(check: Check, tmp_path: Path) -> None:
    kept = tmp_path / "checkpoints.log"
    other = checkpoint(events(3, "ledger:control"), 3)
    kept.write_text(checkpoint(events(10), 10) + "\n" + checkpoint(events(8), 8) + "\n" + other)
    assert check(archive(events(10)), "--checkpoints", str(kept))[0] == 0
    status, report = check(archive(events(8)), "--checkpoints", str(kept))
    assert status == 1
    assert "the events are not those of checkpoint billing.example.com/log/self:live 10" in report


def test_checkpoints_lost_by_a_restore_are_excused_by_the_fork_on_record_alone(check: Check) -> None:
    lost = [checkpoint(events(10), size) for size in (6, 9, 10)]
    lost_range = {"origin": f"{LOG}/{BOOK}", "kept": 6, "lost": 10}
    for record, expected in [(lost_range, 0), (lost_range | {"lost": 9}, 1), (lost_range | {"origin": "other"}, 1)]:
        fork = event(7, type="ledger.log.forked", record=record)
        files = archive([*events(6), fork], log=f"{LOG}-2")
        files.contents[CHECKPOINTS] += ("\n" + "\n".join(lost)).encode()
        status, report = check(files)
        assert (status, "2 lost" in report) == (expected, expected == 0)


def test_a_log_without_events_is_verified(check: Check) -> None:
    files = archive([], signed=[0])
    assert check(files)[0] == 0
    files.contents[CHECKPOINTS] = b""
    assert check(files)[0] == 1


def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no tar file")
    for path in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
        assert offline_verify.main([str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"{path}: ")
    (tmp_path / "broken.tar.gz").write_bytes(gzip.compress(b"x" * 10_000)[:-30] + bytes(30))
    assert offline_verify.main([str(tmp_path / "broken.tar.gz")]) == 2
    folder = archive(events(1)).write(tmp_path / "archive")
    assert offline_verify.main([str(folder), "--verifier-key", "nonsense"]) == 2


def test_an_archive_cannot_steer_the_terminal(check: Check) -> None:
    steering = events(1)[0].header._replace(event_id="evt_\x1b[2J\n\u202e")
    status, report = check(archive([replace(events(1)[0], header=steering, salt=bytes(16))]))
    assert status == 1
    assert "position 1 (evt_?[2J??): its body is not the one that was recorded" in report


def test_the_tiles_of_an_archive_are_those_of_tlog_tiles() -> None:
    assert {name: len(content) for name, content in tiles(events(300)).items()} == {
        "tile/0/000": 8192,
        "tile/0/001.p/44": 44 * 32,
        "tile/1/000.p/1": 32,
    }

"""``ledger simulate`` from outside: files, truth, mistakes, interruptions."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from tests.house.test_commands import run as run_here

LEDGER = [sys.executable, "-c", "from api.cli import main; main()", "simulate"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # Of nobody's service: one that was served from this tree would lend its secrets.
    environment = os.environ | {"LEDGER_DATA_DIR": "/nowhere"}
    command = [*LEDGER, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_the_same_call_writes_the_same_file_with_the_truth_beside_it(tmp_path: Path) -> None:
    call = ["--customers", "12", "--months", "5", "--api-version", "mixed", "--faults", "all"]
    for name in ("one", "two"):
        done = run(*call, "-o", tmp_path / name, "--truth", tmp_path / f"{name}.json", "--instants", "7")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    for line in (tmp_path / "one").read_bytes().splitlines():
        assert orjson.loads(line)["object"] == "event"
    truth = orjson.loads((tmp_path / "one.json").read_bytes())
    assert [len(truth["self:live"][part]) for part in ("months", "instants")] == [5, 7]
    assert truth["self:live"]["months"][-1]["entitlements"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "-o FILE"),
        (["-o", "x", "--post", "http://127.0.0.1:1"], "-o FILE"),
        (["--post", "http://127.0.0.1:1"], "--secret"),
        (["-o", "x", "--customers", "0"], "customers"),
        (["-o", "x", "--months", "-3"], "months"),
        (["-o", "x", "--months", "many"], "months"),
        (["-o", "x", "--api-version", "1999-01-01"], "2026-10-28.endive"),
        (["-o", "x", "--start", "2023-13"], "2023-11"),
        (["-o", "x", "--faults", "gremlins=1"], "gremlins"),
        (["-o", "x", "--faults", "drop=2"], "drop"),
        (["-o", "/nowhere/at/all"], "/nowhere/at/all"),
        (["-o", "-", "--truth", "-"], "both be printed"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_DATA_DIR", "/nowhere")
    call = ["simulate", *(str(tmp_path / "x") if one == "x" else one for one in arguments)]
    status, told = run_here(monkeypatch, shlex.join(call))
    assert status == 2
    assert said in told


def test_a_place_that_is_not_there_is_a_mistake_and_no_absent_database(tmp_path: Path) -> None:
    done = run("--customers", "1", "--months", "1", "-o", tmp_path / "events", "--truth", tmp_path / "no" / "truth")
    assert done.returncode == 2
    assert str(tmp_path / "no" / "truth") in done.stderr
    assert "database" not in done.stderr


def test_how_much_was_made_is_said_as_json(tmp_path: Path) -> None:
    done = run("--customers", "1", "--months", "1", "-o", tmp_path / "events", "--json")
    lines = (tmp_path / "events").read_bytes().splitlines()
    assert orjson.loads(done.stdout) == {"events": len(lines), "customers": 1, "months": 1}


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    output, part = tmp_path / "events.jsonl", tmp_path / ".events.jsonl.part"
    output.write_text("of an earlier run\n")
    # Where a shell started the tests in the background they ignore Ctrl-C, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([*LEDGER, "--customers", "5000", "-o", output], stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    while not part.exists() or part.stat().st_size < 3_000_000:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert (output.read_text(), part.exists()) == ("of an earlier run\n", False)


def test_a_dash_is_standard_output(tmp_path: Path) -> None:
    call = ("--customers", "2", "--months", "2")
    run(*call, "-o", tmp_path / "events")
    printed = subprocess.run([*LEDGER, *call, "-o", "-", "--json"], capture_output=True, check=False, cwd=tmp_path)
    assert printed.stdout == (tmp_path / "events").read_bytes()
    assert orjson.loads(printed.stderr)["events"] == printed.stdout.count(b"\n")
    assert not (tmp_path / "-").exists()
    answers = run(*call, "-o", tmp_path / "again", "--truth", tmp_path / "truth")
    asked = [*LEDGER, *call, "-o", str(tmp_path / "again"), "--truth", "-"]
    printed = subprocess.run(asked, capture_output=True, check=False, cwd=tmp_path)
    assert printed.stdout == (tmp_path / "truth").read_bytes()
    assert printed.stderr.decode() == answers.stdout
    assert not (tmp_path / "-").exists()
    # Whoever needs no more of them may go; a device is written to, not replaced.
    gone = subprocess.run(
        ["sh", "-c", f"{shlex.join(LEDGER)} --customers 200 -o - | head -n 1"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert (gone.stdout.count(b"\n"), b"Traceback" in gone.stderr, b"database" in gone.stderr) == (1, False, False)
    assert run(*call, "-o", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_what_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "events")
    run("--customers", "1", "--months", "1", "-o", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "events").stat().st_size > 0

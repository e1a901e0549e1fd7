"""The command line as a whole: examples, statuses, and a sentence instead of a traceback for every mistake."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

from api import cli
from ledger.postgres import Database

GOOD: Final = {
    "serve": "", "demo": "", "simulate": "--customers 1 --months 1 -o {out}", "migrate": "", "doctor": "", "events": "",
    "status": "", "project": "", "rebuild": "entitlements", "diff": "entitlements entitlements-1",
    "promote": "entitlements entitlements-1 --reason why", "rollback": "entitlements --reason why",
    "drop": "entitlements entitlements-1", "parked": "", "replay": "", "verify": "", "prove": "evt_1",
    "erase": "evt_1 --reason why", "backfill": "", "sweep": "", "reconcile": "", "observe": "",
    "grant": "cus_1 sso --reason why", "import": "{events}", "close": "2026-01 --reason why",
    "reopen": "2026-01 --reason why", "export": "events --format csv -o {out}", "backup": "{out}",
    "restore": "{folder}",
    "catalog publish": "{catalog}", "catalog show": "", "catalog diff": "{catalog}", "keys create": "app --scope admin",
    "keys init": "", "keys rotate": "", "log checkpoint": "", "log fork": "--reason why",
}  # fmt: skip
"""For every command, arguments that are right as such."""

ALONE: Final = {"simulate", "keys create", "keys init", "keys rotate"}
"""Commands that ask no database."""

OTHERWISE: Final = {
    "serve": "database cannot be reached: ",
    "demo": "only runs on a database of its own",
    "import": "line 1",
    "restore": "holds no database.dump",
}
"""What some commands say where the database is away, if not at which address it was looked for."""

WRONG: Final = (
    "serve extra", "simulate", "simulate -o {out} --start May", "simulate -o {out} --api-version 1999",
    "simulate -o {out} --faults wind", "simulate -o {missing}/x", "simulate -o {folder}",
    "simulate -o {out} --customers 0",
    "simulate -o {out} --truth {missing}/truth.json --customers 1 --months 1",
    "simulate --post nowhere --secret whsec_1",
    "events --limit 0", "events --raw", "rebuild nonsense", "rebuild entitlements --until yesterday",
    "rebuild entitlements --until 2026-01-01T00:00:00Z --until-position 1",
    "rebuild entitlements --until-position 1 --promote-if-equal", "diff nonsense x", "diff entitlements x --format xml",
    "promote entitlements x", "rollback entitlements", "verify --archive {missing}", "verify --archive {folder}",
    "verify --archive {out}", "verify --verifier-key nonsense", "backfill --since yesterday", "grant cus_1 sso",
    "grant cus_1 --reason why", "grant nobody sso --reason why", "grant cus_1 sso --reason why --until yesterday",
    "grant cus_1 sso --revoke grant_1 --reason why", "import {missing}", "import {folder}", "export nonsense -o {out}",
    "export events -o {out}", "export events --with-proof --book self:test -o {out}",
    "export rows --build x-1 --from 2026-01 -o {out}", "export journal --format xml -o {out}",
    "export events --format csv -o {folder}",
    "export events --format csv -o {out} --from May", "export events --format csv -o {out} --from 2026-02 --to 2026-01",
    "export events --format csv -o {missing}/x", "restore {missing}", "backup {folder}", "catalog publish {missing}",
    "catalog publish {binary}", "catalog diff {binary}", "catalog publish {catalog} --effective-from yesterday",
    "keys create app", "keys create app --scope nonsense", "keys create --scope admin 'a b'", "log", "log fork", "keys",
    "keys create app --scope admin --book ''", "log fork --reason ' '", "erase evt_1 --reason ''",
    "close 2026-01 --reason ' '", "reopen 2026-01 --reason ''", "grant cus_1 sso --reason ' '",
    "promote entitlements x --reason ' '", "rollback entitlements --reason ''",
    "catalog show --version 0", "nonsense", "close --reason why", "close May --reason why", "close 2026-01",
    "reopen May --reason why", "replay --projection nonsense",
    "grant cus_1 sso --reason why --book nobook", "grant cus_1 sso --reason why --book ledger:control",
    "catalog publish {catalog} --book self:beta", "close 2026-01 --reason why --book ledger:live", "events --book ''",
    "events --book nobook", "events --after 99999999999999999999", "backfill --since ''",
    "backfill --since 2999-01-01", "reconcile --customer ' '", "simulate -o {out} --start 9999-12 --months 12",
)  # fmt: skip
"""What somebody types by mistake."""


def leaves() -> dict[str, Any]:
    found: dict[str, Any] = {}
    group: Any = get_command(cli.app)
    for name, one in group.commands.items():
        inner = getattr(one, "commands", None)
        found |= {f"{name} {sub}": leaf for sub, leaf in inner.items()} if inner else {name: one}
    return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A folder with what arguments name, and no setting but a database that nobody has."""
    for name in [one for one in os.environ if one.startswith("LEDGER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LEDGER_DATABASE_URL", "postgresql://somebody@127.0.0.1:1/ledger")
    monkeypatch.setenv("LEDGER_STRIPE_WEBHOOK_SECRETS", "whsec_1")
    monkeypatch.setenv("LEDGER_API_KEYS", f"admin:admin:{'0' * 64}")
    monkeypatch.setenv("LEDGER_SIGNING_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    monkeypatch.setenv("LEDGER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LEDGER_STRIPE_API_KEY", "rk_test_1")
    monkeypatch.setenv("LEDGER_PORT", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "events.jsonl").write_text("{}\n")
    (tmp_path / "catalog.toml").write_text("[policy]\n")
    names = ("out", "missing", "folder", "binary")
    return {name: str(tmp_path / name) for name in names} | {
        "events": str(tmp_path / "events.jsonl"), "catalog": str(tmp_path / "catalog.toml"),
    }  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> tuple[int, str]:
    """Run a command in this process; what it raises beside ``SystemExit`` would be a traceback."""
    import shlex

    said = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["ledger", *shlex.split(command)])
    monkeypatch.setattr(sys, "stderr", said)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return (code if isinstance(code, int) else 0 if code is None else 1), said.getvalue()


def test_every_command_is_tried() -> None:
    assert set(leaves()) == set(GOOD)


@pytest.mark.parametrize("name", GOOD)
def test_every_command_helps_with_an_example(name: str) -> None:
    text = leaves()[name].help
    assert "Example" in text
    assert f"ledger {name}" in text
    assert text.strip()[0].isupper()


@pytest.mark.parametrize("name", GOOD)
def test_a_strange_option_is_a_mistake(name: str, world: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = run(monkeypatch, f"{name} {GOOD[name].format(**world)} --nonsense")
    assert (status, "--nonsense" in said) == (2, True)


@pytest.mark.parametrize("name", [one for one in GOOD if one not in ALONE])
def test_a_database_that_is_away_is_said(
    name: str, world: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(monkeypatch, f"{name} {GOOD[name].format(**world)}")
    assert status in (1, 2), said
    assert OTHERWISE.get(name, "127.0.0.1") in said + capsys.readouterr().out, said
    assert len(said.strip().splitlines()) < 12
    assert "rk_test_1" not in said


@pytest.mark.parametrize("name", [one for one in GOOD if one not in ALONE])
@pytest.mark.parametrize("folder", ["/dev/null/data", "{binary}"])
def test_a_folder_that_cannot_be_written_is_said(
    name: str, folder: str, world: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting in ("DATABASE_URL", "STRIPE_WEBHOOK_SECRETS", "API_KEYS", "SIGNING_KEY"):
        monkeypatch.delenv(f"LEDGER_{setting}")
    monkeypatch.setenv("LEDGER_DATA_DIR", folder.format(**world))
    status, said = run(monkeypatch, f"{name} {GOOD[name].format(**world)}")
    assert status in (1, 2), said


@pytest.mark.parametrize("command", ["--help", "keys create app --scope admin", "keys init --json"])
def test_where_nothing_can_be_written_is_said(command: str) -> None:
    ledger = str(Path(sys.executable).with_name("ledger"))
    full = subprocess.run(["sh", "-c", f"{ledger} {command} > /dev/full"], capture_output=True, text=True, check=False)
    assert (full.returncode, full.stderr) == (
        1,
        "ledger: what was to be written could not be: No space left on device\n",
    )
    closed = subprocess.run(["sh", "-c", f"{ledger} {command} >&-"], capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.parametrize("name", ["replay", "events", "prove"])
async def test_an_argument_that_is_no_text_is_a_mistake(name: str, world: dict[str, str], database: Database) -> None:
    ledger = Path(sys.executable).with_name("ledger")
    command = [os.fsencode(ledger), name.encode(), b"cus_\xff"]
    environment = {**os.environ, "LEDGER_DATABASE_URL": database.url}
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, env=environment)
    said = b"ledger: what is asked for or is to be kept is text in UTF-8, and an argument is not\n"
    assert (done.returncode, done.stderr) == (2, said)


_INTERRUPTED_WHILE_LOADING: Final = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # as from a terminal
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "api.cli":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
sys.meta_path.insert(0, Slow())
from api.__main__ import main
main()
"""


def test_interrupted_while_it_is_loaded_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_WHILE_LOADING], capture_output=True, text=True, timeout=9, check=False
    )
    assert (done.returncode, done.stderr) == (130, "ledger: interrupted\n")


@pytest.mark.parametrize("command", WRONG)
def test_a_mistake_is_answered_with_a_sentence(
    command: str, world: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = run(monkeypatch, command.format(**world))
    assert status in (1, 2), said
    # A connection that is reset instead of refused names no address.
    assert status == 2 or "127.0.0.1" in command or "the database cannot be reached" in said, said
    assert said.strip() or command in {"log", "keys"}  # these answer with their help


@pytest.mark.parametrize("name", GOOD)
def test_a_setting_that_cannot_be_read_is_named(
    name: str, world: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in {"keys create", "keys init"}:
        return
    monkeypatch.setenv("LEDGER_PORT", "harbour")
    status, said = run(monkeypatch, f"{name} {GOOD[name].format(**world)}")
    if name != "simulate":
        assert (status, "LEDGER_PORT" in said) == (2, True)

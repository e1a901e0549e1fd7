"""Every command that speaks JSON says one document of it and nothing else, and draws no bar where nobody looks."""

from __future__ import annotations

import io
import os
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from api import cli
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from tests.conftest import KEY, SECRET, SIGNING_KEY
from tests.house.test_commands import GOOD, leaves

IN_ORDER: Final = (
    "simulate --customers 3 --months 2 -o {made}", "migrate", "import {made}", "project", "status", "events --limit 3",
    "doctor", "parked", "replay", "log checkpoint", "verify --full", "catalog publish {catalog}", "catalog show",
    "catalog diff {catalog}", "grant cus_1 sso --reason why", "rebuild entitlements --until-position 5",
    "rebuild dunning", "diff dunning dunning-2", "promote dunning dunning-2 --reason why",
    "rollback dunning --reason why", "drop dunning dunning-2", "close {month} --reason why --force",
    "reopen {month} --reason why", "export events --format jsonl -o {out}", "keys create app --scope admin",
    "keys init", "keys rotate",
)  # fmt: skip
"""What can be asked of a small company, each after what it needs."""

ELSEWHERE: Final = {
    "backfill", "sweep", "reconcile", "observe", "erase", "backup", "restore", "log fork", "prove", "serve", "demo",
}  # fmt: skip
"""Commands that need Stripe, a database or an event of their own, or go on: their tests read their JSON."""


def test_every_command_that_speaks_json_is_heard() -> None:
    speaking = {name for name, one in leaves().items() if any("--json" in option.opts for option in one.params)}
    heard = {name for name in GOOD if any(f"{one} ".startswith(f"{name} ") for one in IN_ORDER)}
    assert heard | ELSEWHERE == speaking


def test_it_says_one_document(
    server: EmbeddedPostgres, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in os.environ if one.startswith("LEDGER_")]:
        monkeypatch.delenv(name)
    from api.secrets import digest_of

    for name, value in {
        "DATABASE_URL": server.url(database=database_name), "DATA_DIR": str(tmp_path / "data"),
        "OWNER_DATABASE_URL": server.url(SUPERUSER, database_name), "STRIPE_WEBHOOK_SECRETS": SECRET,
        "API_KEYS": f"admin:admin:{digest_of(KEY)}", "SIGNING_KEY": SIGNING_KEY, "LOG_LEVEL": "error",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"LEDGER_{name}", value)
    (tmp_path / "data").mkdir()
    (tmp_path / "catalog.toml").write_text('[features.sso]\nkind = "boolean"\n')
    names = {"made": tmp_path / "made.jsonl", "out": tmp_path / "out.jsonl", "catalog": tmp_path / "catalog.toml",
             "month": "2023-11"}  # fmt: skip
    for line in IN_ORDER:
        status, said, complained = run(monkeypatch, f"{line.format(**names)} --json")
        assert status == 0 or line == "doctor", (line, complained)
        assert isinstance(orjson.loads(said), (dict, list)), line
        assert complained == "", line


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> tuple[int, bytes, str]:
    said, complained = io.BytesIO(), io.StringIO()
    monkeypatch.setattr(sys, "argv", ["ledger", *shlex.split(command)])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said))
    monkeypatch.setattr(sys, "stderr", complained)
    status: Any = 0
    try:
        cli.main()
    except SystemExit as ended:
        status = ended.code
    sys.stdout.flush()
    return int(status or 0), said.getvalue(), complained.getvalue()

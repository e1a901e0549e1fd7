"""What the tree holds: the fixed top level, pinned dependencies without addresses, documented settings and commands."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from api.cli import app
from api.settings import Settings, environment_name

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

TOP = {
    "ledger", "projections", "api", "tests", "schema.sql", "pyproject.toml", "Makefile", "README.md",
    "docs", "bench", ".ci", ".gitignore", "requirements.lock",
}  # fmt: skip


def tracked() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked archive knows no tracked files")
def test_the_top_level_is_fixed() -> None:
    assert {name.partition("/")[0] for name in tracked()} <= TOP


@pytest.mark.parametrize("lock", ["requirements.lock", "tests/requirements.lock"])
def test_every_dependency_is_pinned_with_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)
    pins = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert text.count("--hash=sha256:") >= len(pins) > 30
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[>=<;\[ ]", one)[0] for one in project["dependencies"]}
    assert wanted <= set(pins)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{environment_name(name)}`" in README


def group() -> Any:
    return get_command(app)


def commands() -> list[str]:
    return sorted(group().commands)


@pytest.mark.parametrize("name", commands())
def test_every_command_is_documented_and_helps(name: str) -> None:
    assert f"ledger {name}" in README
    assert group().commands[name].help


def test_every_make_target_is_documented_by_make_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    helped = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert targets == helped


def test_every_command_speaks_json() -> None:
    leaves = {name: one for name, one in group().commands.items() if not hasattr(one, "commands")}
    for one in group().commands.values():
        leaves |= getattr(one, "commands", {})
    silent = {name for name, one in leaves.items() if not any("--json" in option.opts for option in one.params)}
    assert silent == set()

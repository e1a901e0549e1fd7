"""``python -m bench.mutants``: break the promises one at a time, and see that the area's own tests notice.

Each mutant of ``bench.mutations`` is put into a copy of the tree, never into the tree itself, and its tests are run
there for at most a minute. At last the tests that noticed are run on the copy as it was: there they have to pass.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Annotated

import typer

from bench.mutant import Mutant
from bench.mutations import MUTANTS

ROOT = Path(__file__).parents[1]
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", ".ledger")


class MutantError(Exception):
    """A mutant's old text is not in its file, or not once: it breaks nothing any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a mutant's tests said, and how long they took: ``caught``, ``survived`` or ``too slow``."""

    word: str
    seconds: float
    by: str = ""


def mutated(mutant: Mutant, text: str) -> str:
    """Return a file's text with the promise broken. Raises ``MutantError``."""
    for old, new in mutant.changes:
        if text.count(old) != 1:
            raise MutantError(f"{mutant.breaks}: {mutant.path} has {text.count(old)} times: {old}")
        text = text.replace(old, new)
    return text


def main(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only mutants of this area, or whose description contains this; repeatable."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long a mutant's tests may take.")] = 60.0,
) -> None:
    """Run the mutants; status 1 where one survives, or its tests take too long to say."""
    chosen = [mutant for mutant in MUTANTS if _is_meant(mutant, only)]
    words: Counter[str] = Counter()
    by: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        # By what it says, not by its age: what was compiled of the unbroken source may look as old as the broken one.
        compileall.compile_dir(copy, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        for mutant, outcome in _outcomes(chosen, copy, seconds):
            words[outcome.word] += 1
            by |= {outcome.by} if outcome.word == "caught" else set()
            typer.echo(f"{outcome.word:9} {outcome.seconds:5.1f} s  {mutant.area:12}  {mutant.breaks}  {outcome.by}")
        # A test that fails anyway has noticed nothing.
        clean = _run(copy, tuple(sorted(by)), seconds * len(chosen)) if by else None
    typer.echo(f"{len(chosen)} mutants: " + ", ".join(f"{count} {word}" for word, count in words.items()))
    if clean is not None and clean.word != "survived":
        typer.echo(f"without a mutant, {clean.word}: {clean.by}", err=True)
        raise typer.Exit(1)
    if words["caught"] != len(chosen):
        raise typer.Exit(1)


def _is_meant(mutant: Mutant, only: list[str] | None) -> bool:
    return not only or any(one == mutant.area or one in mutant.breaks for one in only)


def _outcomes(chosen: list[Mutant], copy: Path, seconds: float) -> Iterator[tuple[Mutant, Outcome]]:
    for mutant in chosen:
        file = copy / mutant.path
        whole = file.read_text()
        file.write_text(mutated(mutant, whole))
        try:
            yield mutant, _run(copy, mutant.tests, seconds)
        finally:
            file.write_text(whole)


def _run(copy: Path, tests: tuple[str, ...], seconds: float) -> Outcome:
    """Run tests in the copy until the first fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-m", "not slow", "--tb=no"]
    command += ["-p", "no:schemathesis"]  # which takes as long to load as many a test to run
    # What breaks a promise may also make a test wait for ever: that is noticed as well.
    command += ["--hypothesis-profile=noticing", f"--timeout={seconds / 2:.0f}", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "CI": ""}
    began = time.monotonic()
    running = subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = running.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return Outcome("too slow", time.monotonic() - began)
    finally:
        _end(running)
    failed = [
        line.removeprefix("FAILED ").partition(" - ")[0] for line in said.splitlines() if line.startswith("FAILED")
    ]
    word = {0: "survived", 1: "caught"}.get(running.returncode, "broken")
    return Outcome(word, time.monotonic() - began, failed[0] if failed else said[-300:] if word == "broken" else "")


def _end(running: subprocess.Popen[str]) -> None:
    """Interrupt tests that still run, so that they end what they have started."""
    for how in (signal.SIGINT, signal.SIGKILL):
        if running.poll() is None:
            os.killpg(running.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.communicate(timeout=60)


if __name__ == "__main__":
    typer.run(main)

"""``python -m bench.kills``: the suite's tests of kills under load, fifty rounds each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def main(rounds: Annotated[int, typer.Option(min=1)] = 50) -> None:
    """Kill the service, and PostgreSQL in two ways, so often each under load; status 1 when anything is lost."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "tests/system/test_kill.py", "--timeout", "1800"]
    done = subprocess.run(command, cwd=root, env=os.environ | {"KILL_ROUNDS": str(rounds)}, check=False)
    raise typer.Exit(done.returncode)


if __name__ == "__main__":
    typer.run(main)

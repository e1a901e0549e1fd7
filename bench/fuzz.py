"""``python -m bench.fuzz``: the suite's test of hostile webhook bodies, a hundred thousand of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def main(bodies: Annotated[int, typer.Option(min=1)] = 100_000) -> None:
    """Post so many hostile bodies, validly signed; status 1 when one is answered 5xx or cannot be read back."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "tests/http/test_fuzz.py", "--timeout", "3600"]
    done = subprocess.run(command, cwd=root, env=os.environ | {"FUZZ_BODIES": str(bodies)}, check=False)
    raise typer.Exit(done.returncode)


if __name__ == "__main__":
    typer.run(main)

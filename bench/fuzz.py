"""``python -m bench.fuzz``: the suite's tests of hostile webhooks, a hundred thousand bodies of them by default.

``--only headers`` and ``--only folds`` are the same for headers, and for readers and folds of real events.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

FUZZES: Final = {
    "bodies": "tests/http/test_fuzz.py",
    "headers": "tests/http/test_fuzz_headers.py",
    "folds": "tests/projections/test_fuzz.py",
}


def main(
    bodies: Annotated[int, typer.Option(min=1, help="How many bodies, headers or histories.")] = 100_000,
    only: Annotated[str, typer.Option(help=f"What is hostile: {', '.join(FUZZES)}.")] = "bodies",
) -> None:
    """Try so many; status 1 when one is answered 5xx, cannot be read back, or stops a reader or a fold."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", FUZZES[only], "--timeout", "14400"]
    done = subprocess.run(command, cwd=root, env=os.environ | {"FUZZ_BODIES": str(bodies)}, check=False)
    raise typer.Exit(done.returncode)


if __name__ == "__main__":
    typer.run(main)

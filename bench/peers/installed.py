"""What is installed when it is first needed, in a cache folder outside the tree, and is no dependency of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

DJ_STRIPE: Final = ("dj-stripe==2.11.0", "Django==5.2.19", "stripe==15.6.2", "psycopg[binary]==3.3.9")
STRIPE_SYNC: Final = ("@supabase/stripe-sync-engine@0.48.5", "stripe@23.1.0", "pg@8.20.0")
CHART: Final = ("matplotlib==3.11.2",)
_SECONDS: Final = 300


class NotInstalledError(Exception):
    """A peer cannot be had here; the message is for its row."""


def dj_stripe() -> Path:
    """Return the interpreter that has dj-stripe."""
    return _python("dj-stripe", DJ_STRIPE)


def chart_python() -> Path:
    """Return the interpreter that has what the chart is drawn with."""
    return _python("chart", CHART)


def stripe_sync() -> Path:
    """Return the folder in which Node finds stripe-sync-engine."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotInstalledError("no node and npm here")
    folder = _folder("stripe-sync-engine", STRIPE_SYNC)
    if not (folder / "done").exists():
        (folder / "package.json").write_text('{"private": true}')
        _run(folder, "npm", "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", *STRIPE_SYNC)
        (folder / "done").touch()
    return folder


def _python(name: str, pinned: tuple[str, ...]) -> Path:
    folder = _folder(name, pinned)
    python = folder / "venv" / "bin" / "python"
    if not (folder / "done").exists():
        _run(folder, sys.executable, "-m", "venv", str(folder / "venv"))
        _run(folder, str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *pinned)
        (folder / "done").touch()
    return python


def _folder(name: str, pinned: tuple[str, ...]) -> Path:
    """Return a folder for these versions and no others."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "ledger-bench" / f"{name}-{pinned[0].rpartition('@')[2].rpartition('=')[2]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(folder: Path, *command: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstalledError(f"`{Path(command[0]).name} {command[1]}` did not succeed here") from error

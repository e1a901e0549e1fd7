"""A running service for a module, and fresh ones for tests that hurt them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.running import Service


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder with a short path."""
    made = Path(tempfile.mkdtemp(prefix="ledger-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    """A service that is not started yet."""
    made = Service(folder)
    yield made
    made.close()

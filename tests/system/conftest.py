"""A running service for a module, and fresh ones for tests that hurt them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.database import prepare_embedded
from ledger.embedded import EmbeddedPostgres
from tests.system.running import Service


@pytest.fixture(scope="session")
def prepared() -> Iterator[Path | None]:
    """A cluster as a first start leaves it, copied by all who do not ask about first starts: it takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    embedded = EmbeddedPostgres(folder)
    prepare_embedded(embedded)
    embedded.release()
    yield embedded.data
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder with a short path."""
    made = Path(tempfile.mkdtemp(prefix="ledger-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def service(folder: Path, prepared: Path | None) -> Iterator[Service]:
    """A service that is not started yet."""
    made = Service(folder)
    if prepared is not None:
        subprocess.run(["cp", "-a", prepared, made.embedded.data], check=True)  # with its owner
    yield made
    made.close()

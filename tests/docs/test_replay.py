"""``docs/replay.md``, in a ledger of its own: its history was folded with a wrong setting."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.world import World
from tests.system.running import Service


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    service = Service(folder)
    embedded = service.embedded
    embedded.start()  # for all commands, each of which would else start and stop it
    yield World(service, tmp_path)
    embedded.release(stop=False)
    service.close()
    shutil.rmtree(folder)


def test_the_replay_guide_is_true(world: World) -> None:
    told = [text for block in blocks_of("docs/replay.md") for text in world.type(block)]
    assert not told, "\n".join(told)

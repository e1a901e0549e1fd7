"""What README and docs show is what happens: every block is run here, by the test it names, or says why it is not."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from api.declared import Operation
from api.routes import OPERATIONS
from bench.report import BEGIN, END
from tests.docs.blocks import LANGUAGES, PAGES, ROOT, Block, blocks_of
from tests.docs.world import World
from tests.system.running import Service

FIRST: Final = "docs/periods.md"
"""Loads the company that the other pages ask about, and closes a month of it."""

LAST: Final = "docs/personal-data.md"
"""Erases the body of an event."""

ORDER: Final = (FIRST, *(page for page in PAGES if page not in (FIRST, LAST)), LAST)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder, checkout = (Path(tempfile.mkdtemp(prefix="ledger-")) for _ in range(2))
    service = Service(folder, LEDGER_LOG_LEVEL="warning")
    service.start()
    made = World(service, checkout)
    made.complaints(FIRST)
    yield made
    service.close()
    shutil.rmtree(folder)
    shutil.rmtree(checkout)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ORDER)
def test_what_a_page_shows_is_so(world: World, page: str) -> None:
    assert not world.complaints(page), "\n".join(world.complaints(page))


def test_the_service_greets_as_the_readme_says(world: World) -> None:
    [greeting] = [one for one in blocks_of("README.md") if one.said == "tests/docs/test_blocks.py"]
    printed = "".join(world.service.printed[:6]).replace(f":{world.service.port}", ":8000")
    shown = [re.escape(line).replace("…", r"\S+") for line in greeting.text.splitlines()[1:]]
    assert re.fullmatch("\n".join(shown), printed.replace(str(world.service.folder), ".ledger").strip()), printed


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, block.place
        assert block.mark or block.language != "story", block.place
        if block.mark == "run":
            assert (ROOT / block.said).is_file(), block.place
            assert page in _named(block) or Path(page).name in _named(block), block.place
        if block.language == "console":
            assert block.text.startswith("$ "), block.place


def _named(block: Block) -> str:
    return (ROOT / block.said).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_outside_of_a_block(page: str) -> None:
    outside = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"^ {4}(\$ |make |ledger |curl |python )", outside, re.MULTILINE)


def test_every_page_is_short_and_in_the_index() -> None:
    index = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert page in index
        before, _, measured = (ROOT / page).read_text().partition(BEGIN)
        written = before + measured.partition(END)[2]
        assert len(written.splitlines()) <= 150, page


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_every_route_is_in_the_readme(operation: Operation) -> None:
    text = re.sub(r"\{\w+\}", "{}", (ROOT / "README.md").read_text())
    path = re.sub(r"\{\w+\}", "{}", operation.path)
    ends = [path, *(f"…/{'/'.join(path.split('/')[-count:])}" for count in (1, 2, 3))]
    assert any(f"{end}`" in text for end in ends if end != "…/{}")

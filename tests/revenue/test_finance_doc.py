"""What ``docs/finance.md`` shows is what the service answers."""

from __future__ import annotations

import re

import httpx

from api.services import Services
from ledger.postgres import Database
from projections.revenue.accounts import CLASSES
from tests.docs.blocks import ROOT, blocks_of, matches
from tests.revenue.stories import events_of
from tests.revenue.test_reads import load

PAGE = "docs/finance.md"


async def test_the_guide_shows_what_is_answered(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    story, *asked = [block for block in blocks_of(PAGE) if block.mark == "run"]
    await load(services, database, events_of(story.text))
    shown = [pair for block in asked for pair in block.commands()]
    assert len(shown) == 3
    for command, answer in shown:
        path = re.search(r'"\$URL([^"]+)"', command)
        assert path is not None
        got = await client.get(path[1])
        assert matches(answer, got.text), got.text


def test_every_account_is_explained() -> None:
    text = (ROOT / PAGE).read_text()
    missing = {account for account in CLASSES if f"`{account}`" not in text}
    assert missing <= {"opening_balance"}

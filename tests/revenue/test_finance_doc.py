"""What ``docs/finance.md`` shows is what the service answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx

from api.services import Services
from ledger.postgres import Database
from projections.revenue.accounts import CLASSES
from tests.revenue.stories import events_of
from tests.revenue.test_reads import load

DOC = (Path(__file__).parents[2] / "docs" / "finance.md").read_text()
SHOWN = re.compile(r'```console\n\$ curl [^\n]*"\$URL(?P<path>[^"]+)"\n(?P<answer>.*?)```', re.DOTALL)


async def test_the_guide_shows_what_is_answered(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    story = re.search(r"```story\n(.*?)```", DOC, re.DOTALL)
    assert story is not None
    await load(services, database, events_of(story[1]))
    shown = list(SHOWN.finditer(DOC))
    assert len(shown) == 3
    for one in shown:
        answer: dict[str, Any] = (await client.get(one["path"])).json()
        del answer["freshness"]
        assert json.loads(one["answer"]) == answer, one["path"]


def test_every_account_is_explained() -> None:
    missing = {account for account in CLASSES if f"`{account}`" not in DOC}
    assert missing <= {"billing_credits", "opening_balance"}

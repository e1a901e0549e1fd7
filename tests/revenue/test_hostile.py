"""Shapes that Stripe never sent: a fold reads past them, or parks the subject by a balanced entry's refusal alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.services import Services
from ledger.postgres import Database
from projections.revenue.journal import books_of
from projections.revenue.recognition import earnings, entries_of_time
from tests.revenue.stories import events_of, facts_of, gathered
from tests.revenue.test_credits import SELLING
from tests.revenue.test_credits import STORIES as CREDITS
from tests.revenue.test_golden import GOLDEN
from tests.revenue.test_reads import ask, load, told
from tests.revenue.test_traps import TRAPS
from tests.stripe_events import Json, new_event

JUNK: list[Any] = [
    None,
    True,
    -1,
    2**62,
    1.5,
    "",
    "x",
    "\u0000",
    [],
    {},
    [None],
    {"id": None},
    {"data": 3},
    "in_1",
    "9999999999",
]
STORIES = [story for story, _ in (*GOLDEN.values(), *TRAPS.values())] + [story for story, _, _ in CREDITS.values()]


def spoiled(value: Any, dice: random.Random, often: float) -> Any:
    """Return a snapshot with some of its values replaced by junk, at any depth."""
    if dice.random() < often:
        return dice.choice(JUNK)
    if isinstance(value, dict):
        return {key: spoiled(one, dice, often) for key, one in value.items()}
    if isinstance(value, list):
        return [spoiled(one, dice, often) for one in value]
    return value


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_snapshot_says_every_entry_balances(seed: int) -> None:
    dice = random.Random(seed)
    for story in dice.sample(STORIES, 6):
        events: list[Json] = events_of(story, dice.choice(("endive", "2020")))
        for one in events:
            shown = one["data"]["object"]
            one["data"]["object"] = {key: spoiled(value, dice, 0.04) for key, value in shown.items()}
        found = gathered(facts_of(events))
        found.rulings = [SELLING]
        made = books_of(found)
        entries = [*made.journal.entries, *entries_of_time(earnings(made.bills), 2**33)]
        assert all(sum(posting.amount for posting in entry.postings) == 0 for entry in entries)


@pytest.mark.parametrize("large", [2**63, 2**64, 10**30 + 1])
async def test_an_amount_beyond_64_bits_parks_its_customer_alone_and_is_shown_as_it_is(
    client: httpx.AsyncClient, services: Services, database: Database, large: int
) -> None:
    events = told("cancelled without refund", "full refund")
    grown = [new_event(one) for one in events]
    mine = [one for one in grown if "1x" in one.event_id]
    await services.appender.append([replace(one, body=one.body.replace(b"9000", b"%d" % large)) for one in mine])
    await load(services, database, [one for one in events if "1x" not in one["id"]])
    [parked] = (await client.get("/v1/parked")).json()["data"]
    assert parked["subject"] == "self:live/cus_1x1"
    assert "beyond 64 bits" in parked["error"] or "out of int64 range" in parked["error"]
    books = await ask(client, "trial-balance", at="2026-02-28T00:00:00Z")
    assert (books["freshness"]["parked"], books["balances"]["usd"]["refunds"]) == (True, 3100)
    shown = [(await client.get(f"/v1/events/{one.event_id}")).text for one in mine]
    assert any(f'"total":{large}' in one for one in shown)
    if "beyond 64 bits" in parked["error"]:
        asked = {"customer": "cus_1x1", "policy": "day", "from": "2026-01", "to": "2026-03"}
        folded = await client.get("/v1/revenue/journal", params=asked)
        assert (folded.status_code, folded.json()["type"]) == (409, "parked"), "it is nobody's bad request"

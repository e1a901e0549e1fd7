"""One customer's books as they were known after a close: what was reported then, and not what is known of it now."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import httpx
import orjson

from api.services import Services
from ledger.postgres import Database
from ledger.reader import read_head
from ledger.simulator.company import MIXED, Arguments, Company
from projections.periods.closing import Asked, close_month, reopen_month
from projections.periods.months import month_after, month_of
from tests.conftest import ManualClock
from tests.mrr.notation import Json
from tests.periods.test_close import fold_all
from tests.periods.test_company import ask
from tests.projections.histories import new_events

BOOK = "self:live"
ARGUMENTS = Arguments(customers=16, months=4, seed=5, api_version=MIXED)
MONTHS = {"from": "2023-11-01T00:00:00Z", "to": "2024-04-01T00:00:00Z"}
ASKED: tuple[tuple[str, dict[str, str]], ...] = (
    ("revenue/journal", {**MONTHS, "limit": "500"}),
    ("revenue/journal", {"from": "2023-12-01T00:00:00Z", "to": "2024-01-15T00:00:00Z", "prior_period": "false"}),
    ("revenue/journal", {**MONTHS, "account": "revenue", "basis": "restated"}),
    ("revenue/mrr/movements", {**MONTHS, "detail": "true"}),
    ("revenue/mrr/movements", {**MONTHS, "interval": "week", "policy": "all-discounts"}),
    ("revenue/mrr/movements", {**MONTHS, "detail": "true", "basis": "restated"}),
)


async def test_what_was_known_after_a_close_is_what_was_reported(
    client: httpx.AsyncClient, database: Database, services: Services, clock: ManualClock
) -> None:
    """Answers kept after each close, after what came too late, and after a reopening, are given again to the word."""
    dice = random.Random(2)
    clock.now = datetime.fromtimestamp(ARGUMENTS.end, UTC) + timedelta(days=1)
    parts: list[list[bytes]] = [[], [], []]
    for body in (orjson.dumps(event) for event in Company(ARGUMENTS).events()):
        parts[min(int(dice.random() * 4), 2)].append(body)
    first = month_of(datetime.fromtimestamp(ARGUMENTS.start, UTC))
    second, kept, customers = month_after(first, 1), [], list[str]()
    for number, part in enumerate(parts):
        if number:
            month = month_after(first, number - 1)
            asked = Asked(BOOK, month, "test", "month end", clock.now, force=True)
            await close_month(services.pool, services.appender, services.revenue, asked)
        await services.appender.append(new_events(part))
        await fold_all(database, services)
        if number == 1:
            customers = await some_customers(client)
        kept.append(await keep(client, services, customers))
    await reopen_month(services.pool, services.appender, BOOK, second, by="test", reason="a mistake", now=clock.now)
    await fold_all(database, services)
    prior = [row for row in kept[-1][1] if '"prior_period"' in row]
    assert len({'"movements"' in row for row in prior}) == 2, "what came too late is in journals and movements"
    for position, answers in kept[1:]:
        _, again = await keep(client, services, customers, known_position=str(position))
        assert again == answers


async def keep(
    client: httpx.AsyncClient, services: Services, customers: list[str], **known: str
) -> tuple[int, list[str]]:
    """Ask everything of some customers, and why each movement and some entries are there; and say up to where."""
    found: list[str] = []
    for customer in customers:
        for path, asked in ASKED:
            answer = await ask(client, path, customer=customer, **asked, **known)
            found.append(orjson.dumps(answer | {"data": told(answer.get("data", []))}).decode())
            for one in answer.get("movements", [])[:4]:
                basis = {"basis": asked["basis"]} if "basis" in asked else {}
                why = await ask(client, "revenue/explain", movement=one["movement"], **basis, **known)
                assert [why[name] for name in ("kind", "before", "after")] == [
                    one[name] for name in ("kind", "before", "after")
                ]
            if "basis" not in asked:
                for one in answer.get("data", [])[::25]:
                    whole = {"entry": one["entry"], "as_of": "2024-03-31T23:59:59Z", **known}
                    why = await ask(client, "revenue/explain", **whole)
                    assert one["entry"] in {entry["entry"] for entry in why["entries"]}
    async with services.pool.acquire() as connection:
        return await read_head(connection, BOOK), found


def told(entries: list[Json]) -> list[Json]:
    """Return entries with their postings in one order: a seal has another than the rows."""
    return [one | {"lines": sorted(one["lines"], key=orjson.dumps)} for one in entries]


async def some_customers(client: httpx.AsyncClient) -> list[str]:
    """Name some who were worth something by then."""
    answer = await ask(client, "revenue/mrr/movements", **MONTHS, detail="true")
    return sorted({one["customer"] for one in answer["movements"]})[:4]

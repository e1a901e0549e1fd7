"""A simulated company whose months are closed while half of what happened in them is still to come."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest

from api.services import Services
from ledger.postgres import Database
from ledger.simulator.calendar import month_ends
from ledger.simulator.company import MIXED, Arguments, Company
from ledger.times import rfc3339
from projections.periods import entries, owners
from projections.periods.closing import Asked, close_month
from projections.periods.months import month_of
from tests.conftest import ManualClock
from tests.periods.test_close import fold_all
from tests.projections.histories import new_events

Json = dict[str, Any]
ARGUMENTS = Arguments(customers=24, months=5, seed=5, api_version=MIXED)


async def ask(client: httpx.AsyncClient, path: str, **parameters: str) -> Json:
    answer = await client.get(f"/v1/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return {key: value for key, value in found.items() if key != "freshness"}


def _after_it_all(clock: ManualClock) -> tuple[list[bytes], list[datetime]]:
    """Stand after a company's last day; return its events and its months' ends."""
    clock.now = datetime.fromtimestamp(ARGUMENTS.end, UTC) + timedelta(days=1)
    ends = [datetime.fromtimestamp(end, UTC) for end in month_ends(ARGUMENTS.start, ARGUMENTS.end)]
    return [orjson.dumps(event) for event in Company(ARGUMENTS).events()], ends


async def _close(database: Database, services: Services, clock: ManualClock, month: str) -> None:
    asked = Asked("self:live", month, "test", "month end", clock.now, force=True)
    await close_month(services.pool, services.appender, services.revenue, asked)
    await fold_all(database, services)


@pytest.mark.parametrize("seed", [1, 2])
async def test_sealed_months_stay_and_the_sum_is_what_is_so(
    client: httpx.AsyncClient, database: Database, services: Services, clock: ManualClock, seed: int
) -> None:
    dice = random.Random(seed)
    bodies, ends = _after_it_all(clock)
    dice.shuffle(bodies)
    months = [month_of(end - timedelta(seconds=1)) for end in ends]
    shown: dict[str, tuple[Json, Json, Json]] = {}
    for number in range(4):
        share = len(bodies) // 4
        await services.appender.append(
            new_events(bodies[number * share : None if number == 3 else (number + 1) * share])
        )
        await fold_all(database, services)
        for month, answers in shown.items():
            assert await month_of_reads(client, month, ends[months.index(month)]) == answers
        if number < 3:
            await _close(database, services, clock, months[number])
            shown[months[number]] = await month_of_reads(client, months[number], ends[number])
    await _all_of_it_is_what_is_so(client, months, ends)


async def test_of_everybody_those_alone_are_read_whose_books_changed(
    client: httpx.AsyncClient,
    database: Database,
    services: Services,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What changed in closed months is the same as if everybody's books were looked through."""
    read: list[Sequence[str] | None] = []

    def by_owner(*known: Any, **more: Any) -> Any:
        read.append(known[3].customers)
        return owners.by_owner(*known, **more)

    monkeypatch.setattr(entries, "by_owner", by_owner)
    bodies, ends = _after_it_all(clock)
    late = random.Random(3).sample(bodies, 12)
    await services.appender.append(new_events([body for body in bodies if body not in late]))
    await fold_all(database, services)
    for number in range(3):
        await _close(database, services, clock, month_of(ends[number] - timedelta(seconds=1)))
    bounds = {"from": rfc3339(ends[2]), "to": rfc3339(ends[2] + timedelta(days=1)), "limit": "500"}
    assert not [
        one for one in (await ask(client, "revenue/journal", **bounds))["data"] if one["original_month"] < "2024"
    ]
    assert read == [], "nothing has changed, and nobody's books are read"
    await services.appender.append(new_events(late))
    await fold_all(database, services)
    told = await ask(client, "revenue/journal", **bounds)
    changed = {one["customer"] for one in told["data"] if one["kind"] == "prior_period"}
    assert [sorted(one for one in some or () if one.startswith("cus_")) for some in read] == [sorted(changed)]
    assert 0 < len(changed) < 12

    async def nobody_knows(*_: Any) -> None:
        return None

    monkeypatch.setattr(entries, "_differing", nobody_knows)
    assert await ask(client, "revenue/journal", **bounds) == told
    assert read[1:] == [None]


async def month_of_reads(client: httpx.AsyncClient, month: str, end: datetime) -> tuple[Json, Json, Json]:
    """Return what the reads of revenue say of one month."""
    at, until = rfc3339(end - timedelta(seconds=1)), f"{end:%Y-%m}"
    return (
        await ask(client, "revenue/trial-balance", at=at),
        await ask(client, "revenue/recognition", **{"from": month, "to": until}),
        await ask(client, "revenue/mrr/movements", **{"from": month, "to": until, "detail": "true"}),
    )


async def _all_of_it_is_what_is_so(client: httpx.AsyncClient, months: list[str], ends: list[datetime]) -> None:
    whole = {"from": months[0], "to": f"{ends[-1]:%Y-%m}"}
    sealed, restated = [
        (await ask(client, "revenue/recognition", **whole, basis=basis))["months"] for basis in ("sealed", "restated")
    ]
    assert sealed[months[0]] != restated[months[0]]
    for currency in restated[months[-1]]:
        for column in ("billed", "recognized", "reinstated", "bad_debt", "recoverables"):
            assert _total(sealed, currency, column) == _total(restated, currency, column)
        last, first = sealed[months[-1]][currency], restated[months[-1]][currency]
        assert (last["deferred_closing"], last["unbilled_closing"]) == (
            first["deferred_closing"], first["unbilled_closing"],
        )  # fmt: skip
        for before, after in pairwise(months):
            closing = sealed[before].get(currency, {}).get("deferred_closing", 0)
            assert sealed[after][currency]["deferred_opening"] == closing
    times = {"from": f"{months[0]}-01T00:00:00Z", "to": rfc3339(ends[-1])}
    grouped = await ask(client, "revenue/journal", **times, group_by="account")
    balances = (await ask(client, "revenue/trial-balance", at=rfc3339(ends[-1] - timedelta(seconds=1))))["balances"]
    found: dict[str, dict[str, int]] = {}
    for row in grouped["data"]:
        found.setdefault(row["currency"], {})[row["account"]] = row["amount"]
    shown = {currency: {account: amount for account, amount in amounts.items() if amount}
             for currency, amounts in balances.items()}  # fmt: skip
    assert found == {currency: amounts for currency, amounts in shown.items() if amounts}
    moved = (await ask(client, "revenue/mrr/movements", **whole, detail="true"))["intervals"]
    for one in moved:
        gains = one["new"] + one["reactivation"] + one["expansion"]
        assert one["opening"] + gains - one["contraction"] - one["churn"] == one["closing"]
    mrr = (await ask(client, "revenue/mrr", at=rfc3339(ends[-1] - timedelta(seconds=1))))["mrr"]
    closing = {one["currency"]: one["closing"] for one in moved if one["to"] == rfc3339(ends[-1]) and one["closing"]}
    assert closing == {currency: one["total"] for currency, one in mrr.items() if one["total"]}


def _total(months: Json, currency: str, column: str) -> int:
    return sum(month.get(currency, {}).get(column, 0) for month in months.values())

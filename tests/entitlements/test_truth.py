"""The simulated company's access is what is true: at every month's end and at many moments, live, rebuilt and as of.

The truth is kept by the simulator, which knows nothing of the projection.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import httpx
import orjson
import pytest

from ledger.appender import Appender
from ledger.postgres import Database
from ledger.simulator.calendar import month_ends
from ledger.simulator.company import Arguments, Company
from ledger.simulator.truth import Truth
from projections.builds import Build, ensure_live, enter
from projections.entitlements.answer import Answer, answer_all, next_turn
from projections.entitlements.holdings import read_holdings
from projections.entitlements.rows import EvidenceRow, Holdings, OrgRow, ProductRow, SourceRow
from projections.folding import rows_of
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.projections.histories import PROJECTION, disordered, held, joined, new_events
from tests.projections.test_engine_database import rebuilt

ASKED_AT_ONCE = 50
FEATURES = ["sso", "seats", "audit", "nothing"]

Access = dict[str, dict[str, int | bool]]


def instants(arguments: Arguments, more: int) -> list[int]:
    chance = random.Random(str(arguments))
    ends = [at - 1 for at in month_ends(arguments.start, arguments.end)]
    return sorted([*ends, *(chance.randrange(arguments.start, arguments.end) for _ in range(more))])


def granted(answers: Iterable[Answer]) -> dict[str, int | bool]:
    return {one.feature: True if one.kind == "boolean" else int(one.value or 0) for one in answers if one.granted}


def turns_of(one: Holdings) -> list[datetime]:
    """Return every moment at which a row begins or ends: what next_turn need not say, since live it is news."""
    rows: list[SourceRow | EvidenceRow | OrgRow | ProductRow] = [*one.sources, *one.evidence, *one.orgs, *one.products]
    bounds = {bound for row in rows for bound in (row.valid_from, row.valid_to) if bound is not None}
    return sorted(bounds)


def access_at(one: Holdings, moments: Sequence[datetime], chance: random.Random) -> list[dict[str, int | bool]]:
    """Answer at each of many moments, in order. Between two turns the answer stands; now and then that is tried."""
    bounds, found = turns_of(one), list[dict[str, int | bool]]()
    until: datetime | None = moments[0]
    for moment in moments:
        if until is not None and moment >= until:
            found.append(granted(answer_all(one, (), moment)))
            after, turn = bisect_right(bounds, moment), next_turn(one, (), moment)
            until = min([*bounds[after : after + 1], *([turn] if turn else [])], default=None)
            continue
        found.append(found[-1])
        if chance.random() < 0.001:
            assert granted(answer_all(one, (), moment)) == found[-1], (one.holder, moment)
    return found


@dataclass(frozen=True, slots=True)
class Question:
    """What one is asked about at a moment, and what is true."""

    book: str
    customer: str
    feature: str
    at: int
    value: int | bool | None


def compare_at(book: str, builds: Sequence[Mapping[str, Holdings]], truth: Truth, at: Sequence[int]) -> list[Question]:
    """Compare everybody's every feature at each moment, in every build; return one question a moment."""
    chance, moments = random.Random(book), [datetime.fromtimestamp(one, UTC) for one in at]
    access = [{key: access_at(one, moments, chance) for key, one in holdings.items()} for holdings in builds]
    questions = []
    for number, moment in enumerate(at):
        true = truth.entitlements(moment)
        for one in access:
            found: Access = {key: has for key, series in one.items() if (has := series[number])}
            assert found == true, (book, moments[number])
        customer = chance.choice(sorted(true) if true and chance.random() < 0.7 else sorted(access[0]))
        has = true.get(customer, {})
        feature = chance.choice(sorted(has) if has and chance.random() < 0.7 else FEATURES)
        questions.append(Question(book, customer, feature, moment, has.get(feature)))
    return questions


def test_the_default_company_has_what_is_true() -> None:
    company = Company(Arguments())
    subjects = joined(orjson.dumps(event) for event in company.events())
    chance = random.Random(3)
    products = [
        ProductRow(*row)
        for subject, facts in subjects.items()
        for row in rows_of(PROJECTION, subject, facts)["product"]
    ]
    holdings: dict[str, dict[str, Holdings]] = {}
    for subject, facts in subjects.items():
        arrived = list(facts)
        chance.shuffle(arrived)
        own = [row for row in products if row.book == subject.book]
        holdings.setdefault(subject.book, {})[subject.key] = held(PROJECTION, subject, arrived, own)
    assert sum(map(len, holdings.values())) > 300
    for book, truth in company.truth.items():
        compare_at(book, [holdings[book]], truth, instants(company.arguments, 20))


EVERYBODY = "SELECT DISTINCT customer FROM entitlement_source WHERE book = $1"


async def holdings_in(connection: asyncpg.Connection, build: Build, book: str) -> dict[str, Holdings]:
    await enter(connection, build.schema_name)
    return await read_holdings(connection, book, [row["customer"] for row in await connection.fetch(EVERYBODY, book)])


async def compare(
    client: httpx.AsyncClient, database: Database, clock: ManualClock, arguments: Arguments, more: int
) -> list[Question]:
    """Append a company's events as a bad network would, follow and rebuild, and ask at many moments."""
    company = Company(arguments)
    bodies = [orjson.dumps(event) for event in company.events()]
    connection = await connect_runner(database)
    live = await ensure_live(connection, PROJECTION)
    async with Appender(database, clock=clock) as appender:
        for batch in disordered(bodies, 7):
            await appender.append(new_events(batch))
            await follow(connection, PROJECTION, live)
    while await follow(connection, PROJECTION, live):
        pass
    build = await rebuilt(connection, database)
    questions = []
    for book, truth in company.truth.items():
        builds = [await holdings_in(connection, one, book) for one in (live, build)]
        if builds[0]:
            questions += compare_at(book, builds, truth, instants(arguments, more))
    await connection.close()
    for start in range(0, len(questions), ASKED_AT_ONCE):
        some = questions[start : start + ASKED_AT_ONCE]
        await asyncio.gather(*(ask(client, one, named) for one in some for named in ({}, {"build": build.build_id})))
    return questions


async def ask(client: httpx.AsyncClient, question: Question, named: dict[str, str]) -> None:
    """Ask over HTTP, of the live build or of a named one."""
    moment = datetime.fromtimestamp(question.at, UTC).isoformat()
    path = f"/v1/customers/{question.customer}/entitlements/{question.feature}"
    answer = (await client.get(path, params={"book": question.book, "as_of": moment} | named)).json()
    assert answer["freshness"]["build"] == named.get("build", "entitlements-1")
    assert (answer["value"] or None if answer["granted"] else None) == question.value, question


async def test_live_rebuilt_and_as_of(client: httpx.AsyncClient, database: Database, clock: ManualClock) -> None:
    arguments = Arguments(customers=24, months=9, seed=4, api_version="mixed")
    questions = await compare(client, database, clock, arguments, more=200)
    assert len({(one.customer, one.feature) for one in questions}) > 50


@pytest.mark.slow
@pytest.mark.timeout(3_000)
async def test_live_rebuilt_and_as_of_for_the_default_company(
    client: httpx.AsyncClient, database: Database, clock: ManualClock
) -> None:
    questions = await compare(client, database, clock, Arguments(), more=10_000)
    assert len(questions) >= 10_000
    assert sum(one.value is not None for one in questions) > 3_000

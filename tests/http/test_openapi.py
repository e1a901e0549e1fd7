"""``/openapi.json`` is true: every route is in it, every answer has the shape it says, every refusal too."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import jsonschema_rs
import orjson
import pytest
from starlette.routing import Route

from api.app import create_app
from api.declared import Operation
from api.openapi import document
from api.routes import OPERATIONS
from api.schemas import SCHEMAS
from api.secrets import ApiKey, digest_of
from api.services import Services, projections_of
from ledger.simulator.company import Arguments, Company
from ledger.times import rfc3339
from projections.builds import ensure_live
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import ManualClock, client_of
from tests.stripe_events import new_event

DOCUMENT: Final = document(OPERATIONS, SCHEMAS)
READS: Final = [one for one in OPERATIONS if one.method == "GET" and "stream" not in one.path]
GUARDED: Final = [one for one in OPERATIONS if one.scope]
END: Final = datetime(2026, 1, 1, tzinfo=UTC)


def named(one: Operation) -> str:
    return f"{one.method} {one.path}"


def path_of(one: Operation, values: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1], "x"), one.path)


@pytest.fixture
async def values(services: Services, clock: ManualClock) -> dict[str, str]:
    """A small company in the log and folded; what stands in paths."""
    clock.now = END
    company = Company(Arguments(customers=30, months=8, start=int(datetime(2025, 5, 1, tzinfo=UTC).timestamp())))
    made = [new_event(event, received_at=END) for event in company.events()]
    events = [one for one in made if one.book == "self:live"]
    for start in range(0, len(events), 500):
        await services.appender.append(events[start : start + 500])
    connection = await connect_runner(services.database)
    for projection in projections_of(services.settings, clock):
        build = await ensure_live(connection, projection)
        while await follow(connection, projection, build):
            pass
    case = await connection.fetchval("SELECT min(case_id) FROM ledger.dunning_cases WHERE book = 'self:live'")
    await connection.close()
    customer = next(one.stream_id for one in events if one.type == "customer.subscription.created")
    await services.notary.sign_all()
    return {
        "customer": customer.removeprefix("self:live/"),
        "feature": "seats",
        "event_id": events[0].event_id,
        "invoice": case,
        "name": "revenue",
        "build": "revenue-1",
        "month": "2025-05",
    }


def test_the_document_is_openapi_and_every_route_is_in_it() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    declared = {(one.method, one.path) for one in OPERATIONS}
    assert len(declared) == len(OPERATIONS)
    app = create_app(lambda: None)  # type: ignore[arg-type,return-value]
    served = {(method, route.path) for route in app.routes if isinstance(route, Route)
              for method in (route.methods or ()) if method != "HEAD"}  # fmt: skip
    assert {one for one in served if one[1].startswith(("/v1", "/webhooks"))} == declared
    for one in OPERATIONS:
        assert one.about.endswith((".", "?")), named(one)


def test_schemas_are_all_used_and_all_there() -> None:
    wanted = set(re.findall(rb"#/components/schemas/(\w+)", orjson.dumps(DOCUMENT)))
    assert {name.decode() for name in wanted} == set(DOCUMENT["components"]["schemas"])


def problem_in(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert set(content) >= {"type", "title", "status", "detail"}
    assert content["status"] == answer.status_code
    return answer.status_code, content["type"]


def check(one: Operation, answer: httpx.Response) -> None:
    """Hold an answer against what is declared."""
    said = DOCUMENT["paths"][one.path][one.method.lower()]["responses"]
    assert str(answer.status_code) in said, (named(one), answer.status_code, answer.text)
    [media] = said[str(answer.status_code)]["content"]
    assert answer.headers["content-type"].partition(";")[0] == media, named(one)
    assert answer.headers["ledger-contract"] == "1"
    schema: dict[str, Any] = said[str(answer.status_code)]["content"][media].get("schema", {})
    if schema:
        whole = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
            "components": DOCUMENT["components"],
        }
        errors = list(jsonschema_rs.validator_for(whole).iter_errors(answer.json()))
        assert not errors, (named(one), str(errors[0]), answer.text[:500])


async def test_every_read_answers_as_it_says(client: httpx.AsyncClient, values: dict[str, str]) -> None:
    answered = 0
    for one in READS:
        answer = await client.get(path_of(one, values), params=_asked(one))
        check(one, answer)
        answered += answer.status_code == 200
    assert answered >= len(READS) - 3


@pytest.mark.parametrize("one", READS, ids=named)
def test_every_read_takes_a_book_and_a_moment_and_every_list_pages(one: Operation) -> None:
    names = {parameter.name for parameter in one.query}
    assert names >= {"book", "as_of", "at"}
    answer = one.answers[200]
    said: dict[str, Any] = {"properties": {}} | (
        SCHEMAS[answer["$ref"].rpartition("/")[2]] if isinstance(answer, dict) else {}
    )
    if said["properties"].get("data", {}).get("type") == "array":
        assert names >= {"limit", "cursor"}
        assert "next_cursor" in said["required"]


async def test_every_read_says_how_fresh_it_is_at_any_moment(client: httpx.AsyncClient, values: dict[str, str]) -> None:
    for one in READS:
        if one.path in {"/v1/settings", "/v1/checks"}:
            continue  # of the service, not of what is recorded
        for moment in ({}, {"as_of": "2025-12-31T23:00:00Z"}, {"at": rfc3339(END), "book": "self:live"}):
            answer = await client.get(path_of(one, values), params=_asked(one) | moment)
            check(one, answer)
            assert answer.status_code in (200, 404) or one.path.endswith("/diff"), (named(one), answer.text)
            if answer.status_code == 200:
                assert int(answer.headers["ledger-position"]) > 0, named(one)
                if answer.headers["content-type"] == "application/json" and not one.path.endswith("/raw"):
                    fresh = answer.json()["freshness"]
                    assert answer.headers["ledger-position"] == str(fresh["position"])


def _asked(one: Operation) -> dict[str, str]:
    needed = {"/v1/revenue/explain": {"line": "il_unknown"}, "/v1/revenue/tie-out": {"month": "2025-06"}}
    return needed.get(one.path, {})


@pytest.mark.parametrize("one", [one for one in GUARDED if one.query], ids=named)
async def test_every_malformed_parameter_is_refused(client: httpx.AsyncClient, one: Operation) -> None:
    for parameter in one.query:
        answer = await client.request(one.method, path_of(one, {}), params={parameter.name: "ü \x00"})
        assert problem_in(answer)[0] == 400, parameter.name
        assert parameter.name in answer.json()["detail"]


async def test_strangers_and_keys_for_something_else_are_refused(services: Services) -> None:
    keys = tuple(
        ApiKey(scope, frozenset({scope}), None, digest_of(f"lk_{scope}"))
        for scope in sorted({one.scope for one in GUARDED if one.scope} - {"admin"})
    )
    serving = replace(services, credentials=replace(services.credentials, api_keys=keys))
    async with client_of(serving, None) as stranger:
        for one in GUARDED:
            asked = {"as_of": "nonsense"}
            answer = await stranger.request(one.method, path_of(one, {}), params=asked)
            assert problem_in(answer)[0] == 401, named(one)
            for key in keys:
                if one.scope not in key.scopes:
                    headers = {"Authorization": f"Bearer lk_{key.name}"}
                    answer = await stranger.request(one.method, path_of(one, {}), headers=headers, params=asked)
                    assert problem_in(answer)[0] == 403, (named(one), key.name)

"""The engineer's routes: ask for a build, look at it, compare, promote, go back, throw away; and what is parked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from api.commands.status import read_status
from api.commands.transfer import export_rows
from api.operations import Operations
from api.services import Services
from ledger.reader import Filter, read_page
from projections.builds import StillFoldingError, ensure_live, read_build
from projections.follower import follow
from projections.rebuild import finish
from projections.runner import connect_runner
from tests.conftest import Before, client_of
from tests.following import follow_to_the_head
from tests.stripe_events import event, new_event, product, subscription


@pytest.fixture(scope="module")
def told_before() -> Before:
    """A little history, folded."""
    events = [
        event("evt_p", "product.created", product()),
        event("evt_1", "customer.subscription.created", subscription(status="incomplete"), created=1_768_000_001),
        event("evt_2", "customer.subscription.updated", subscription(), created=1_768_000_002),
    ]

    async def happens(services: Services) -> None:
        await services.appender.append([new_event(one) for one in events])
        await follow_to_the_head(services.database, [services.entitlements])

    return happens


@pytest.fixture
async def served(services: Services) -> Services:
    return services


def rebuilder(serving: Services) -> Operations:
    """What the service's own rebuilder works with."""
    return Operations(serving.database, serving.entitlements, serving.appender, serving.clock)


async def test_from_a_request_to_the_way_back(
    served: Services, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    asked = await client.post("/v1/projections/entitlements/rebuilds", json={"reason": "to be sure"})
    assert asked.status_code == 202
    build = asked.json()
    assert (build["build"], build["phase"], build["done"]) == ("entitlements-2", "folding", 0)
    assert (build["requested_by"], build["reason"]) == ("key:admin", "to be sure")

    path = "/v1/projections/entitlements/builds/entitlements-2"
    for query in ("", "?limit=10"):
        early = await client.get(f"{path}/diff{query}")
        assert (early.status_code, early.json()["type"]) == (503, "not-yet"), "it would seem to change nothing"
    await rebuilder(served).fold("entitlements-2")
    await rebuilder(served).complete("entitlements-2")
    ready = (await client.get(path)).json()
    assert (ready["phase"], ready["done"], ready["total"], ready["parked"]) == ("ready", 3, 3, 0)
    assert len(ready["digest"]) == 64

    refused = await client.post(f"{path}/promote", json={"reason": "blind"})
    assert (refused.status_code, refused.json()["type"]) == (409, "not-promoted")
    diff = (await client.get(f"{path}/diff")).json()
    assert diff["data"] == []
    assert {kind: diff["summary"][kind] for kind in ("added", "removed", "changed")} == {
        "added": 0, "removed": 0, "changed": 0,
    }  # fmt: skip
    promoted = await client.post(f"{path}/promote", json={"reason": "it is equal"})
    assert promoted.json() == {
        "build": "entitlements-2", "previous": "entitlements-1", "positions": {"self:live": 3}, "lag_seconds": 0,
    }  # fmt: skip
    listed = (await client.get("/v1/projections")).json()["data"]
    assert [(one["name"], one["build"], one["digest"], one["parked"]) for one in listed] == [
        ("entitlements", "entitlements-2", ready["digest"], 0)
    ]
    assert listed[0]["books"] == [{"book": "self:live", "position": 3, "head": 3, "lag_seconds": 0.0}]
    answer = (await client.get("/v1/customers/cus_1/entitlements/seats")).json()
    assert (answer["granted"], answer["freshness"]["build"]) == (True, "entitlements-2")

    back = await client.post("/v1/projections/entitlements/rollback", json={"reason": "no, wait"})
    assert back.json()["build"] == "entitlements-1"
    assert (await client.delete("/v1/projections/entitlements/builds/entitlements-1")).status_code == 409
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    page = await read_page(owner, "ledger:control", Filter(stream_id="ledger:control/entitlements-2"), 10)
    kinds = [one.type.removeprefix("ledger.build.") for one in page]
    assert kinds == ["requested", "certified", "promoted", "dropped"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/projections/nothing/rebuilds", {}, 404),
        ("POST", "/v1/projections/entitlements/rebuilds", [], 400),
        ("POST", "/v1/projections/entitlements/rebuilds", {"whatever": 1}, 400),
        ("POST", "/v1/projections/entitlements/rebuilds", {"until_time": "yesterday"}, 400),
        ("POST", "/v1/projections/entitlements/rebuilds", {"until_position": -1}, 400),
        ("POST", "/v1/projections/entitlements/rebuilds", {"until_position": True}, 400),
        ("POST", "/v1/projections/entitlements/rebuilds", {"until_position": 99}, 400),
        (
            "POST",
            "/v1/projections/entitlements/rebuilds",
            {"until_position": 1, "until_time": "2026-01-01T00:00:00Z"},
            400,
        ),
        ("POST", "/v1/projections/entitlements/rebuilds", {"reason": 7}, 400),
        ("GET", "/v1/projections/entitlements/builds/entitlements-7", None, 404),
        ("GET", "/v1/projections/entitlements/builds/entitlements-7/diff", None, 404),
        ("GET", "/v1/projections/entitlements/builds/entitlements-1/diff", None, 400),
        ("POST", "/v1/projections/entitlements/builds/entitlements-1/promote", {}, 400),
        ("POST", "/v1/projections/entitlements/builds/entitlements-1/promote", {"reason": "x", "force": "yes"}, 400),
        ("POST", "/v1/projections/entitlements/builds/entitlements-1/promote", {"reason": "x"}, 409),
        ("POST", "/v1/projections/entitlements/rollback", {"reason": "x"}, 409),
        ("POST", "/v1/parked/self:live%2Fcus_1/replay", None, 404),
    ],
)
async def test_what_is_asked_wrongly_is_said(
    served: Services, client: httpx.AsyncClient, method: str, path: str, body: object, status: int
) -> None:
    answer = await client.request(method, path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_an_audit_copy_by_time_and_by_position(served: Services, client: httpx.AsyncClient) -> None:
    early = await client.post("/v1/projections/entitlements/rebuilds", json={"until_position": 2})
    assert (early.status_code, early.json()["bounded"]) == (202, True)
    await rebuilder(served).fold(early.json()["build"])
    build = await rebuilder(served).complete(early.json()["build"])
    assert build.phase == "ready"
    late = await client.post("/v1/projections/entitlements/rebuilds", json={"until_time": "2027-01-01T00:00:00Z"})
    assert late.json()["build"] == "entitlements-3"
    before = await client.get(f"/v1/customers/cus_1/entitlements/seats?build={early.json()['build']}")
    assert (before.json()["granted"], before.json()["reason"]) == (False, "incomplete")
    assert before.json()["freshness"]["build"] == early.json()["build"]
    assert (await client.get("/v1/customers/cus_1/entitlements?build=entitlements-99")).status_code == 404


async def test_a_build_answers_nothing_before_it_is_folded(served: Services, client: httpx.AsyncClient) -> None:
    asked = (await client.post("/v1/projections/entitlements/rebuilds", json={"until_position": 2})).json()
    assert (asked["done"], asked["total"], asked["started"]) == (0, 2, False)
    early = await client.get(f"/v1/customers/cus_1/entitlements?build={asked['build']}")
    assert (early.status_code, early.json()["type"], early.headers["retry-after"]) == (503, "not-yet", "5")
    await rebuilder(served).fold(asked["build"])
    connection = await connect_runner(served.database)
    await finish(connection, await read_build(connection, asked["build"]))  # and is stopped before its digest is taken
    await connection.close()
    path = f"/v1/projections/entitlements/builds/{asked['build']}"
    almost = (await client.get(path)).json()
    assert (almost["phase"], almost["digest"]) == ("catching_up", None)
    await rebuilder(served).complete(asked["build"])
    ready = (await client.get(path)).json()
    assert len(ready["digest"]) == 64
    assert (ready["done"], ready["total"], ready["phase"]) == (2, 2, "ready")
    assert (await client.get(f"/v1/customers/cus_1/entitlements?build={asked['build']}")).status_code == 200


async def test_before_the_first_event_nothing_was_known(served: Services, client: httpx.AsyncClient) -> None:
    connection = await connect_runner(served.database)
    await ensure_live(connection, served.revenue)
    await connection.close()
    asked = "/v1/revenue/mrr?known_at=2001-01-01T00:00:00Z"
    for path in (asked, "/v1/revenue/problems?policy=day&known_position=0"):
        refused = await client.get(path)
        assert (refused.status_code, refused.json()["type"]) == (409, "build-required")
    assert '"until_position": 0}' in refused.json()["detail"]
    for until in ({"until_position": 0}, {"until_time": "2001-01-01T00:00:00Z"}):
        made = await client.post("/v1/projections/revenue/rebuilds", json=until)
        assert (made.status_code, made.json()["bounded"], made.json()["build"]) == (202, True, "revenue-2")
    ready = replace(rebuilder(served), projection=served.revenue)
    await ready.fold("revenue-2")
    await ready.complete("revenue-2")
    answer = await client.get(asked)
    assert (answer.status_code, answer.json()["mrr"]) == (200, {})
    assert (answer.json()["freshness"]["build"], answer.json()["freshness"]["position"]) == ("revenue-2", 0)


async def test_a_request_that_is_sent_again_begins_no_other_build(served: Services, client: httpx.AsyncClient) -> None:
    async def ask(called: str, **body: Any) -> tuple[int, str]:
        answer = await client.post(
            "/v1/projections/entitlements/rebuilds", json=body, headers={"Idempotency-Key": called}
        )
        told = answer.json()
        return answer.status_code, told.get("build") or told["type"]

    assert await ask("k1", reason="to be sure") == (202, "entitlements-2")
    await rebuilder(served).fold("entitlements-2")
    await rebuilder(served).complete("entitlements-2")
    assert await ask("k1", reason="to be sure") == (202, "entitlements-2")
    assert await ask("k1", until_position=2) == (409, "idempotency-key-used")
    assert await ask("k2", until_position=2) == await ask("k2", until_position=2) == (202, "entitlements-3")
    assert await ask("k" * 256) == (400, "bad-request")
    twins = await asyncio.gather(*(ask("k3", until_position=1) for _ in range(4)))
    assert twins == [(202, "entitlements-4")] * 4


async def test_what_is_decided_about_builds_is_decided_once(
    served: Services, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    await client.post("/v1/projections/entitlements/rebuilds", json={})
    await rebuilder(served).fold("entitlements-2")
    await rebuilder(served).complete("entitlements-2")
    paths = {
        "promote": "/v1/projections/entitlements/builds/entitlements-2/promote",
        "rollback": "/v1/projections/entitlements/rollback",
    }

    async def ask(what: str, called: str, reason: str = "it is equal") -> tuple[int, Any]:
        body = {"reason": reason, "force": True}
        answer = await client.post(paths[what], json=body, headers={"Idempotency-Key": called})
        return answer.status_code, answer.json() if answer.status_code == 200 else answer.json()["type"]

    assert (
        await client.post(paths["promote"], json={"reason": "blind"}, headers={"Idempotency-Key": "k1"})
    ).status_code == 409
    promoted = await ask("promote", "k1")
    assert promoted[0] == 200
    back = await ask("rollback", "k1")
    assert (back[0], back[1]["build"]) == (200, "entitlements-1")
    assert await ask("promote", "k1") == promoted
    assert await asyncio.gather(*(ask("rollback", "k1") for _ in range(3))) == [back] * 3
    assert await ask("rollback", "k1", "another reason") == (409, "idempotency-key-used")
    live = (await client.get("/v1/projections")).json()["data"][0]["build"]
    assert live == "entitlements-1"
    twice = await asyncio.gather(ask("rollback", "k2"), ask("rollback", "k2"))
    assert [one[1]["build"] for one in twice] == ["entitlements-2"] * 2

    await owner.execute(
        "INSERT INTO ledger.parked (build_id, subject, book, event_id, error) "
        "VALUES ('entitlements-2', 'self:live/cus_1', 'self:live', 'evt_2', 'ZeroDivisionError()')"
    )
    headers = {"Idempotency-Key": "k1"}
    replayed = [await client.post("/v1/parked/self:live%2Fcus_1/replay", headers=headers) for _ in range(2)]
    assert [one.json()["cleared"] for one in replayed] == [1, 1]
    other = await client.post("/v1/parked/self:live%2Fcus_2/replay", headers=headers)
    assert (other.status_code, other.json()["type"]) == (409, "idempotency-key-used")


class KilledError(Exception):
    """The service was killed here."""


async def killed(*_: Any, **__: Any) -> Any:
    raise KilledError


@pytest.mark.parametrize("before", ["api.calls.decide", "api.outbox.decide"])
async def test_killed_before_it_is_noted_a_swap_is_answered_as_done(
    served: Services, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    await client.post("/v1/projections/entitlements/rebuilds", json={})
    await rebuilder(served).fold("entitlements-2")
    await rebuilder(served).complete("entitlements-2")

    async def ask(path: str) -> httpx.Response:
        body = {"reason": "it is equal", "force": True}
        headers = {"Idempotency-Key": "k1"}
        return await client.post(f"/v1/projections/entitlements/{path}", json=body, headers=headers)

    for path, live, other in (
        ("builds/entitlements-2/promote", "entitlements-2", "entitlements-1"),
        ("rollback", "entitlements-1", "entitlements-2"),
    ):
        with monkeypatch.context() as until_it_is_noted:
            until_it_is_noted.setattr(before, killed)
            assert (await ask(path)).status_code == 500
        again = [await ask(path), await ask(path)]
        assert [one.status_code for one in again] == [200, 200], again[0].text
        assert [(one.json()["build"], one.json()["previous"]) for one in again] == [(live, other)] * 2
        assert (await client.get("/v1/projections")).json()["data"][0]["build"] == live
    said = (await client.get("/v1/projections/entitlements/decisions?limit=2")).json()["data"]
    assert [(one["what"], one["build"], one["by"], one["reason"]) for one in said] == [
        ("rolled_back", "entitlements-1", "key:admin", "it is equal"),
        ("promoted", "entitlements-2", "key:admin", "it is equal"),
    ]


async def test_whoever_starts_next_says_what_a_killed_one_has_swapped(
    served: Services, monkeypatch: pytest.MonkeyPatch, owner: asyncpg.Connection
) -> None:
    ready = rebuilder(served)
    build = await ready.request_rebuild(by="test", reason=None)
    await ready.fold(build.build_id)
    await ready.complete(build.build_id)
    with monkeypatch.context() as until_it_is_said:
        until_it_is_said.setattr("api.outbox.decide", killed)
        with pytest.raises(KilledError):
            await ready.promote(build.build_id, by="cli:somebody", reason="to be sure", force=True)
    left = await owner.fetchrow("SELECT build_id, decided_at, after, said FROM ledger.unsaid")
    await ready.begin(by="serve")
    assert await owner.fetchval("SELECT count(*) FROM ledger.unsaid") == 0
    # Killed once more, after it was said and before that was noted.
    await owner.execute("INSERT INTO ledger.unsaid VALUES ($1, $2, $3, $4)", *left)
    await ready.begin(by="serve")
    assert await owner.fetchval("SELECT count(*) FROM ledger.unsaid") == 0
    page = await read_page(owner, "ledger:control", Filter(type="ledger.build.promoted"), 10)
    assert [orjson.loads(one.body)["data"]["object"]["reason"] for one in page] == ["to be sure"]


async def test_a_build_that_was_thrown_away_leaves_its_name_to_no_other(
    served: Services, client: httpx.AsyncClient
) -> None:
    path, made = "/v1/projections/entitlements", []
    for called in ("k1", "k2"):
        asked = await client.post(f"{path}/rebuilds", json={}, headers={"Idempotency-Key": called})
        made.append(asked.json()["build"])
        await rebuilder(served).fold(made[-1])
        await rebuilder(served).complete(made[-1])
        if called == "k1":
            assert (await client.get(f"{path}/builds/{made[0]}/diff")).status_code == 200
            assert (await client.delete(f"{path}/builds/{made[0]}")).status_code == 204
    assert made == ["entitlements-2", "entitlements-3"]
    blind = await client.post(f"{path}/builds/{made[1]}/promote", json={"reason": "seen, I think"})
    assert (blind.status_code, blind.json()["type"]) == (409, "not-promoted"), "another one was looked at"
    again = await client.post(f"{path}/rebuilds", json={}, headers={"Idempotency-Key": "k1"})
    assert again.status_code == 404


async def test_a_build_that_is_being_folded_is_listed_and_no_part_of_it_is_exported(
    served: Services, tmp_path: Path
) -> None:
    build = await rebuilder(served).request_rebuild(by="test", reason=None)
    told = await read_status(served.database.as_role("ledger_app"))
    assert [one["build"] for one in told["projections"] if one["name"] == "entitlements"] == ["entitlements-1"]
    assert [(one["build"], one["phase"], one["bounded"]) for one in told["builds"]] == [
        (build.build_id, "folding", False)
    ]
    output = tmp_path / "rows.jsonl"
    with pytest.raises(StillFoldingError):
        await export_rows(served.settings, served.database, build.build_id, output)
    assert not output.exists()
    await rebuilder(served).fold(build.build_id)
    await rebuilder(served).complete(build.build_id)
    assert await export_rows(served.settings, served.database, build.build_id, output) > 0
    assert output.read_bytes()


async def test_every_build_and_every_decision_is_listed(served: Services, client: httpx.AsyncClient) -> None:
    await client.post("/v1/projections/entitlements/rebuilds", json={"reason": "to be sure"})
    await rebuilder(served).fold("entitlements-2")
    await rebuilder(served).complete("entitlements-2")
    builds = (await client.get("/v1/projections/entitlements/builds")).json()["data"]
    assert [(one["build"], one["phase"], one["books"][0]["position"]) for one in builds] == [
        ("entitlements-2", "ready", 3), ("entitlements-1", "live", 3),
    ]  # fmt: skip
    await client.delete("/v1/projections/entitlements/builds/entitlements-2")
    path = "/v1/projections/entitlements/decisions"
    first = (await client.get(f"{path}?limit=1")).json()
    rest = (await client.get(f"{path}?limit=5&cursor={first['next_cursor']}")).json()
    said = [(one["what"], one["build"], one["by"], one["reason"]) for one in (*first["data"], *rest["data"])]
    assert said == [
        ("dropped", "entitlements-2", "key:admin", None),
        ("certified", "entitlements-2", None, None),
        ("requested", "entitlements-2", "key:admin", "to be sure"),
    ]
    none = (await client.get("/v1/projections/dunning/decisions")).json()
    assert (none["data"], none["next_cursor"], none["freshness"]["book"]) == ([], None, "ledger:control")
    for path, then in (("builds", "2001-01-01"), ("decisions", "2026-01-15T11:59:59Z")):
        listed = await client.get(f"/v1/projections/entitlements/{path}", params={"as_of": then})
        assert (listed.status_code, listed.json()["data"]) == (200, [])


async def test_what_is_parked_is_listed_and_folded_again(
    served: Services, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "INSERT INTO ledger.parked (build_id, subject, book, event_id, error) "
        "VALUES ('entitlements-1', 'self:live/cus_1', 'self:live', 'evt_2', 'ZeroDivisionError()')"
    )
    (one,) = (await client.get("/v1/parked")).json()["data"]
    assert (one["projection"], one["subject"], one["event"]) == ("entitlements", "self:live/cus_1", "evt_2")
    again = await client.post("/v1/parked/self:live%2Fcus_1/replay")
    assert again.json() == {"subject": "self:live/cus_1", "cleared": 1, "still_parked": 0}
    assert (await client.get("/v1/parked")).json()["data"] == []


async def test_a_subject_is_folded_again_wherever_it_is_parked(
    served: Services, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    connection = await connect_runner(served.database)
    live = await ensure_live(connection, served.dunning)
    while await follow(connection, served.dunning, live):
        pass
    await connection.close()
    await owner.execute(
        "INSERT INTO ledger.parked (build_id, subject, book, event_id, error) "
        "SELECT build_id, 'self:live/cus_1', 'self:live', 'evt_2', 'ZeroDivisionError()' "
        "FROM unnest($1::text[]) AS build_id",
        ["dunning-1", "entitlements-1"],
    )
    again = await client.post("/v1/parked/self:live%2Fcus_1/replay")
    assert again.json() == {"subject": "self:live/cus_1", "cleared": 2, "still_parked": 0}
    assert (await client.get("/v1/parked")).json()["data"] == []


async def test_only_administrators_may(served: Services) -> None:
    async with client_of(served, None) as nobody:
        for path in ("/v1/projections", "/v1/parked", "/v1/projections/entitlements/builds/entitlements-1"):
            assert (await nobody.get(path)).status_code == 401
        assert (await nobody.post("/v1/projections/entitlements/rebuilds")).status_code == 401

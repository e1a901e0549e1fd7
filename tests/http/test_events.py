"""Reading the log over HTTP."""

from __future__ import annotations

import hashlib

import httpx
import orjson
import pytest

from tests.conftest import ManualClock
from tests.http.test_access import post
from tests.stripe_events import body_of, event, signature, subscription


async def test_an_event_reads_as_the_contract_has_it(client: httpx.AsyncClient, clock: ManualClock) -> None:
    content = event("evt_1", "customer.subscription.created", subscription(), previous={"status": "incomplete"})
    await post(client, clock, content)
    answer = await client.get("/v1/events/evt_1")
    read = answer.json()
    leaf = read.pop("leaf")
    freshness = read.pop("freshness")
    assert answer.headers["ledger-position"] == "1"
    assert read == {
        "id": "evt_1",
        "book": "self:live",
        "position": 1,
        "type": "customer.subscription.created",
        "created": "2026-01-09T23:06:40Z",
        "stream": "self:live/cus_1",
        "source": "webhook",
        "api_version": "2026-10-28.endive",
        "recorded_at": "2026-01-15T12:00:00Z",
        "received_at": "2026-01-15T12:00:00Z",
        "data": content["data"],
        "incomplete": [],
        "erased": False,
        "conflicts": [],
    }
    assert (freshness["position"], freshness["head"], freshness["stale"]) == (1, 1, False)
    raw = (await client.get("/v1/events/evt_1/raw")).content
    assert raw == body_of(content)
    header = leaf["header"]
    assert orjson.loads(header)["body"] == hashlib.sha256(bytes.fromhex(leaf["salt"]) + raw).hexdigest()
    assert orjson.dumps(orjson.loads(header), option=orjson.OPT_SORT_KEYS).decode() == header
    assert hashlib.sha256(b"\x00" + header.encode()).hexdigest() == leaf["hash"]


async def test_a_page_without_what_is_in_its_events_says_so_and_nothing_else(
    client: httpx.AsyncClient, clock: ManualClock
) -> None:
    for number in range(3):
        await post(client, clock, event(f"evt_{number}", "customer.subscription.created", subscription()))
    whole = (await client.get("/v1/events", params={"order": "desc"})).json()
    short = (await client.get("/v1/events", params={"order": "desc", "data": "false"})).json()
    assert short["data"] == [one | {"data": None, "incomplete": ["data"]} for one in whole["data"]]
    assert len(short["data"]) == 3


async def test_a_conflicting_copy_is_shown(client: httpx.AsyncClient, clock: ManualClock) -> None:
    content = event("evt_1", "customer.subscription.created", subscription())
    await post(client, clock, content)
    await post(client, clock, content | {"api_version": "2020-08-27"})
    [conflict] = (await client.get("/v1/events/evt_1")).json()["conflicts"]
    assert conflict["api_version"] == "2020-08-27"
    assert conflict["body_sha256"] == hashlib.sha256(body_of(content | {"api_version": "2020-08-27"})).hexdigest()


async def test_pages_cover_the_log_once_in_either_direction(client: httpx.AsyncClient, clock: ManualClock) -> None:
    for n in range(1, 8):
        await post(client, clock, event(f"evt_{n}", "x.y", {"id": "o_1"}))
    for order, wanted in (("asc", list(range(1, 8))), ("desc", list(range(7, 0, -1)))):
        seen: list[int] = []
        cursor: str | None = None
        while True:
            asked = {"limit": "3", "order": order} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/events", params=asked)).json()
            seen += [one["position"] for one in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == wanted


async def test_filters(client: httpx.AsyncClient, clock: ManualClock) -> None:
    for n, (customer, type_) in enumerate([("cus_1", "a.b"), ("cus_2", "a.b"), ("cus_1", "c.d"), ("cus_1", "a.b")], 1):
        await post(client, clock, event(f"evt_{n}", type_, {"id": "o_1", "customer": customer}))

    async def positions(**asked: str) -> list[int]:
        return [one["position"] for one in (await client.get("/v1/events", params=asked)).json()["data"]]

    assert await positions(customer="cus_1") == [1, 3, 4]
    assert await positions(type="a.b") == [1, 2, 4]
    assert await positions(customer="cus_1", type="a.b", after="1") == [4]
    assert await positions(after="1", before="4") == [2, 3]
    assert await positions(customer="cus_9") == []


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": "0"},
        {"limit": "501"},
        {"limit": "many"},
        {"after": "-1"},
        {"after": "99999999999999999999"},
        {"before": "1.5"},
        {"cursor": "!!"},
        {"cursor": "AAAA"},
        {"order": "up"},
        {"customer": "a b"},
        {"type": "ü"},
    ],
)
async def test_malformed_parameters_are_named(client: httpx.AsyncClient, asked: dict[str, str]) -> None:
    answer = await client.get("/v1/events", params=asked)
    assert answer.status_code == 400
    assert next(iter(asked)) in answer.json()["detail"]


@pytest.mark.parametrize("event_id", ["evt_9", "a%2Fb", "%00", "%F0%9F%92%B8", "x" * 2000])
async def test_an_unknown_event_is_not_found(client: httpx.AsyncClient, event_id: str) -> None:
    for path in (f"/v1/events/{event_id}", f"/v1/events/{event_id}/raw"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_an_event_nested_too_deep_to_be_written_again_keeps_its_bytes(
    client: httpx.AsyncClient, clock: ManualClock
) -> None:
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    body = b'{"id":"evt_deep","type":"unheard.of","created":1768000000,"data":{"object":' + deep + b"}}"
    assert (await client.post("/webhooks/stripe", content=body, headers=signature(body, clock.now))).status_code == 200
    shown = (await client.get("/v1/events/evt_deep")).json()
    assert (shown["data"], shown["incomplete"]) == (None, ["data"])
    assert (await client.get("/v1/events/evt_deep/raw")).content == body

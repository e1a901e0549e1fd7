"""A stored body that cannot be read concerns whoever it is of: the others are folded, answered and listed as before."""

from __future__ import annotations

import asyncpg
import httpx
import orjson
import pytest

from api.operations import Operations
from api.services import Services, projections_of
from ledger.dictionary import STREAM
from ledger.event import NewEvent
from projections import folding
from tests.conftest import ManualClock
from tests.following import follow_to_the_head
from tests.stripe_events import event, new_event, product, signature, subscription

HARM = {
    "frame": "UPDATE ledger.event SET body = '\\x28b52ffd00' || substr(body, 9) WHERE event_id = $1",
    "text": "UPDATE ledger.event SET encoding = 0, dictionary_id = NULL, body = 'no JSON at all' WHERE event_id = $1",
    "dictionary": "UPDATE ledger.event SET encoding = 2, dictionary_id = 4711 WHERE event_id = $1",
    "encoding": "UPDATE ledger.event SET encoding = 7, dictionary_id = NULL WHERE event_id = $1",
}


def sold(number: int, customer: int, quantity: int = 1) -> NewEvent:
    bought = subscription(f"sub_{customer}", customer=f"cus_{customer}", items=f"si_{customer}:prod_1*{quantity}")
    return new_event(
        event(f"evt_{number}", "customer.subscription.updated", bought, created=1_768_000_000 + 60 * number)
    )


async def harm(owner: asyncpg.Connection, statement: str, *arguments: object) -> None:
    await owner.execute("ALTER TABLE ledger.event DISABLE TRIGGER event_is_immutable")
    assert await owner.execute(statement, *arguments) == "UPDATE 1"
    await owner.execute("ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER event_is_immutable")


async def parked(client: httpx.AsyncClient) -> list[tuple[str, str, str]]:
    listed = (await client.get("/v1/parked")).json()["data"]
    assert all("cannot be read" in one["error"] for one in listed), listed
    return sorted((one["projection"], one["subject"], one["event"]) for one in listed)


async def seats(client: httpx.AsyncClient, customer: int) -> int | None:
    answer = await client.get(f"/v1/customers/cus_{customer}/entitlements/seats")
    return answer.json()["value"] if answer.status_code == 200 else None


@pytest.mark.parametrize("how", HARM)
async def test_its_customer_is_parked_alone_and_folded_again_once_it_is_back(
    services: Services, client: httpx.AsyncClient, owner: asyncpg.Connection, how: str
) -> None:
    everything = projections_of(services.settings, services.clock)
    await services.appender.append([new_event(event("evt_p", "product.created", product())), sold(1, 1), sold(2, 2)])
    await follow_to_the_head(services.database, everything)
    await services.appender.append([sold(3, 1, 5), sold(4, 2, 7), sold(5, 3, 9)])
    [before] = await owner.fetch("SELECT encoding, dictionary_id, body FROM ledger.event WHERE event_id = 'evt_3'")
    await harm(owner, HARM[how], "evt_3")
    await follow_to_the_head(services.database, everything)
    assert [await seats(client, customer) for customer in (1, 2, 3)] == [1, 7, 9]
    found = await parked(client)
    assert ("entitlements", "self:live/cus_1", "evt_3") in found
    assert {(subject, event_id) for _, subject, event_id in found} == {("self:live/cus_1", "evt_3")}
    listed = (await client.get("/v1/projections")).json()["data"]
    assert {book["position"] for one in listed for book in one["books"]} == {6}
    assert (await client.get("/readyz")).status_code == 200

    # A rebuild parks it too, and ends.
    ready = Operations(services.database, services.entitlements, services.appender, services.clock)
    build = await ready.request_rebuild(by="test", reason=None)
    await ready.fold(build.build_id)
    assert (await ready.complete(build.build_id)).phase == "ready"
    rows = [(row["build_id"], row["subject"], row["event_id"]) for row in await ready.parked("cus_1")]
    assert ("entitlements-2", "self:live/cus_1", "evt_3") in rows

    assert (await client.post("/v1/parked/cus_1/replay")).json()["cleared"] == 0
    await harm(
        owner,
        "UPDATE ledger.event SET encoding = $2, dictionary_id = $3, body = $4 WHERE event_id = $1",
        "evt_3",
        *before,
    )
    assert (await client.post("/v1/parked/cus_1/replay")).json()["still_parked"] == 0
    assert await seats(client, 1) == 5


@pytest.mark.parametrize("how", HARM)
async def test_it_is_listed_and_said_and_no_copy_of_it_is_refused(
    services: Services, client: httpx.AsyncClient, owner: asyncpg.Connection, clock: ManualClock, how: str
) -> None:
    await services.appender.append([sold(1, 1), sold(2, 2)])
    await harm(owner, HARM[how], "evt_1")
    page = (await client.get("/v1/events")).json()["data"]
    assert [(one["id"], one["incomplete"]) for one in page] == [("evt_1", ["data"]), ("evt_2", [])]
    one = (await client.get("/v1/events/evt_1")).json()
    assert (one["data"], one["incomplete"], one["erased"]) == (None, ["data"], False)
    raw = await client.get("/v1/events/evt_1/raw")
    if how != "text":  # nobody but `verify` knows that those are not the bytes that came
        assert (raw.status_code, raw.json()["type"]) == (500, "damaged")
        assert "the stored body of evt_1 cannot be read" in raw.json()["detail"]
    body = sold(1, 1).body
    copy = await client.post("/webhooks/stripe", content=body, headers=signature(body, clock.now))
    assert (copy.status_code, copy.json()) == (200, {"received": True, "position": 1, "duplicate": True})
    kept = (await client.get("/v1/log/conflicts")).json()["data"]
    assert [one["event"] for one in kept] == ["evt_1"], "it is the only copy that can be read"


async def test_terms_that_cannot_be_read_park_whoever_uses_them(
    services: Services, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    def bought(customer: int, price: str) -> NewEvent:
        item = {
            "id": f"si_{customer}",
            "object": "subscription_item",
            "quantity": 1,
            "price": {
                "id": price,
                "object": "price",
                "product": "prod_1",
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "currency": "usd",
                "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
                "type": "recurring",
                "unit_amount": None,
            },
        }
        subject = subscription(
            f"sub_{customer}",
            customer=f"cus_{customer}",
            currency="usd",
            current_period_start=1_768_000_000,
            current_period_end=1_770_000_000,
        )
        subject["items"]["data"] = [item]
        return new_event(event(f"evt_{customer}", "customer.subscription.created", subject))

    prices = [
        event(f"evt_{name}", "price.created", {"id": name, "object": "price", "product": "prod_1", "currency": "usd"})
        for name in ("price_a", "price_b")
    ]
    await services.appender.append([*map(new_event, prices), bought(1, "price_a"), bought(2, "price_b")])
    await harm(owner, HARM["text"], "evt_price_a")
    await follow_to_the_head(services.database, projections_of(services.settings, services.clock))
    assert await parked(client) == [(name, "self:live/cus_1", "evt_price_a") for name in ("dunning", "revenue")]


async def test_what_an_object_showed_last_parks_its_own_customer_alone(
    services: Services, client: httpx.AsyncClient, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lives that are long are folded together, each from a state that names the event which showed an object last."""
    monkeypatch.setattr(folding, "KEEP_FROM", 4)
    monkeypatch.setattr(folding, "_RECENT_EVERY", 2)
    everything = projections_of(services.settings, services.clock)
    lives = [sold(number, 1 + number % 2) for number in range(40)]
    await services.appender.append([new_event(event("evt_p", "product.created", product())), *lives])
    await follow_to_the_head(services.database, everything)
    kept = await owner.fetch("SELECT anchors FROM build_entitlements_1.subject_state WHERE subject LIKE '%/cus_1'")
    for [[_, position]] in {one["anchors"]: orjson.loads(one["anchors"]) for one in kept}.values():
        await harm(owner, HARM["text"].replace("event_id = $1", "position = $1 AND book = 'self:live'"), position)
    await services.appender.append([sold(40, 1, 3), sold(41, 2, 4)])
    await follow_to_the_head(services.database, everything)
    assert {subject for _, subject, _ in await parked(client)} == {"self:live/cus_1"}
    assert await seats(client, 2) == 4


async def test_a_dictionary_that_cannot_be_read_stops_nobody_from_coming_in(
    services: Services, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    from ledger.appender import Appender

    await services.appender.append([sold(1, 1)])
    dictionary = f"ledger:control/{STREAM}"
    await harm(owner, "UPDATE ledger.event SET encoding = 0, body = 'no JSON' WHERE stream_id = $1", dictionary)
    async with Appender(services.database, clock=services.clock) as appender:  # of a process that is new
        await appender.append([sold(2, 2)])
    assert await owner.fetchval("SELECT encoding FROM ledger.event WHERE event_id = 'evt_2'") == 1

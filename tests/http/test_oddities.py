"""Signed events that say odd things, taken, folded by every projection and asked about: they hurt nobody else."""

from __future__ import annotations

import random
import string
from typing import Any, Final

import httpx
import pytest

from api.services import Services, projections_of
from tests.conftest import ManualClock
from tests.following import follow_to_the_head
from tests.http.test_access import post
from tests.stripe_events import Json, event, product, subscription

BASE: Final = 1_768_478_000
LAST: Final = 253_402_300_799  # the last second of the year 9999
FIRST: Final = -62_135_596_800  # the first of the year 1
LONG: Final = "".join(random.Random(1).choices(string.ascii_letters, k=20_000))


def about(type_: str, subject: Any, number: int = 1, *, created: int = BASE, **more: Any) -> Json:
    return event(f"evt_odd_{number}", type_, subject, created=created, **more)


def odd(**more: Any) -> Json:
    return subscription("sub_odd", customer="cus_odd", **more)


def several(quantity: Any) -> Json:
    items = [{"id": f"si_{n}", "quantity_decimal": quantity, "price": {"product": "prod_1"}} for n in range(3)]
    return odd() | {"items": {"data": items}}


def worth_something() -> Json:
    price = {"id": "price_1", "currency": "usd", "unit_amount": 1000, "recurring": {"interval": "month"}}
    return odd(currency="usd") | {"items": {"data": [{"id": "si_1", "quantity": 1, "price": price}]}}


def coupon(percent: int, number: int) -> Json:
    said = {"id": "co_1", "object": "coupon", "duration": "once", "percent_off": percent}
    return about("coupon.updated", said, number, created=LAST - number % 2, previous={"percent_off": 5 + percent})


def invoice(**more: Any) -> Json:
    whole = {"id": "in_odd", "object": "invoice", "customer": "cus_odd", "currency": "usd", "status": "open"}
    return (
        whole | {"total": 1, "amount_due": 1, "amount_remaining": 1, "status_transitions": {"finalized_at": 1}} | more
    )


ODD: Final[dict[str, list[Json]]] = {
    "an end in the last hours there are": [about("customer.subscription.created", odd(cancel_at=LAST))],
    "grace that would end after them": [about("customer.subscription.created", odd(status="past_due"), created=LAST)],
    "a time that the database takes for none": [
        about("customer.subscription.created", odd(status="trialing", trial_end=FIRST, cancel_at=FIRST))
    ],
    "a quantity that fills memory": [about("customer.subscription.created", several("1e5000"))],
    "quantities beyond 64 bits together": [about("customer.subscription.created", several(2**63 - 1))],
    "terms that bear no id": [
        about(f"{kind}.created", {"id": "a\u0000b", "object": kind}, n) for n, kind in enumerate(("coupon", "price"))
    ],
    "terms of the last second": [coupon(10, 1), coupon(20, 2), coupon(30, 3)],
    "an organisation whose name is too long": [about("customer.subscription.created", odd(metadata={"org_id": LONG}))],
    "a failure in the last month": [
        about("invoice.finalized", invoice()),
        about("invoice.payment_failed", invoice(attempt_count=1, next_payment_attempt=LAST), 2, created=LAST),
    ],
    "a year of one digit": [about("customer.subscription.created", worth_something(), created=FIRST + 1)],
}

READS: Final = (
    "/v1/customers/cus_odd/entitlements?include=all",
    "/v1/customers/cus_odd/entitlements/seats",
    "/v1/customers/cus_odd/entitlements/seats",
    "/v1/customers/cus_odd/dunning",
    "/v1/dunning/summary",
    "/v1/dunning/cases",
    "/v1/revenue/mrr",
    "/v1/revenue/trial-balance",
    "/v1/revenue/journal",
    "/v1/periods",
    "/v1/periods/2026-01/checklist",
)


async def fold_all(services: Services) -> None:
    everything = projections_of(services.settings, services.clock)
    await follow_to_the_head(services.database, everything, telling=True)


@pytest.mark.parametrize("what", ODD)
async def test_what_one_event_says_stops_nobody_and_is_answered(
    client: httpx.AsyncClient, services: Services, clock: ManualClock, what: str
) -> None:
    await post(client, clock, event("evt_p", "product.created", product(), created=BASE - 10))
    for one in ODD[what]:
        await post(client, clock, one)
    await post(client, clock, event("evt_1", "customer.subscription.created", subscription(), created=BASE))
    await fold_all(services)
    for path in READS:
        answer = await client.get(path)
        assert answer.status_code == 200, (path, answer.text)
    other = (await client.get("/v1/customers/cus_1/entitlements/seats")).json()
    assert (other["granted"], other["value"], other["freshness"]["position"]) == (True, 1, len(ODD[what]) + 2)


async def test_news_of_the_last_second_reach_a_long_history(
    client: httpx.AsyncClient, services: Services, clock: ManualClock
) -> None:
    for n in range(520):
        kind = "updated" if n else "created"
        await post(client, clock, about(f"customer.subscription.{kind}", odd(), n, created=BASE + 60 * n))
    await fold_all(services)
    for n in (520, 521):
        await post(
            client, clock, about("customer.subscription.updated", odd(items=f"si_1:prod_1*{n}"), n, created=LAST)
        )
        await fold_all(services)
    answer = await client.get("/v1/customers/cus_odd/entitlements/prod_1")
    assert (answer.status_code, answer.json()["freshness"]["position"]) == (200, 522)


async def test_quantities_are_answered_to_the_last_digit(
    client: httpx.AsyncClient, services: Services, clock: ManualClock
) -> None:
    await post(client, clock, event("evt_p", "product.created", product(), created=BASE - 10))
    await post(client, clock, about("customer.subscription.created", several(2**63 - 1)))
    await fold_all(services)
    await services.live.tail.first_read()
    for _ in range(2):  # from the database, then from memory
        answer = await client.get("/v1/customers/cus_odd/entitlements/seats")
        assert f'"value":{3 * (2**63 - 1)},' in answer.text


@pytest.mark.parametrize("path", ["periods", "revenue/trial-balance", "revenue/recognition", "dunning/summary"])
async def test_the_last_moment_there_is_may_be_asked_about(
    client: httpx.AsyncClient, services: Services, clock: ManualClock, path: str
) -> None:
    lines = {"data": [{"id": "il_1", "amount": 1, "period": {"start": BASE, "end": BASE + 86_400}}]}
    await post(
        client, clock, about("invoice.finalized", invoice(status_transitions={"finalized_at": BASE}, lines=lines))
    )
    await fold_all(services)
    answer = await client.get(f"/v1/{path}", params={"as_of": "9999-12-31T23:59:59Z"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("periods/2026-01/checklist?as_of=9999-12-31T23:59:59Z", 200),
        ("revenue/trial-balance?from=0001-01", 200),
        ("revenue/recognition?from=9999-12", 400),
        ("revenue/mrr/movements?to=0001-01", 400),
        ("revenue/mrr/movements?to=0001-02", 200),
        ("revenue/mrr/movements?from=9999-12-01&to=9999-12-31", 200),
        ("revenue/mrr/movements?from=9999-12-01&to=9999-12-31&interval=week", 200),
    ],
)
async def test_the_first_and_last_month_there_are_may_be_asked_about(
    client: httpx.AsyncClient, services: Services, clock: ManualClock, path: str, status: int
) -> None:
    await post(client, clock, about("customer.subscription.created", worth_something()))
    await fold_all(services)
    answer = await client.get(f"/v1/{path}")
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("path", ["periods/9999-12/checklist", "revenue/tie-out?month=9999-12"])
async def test_a_month_that_does_not_end_is_none(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/v1/{path}")
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (400, "name a month such as 2026-01")

"""A platform's own money: fees it takes and transfers it makes, with the examples of Stripe's documentation."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx

from api.services import Services
from ledger.postgres import Database
from tests.conftest import ManualClock
from tests.periods.test_close import Book
from tests.revenue.stories import seconds
from tests.revenue.test_reads import ask, load
from tests.revenue.test_traps import at, made
from tests.stripe_events import Json, event, new_event


def told(date: str, type_: str, subject: Json) -> Json:
    return event(f"evt_{type_}_{date}", type_, subject, created=seconds(date))


def fee(refunded: int = 0) -> Json:
    return {
        "id": "fee_1", "object": "application_fee", "account": "acct_A", "charge": "ch_A", "amount": 200,
        "amount_refunded": refunded, "refunded": refunded == 200, "currency": "usd", "created": seconds("2026-01-15"),
        "balance_transaction": "txn_fee",
    }  # fmt: skip


def transfer(returned: int = 0) -> Json:
    return {
        "id": "tr_1", "object": "transfer", "amount": 1000, "amount_reversed": returned, "currency": "usd",
        "created": seconds("2026-01-02"), "destination": "acct_A", "reversed": returned == 1000,
    }  # fmt: skip


CHARGE = {
    "id": "ch_1", "object": "charge", "amount": 1500, "amount_captured": 1500, "captured": True, "currency": "usd",
    "created": seconds("2026-01-01"), "status": "succeeded", "amount_refunded": 0,
}  # fmt: skip
REFUND = {
    "id": "re_1", "object": "refund", "amount": 1500, "charge": "ch_1", "currency": "usd", "status": "succeeded",
    "created": seconds("2026-02-01"), "balance_transaction": "txn_1",
}  # fmt: skip
DIRECT = [
    told("2026-01-15", "application_fee.created", fee()),
    told("2026-02-21", "application_fee.refunded", fee(50)),
    told("2026-02-22", "application_fee.refunded", fee(200)),
]
SEPARATE = [
    told("2026-01-01", "charge.succeeded", CHARGE),
    told("2026-01-02", "transfer.created", transfer()),
    told("2026-01-03", "transfer.updated", transfer()),
    told("2026-02-01", "refund.created", REFUND),
    told("2026-02-02", "transfer.reversed", transfer(1000)),
]


def test_a_fee_is_revenue_and_a_refund_where_it_is_given_back() -> None:
    books = made(DIRECT)
    assert at(books, "2026-01-31") == {"revenue": 200, "stripe_balance": 200}
    assert at(books, "2026-02-21") == {"revenue": 200, "refunds": 50, "stripe_balance": 150}
    assert at(books, "2026-03-01") == {"revenue": 200, "refunds": 200}
    assert books.journal.problems == []


def test_what_is_passed_on_is_no_revenue_until_it_comes_back() -> None:
    books = made(SEPARATE)
    assert at(books, "2026-01-31") == {"revenue": 500, "stripe_balance": 500}
    assert at(books, "2026-02-01") == {"revenue": 500, "refunds": 1500, "stripe_balance": -1000}
    assert at(books, "2026-03-01") == {"revenue": 1500, "refunds": 1500}


def test_of_a_destination_charge_the_fee_is_left() -> None:
    books = made([*SEPARATE[:2], *DIRECT[:1]])
    assert at(books, "2026-01-31") == {"revenue": 700, "stripe_balance": 700}


async def test_months_roll_forward_and_tie_out(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    await load(services, database, [*DIRECT, *SEPARATE])
    found = (await ask(client, "recognition", from_="2026-01", to="2026-03"))["months"]
    january, february = found["2026-01"]["usd"], found["2026-02"]["usd"]
    assert (january["billed"], january["recognized"], january["net_revenue"]) == (700, 700, 700)
    assert (february["billed"], february["recognized"], february["net_revenue"]) == (1000, 1000, -700)
    assert (february["deferred_closing"], february["unbilled_closing"]) == (0, 0)
    books = await ask(client, "trial-balance", at="2026-02-28T23:59:59Z")
    assert {name: amount for name, amount in books["balances"]["usd"].items() if amount} == {
        "revenue": -1700, "refunds": 1700,
    }  # fmt: skip
    tied = (await ask(client, "tie-out", month="2026-01"))["currencies"]["usd"]
    assert (tied["recognized"], tied["cash"]) == (700, 700)
    assert [(one["class"], one["amount"]) for one in tied["differences"]] == [("not_recurring", 700)]


async def test_a_closed_month_keeps_them_and_a_late_one_is_reported_later(
    client: httpx.AsyncClient, services: Services, database: Database, clock: ManualClock
) -> None:
    clock.now = datetime(2026, 4, 15, tzinfo=UTC)
    book = Book(client, database, services)
    await services.appender.append([new_event(one) for one in [*DIRECT, *SEPARATE]])
    await book.fold()
    await book.close("2026-01", force=True)  # nobody says what the charge is for
    late = fee() | {"id": "fee_2", "amount": 70, "charge": "ch_B"}
    await services.appender.append([new_event(told("2026-01-20", "application_fee.created", late))])
    await book.fold()
    found = (await book.get("revenue/recognition", **{"from": "2026-01", "to": "2026-03"}))["months"]
    january, february = found["2026-01"]["usd"], found["2026-02"]["usd"]
    assert (january["billed"], january["recognized"]) == (700, 700)
    assert (february["billed"], february["recognized"]) == (1070, 1070)

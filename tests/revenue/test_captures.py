"""A payment that is authorised once and captured in several parts: each part is money, and a sale, when it is taken."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.observation import OBSERVED
from tests.revenue.stories import balances, journal_at, seconds
from tests.revenue.test_traps import AT, at, charge, made, session
from tests.stripe_events import Json, event

HELD = event("e1", "charge.succeeded", charge(captured=False, amount_captured=0), created=AT)


def captured(name: str, date: str, amount: int, type_: str = "charge.captured", **more: Any) -> Json:
    return event(name, type_, charge(amount_captured=amount, **more), created=seconds(date))


@pytest.mark.parametrize("between", ["charge.captured", "charge.updated"])
def test_every_capture_of_a_charge_is_money_and_a_sale(between: str) -> None:
    """*3: amount amount_captured*, which grows with each part; of a part that is told again nothing is taken."""
    events = [
        HELD,
        captured("e2", "2026-01-05", 700, between),
        captured("e3", "2026-01-06", 700, "charge.updated", description="edited"),
        captured("e4", "2026-01-20", 1190),
    ]
    books = made(events)
    assert at(books, "2026-01-04") == {}
    assert at(books, "2026-01-10") == {"stripe_balance": 700, "revenue": 700}
    assert at(books, "2026-02-01") == {"stripe_balance": 1190, "revenue": 1190}
    assert [(one.kind, one.amount) for one in books.journal.problems] == [("unlinked_charge", 1190)]
    told = {one.key: one.because for one in books.journal.entries}
    assert told == {"ch_1:cash": ("e2",), "ch_1": ("e2",), "ch_1:cash:1190": ("e4",), "ch_1:1190": ("e4",)}


def test_every_capture_of_a_checkout_is_sold_with_its_tax() -> None:
    bought = event("e0", "checkout.session.completed", session("unpaid"), created=AT)
    books = made([bought, HELD, captured("e2", "2026-01-05", 595), captured("e3", "2026-01-20", 1190)])
    part, whole = at(books, "2026-01-10"), at(books, "2026-02-01")
    assert part == {"stripe_balance": 595, "revenue": 500, "tax_liability": 95}
    assert whole == {"stripe_balance": 1190, "revenue": 1000, "tax_liability": 190}
    assert books.journal.problems == []


def test_what_was_taken_in_parts_is_refunded_whole() -> None:
    refund = {
        "id": "re_1",
        "object": "refund",
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "amount": 1190,
        "currency": "eur",
        "status": "succeeded",
        "balance_transaction": "txn_9",
        "created": AT,
    }
    back = event("e4", "refund.created", refund | {"created": seconds("2026-01-25")}, created=seconds("2026-01-25"))
    books = made([HELD, captured("e2", "2026-01-05", 700), captured("e3", "2026-01-20", 1190), back])
    assert at(books, "2026-02-01") == {"revenue": 1190, "refunds": 1190}


def test_a_shape_that_says_only_that_it_was_captured_takes_nothing_more() -> None:
    """One that is older than ``amount_captured``: a charge it was captured of in part would be taken whole."""
    old = captured("e3", "2026-01-20", 1190, "charge.updated")
    del old["data"]["object"]["amount_captured"]
    books = made([HELD, captured("e2", "2026-01-05", 700), old])
    assert at(books, "2026-02-01") == {"stripe_balance": 700, "revenue": 700}


def test_every_capture_is_converted_by_its_own_transaction() -> None:
    def observed(name: str, date: str, amount: int) -> Json:
        answer = {
            "id": name,
            "object": "balance_transaction",
            "type": "charge",
            "currency": "usd",
            "source": "ch_1",
            "amount": amount,
            "fee": 10,
            "net": amount - 10,
            "created": seconds(date),
        }
        said = {"object": "ledger.observation", "kind": "balance_transaction", "of": name, "responses": [answer]}
        return event(f"obs_{name}", OBSERVED, said, created=seconds(date))

    events = [HELD, captured("e2", "2026-01-05", 700), captured("e3", "2026-01-20", 1190)]
    books = made([*events, observed("txn_1", "2026-01-05", 770), observed("txn_2", "2026-01-20", 539)])
    entries = journal_at(books, seconds("2026-02-01"))
    euros = balances(entries, lambda one: one.currency == "eur")
    dollars = balances(entries, lambda one: one.currency == "usd")
    assert (euros["stripe_balance"], euros["fx_clearing"]) == (0, 1190)
    assert dollars == {"stripe_balance": 770 + 539 - 20, "fx_clearing": -1309, "stripe_fees": 20}

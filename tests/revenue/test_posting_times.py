"""Posting times of stripe-domain §5.4: what an object says of itself, and its event's ``created`` where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.revenue.stories import facts_of, seconds
from tests.revenue.test_traps import made_of
from tests.stripe_events import Json, event

TOLD = seconds("2026-03-20")


def day(number: int) -> int:
    return seconds(f"2026-03-{number:02}")


def invoice(status: str, **times: int | None) -> Json:
    line = {"id": "il_1", "object": "line_item", "amount": 9000, "period": {"start": day(1), "end": day(31)}}
    return {
        "id": "in_1",
        "object": "invoice",
        "customer": "cus_1",
        "currency": "usd",
        "status": status,
        "total": 9000,
        "total_excluding_tax": 9000,
        "amount_due": 9000,
        "amount_remaining": 0 if status == "paid" else 9000,
        "amount_paid": 9000 if status == "paid" else 0,
        "lines": {"data": [line], "has_more": False},
        "status_transitions": times,
    }


def money(kind: str, key: str, **more: Any) -> Json:
    return {
        "id": key,
        "object": kind,
        "customer": "cus_1",
        "currency": "usd",
        "amount": 900,
        "status": "succeeded",
        "charge": "ch_1",
        "payment_intent": "pi_1",
    } | more


def note(**more: Any) -> Json:
    return {
        "id": "cn_1",
        "object": "credit_note",
        "customer": "cus_1",
        "invoice": "in_1",
        "currency": "usd",
        "amount": 900,
        "status": "issued",
        "pre_payment_amount": 900,
        "refunds": [],
    } | more


def payment(**more: Any) -> Json:
    return {
        "id": "inpay_1",
        "object": "invoice_payment",
        "invoice": "in_1",
        "status": "paid",
        "amount_paid": 9000,
        "currency": "usd",
        "payment": {"type": "payment_intent", "payment_intent": "pi_1"},
    } | more


def dispute(**more: Any) -> Json:
    moved = {"id": "txn_1", "object": "balance_transaction", "amount": -900, "fee": 15, "currency": "usd"} | more
    return money("dispute", "dp_1", status="needs_response", balance_transactions=[moved])


CASES: dict[str, tuple[str, Json, Json, dict[str, int]]] = {
    "finalised": ("invoice.updated", invoice("open", finalized_at=day(2)), invoice("open"), {"in_1:finalize": 2}),
    "paid": (
        "invoice.paid",
        invoice("paid", finalized_at=day(2), paid_at=day(5)),
        invoice("paid"),
        {"in_1:finalize": 2, "in_1:paid:residual": 5},
    ),
    "void": (
        "invoice.updated",
        invoice("void", finalized_at=day(2), voided_at=day(6)),
        invoice("void"),
        {"in_1:finalize": 2, "in_1:void": 6},
    ),
    "uncollectible": (
        "invoice.updated",
        invoice("uncollectible", finalized_at=day(2), marked_uncollectible_at=day(7)),
        invoice("uncollectible"),
        {"in_1:finalize": 2, "in_1:uncollectible": 7},
    ),
    "uncollectible, then paid": (
        "invoice.paid",
        invoice("paid", finalized_at=day(2), marked_uncollectible_at=day(7), paid_at=day(9)),
        invoice("paid", marked_uncollectible_at=TOLD),
        {"in_1:finalize": 2, "in_1:uncollectible": 7, "in_1:paid:residual": 9},
    ),
    "an invoice payment": (
        "invoice_payment.paid",
        payment(status_transitions={"paid_at": day(8)}),
        payment(),
        {"inpay_1": 8},
    ),
    "a charge": (
        "charge.succeeded",
        money("charge", "ch_1", amount_captured=900, created=day(8)),
        money("charge", "ch_1", amount_captured=900),
        {"ch_1:cash": 8, "ch_1": 8},
    ),
    "a refund": (
        "refund.updated",
        money("refund", "re_1", created=day(10)),
        money("refund", "re_1"),
        {"re_1": 10},
    ),
    "a credit note": ("credit_note.updated", note(created=day(11)), note(), {"cn_1": 11}),
    "a voided credit note": (
        "credit_note.voided",
        note(created=day(11), status="void", voided_at=day(12)),
        note(status="void"),
        {"cn_1": 11, "cn_1:void": 12},
    ),
    "a dispute": (
        "charge.dispute.updated",
        dispute(created=day(13)),
        dispute(),
        {"txn_1": 13, "txn_1:fee": 13},
    ),
}
"""An event told late: its object with times of its own, the same without, and on which day what is posted."""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("says_when", [True, False])
def test_posted_is_at_the_time_that_the_object_says(name: str, says_when: bool) -> None:
    type_, with_times, without, wanted = CASES[name]
    told = [event("evt_2", type_, with_times if says_when else without, created=TOLD)]
    if with_times["object"] in ("invoice_payment", "credit_note"):
        told.insert(0, event("evt_1", "invoice.finalized", invoice("open", finalized_at=day(1)), created=day(1)))
    found = {entry.key: entry.at for entry in made_of(facts_of(told)).journal.entries}
    assert {key: found.get(key) for key in wanted} == {
        key: day(number) if says_when else TOLD for key, number in wanted.items()
    }

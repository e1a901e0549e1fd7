"""A payment that no event links to its invoice, as in the API versions of spring 2025 (stripe-domain §5.4, row 4r)."""

from __future__ import annotations

import pytest

from tests.revenue.stories import Teller, balances, journal_at, seconds
from tests.revenue.test_traps import AT, QUARTER, made, told
from tests.stripe_events import Json

PAID = AT + 60
FOUND = ["payment_matched_by_amount"]
LISTED = ["payment_not_linked", "unlinked_charge"]


def charged(number: str, at: int) -> Json:
    """Make a charge of what the invoice wants, which names no invoice."""
    return {
        "id": f"ch_{number}",
        "object": "charge",
        "customer": "cus_1",
        "amount": 9000,
        "amount_captured": 9000,
        "captured": True,
        "currency": "usd",
        "created": at,
        "status": "succeeded",
        "payment_intent": f"pi_{number}",
        "amount_refunded": 0,
    }


@pytest.mark.parametrize(
    ("other", "kinds"),
    [
        ({}, FOUND),
        ({"created": PAID - 3_600}, FOUND),
        ({"created": PAID + 3_600}, FOUND),
        ({"created": PAID - 3_601}, LISTED),
        ({"created": PAID + 3_601}, LISTED),
        ({"currency": "eur"}, LISTED),
        ({"amount": 8_999, "amount_captured": 8_999}, LISTED),
    ],
)
def test_it_is_matched_by_currency_amount_and_hour_else_it_is_listed(other: Json, kinds: list[str]) -> None:
    teller = Teller("basil")
    teller.invoice(AT, QUARTER)
    charge = charged("1", PAID) | other
    teller.tell(charge["created"], "charge.succeeded", charge)
    paid = teller.invoices["in_1"] | {"status": "paid", "amount_paid": 9000, "amount_remaining": 0}
    teller.tell(PAID, "invoice.paid", paid | {"status_transitions": {"finalized_at": AT, "paid_at": PAID}})
    books = made(teller.events)
    assert sorted(one.kind for one in books.journal.problems) == kinds
    clearing = balances(journal_at(books, seconds("2026-02-01")), lambda one: one.currency == "usd")[
        "payments_clearing"
    ]
    assert clearing == (0 if kinds is FOUND else 9000)


def test_of_two_charges_that_fit_the_nearest_is_taken_and_the_other_listed() -> None:
    teller = Teller("basil")
    teller.invoice(AT, QUARTER)
    for number, at in (("1", PAID - 600), ("2", PAID + 30)):
        teller.tell(at, "charge.succeeded", charged(number, at))
    paid = teller.invoices["in_1"] | {"status": "paid", "amount_paid": 9000, "amount_remaining": 0}
    teller.tell(PAID, "invoice.paid", paid | {"status_transitions": {"finalized_at": AT, "paid_at": PAID}})
    found = {(one.kind, one.key) for one in made(teller.events).journal.problems}
    assert found == {("payment_matched_by_amount", "in_1:paid:residual"), ("unlinked_charge", "ch_1")}


def test_an_invoice_whose_charge_names_it_takes_no_other_that_fits() -> None:
    """Whoever paid twice within the hour has one charge for the invoice, and one for something that is not known."""
    teller = told("2024")
    other = teller.charges["ch_1"] | {"id": "ch_2", "payment_intent": "pi_2", "invoice": None}
    teller.tell(AT + 600, "charge.succeeded", other | {"created": AT + 600})
    books = made(teller.events)
    assert [(one.kind, one.key) for one in books.journal.problems] == [("unlinked_charge", "ch_2")]
    assert balances(journal_at(books, seconds("2026-05-01")))["revenue"] == 18_000


@pytest.mark.parametrize("named", ["charge", "payment_intent"])
def test_an_invoice_that_names_its_charge_is_linked_though_the_charge_names_none(named: str) -> None:
    """Each copy may be of another API version; what the invoice says is no guess."""
    teller = told("2024")
    for one in teller.events:
        shown = one["data"]["object"]
        if shown["object"] == "charge":
            del shown["invoice"]
        elif one["type"] != "invoice.finalized":
            shown |= {"charge": None, "payment_intent": None} | {named: shown[named]}
    assert made(teller.events).journal.problems == []

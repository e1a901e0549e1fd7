"""What is told again later, or told of what has not happened yet, moves nothing: each fact keeps its first time."""

from __future__ import annotations

import pytest

from ledger.observation import OBSERVED
from tests.revenue.stories import Teller, seconds
from tests.revenue.test_traps import AT, QUARTER, at, charge, made, told
from tests.stripe_events import event

EDITED = seconds("2026-03-01")


@pytest.mark.parametrize(
    ("end", "transition", "contra"),
    [("void", "voided_at", {"voids": 3100}), ("uncollectible", "marked_uncollectible_at", {"bad_debt": 3100})],
)
def test_an_end_that_is_told_again_keeps_its_time(end: str, transition: str, contra: dict[str, int]) -> None:
    """Also in a shape that does not say when it was: then it is the first event's time."""
    teller = Teller("2020")
    teller.invoice(AT, QUARTER)
    getattr(teller, end)(seconds("2026-02-01"))
    teller.events[-1]["data"]["object"]["status_transitions"][transition] = None
    one = teller.invoices["in_1"]
    one["status_transitions"][transition] = None
    teller.tell(EDITED, "invoice.updated", one | {"description": "edited"})
    books = made(teller.events)
    found = at(books, "2026-04-01")
    assert {name: found[name] for name in contra} == contra
    [entry] = [one for one in books.journal.entries if one.kind in ("void", "write_off")]
    assert (entry.at, entry.because) == (seconds("2026-02-01"), ("evt_2",))


def test_a_payment_under_way_that_is_told_again_is_under_way_once() -> None:
    waiting = charge("pending")
    told_twice = [
        event("e1", "charge.pending", waiting, created=AT),
        event("e2", "charge.updated", waiting | {"description": "edited"}, created=EDITED),
    ]
    [entry] = made(told_twice).journal.entries
    assert (entry.at, entry.because) == (AT, ("e1",))


def test_an_invoice_payment_that_is_still_open_pays_nothing() -> None:
    teller = Teller("endive")
    teller.invoice(AT, QUARTER)
    payment = {
        "id": "inpay_ch_1",
        "object": "invoice_payment",
        "invoice": "in_1",
        "status": "open",
        "amount_paid": None,
        "amount_requested": 9000,
        "currency": "usd",
        "payment": {"type": "payment_intent", "payment_intent": "pi_1"},
    }
    answer = {"object": "list", "data": [payment], "has_more": False}
    said = {
        "object": "ledger.observation",
        "kind": "invoice_payments",
        "of": "pi_1",
        "customer": "cus_1",
        "responses": [answer],
    }
    asked = event("obs_1", OBSERVED, said, created=AT + 5)
    paid = [one for one in told().events if one["type"] != "invoice.finalized"]
    later = [one | {"created": EDITED} for one in paid]
    books = made([*teller.events, asked, *later])
    assert at(books, "2026-04-01") == {"stripe_balance": 9000, "revenue": 9000}
    assert [one.key for one in books.journal.entries if one.kind == "payment"] == ["inpay_ch_1"]


def test_what_was_paid_out_of_band_stays_so_when_a_shape_that_does_not_say_it_shows_the_invoice() -> None:
    old, new = Teller("2024"), Teller("endive")
    for teller in (old, new):
        teller.invoice(AT, QUARTER)
        teller.paid(AT + 60, oob="yes")
    edited = new.invoices["in_1"] | {"description": "edited"}
    later = event("evt_9", "invoice.updated", edited, created=EDITED)
    assert at(made([*old.events, later]), "2026-04-01") == {"external_asset": 9000, "revenue": 9000}


def test_a_draft_is_nothing_and_what_it_was_finalised_as_is_all_that_counts() -> None:
    """*Draft invoices never post*: neither one that is deleted nor the lines that another was drafted with."""
    final = Teller("endive")
    final.invoice(AT + 3600, "6000@2026-01-01..2026-04-01")
    drafted = Teller("endive")
    drafted.invoice(AT, QUARTER)
    draft = drafted.invoices["in_1"] | {"status": "draft", "ending_balance": None, "status_transitions": {}}
    edited = event("evt_d", "invoice.updated", draft, created=AT)
    deleted = event("evt_x", "invoice.deleted", draft, created=AT + 60)
    assert made([edited, deleted]).journal.entries == []
    assert at(made([edited, *final.events]), "2026-04-01") == {"accounts_receivable": 6000, "revenue": 6000}

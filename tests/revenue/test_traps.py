"""The revenue traps of stripe-domain §7: what Stripe sends that makes books wrong, and what must come of it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from projections.facts import Fact
from projections.revenue.journal import Books, books_of
from projections.revenue.policy import POLICIES
from projections.revenue.shown import show_all
from tests.revenue.stories import SHAPES, Teller, balances, events_of, facts_of, gathered, journal_at, seconds
from tests.stripe_events import Json, event, subscription

QUARTER = "9000@2026-01-01..2026-04-01"
AT = seconds("2026-01-01")

OWED_AGAIN = f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        2026-02-01 refund re_1 900
        2026-02-01 credit cn_1 900 refund=re_1
        2026-02-11 fail re_1
        """

TRAPS = {
    "a refund before its credit note ends in credit notes": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        2026-02-01 refund re_1 900
        2026-02-03 credit cn_1 900 refund=re_1
        """,
        {"2026-02-02": "refunds=310", "2026-06-01": "refunds=0 credit_notes=330 refunds_clearing=0 deferred_revenue=0"},
    ),
    "a credit note with its refund in one second": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        2026-02-01 refund re_1 900
        2026-02-01 credit cn_1 900 refund=re_1
        """,
        {"2026-06-01": "refunds=0 credit_notes=310 refunds_clearing=0 stripe_balance=8100"},
    ),
    "a credit note with its refund in the second of payment, after one before it": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-11 credit cn_1 1000
        2026-02-01 paid
        2026-02-01 refund re_1 900
        2026-02-01 credit cn_2 900 refund=re_1 before=0
        """,
        {"2026-06-01": "accounts_receivable=0 refunds=0 refunds_clearing=0 customer_balance=0 stripe_balance=7100"},
    ),
    "two credit notes in the second of payment, one before it and one with its refund": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-02-01 credit cn_2 1000
        2026-02-01 paid
        2026-02-01 refund re_1 900
        2026-02-01 credit cn_1 900 refund=re_1 before=0
        """,
        {"2026-06-01": "accounts_receivable=0 refunds=0 refunds_clearing=0 customer_balance=0 stripe_balance=7100"},
    ),
    "a refund that fails leaves nothing": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        2026-02-01 refund re_1 900
        2026-02-11 fail re_1
        """,
        {
            "2026-02-02": "refunds=310 stripe_balance=8100",
            "2026-06-01": "refunds=0 refunds_clearing=0 stripe_balance=9000 revenue=9000 deferred_revenue=0",
        },
    ),
    "a refund by credit note that fails is owed, until it is made again": (
        OWED_AGAIN
        + """
        2026-02-20 refund re_2 900
        """,
        {
            "2026-02-12": "customer_refunds_payable=900 refunds_clearing=0 credit_notes=310",
            "2026-06-01": "customer_refunds_payable=0 refunds_clearing=0 refunds=0 stripe_balance=8100",
        },
    ),
    "a credit note takes for itself the refund that had brought what was owed, which is owed again": (
        OWED_AGAIN
        + """
        2026-02-20 refund re_2 1000
        2026-03-02 credit cn_2 1000 refund=re_2
        """,
        {
            "2026-02-21": "customer_refunds_payable=0 refunds_clearing=0 stripe_balance=8000",
            "2026-06-01": "customer_refunds_payable=900 refunds_clearing=0 refunds=0 stripe_balance=8000",
        },
    ),
    "a refund by credit note that fails again is owed again": (
        OWED_AGAIN
        + """
        2026-02-20 refund re_2 1000
        2026-03-02 fail re_2
        """,
        {
            "2026-02-21": "customer_refunds_payable=0 refunds_clearing=0 stripe_balance=8000",
            "2026-06-01": "customer_refunds_payable=900 refunds_clearing=0 refunds=0 stripe_balance=9000",
        },
    ),
    "a dispute takes amount and fee, and gives both back": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        2026-02-01 dispute dp_1 9000 fee=1500
        2026-05-01 won dp_1 fee=1500
        """,
        {
            "2026-02-02": "stripe_balance=-1500 dispute_fees=1500 disputes=3100",
            "2026-06-01": "stripe_balance=9000 dispute_fees=0 recoverables=9000 deferred_revenue=0",
        },
    ),
    "credit covers an invoice: paid without a payment": (
        "2026-01-01 invoice 3100@2026-01-01..2026-02-01 starting=-5000 balance=3100",
        {"2026-03-01": "accounts_receivable=0 stripe_balance=0 payments_clearing=0 revenue=3100"},
    ),
    "an invoice below the smallest charge is owed by the balance": (
        "2026-01-01 invoice 30@2026-01-01..2026-02-01 balance=30",
        {"2026-03-01": "accounts_receivable=0 customer_balance=-30 revenue=30 stripe_balance=0"},
    ),
    "two partial payments": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-05 paid 4000 charge=ch_1
        2026-01-09 paid 5000 charge=ch_2
        """,
        {
            "2026-01-06": "accounts_receivable=5000 stripe_balance=4000",
            "2026-02-01": "accounts_receivable=0 stripe_balance=9000 payments_clearing=0",
        },
    ),
    "money outside of Stripe": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-05 paid oob=yes
        """,
        {"2026-02-01": "accounts_receivable=0 stripe_balance=0 external_asset=9000 payments_clearing=0"},
    ),
    "an upgrade in the middle of a period": (
        """
        2026-01-01 invoice 3100@2026-01-01..2026-02-01
        2026-01-16 invoice -1600@2026-01-16..2026-02-01 3200@2026-01-16..2026-02-01 id=in_2
        """,
        {"2026-01-15T12:00:00": "revenue=1450", "2026-02-01": "revenue=4700 deferred_revenue=0"},
    ),
    "a void gives the customer's credit back": (
        """
        2026-01-01 invoice 3100@2026-01-01..2026-02-01 starting=-1100 balance=1100
        2026-01-02 void
        """,
        {"2026-03-01": "accounts_receivable=0 revenue=100 voids=100 customer_balance=0"},
    ),
    "tax is given back in proportion": (
        f"""
        2026-01-01 invoice {QUARTER} tax=1710
        2026-01-01 paid
        2026-02-01 refund re_1 1071
        """,
        {"2026-01-02": "tax_liability=1710", "2026-06-01": "tax_liability=1539 refunds=310 revenue=8410"},
    ),
    "without a period, at once; a second, in a second": (
        """
        2026-01-01 invoice 500 700@2026-01-01..2026-01-01T00:00:01 900@2026-01-01..2026-01-01
        """,
        {"2026-01-01": "revenue=2100 deferred_revenue=0"},
    ),
    "a leap day is a day": (
        "2028-02-01 invoice 2900@2028-02-01..2028-03-01",
        {"2028-02-28": "revenue=2700", "2028-02-29": "revenue=2800", "2028-03-01": "revenue=2900"},
    ),
    "amounts beyond what a float can hold": (
        f"""
        2026-01-01 invoice {2**60 + 1}@2026-01-01..2026-01-03
        2026-01-01 paid
        """,
        {"2026-01-02": f"revenue={2**59 + 1} stripe_balance={2**60 + 1}", "2026-02-01": f"revenue={2**60 + 1}"},
    ),
    "zero in total, not in its lines": (
        "2026-01-01 invoice 3100@2026-01-01..2026-02-01 -3100@2026-01-01..2026-01-02",
        {"2026-01-02": "revenue=-3000 accounts_receivable=0", "2026-02-01": "revenue=0 deferred_revenue=0"},
    ),
    "a trial's invoice of nothing": ("2026-01-01 invoice 0@2026-01-01..2026-02-01", {"2026-03-01": ""}),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", TRAPS)
def test_trap(name: str, shape: str) -> None:
    story, moments = TRAPS[name]
    facts = facts_of(events_of(story, shape))
    made = made_of(facts)
    for date, table in moments.items():
        wanted = {account: int(amount) for account, amount in (word.split("=") for word in table.split())}
        found = balances(journal_at(made, seconds(date)))
        assert {account: found.get(account, 0) for account in wanted} == wanted, date
    if not any(moments.values()):
        assert made.journal.entries == []
    assert [one.kind for one in made.journal.problems] == []
    dice = random.Random(3)
    for _ in range(6):
        assert made_of(dice.sample(facts, len(facts))).journal == made.journal


def made_of(facts: list[Fact]) -> Books:
    return books_of(gathered(facts), POLICIES["second"])


def made(events: list[Json]) -> Books:
    """Make books of events in every order; they must be the same."""
    facts, dice = facts_of(events), random.Random(5)
    first = made_of(facts)
    for _ in range(8):
        assert made_of(dice.sample(facts, len(facts))).journal == first.journal
    return first


def at(books: Books, date: str) -> dict[str, int]:
    return {name: amount for name, amount in balances(journal_at(books, seconds(date))).items() if amount}


def told(shape: str = "endive") -> Teller:
    teller = Teller(shape)
    teller.invoice(AT, QUARTER)
    teller.paid(AT)
    return teller


def test_copies_edits_and_twins_post_nothing_more() -> None:
    teller = told()
    first = made(list(teller.events))
    finalized = teller.events[0]
    edited = finalized["data"]["object"] | {"description": "edited", "metadata": {"note": "x"}}
    more = [
        finalized | {"pending_webhooks": 0},
        finalized | {"id": "evt_copy"},
        *(one | {"id": "evt_paid_again"} for one in teller.events if one["type"] == "invoice_payment.paid"),
        event("evt_edit", "invoice.updated", edited, created=AT + 60, previous={"metadata": {"note": None}}),
        {"id": "evt_thin", "object": "v2.core.event", "type": "v1.invoice.paid", "created": AT, "livemode": True,
         "related_object": {"id": "in_1", "type": "invoice"}},
        event("evt_draft", "invoice.deleted", {"id": "in_9", "object": "invoice", "status": "draft"}, created=AT),
        event("evt_item", "invoiceitem.created", {"id": "ii_1", "object": "invoiceitem", "amount": 500}, created=AT),
        event("evt_soon", "invoice.upcoming", {"object": "invoice", "total": 500}, created=AT),
        event("evt_odd", "invoice.updated", {"id": "in_7", "object": "invoice", "status": "unheard_of"}, created=AT),
    ]  # fmt: skip
    again = made_of(facts_of([*teller.events, *more])).journal
    assert [entry.postings for entry in again.entries] == [entry.postings for entry in first.journal.entries]
    assert sum(entry.kind == "payment" for entry in again.entries) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_an_incomplete_subscription_earns_when_it_is_active(shape: str) -> None:
    teller = Teller(shape)
    teller.tell(AT, "customer.subscription.created", subscription(status="incomplete", created=AT))
    teller.invoice(AT, QUARTER, reason="subscription_create")
    paid = AT + 36_000
    waiting = at(made(list(teller.events)), "2026-02-01")
    teller.paid(paid)
    teller.tell(paid, "customer.subscription.updated", subscription(status="active", created=AT))
    books = made(teller.events)
    assert waiting == {"accounts_receivable": 9000, "deferred_revenue": 9000}
    assert at(books, "2026-01-01T09:59:59").get("revenue") is None
    assert at(books, "2026-01-01T10:00:00")["revenue"] == 42
    assert at(books, "2026-02-01")["revenue"] == 3100


def test_an_expired_first_invoice_was_never_revenue() -> None:
    teller = Teller("endive")
    teller.tell(AT, "customer.subscription.created", subscription(status="incomplete", created=AT))
    teller.invoice(AT, QUARTER, reason="subscription_create")
    teller.tell(AT + 82_800, "customer.subscription.updated", subscription(status="incomplete_expired", created=AT))
    teller.void(AT + 82_800)
    assert at(made(teller.events), "2026-06-01") == {}


@pytest.mark.parametrize("ended", ["canceled", "incomplete_expired"])
def test_a_first_invoice_whose_subscription_ends_before_it_is_paid_earns_only_once_it_is_paid(ended: str) -> None:
    teller = Teller("endive")
    teller.tell(AT, "customer.subscription.created", subscription(status="incomplete", created=AT))
    teller.invoice(AT, QUARTER, reason="subscription_create")
    teller.tell(AT + 3_600, "customer.subscription.deleted", subscription(status=ended, created=AT))
    assert at(made(list(teller.events)), "2026-06-01") == {"accounts_receivable": 9000, "deferred_revenue": 9000}
    teller.paid(seconds("2026-02-01"))
    books = made(teller.events)
    assert at(books, "2026-01-31").get("revenue") is None
    assert at(books, "2026-02-01") == {"stripe_balance": 9000, "deferred_revenue": 5900, "revenue": 3100}


def test_an_inquiry_takes_nothing_until_it_is_a_dispute() -> None:
    teller = told()
    inquiry = {"id": "dp_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_1", "amount": 9000,
               "currency": "usd", "status": "warning_needs_response", "balance_transactions": []}  # fmt: skip
    teller.tell(seconds("2026-01-15"), "charge.dispute.created", inquiry)
    before = at(made(list(teller.events)), "2026-02-01")
    lost = inquiry | {"status": "lost", "balance_transactions": [
        {"id": "txn_d", "object": "balance_transaction", "amount": -9000, "fee": 1500, "currency": "usd",
         "created": seconds("2026-02-01")}]}  # fmt: skip
    teller.tell(seconds("2026-02-01"), "charge.dispute.funds_withdrawn", lost)
    teller.tell(seconds("2026-02-02"), "charge.dispute.closed", lost)
    after = at(made(teller.events), "2026-02-03")
    assert "disputes" not in before
    assert (after["disputes"], after["dispute_fees"], after["stripe_balance"]) == (3100, 1500, -1500)


def test_a_dispute_in_another_currency_is_converted() -> None:
    teller = Teller("endive")
    teller.invoice(AT, QUARTER, currency="eur")
    teller.paid(AT)
    dispute = {"id": "dp_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_1", "amount": 9000,
               "currency": "eur", "status": "needs_response", "balance_transactions": [
                   {"id": "txn_d", "object": "balance_transaction", "amount": -9900, "fee": 1500, "currency": "usd",
                    "created": seconds("2026-02-01")}]}  # fmt: skip
    teller.tell(seconds("2026-02-01"), "charge.dispute.funds_withdrawn", dispute)
    entries = journal_at(made(teller.events), seconds("2026-02-01"))
    dollars = balances([entry for entry in entries if entry.currency == "usd"])
    euros = balances([entry for entry in entries if entry.currency == "eur"])
    assert {name: amount for name, amount in dollars.items() if amount} == {
        "stripe_balance": -11400,
        "fx_clearing": 9900,
        "dispute_fees": 1500,
    }
    assert (euros["stripe_balance"], euros["fx_clearing"], euros["disputes"]) == (9000, -9000, 3100)


def test_what_is_withdrawn_again_after_it_was_won_is_lost_whole() -> None:
    teller = told()
    dispute: Json = {
        "id": "dp_1",
        "object": "dispute",
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "amount": 9000,
        "currency": "usd",
        "status": "lost",
        "balance_transactions": [],
    }
    for day, amount in ((1, -9000), (11, 9000), (21, -9000)):
        when = seconds(f"2026-02-{day:02}")
        moved = {"id": f"txn_{day}", "object": "balance_transaction", "amount": amount, "fee": 0, "currency": "usd"}
        dispute["balance_transactions"].append(moved | {"created": when})
        teller.tell(when, "charge.dispute.updated", dispute)
    books = made(teller.events)
    cash = [at(books, f"2026-02-{day}").get("stripe_balance", 0) for day in ("02", "12", "22")]
    assert cash == [0, 9000, 0]
    assert "other_loss" not in at(books, "2026-02-22")


def shared(*amounts: int) -> Teller:
    """Tell of invoices that one payment pays."""
    teller, whole = Teller("endive"), sum(amounts)
    charge = {
        "id": "ch_1",
        "object": "charge",
        "customer": "cus_1",
        "amount": whole,
        "amount_captured": whole,
        "captured": True,
        "currency": "usd",
        "created": AT,
        "status": "succeeded",
        "payment_intent": "pi_1",
        "amount_refunded": 0,
    }
    teller.charges["ch_1"] = charge
    for number, amount in enumerate(amounts, 1):
        teller.invoice(AT, f"{amount}@2026-01-01..2026-04-01", id=f"in_{number}")
    teller.tell(AT, "charge.succeeded", charge)
    for number, amount in enumerate(amounts, 1):
        payment = {
            "id": f"inpay_{number}",
            "object": "invoice_payment",
            "invoice": f"in_{number}",
            "status": "paid",
            "amount_paid": amount,
            "currency": "usd",
            "status_transitions": {"paid_at": AT},
            "payment": {"type": "payment_intent", "payment_intent": "pi_1"},
        }
        teller.tell(AT, "invoice_payment.paid", payment)
        one = teller.invoices[f"in_{number}"]
        teller.tell(AT, "invoice.paid", one | {"status": "paid", "amount_paid": amount, "amount_remaining": 0})
        one["status"] = "paid"
    return teller


@pytest.mark.parametrize("noted", ["2026-01-31", "2026-02-01", "2026-02-05"])
@pytest.mark.parametrize(
    ("amount", "credited", "wanted"),
    [
        ("3000", "3000", {"credit_notes": 3000}),
        ("4000", "3000", {"credit_notes": 3000, "refunds": 1000}),
        ("2000", "1000", {"credit_notes": 1000, "refunds": 1000}),
    ],
)
def test_a_credit_note_covers_its_part_of_a_refund_of_several_invoices(
    noted: str, amount: str, credited: str, wanted: dict[str, int]
) -> None:
    """*11b: the part of a refund covered by no credit note's amount_refunded*, whichever invoices the payment paid."""
    teller = shared(3000, 3000)
    teller.refund(seconds("2026-02-01"), "re_1", amount)
    teller.credit(seconds(noted), "cn_1", credited, refund="re_1", before="0")
    found = at(made(teller.events), "2026-05-01")
    assert "refunds_clearing" not in found, "all that is known has met"
    back = int(amount)
    net = found["revenue"] - found.get("refunds", 0) - found["credit_notes"] - found.get("other_loss", 0)
    assert (found["stripe_balance"], net) == (6000 - back, 6000 - back)
    entries = [one for one in made(teller.events).journal.entries if one.kind in ("refund", "refund_credited")]
    taken = sum(
        sign * -p.amount for one in entries for sign in (1,) for p in one.postings if p.account == "refunds_clearing"
    )
    assert taken == wanted.get("refunds", 0)


@pytest.mark.parametrize(("credited", "owed", "given"), [(900, None, None), (1000, 900, 1000), (400, 900, 400)])
def test_what_a_failed_refund_was_to_bring_may_be_credited_to_the_balance(
    credited: int, owed: int | None, given: int | None
) -> None:
    """*11c: customer_refunds_payable, cleared by a new refund or balance credit*: one of that amount, no other gift."""
    holder = {"id": "cus_1", "object": "customer", "currency": "usd"}
    teller = told()
    teller.tell(AT, "customer.updated", holder | {"balance": 0})
    teller.refund(seconds("2026-02-01"), "re_1", "900")
    teller.credit(seconds("2026-02-01"), "cn_1", "900", refund="re_1")
    teller.fail(seconds("2026-02-11"), "re_1")
    teller.tell(seconds("2026-02-20"), "customer.updated", holder | {"balance": -credited})
    assert at(made(teller.events), "2026-02-12")["customer_refunds_payable"] == 900
    done = at(made(teller.events), "2026-02-21")
    found = [done.get(name) for name in ("customer_refunds_payable", "customer_balance", "customer_balance_adj")]
    assert found == [owed, credited, given]
    teller.refund(seconds("2026-03-01"), "re_2", "900")  # it was made again after all: the credit was a gift
    again = at(made(teller.events), "2026-03-02")
    assert (again.get("customer_refunds_payable"), again["customer_balance_adj"]) == (None, credited)


@pytest.mark.parametrize("money", ["usd", None])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_balance_given_by_hand_is_seen_whether_or_not_its_customer_names_a_currency(
    shape: str, money: str | None
) -> None:
    teller = Teller(shape)
    holder = {"id": "cus_1", "object": "customer", "currency": money}
    teller.tell(seconds("2025-12-01"), "customer.updated", holder | {"balance": -1100})
    teller.invoice(AT, "3100@2026-01-01..2026-02-01", starting="-1100", balance="1100")
    teller.tell(AT, "customer.updated", holder | {"balance": 0})
    books = made(teller.events)
    assert at(books, "2025-12-02") == {"customer_balance": 1100, "customer_balance_adj": 1100}
    assert at(books, "2026-02-01").get("customer_balance") is None


@pytest.mark.parametrize(("outside", "link"), [(9000, False), (4000, False), (4000, True)])
def test_what_the_api_says_was_paid_outside_of_stripe_is_no_payment_under_way(outside: int, link: bool) -> None:
    teller = Teller("endive")
    teller.invoice(AT, QUARTER)
    if link:
        teller.paid(AT, str(9000 - outside))
    invoice = teller.invoices["in_1"] | {"amount_paid": 9000, "amount_remaining": 0, "status": "paid"}
    teller.tell(AT + 60, "invoice.paid", invoice)
    told = at(made(list(teller.events)), "2026-01-02")
    assert (told["payments_clearing"], told.get("external_asset")) == (outside if link else 9000, None)
    teller.tell(AT + 120, "invoice.paid", invoice | {"amount_paid_off_stripe": outside})
    known = at(made(teller.events), "2026-01-02")
    assert known["external_asset"] == outside
    assert known.get("payments_clearing", 0) == (0 if link else 9000 - outside)
    assert known.get("accounts_receivable") is None


@pytest.mark.parametrize("shape", SHAPES)
def test_a_line_that_names_no_subscription_is_of_its_invoice_s(shape: str) -> None:
    teller = Teller(shape)
    teller.invoice(AT, QUARTER, "500@2026-01-01..2026-02-01", subscription="sub_2")
    own, added = teller.events[0]["data"]["object"]["lines"]["data"]
    added |= {"parent": None, "subscription": None}
    shown = show_all([made(teller.events)], AT, seconds("2026-04-01"))
    named = {line.line: line.subscription for entry in shown for line in entry.lines if line.line is not None}
    assert named == {own["id"]: "sub_1", added["id"]: "sub_2"}


@pytest.mark.parametrize("unique", [True, False])
def test_lines_that_bear_their_subscription_s_id_are_told_apart(unique: bool) -> None:
    teller = Teller("2020")
    for month, key in ((1, "in_1"), (2, "in_2")):
        start = f"2026-0{month}-01"
        teller.invoice(
            seconds(start), f"-500@{start}..2026-0{month + 1}-01", f"3100@{start}..2026-0{month + 1}-01", id=key
        )
        for finalized in (one["data"]["object"] for one in teller.events if one["data"]["object"]["id"] == key):
            for line in finalized["lines"]["data"]:
                line |= {"id": "sub_1"} | ({"unique_id": line["id"]} if unique else {})
    books = made(teller.events)
    assert at(books, "2026-03-01")["revenue"] == 5200
    keys = [entry.key for entry in journal_at(books, seconds("2026-03-01"))]
    assert len(keys) == len(set(keys))
    assert ("il_1_1:rec:2026-01" in keys) == unique


def session(status: str) -> Json:
    return {"id": "cs_1", "object": "checkout.session", "mode": "payment", "customer": "cus_1", "invoice": None,
            "payment_status": status, "status": "complete", "payment_intent": "pi_1", "amount_total": 1190,
            "currency": "eur", "total_details": {"amount_tax": 190}}  # fmt: skip


def charge(status: str = "succeeded", **more: Any) -> Json:
    return {"id": "ch_1", "object": "charge", "customer": "cus_1", "payment_intent": "pi_1", "amount": 1190,
            "currency": "eur", "created": AT, "status": status, "captured": status != "failed",
            "amount_captured": 1190 if status == "succeeded" else 0} | more  # fmt: skip


def test_a_purchase_is_revenue_once_it_is_paid() -> None:
    waiting = [
        event("e1", "checkout.session.completed", session("unpaid"), created=AT),
        event("e2", "charge.pending", charge("pending"), created=AT),
    ]
    came = [
        event("e3", "charge.succeeded", charge(), created=AT + 9_000),
        event("e4", "checkout.session.async_payment_succeeded", session("paid"), created=AT + 9_001),
    ]
    failed = [
        event("e3", "charge.failed", charge("failed"), created=AT + 9_000),
        event("e4", "checkout.session.async_payment_failed", session("unpaid"), created=AT + 9_001),
    ]
    assert at(made(waiting), "2026-02-01") == {"pending_cash": 1190, "payments_clearing": -1190}
    assert at(made(waiting + came), "2026-02-01") == {"stripe_balance": 1190, "revenue": 1000, "tax_liability": 190}
    assert at(made(waiting + failed), "2026-02-01") == {}


@pytest.mark.parametrize("mode", ["subscription", "setup"])
def test_a_session_that_sells_nothing_once_is_no_sale_though_its_shape_names_no_invoice(mode: str) -> None:
    """*mode=subscription only records the mapping*: its money is its invoice's, which older shapes do not name."""
    begun = session("paid") | {"mode": mode}
    del begun["invoice"]
    assert at(made([event("e1", "checkout.session.completed", begun, created=AT)]), "2026-02-01") == {}


@pytest.mark.parametrize(("part", "revenue", "tax"), [(1190, 1000, 190), (595, 500, 95), (1200, 1008, 192)])
def test_a_purchase_whose_payment_is_captured_later_is_sold_by_that(part: int, revenue: int, tax: int) -> None:
    authorised = charge(captured=False, amount_captured=0)
    events = [
        event("e1", "checkout.session.completed", session("unpaid"), created=AT),
        event("e2", "charge.succeeded", authorised, created=AT),
        event("e3", "charge.captured", charge(amount_captured=part), created=seconds("2026-01-05")),
    ]
    books = made(events)
    found = at(books, "2026-02-01")
    assert at(books, "2026-01-04") == {}
    assert (found["stripe_balance"], found["revenue"], found["tax_liability"]) == (part, revenue, tax)
    assert (books.journal.problems, found.get("payments_clearing")) == ([], None)


def test_a_charge_that_pays_nothing_known_is_revenue_and_said_so() -> None:
    books = made([event("e1", "charge.succeeded", charge(), created=AT)])
    assert at(books, "2026-02-01") == {"stripe_balance": 1190, "revenue": 1190}
    assert [(one.kind, one.key, one.amount) for one in books.journal.problems] == [("unlinked_charge", "ch_1", 1190)]


def test_an_authorisation_is_nothing_and_a_part_of_it_is_taken_later() -> None:
    authorised = [event("e1", "charge.succeeded", charge(captured=False, amount_captured=0), created=AT)]
    taken = event("e2", "charge.captured", charge(amount_captured=700), created=seconds("2026-01-05"))
    assert at(made(authorised), "2026-02-01") == {}
    books = made([*authorised, taken])
    assert (at(books, "2026-01-04"), at(books, "2026-02-01")["stripe_balance"]) == ({}, 700)


def test_an_authorisation_that_is_let_go_moves_nothing() -> None:
    held = event("e1", "charge.succeeded", charge(captured=False, amount_captured=0), created=AT)
    released = {"id": "re_1", "object": "refund", "charge": "ch_1", "payment_intent": "pi_1", "amount": 1190,
                "currency": "eur", "status": "succeeded", "balance_transaction": None, "created": AT + 60}  # fmt: skip
    canceled = charge(captured=False, amount_captured=0, amount_refunded=1190, refunds={"data": [released]})
    books = made([
        held,
        event("e2", "charge.refunded", canceled, created=AT + 60),
        event("e3", "refund.created", released, created=AT + 60),
    ])  # fmt: skip
    assert (at(books, "2026-02-01"), books.journal.problems) == ({}, [])
    part = charge(amount_captured=700, amount_refunded=490, refunds={"data": [released | {"amount": 490}]})
    taken = made([held, event("e2", "charge.captured", part, created=AT + 60)])
    assert at(taken, "2026-02-01") == {"stripe_balance": 700, "revenue": 700}
    back = event(
        "e3", "refund.created", released | {"id": "re_2", "amount": 700, "balance_transaction": "txn_1"}, created=AT
    )
    assert at(made([held, event("e2", "charge.captured", part, created=AT + 60), back]), "2026-02-01") == {
        "revenue": 700, "refunds": 700
    }  # fmt: skip


@pytest.mark.parametrize("behavior", ["exclusive", "inclusive"])
def test_shipping_is_earned_at_once_without_its_tax(behavior: str) -> None:
    teller = Teller("endive")
    teller.invoice(AT, QUARTER)
    shown = teller.events[0]["data"]["object"]
    subtotal = 1190 if behavior == "inclusive" else 1000
    shown |= {
        "total": 10190, "total_excluding_tax": 10000, "amount_due": 10190, "amount_remaining": 10190,
        "total_taxes": [{"amount": 190, "tax_behavior": behavior}],
        "shipping_cost": {"amount_subtotal": subtotal, "amount_tax": 190, "amount_total": 1190},
    }  # fmt: skip
    books = made(teller.events)
    assert at(books, "2026-01-01") == {
        "accounts_receivable": 10190, "deferred_revenue": 9000, "tax_liability": 190, "revenue": 1000
    }  # fmt: skip
    assert at(books, "2026-06-01")["revenue"] == 10000
    assert books.journal.problems == []


@pytest.mark.parametrize("old", [False, True])
def test_a_credit_note_takes_of_each_line_what_it_came_to(old: bool) -> None:
    teller = Teller("2024" if old else "endive")
    teller.invoice(AT, "5000@2026-01-01..2026-02-01", "5000@2026-01-01..2026-03-01", tax="0,950")
    teller.credit(AT, "cn_1", "4475")
    note = next(one["data"]["object"] for one in teller.events if one["type"] == "credit_note.created")
    tax = {"amount": 475, "inclusive": True} if old else {"amount": 475, "tax_behavior": "inclusive"}
    note["lines"]["data"] = [
        {"id": "cnli_1", "invoice_line_item": "il_1_1", "amount": 3000, "discount_amount": 1500,
         "discount_amounts": [{"amount": 1500, "discount": "di_1"}], "taxes": None, "tax_amounts": []},
        {"id": "cnli_2", "invoice_line_item": "il_1_2", "amount": 2975, "discount_amounts": [], "taxes": None}
        | {"tax_amounts" if old else "taxes": [tax]},
    ]  # fmt: skip
    [taken] = [one for one in made(teller.events).journal.entries if one.key == "cn_1"]
    assert sorted(one for one in taken.postings if one.line) == [
        ("deferred_revenue", 1500, "il_1_1"), ("deferred_revenue", 2500, "il_1_2"), ("tax_liability", 475, "il_1_2")
    ]  # fmt: skip


@pytest.mark.parametrize("shape", ["endive", "2024"])
def test_a_credit_note_says_itself_that_it_came_after_payment(shape: str) -> None:
    teller = Teller(shape)
    teller.invoice(AT, QUARTER)
    teller.paid(AT)
    teller.credit(seconds("2026-01-11"), "cn_1", "900")
    untold = [one for one in teller.events if one["type"] in ("invoice.finalized", "credit_note.created")]
    found = at(made(untold), "2026-02-01")
    assert (found["accounts_receivable"], found["customer_balance"]) == (9000, 900)


def test_a_credit_note_for_a_refund_of_a_payment_record_gives_back_money_outside_of_stripe() -> None:
    teller = Teller("endive")
    teller.invoice(AT, QUARTER)
    teller.paid(AT, oob="yes")
    teller.credit(seconds("2026-02-01"), "cn_1", "900", before="0")
    given_back = {"payment_record": "pr_1", "refund_group": "rg_1"}
    refund = {"amount_refunded": 600, "refund": None, "type": "payment_record_refund"}
    teller.events[-1]["data"]["object"]["refunds"] = [refund | {"payment_record_refund": given_back}]
    found = at(made(teller.events), "2026-05-01")
    assert (found["external_asset"], found["customer_balance"], found["credit_notes"]) == (8400, 300, 310)


@pytest.mark.parametrize(
    ("statuses", "wanted"),
    [
        ("pending", {"stripe_balance": -500, "payout_in_transit": 500}),
        ("pending paid", {"stripe_balance": -500, "bank": 500}),
        ("pending failed", {}),
        ("pending paid failed", {}),
        ("pending canceled", {}),
    ],
)
def test_payouts(statuses: str, wanted: dict[str, int]) -> None:
    kinds = {"pending": "created"}
    events = [
        event(f"e{n}", f"payout.{kinds.get(status, status)}", {"id": "po_1", "object": "payout", "amount": 500,
              "currency": "usd", "created": AT, "status": status}, created=AT + n)
        for n, status in enumerate(statuses.split())
    ]  # fmt: skip
    assert at(made(events), "2026-02-01") == wanted


def test_a_balance_changed_by_hand_is_an_adjustment_and_one_that_vanishes_is_none() -> None:
    def customer(number: int, balance: int, hours: int) -> Json:
        shown = {"id": "cus_1", "object": "customer", "balance": balance, "currency": "usd"}
        return event(f"c{number}", "customer.updated", shown, created=AT + 3_600 * hours)

    books = made([customer(1, -500, 0), customer(2, -200, 50)])
    assert at(books, "2026-01-02") == {"customer_balance": 500, "customer_balance_adj": 500}
    assert at(books, "2026-02-01") == {"customer_balance": 200, "customer_balance_adj": 200}
    teller = Teller("endive")
    teller.invoice(AT, "-3100@2026-01-01..2026-02-01", balance="-3100")
    teller.tell(AT + 2, "customer.updated", {"id": "cus_1", "object": "customer", "balance": -3100, "currency": "usd"})
    assert "customer_balance_adj" not in at(made(teller.events), "2026-02-01")


@pytest.mark.parametrize("told_after", [False, True])
@pytest.mark.parametrize(("starting", "used"), [(-1000, 1000), (-1000, 600), (1000, -1000)])
def test_a_balance_that_only_an_invoice_tells_of_is_what_it_was_before_that_invoice(
    starting: int, used: int, told_after: bool
) -> None:
    teller = Teller("endive")
    customer = {"id": "cus_1", "object": "customer", "currency": "usd"}
    teller.tell(seconds("2025-12-01"), "customer.updated", customer | {"balance": 0})
    teller.invoice(AT, "3000@2026-01-01..2026-02-01", starting=str(starting), balance=str(used))
    if told_after:
        teller.tell(AT, "customer.updated", customer | {"balance": starting + used})
    found = at(made(teller.events), "2026-03-01")
    assert found.get("customer_balance", 0) == -(starting + used), "as Stripe has it after the invoice"
    assert found["customer_balance_adj"] == -starting


def test_a_deleted_customer_keeps_the_balance_that_it_was_last_seen_with() -> None:
    teller = Teller("endive")
    customer = {"id": "cus_1", "object": "customer", "currency": "usd"}
    teller.tell(seconds("2025-12-01"), "customer.updated", customer | {"balance": -500})
    teller.tell(AT, "customer.updated", customer | {"balance": 0, "deleted": True})
    assert at(made(teller.events), "2026-02-01") == {"customer_balance": 500, "customer_balance_adj": 500}


def test_a_balance_in_another_currency_than_the_customers_own_is_compared_with_what_invoices_say() -> None:
    teller = Teller("endive")
    shown = {"id": "cus_1", "object": "customer", "currency": "usd", "balance": 0}  # Stripe shows it in its own alone
    teller.tell(seconds("2025-12-01"), "customer.updated", shown)
    teller.invoice(AT, "3000@2026-01-01..2026-02-01", starting="-1100", balance="1100", currency="eur")
    found = at(made(teller.events), "2026-03-01")
    assert (found.get("customer_balance"), found["customer_balance_adj"]) == (None, 1100)


def test_a_balance_that_is_said_again_is_compared_again() -> None:
    teller = Teller("endive")
    customer = {"id": "cus_1", "object": "customer", "currency": "usd", "balance": 0}
    teller.tell(seconds("2025-12-01"), "customer.updated", customer)
    teller.tell(seconds("2025-12-02"), "customer.updated", customer)
    teller.invoice(AT, "-400@2026-01-01..2026-02-01", balance="-400")  # and somebody took the credit back: not told
    teller.tell(seconds("2026-01-15"), "customer.updated", customer)
    teller.tell(seconds("2026-02-15"), "customer.updated", customer)
    books = made(teller.events)
    assert at(books, "2026-01-02")["customer_balance"] == 400
    after = at(books, "2026-03-01")
    assert (after.get("customer_balance"), after["customer_balance_adj"]) == (None, -400)


def test_a_long_invoice_is_billed_at_once_and_earned_when_its_lines_are_known() -> None:
    teller = Teller("endive")
    teller.invoice(AT, QUARTER, "3000@2026-01-01..2026-02-01")
    shown = teller.events[0]["data"]["object"]
    lines = shown["lines"]["data"]
    shown["lines"] = {"data": lines[:1], "has_more": True}
    books = made(list(teller.events))
    assert at(books, "2026-03-01") == {"accounts_receivable": 12000, "deferred_revenue": 12000}
    assert [(one.kind, one.amount) for one in books.journal.problems] == [("lines_incomplete", 3000)]
    observation = {
        "id": "obs_1", "object": "event", "type": "ledger.observation.recorded", "created": AT, "livemode": True,
        "data": {"object": {"object": "ledger.observation", "kind": "invoice.lines", "of": "in_1", "customer": "cus_1",
                            "responses": [{"object": "list", "data": [line]} for line in lines]}},
    }  # fmt: skip
    known = made_of(facts_of([*teller.events, observation]))
    assert at(known, "2026-02-01") == {"accounts_receivable": 12000, "revenue": 6100, "deferred_revenue": 5900}
    assert known.journal.problems == []


def test_a_long_credit_note_takes_of_its_lines_once_all_of_them_are_known() -> None:
    teller = Teller("endive")
    teller.invoice(AT, "5000@2026-01-01..2026-02-01", "3000@2026-01-01..2026-03-01")
    teller.credit(AT, "cn_1", "4000")
    note = next(one["data"]["object"] for one in teller.events if one["type"] == "credit_note.created")
    lines = [
        {"id": f"cnli_{n}", "invoice_line_item": f"il_1_{n}", "amount": amount} for n, amount in ((1, 1000), (2, 3000))
    ]
    note["lines"] = {"data": lines[:1], "has_more": True}
    books = made(list(teller.events))
    assert at(books, "2026-01-01") == {"accounts_receivable": 4000, "deferred_revenue": 4000}
    assert [(one.kind, one.key, one.amount) for one in books.journal.problems] == [("lines_incomplete", "cn_1", 3000)]
    observation = {
        "id": "obs_1", "object": "event", "type": "ledger.observation.recorded", "created": AT, "livemode": True,
        "data": {"object": {"object": "ledger.observation", "kind": "credit_note.lines", "of": "cn_1",
                            "customer": "cus_1", "responses": [{"object": "list", "data": lines}]}},
    }  # fmt: skip
    known = made([*teller.events, observation])
    assert at(known, "2026-02-01") == {"accounts_receivable": 4000, "revenue": 4000}
    assert known.journal.problems == []


def test_fees_and_conversion_come_from_what_was_observed() -> None:
    teller = told()
    transaction = {"id": "txn_1", "object": "balance_transaction", "source": "ch_1", "amount": 8100, "fee": 290,
                   "net": 7810, "currency": "eur", "created": AT + 5}  # fmt: skip
    observation = {
        "id": "obs_1", "object": "event", "type": "ledger.observation.recorded", "created": AT + 5, "livemode": True,
        "data": {"object": {"object": "ledger.observation", "kind": "balance_transaction", "of": "txn_1",
                            "customer": "cus_1", "responses": [transaction]}},
    }  # fmt: skip
    entries = journal_at(made_of(facts_of([*teller.events, observation])), seconds("2026-01-02"))
    euros = balances([entry for entry in entries if entry.currency == "eur"])
    assert euros == {"stripe_fees": 290, "stripe_balance": 7810, "fx_clearing": -8100}
    assert balances([entry for entry in entries if entry.currency == "usd"])["stripe_balance"] == 0


def test_what_only_its_charge_says_went_back_is_said_aloud_until_its_refund_is_known() -> None:
    teller = told()
    back = teller.charges["ch_1"] | {"amount_refunded": 900}
    teller.tell(seconds("2026-02-01"), "charge.refunded", back)
    books = made(list(teller.events))
    [problem] = books.journal.problems
    assert problem[:5] == ("refund_not_told", "ch_1", "usd", 900, seconds("2026-02-01"))
    teller.refund(seconds("2026-02-01"), "re_1", "900")
    assert made(teller.events).journal.problems == []


@pytest.mark.parametrize("currency", ["jpy", "kwd", "ugx", "isk"])
def test_currencies_are_worlds_apart(currency: str) -> None:
    teller = Teller("endive")
    teller.invoice(AT, "3100@2026-01-01..2026-02-01", currency=currency)
    teller.invoice(AT, "6200@2026-01-01..2026-02-01", id="in_2")
    entries = journal_at(made(teller.events), seconds("2026-01-16"))
    for one, revenue in ((currency, 1500), ("usd", 3000)):
        found = balances([entry for entry in entries if entry.currency == one])
        assert (found["revenue"], found["accounts_receivable"]) == (revenue, 2 * revenue + revenue // 15)


def test_tax_that_only_the_whole_invoice_shows_keeps_no_line_from_being_earned() -> None:
    teller = Teller("2020")
    teller.invoice(AT, QUARTER, "1000@2026-01-01..2026-02-01", tax="1800,200")
    for line in teller.invoices["in_1"]["lines"]["data"] + teller.events[0]["data"]["object"]["lines"]["data"]:
        line["tax_amounts"] = []
    teller.paid(AT)
    teller.refund(seconds("2026-02-01"), "re_1", "6000")
    books = made(teller.events)
    assert at(books, "2026-01-31T23:59:59") == {
        "stripe_balance": 12000, "deferred_revenue": 5900, "revenue": 4100, "tax_liability": 2000
    }  # fmt: skip
    assert at(books, "2026-06-01") == {
        "stripe_balance": 6000, "revenue": 7050, "refunds": 2050, "tax_liability": 1000
    }  # fmt: skip
    assert [(one.kind, one.amount) for one in books.journal.problems] == [("tax_not_on_lines", 2000)]


def test_an_invoice_that_contradicts_itself_is_billed_by_its_total_and_said_so() -> None:
    teller = Teller("endive")
    teller.invoice(AT, QUARTER)
    shown = teller.events[0]["data"]["object"]
    shown |= {"total": 9500, "amount_due": 9400}
    books = made(teller.events)
    assert at(books, "2026-02-01") == {"accounts_receivable": 9500, "deferred_revenue": 9500}
    assert sorted((one.kind, one.amount) for one in books.journal.problems) == [
        ("amount_due_differs", -100), ("amount_remaining_differs", -400), ("lines_differ_from_total", 500),
        ("total_differs_from_net_and_tax", 500),
    ]  # fmt: skip

"""Money told in a few lines, in every API version's shape: the truth of the books is what the story says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ledger.simulator.company import Company
from ledger.simulator.scenario import play
from ledger.simulator.versions import BASIL, ENDIVE, VERSIONS

Json = dict[str, Any]

STORIES = {
    "a month that is paid": """
        given  day 0   subscribe starter_month_usd
        then   day 0   books deferred_revenue=-900 stripe_balance=900 accounts_receivable=0 payments_clearing=0
               day 15.5 books revenue=-450 deferred_revenue=-450
    """,
    "credit given by hand pays a part": """
        given  day 0   balance -400
               day 1   subscribe starter_month_usd
        then   day 0   books customer_balance=-400 customer_balance_adj=400
               day 1   books customer_balance=0 stripe_balance=500 deferred_revenue=-900
    """,
    "a void gives back what the balance had paid": """
        given  day 0   balance -400
               day 0   bank insufficient_funds
               day 0   subscribe starter_month_usd
        then   day 0.5 books accounts_receivable=500 deferred_revenue=-900 customer_balance=0
               day 2   books accounts_receivable=0 deferred_revenue=0 customer_balance=-400 voids=0
    """,
    "a downgrade's credit is earned before its invoice": """
        given  day 0   subscribe team_month_usd*3
               day 10  change team_month_usd*1
        then   day 31  books unbilled_receivable=-2032 revenue=-2468
               day 31.1 books unbilled_receivable=0 customer_balance=-532 accounts_receivable=0
    """,
    "written off, then paid, then disputed": """
        given  day 0   exhausted uncollectible
               day 0   subscribe starter_year_usd
               day 300 bank insufficient_funds
               day 400 pay
               day 410 dispute lost
        then   day 399 books bad_debt=371 recoverables=0 accounts_receivable=0 deferred_revenue=0
               day 400 books bad_debt=0 recoverables=-8629
               day 460 books bad_debt=0 recoverables=0 disputes=371 deferred_revenue=0 dispute_fees=1500
    """,
    "a refund in part, and one that fails": """
        given  day 0    subscribe starter_month_usd
               day 15.5 refund 300
               day 16.5 refund 300 fails
        then   day 15.5 books refunds=150 deferred_revenue=-300 stripe_balance=600 refunds_clearing=0
               day 17   books stripe_balance=300
               day 20   books stripe_balance=600 refunds=150
               day 40   books deferred_revenue=-611
    """,
    "a credit note explains its refund, at once and later": """
        given  day 0    subscribe starter_month_usd
               day 15.5 credit_note 300 refund
               day 16.5 refund 300
               day 20   credit_note 300 earlier
        then   day 15.5 books credit_notes=150 refunds=0 stripe_balance=600 refunds_clearing=0
               day 19   books credit_notes=150 refunds=159 stripe_balance=300
               day 20   books refunds=0 refunds_clearing=0
    """,
    "a credit note after payment becomes balance": """
        given  day 0    subscribe starter_month_usd
               day 15.5 credit_note 300
        then   day 15.5 books credit_notes=150 customer_balance=-300 stripe_balance=900
    """,
    "a credit note before payment, taken back": """
        given  day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 32  credit_note 300
               day 33  void_credit_note
        then   day 32  books accounts_receivable=600
               day 33  books accounts_receivable=900 credit_notes=0
    """,
    "a dispute won late": """
        given  day 0   subscribe starter_year_usd
               day 73  dispute late_win
        then   day 74  books disputes=1800 deferred_revenue=0 stripe_balance=-1500 dispute_fees=1500
               day 140 books disputes=1800 recoverables=-9000 stripe_balance=9000 dispute_fees=0
    """,
    "an inquiry moves no money": """
        given  day 0   subscribe starter_year_usd
               day 73  dispute inquiry
        then   day 140 books stripe_balance=9000
    """,
    "paid in two parts": """
        given  day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 32  pay 300
               day 33  pay
        then   day 32  books accounts_receivable=600 stripe_balance=1200
               day 33  books accounts_receivable=0 stripe_balance=1800
    """,
    "paid outside Stripe": """
        given  day 0   subscribe starter_month_usd
               day 20  bank insufficient_funds
               day 32  out_of_band
        then   day 32  books accounts_receivable=0 stripe_balance=900 external_asset=900
    """,
    "money reaches the bank, or not": """
        given  day 0   subscribe starter_month_usd
               day 5   payout 500
               day 10  payout 400 fails
        then   day 6   books payout_in_transit=500 stripe_balance=400
               day 8   books bank=500 payout_in_transit=0
               day 13  books bank=500 stripe_balance=400
    """,
    "a debit that clears, and one that bounces": """
        given  day 0   buy course_once_usd debit
               day 10  buy course_once_usd bouncing_debit
        then   day 1   books pending_cash=4900 payments_clearing=-4900
               day 5   books stripe_balance=4900 revenue=-4900 payments_clearing=0 pending_cash=0
               day 20  books stripe_balance=4900 revenue=-4900 payments_clearing=0 pending_cash=0
    """,
    "billed once is earned at once": """
        given  day 0   subscribe starter_month_usd
               day 5   add_item setup_once_usd
               day 40  bill setup_once_usd
        then   day 5   books stripe_balance=900
               day 32  books stripe_balance=16700
               day 41  books stripe_balance=31600
               day 59  books revenue=-31600 deferred_revenue=0
    """,
    "bands": """
        given  day 0   subscribe archive_month_usd*10
        then   day 0   mrr usd=1890
               day 0   books deferred_revenue=-1890
    """,
    "an item on a trial of its own": """
        given  day 0   subscribe starter_month_usd support_year_usd item_trial=30
        then   day 1   mrr usd=900
               day 30  mrr usd=1908
    """,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, version: str) -> None:
    story = play(STORIES[name], api_version=version)
    assert story.told
    for told in story.told:
        books = told.about == "books"
        said = story.truth.books.trial_balance(told.at)["usd"] if books else story.truth.mrr(told.at)
        assert not books or sum(said.values()) == 0
        for key, value in told.facts.items():
            assert said.get(key, 0) == value, f"{told.line}: {key} is {said.get(key, 0)}"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_credit_note_says_in_its_versions_way_what_became_of_it(version: str) -> None:
    story = play(STORIES["a credit note explains its refund, at once and later"], api_version=version)
    notes = [one["data"]["object"] for one in story.events if one["type"] == "credit_note.created"]
    refunds = [one["data"]["object"]["id"] for one in story.events if one["type"] == "refund.created"]
    named = [note["refunds"][0]["refund"] if version in {BASIL, ENDIVE} else note["refund"] for note in notes]
    assert named == refunds
    assert all(("post_payment_amount" in note) == (version == ENDIVE) for note in notes)
    assert all(("tax_amounts" in note) == (version not in {BASIL, ENDIVE}) for note in notes)


def of_type(events: list[Json], type_: str) -> list[Json]:
    return [event["data"]["object"] for event in events if event["type"] == type_]


def test_the_company_has_every_kind_of_fact(company: Company, events: list[Json]) -> None:
    found: Counter[str] = Counter()
    for note in of_type(events, "credit_note.created"):
        found[note["type"]] += 1
        found["line"] += note["lines"]["data"][0]["invoice_line_item"] is not None
        found["to balance"] += note["customer_balance_transaction"] is not None
        found["outside"] += note["out_of_band_amount"] is not None
        found["refund"] += bool(note["refunds"])
    for invoice in of_type(events, "invoice.finalized"):
        found["negative"] += invoice["total"] < 0
        found["manual"] += invoice["billing_reason"] == "manual"
        found["collects a debt"] += invoice["starting_balance"] > invoice["ending_balance"]
        found["uses credit"] += invoice["starting_balance"] < invoice["ending_balance"] and invoice["total"] > 0
    for dispute in of_type(events, "charge.dispute.closed"):
        found[dispute["status"]] += 1
    for dispute in of_type(events, "charge.dispute.funds_withdrawn"):
        found["exchanged"] += dispute["balance_transactions"][0]["currency"] != dispute["currency"]
    for charge in of_type(events, "charge.refunded"):
        found["refunded" if charge["refunded"] else "refunded in part"] += 1
    found["won late"] = sum(dispute["status"] == "won" for dispute in of_type(events, "charge.dispute.updated"))
    found["failed"] = len(of_type(events, "refund.failed"))
    found["unnamed"] = sum(not one["metadata"] for one in of_type(events, "checkout.session.completed"))
    found["payment record"] = sum(
        one["payment"]["type"] == "payment_record" for one in of_type(events, "invoice_payment.paid")
    )
    for item in of_type(events, "customer.subscription.created"):
        found["trial of an item"] += any("current_trial" in one for one in item["items"]["data"])
        found["bands"] += any(one["price"]["tiers_mode"] == "volume" for one in item["items"]["data"])
        found["foreign"] += any(one["price"]["currency"] != item["currency"] for one in item["items"]["data"])
    rare = {name: count for name, count in found.items() if count < 3}
    assert rare == {}


def test_customers_balances_are_in_the_books(company: Company) -> None:
    for book, truth in company.truth.items():
        balances: Counter[str] = Counter()
        for customer in company.customers(book):
            balances[customer.currency] += customer.balance
        for currency, accounts in truth.books.trial_balance(company.arguments.end).items():
            assert accounts.get("customer_balance", 0) == balances[currency]

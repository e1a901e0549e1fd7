"""The simulated company is what it says: every kind of event, honest invoices, reversible updates, the same bytes."""

from __future__ import annotations

import hashlib
import itertools
import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest

from ledger.simulator.answers import answers
from ledger.simulator.company import Arguments, Company
from ledger.simulator.render import changes
from ledger.simulator.versions import BASIL, ENDIVE, V2020, V2024, VERSIONS

Json = dict[str, Any]

FOR_ENTITLEMENTS = set(
    """
customer.created customer.updated customer.deleted product.created price.created
customer.subscription.created customer.subscription.updated customer.subscription.deleted
customer.subscription.paused customer.subscription.resumed
customer.subscription.pending_update_applied customer.subscription.pending_update_expired
entitlements.active_entitlement_summary.updated
checkout.session.completed checkout.session.async_payment_succeeded checkout.session.async_payment_failed
checkout.session.expired charge.refunded refund.created refund.updated refund.failed
charge.dispute.created charge.dispute.updated charge.dispute.closed charge.dispute.funds_withdrawn
charge.dispute.funds_reinstated invoice.payment_failed invoice.finalized invoice.paid
""".split()
)


def of_type(events: list[Json], prefix: str) -> list[Json]:
    return [event for event in events if event["type"].startswith(prefix)]


def test_every_type_entitlements_need_occurs(events: list[Json]) -> None:
    seen = Counter(event["type"] for event in events)
    assert not FOR_ENTITLEMENTS - set(seen)
    assert len(events) > 40_000
    assert len({event["id"] for event in events}) == len(events)


def test_event_ids_say_nothing_about_order(events: list[Json]) -> None:
    ids = [event["id"] for event in events]
    falls = sum(one > following for one, following in itertools.pairwise(ids))
    assert 0.4 < falls / len(ids) < 0.6


def test_accounts_and_modes_are_apart(events: list[Json]) -> None:
    by_book: dict[tuple[str, bool], set[str]] = {}
    for event in events:
        if customer := event["data"]["object"].get("customer"):
            by_book.setdefault((event.get("account", "self"), event["livemode"]), set()).add(customer)
    assert len(by_book) == 3
    assert len(set.union(*by_book.values())) == sum(map(len, by_book.values()))


def test_invoice_identities_hold_on_every_finalised_invoice(events: list[Json]) -> None:
    finalised = [event["data"]["object"] for event in of_type(events, "invoice.finalized")]
    with_balance = negative = taxed = discounted = 0
    for invoice in finalised:
        taxes = sum(tax["amount"] for tax in invoice["total_taxes"])
        applied = invoice["ending_balance"] - invoice["starting_balance"]
        assert invoice["total"] == invoice["total_excluding_tax"] + taxes
        assert invoice["amount_due"] == invoice["total"] - applied - invoice["pre_payment_credit_notes_amount"]
        assert invoice["amount_remaining"] == invoice["amount_due"] - invoice["amount_paid"] >= 0
        assert sum(map(net, invoice["lines"]["data"])) == invoice["total_excluding_tax"]
        assert invoice["subtotal"] == sum(line["amount"] for line in invoice["lines"]["data"])
        with_balance += applied != 0
        negative += invoice["total"] < 0
        taxed += taxes != 0
        discounted += bool(invoice["total_discount_amounts"])
    assert min(with_balance, negative, taxed, discounted) > 10


def net(line: Json) -> int:
    """What of a line can become revenue (stripe-domain §5.2, I4)."""
    discounts = sum(one["amount"] for one in line["discount_amounts"])
    inclusive = sum(tax["amount"] for tax in line["taxes"] if tax["tax_behavior"] == "inclusive")
    return int(line["amount"] - discounts - inclusive)


@pytest.mark.parametrize("version", VERSIONS)
def test_reversing_an_update_gives_the_state_before_it(version: str) -> None:
    last: dict[str, Json] = {}
    reversed_ = 0
    for event in Company(Arguments(customers=40, months=12, api_version=version)).events():
        thing = event["data"]["object"]
        key = thing.get("id") or f"summary of {thing['customer']}"
        before = last.get(key)
        if before is not None and "previous_attributes" in event["data"]:
            assert without_nulls(undo(thing, event["data"]["previous_attributes"])) == without_nulls(before)
            reversed_ += 1
        last[key] = thing
    assert reversed_ > 500


def undo(state: Json, previous: Json) -> Json:
    """Put prior values back, as stripe-domain §1.5 says it: written again here, not taken from the projections."""
    prior = dict(state)
    for key, value in previous.items():
        prior[key] = undo(prior[key], value) if isinstance(value, dict) and isinstance(prior.get(key), dict) else value
    return prior


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return value


def test_changes_name_what_was() -> None:
    before = {"a": 1, "b": {"x": 1, "y": 2}, "c": [1], "gone": 5}
    after = {"a": 1, "b": {"x": 1, "y": 3}, "c": [1, 2], "new": 6}
    assert changes(before, after) == {"b": {"y": 2}, "c": [1], "gone": 5, "new": None}


def test_movements_lead_from_opening_to_closing(company: Company, events: list[Json]) -> None:
    assert events
    found = answers(company, instants=0)
    for month in [one for book in found.values() for one in book["months"]]:
        for moved in month["movements"].values():
            gains = moved["new"] + moved["reactivation"] + moved["expansion"]
            assert moved["opening"] + gains - moved["contraction"] - moved["churn"] == moved["closing"]
    for truth in company.truth.values():
        closing: dict[str, int] = {}
        end = company.arguments.end
        for currency, moved in truth.movements(company.arguments.start, end).items():
            closing[currency] = moved["closing"]
        assert {key: amount for key, amount in closing.items() if amount} == truth.mrr(end - 1)


def test_monthly_closings_are_the_mrr_of_that_moment(company: Company, events: list[Json]) -> None:
    assert events
    for book, found in answers(company, instants=0).items():
        for month in found["months"]:
            closings = {
                currency: moved["closing"] for currency, moved in month["movements"].items() if moved["closing"]
            }
            assert closings == company.truth[book].mrr(month["at"] - 1)


def test_the_same_arguments_give_the_same_bytes() -> None:
    def digest(**more: Any) -> str:
        whole = hashlib.sha256()
        arguments = replace(Arguments(customers=20, months=6, api_version="mixed"), **more)
        for delivery in Company(arguments).deliveries():
            whole.update(b"%d %s\n" % (delivery.at, delivery.body))
        return whole.hexdigest()

    assert digest() == digest()
    assert digest() != digest(seed=2)


def test_memory_does_not_grow_with_the_length() -> None:
    def peak(months: int) -> tuple[int, int]:
        company = Company(Arguments(customers=30, months=months), keep_truth=False)
        tracemalloc.start()
        count = sum(1 for _ in company.events())
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, used

    few, small = peak(12)
    many, large = peak(120)
    assert many > 4 * few
    assert large < 2 * small


SINCE_BASIL = {
    "subscription": {"current_period_start", "current_period_end", "discount", "plan"},
    "invoice": {"subscription", "subscription_details", "charge", "payment_intent", "paid", "paid_out_of_band", "quote",
                "tax", "total_tax_amounts", "discount", "transfer_data", "application_fee_amount"},
    "line_item": {"price", "plan", "proration", "proration_details", "subscription_item", "invoice_item", "type",
                  "tax_amounts", "tax_rates", "amount_excluding_tax"},
    "invoiceitem": {"price", "plan", "subscription", "subscription_item", "unit_amount"},
    "charge": {"invoice"},
    "payment_intent": {"invoice"},
}  # fmt: skip
"""What 2025-03-31.basil removed (stripe-domain §2.1)."""

NEW_IN_BASIL = {
    "invoice": {"parent", "amount_overpaid", "total_taxes"},
    "line_item": {"parent", "pricing", "taxes"},
    "invoiceitem": {"parent", "pricing"},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_field_names_are_those_of_the_version(version: str) -> None:
    fields: dict[str, set[str]] = {}
    seen: set[str] = set()
    for event in Company(Arguments(customers=60, months=8, api_version=version)).events():
        seen.add(event["type"])
        thing = event["data"]["object"]
        assert event["api_version"] == version
        assert "_older" not in orjson.dumps(event).decode()
        fields.setdefault(thing["object"], set()).update(thing)
        for line in thing["lines"]["data"] if thing["object"] == "invoice" else ():
            fields.setdefault("line_item", set()).update(line)
    old = version in {V2020, V2024}
    for kind, names in SINCE_BASIL.items():
        assert names <= fields[kind] if old else not names & fields[kind], kind
    for kind, names in NEW_IN_BASIL.items():
        assert not names & fields[kind] if old else names <= fields[kind], kind
    assert ("invoice_payment.paid" in seen) == (not old)
    assert ("refunds" in fields["charge"]) == (version == V2020)
    assert ("charges" in fields["payment_intent"]) == (version == V2020)
    assert ("status_details" in fields["subscription"]) == (version == ENDIVE)
    assert ("quantity_decimal" in fields["line_item"]) == (version == ENDIVE)


def test_coupons_stand_where_the_version_has_them() -> None:
    def discounted(version: str) -> Json:
        for event in Company(Arguments(api_version=version)).events():
            thing = event["data"]["object"]
            if thing["object"] == "subscription" and thing["discounts"]:
                return dict(thing)
        raise AssertionError("no subscription has a coupon")

    assert isinstance(discounted(ENDIVE)["discounts"][0], str)
    assert discounted(V2024)["discount"]["coupon"]["duration"] in {"once", "repeating", "forever"}
    assert "discount" not in discounted(BASIL)


def test_many_events_share_a_second_and_amounts_are_in_all_currencies(events: list[Json]) -> None:
    seconds = Counter((event["data"]["object"].get("customer"), event["created"]) for event in events)
    assert max(seconds.values()) >= 8
    finalised = of_type(events, "invoice.finalized")
    assert {event["data"]["object"]["currency"] for event in finalised} == {"usd", "eur", "jpy", "kwd", "gbp"}
    assert all(isinstance(event["created"], int) for event in events)

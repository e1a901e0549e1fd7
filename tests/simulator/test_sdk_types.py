"""Every simulated event is of the types the pinned SDK declares; and the check sees what is not."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import stripe

from ledger.simulator.company import Arguments, Company
from ledger.simulator.versions import ENDIVE
from tests.simulator.sdk_types import fields_of, violations

Json = dict[str, Any]
_OF_EACH_TYPE = 60


@pytest.fixture(scope="module")
def some_of_each() -> list[Json]:
    """Some events of every type, from all over two years."""
    seen: Counter[str] = Counter()
    kept = []
    for number, event in enumerate(Company(Arguments(customers=150, months=24)).events()):
        if seen[event["type"]] < _OF_EACH_TYPE and (number % 7 == 0 or seen[event["type"]] < 5):
            seen[event["type"]] += 1
            kept.append(event)
    return kept


def test_the_simulator_writes_the_pinned_version() -> None:
    assert stripe.api_version == ENDIVE


def test_every_event_is_of_the_declared_types(some_of_each: list[Json]) -> None:
    assert len(some_of_each) > 1_000
    found = Counter(f"{event['type']}: {one}" for event in some_of_each for one in violations(event))
    assert found == Counter()


@pytest.mark.parametrize(
    ("type_", "path", "value", "said"),
    [
        ("invoice.finalized", ("amount_due",), "100", "invoice.amount_due: '100' is no int"),
        ("invoice.finalized", ("amount_due",), None, "invoice.amount_due: None is no int"),
        ("invoice.finalized", ("amount_due",), ..., "invoice.amount_due: missing"),
        ("invoice.finalized", ("paid",), True, "invoice.paid: no such field"),
        ("invoice.finalized", ("lines", "data", 0, "price"), None, "invoice.lines.data[0].price: no such field"),
        (
            "invoice.finalized",
            ("lines", "data", 0, "period", "end"),
            1.5,
            "invoice.lines.data[0].period.end: 1.5 is no int",
        ),
        ("invoice.finalized", ("lines", "has_more"), ..., "invoice.lines: no list object"),
        ("invoice.finalized", ("discounts",), "di_1", "invoice.discounts: 'di_1' is no list"),
        ("customer.subscription.created", ("items", "data", 0, "price", "type"), ..., "type: missing"),
        ("customer.subscription.created", ("metadata",), {"a": 1}, "subscription.metadata.a: 1 is no str"),
        ("customer.subscription.created", ("items", "data", 0, "price", "unit_amount_decimal"), 9, "is no Decimal"),
        ("charge.dispute.created", ("evidence_details", "due_by"), "soon", "dispute.evidence_details.due_by"),
        ("charge.succeeded", ("billing_details",), [], "charge.billing_details: [] is no object"),
    ],
)
def test_what_is_wrong_is_found(
    some_of_each: list[Json], type_: str, path: tuple[Any, ...], value: Any, said: str
) -> None:
    event = copy.deepcopy(next(one for one in some_of_each if one["type"] == type_))
    place = event["data"]["object"]
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    assert any(said in one for one in violations(event))


def test_the_envelope_and_what_changed_are_checked_too(some_of_each: list[Json]) -> None:
    event = copy.deepcopy(next(one for one in some_of_each if one["type"] == "invoice.updated"))
    event["created"] = "1700000000"
    event["data"]["previous_attributes"] = {"paid": False}
    found = violations(event)
    assert "event.created: '1700000000' is no int" in found
    assert "previous_attributes.paid: no such field" in found
    assert "paid" not in fields_of("invoice")

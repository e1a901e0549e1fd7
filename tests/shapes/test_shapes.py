"""The readers say the same of an object in every API version's shape, and nothing makes them fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import BeyondReadingError
from ledger.simulator.company import Arguments, Company
from ledger.simulator.versions import ENDIVE, VERSIONS
from projections.shapes.invoice import Invoice, invoice_of
from projections.shapes.payment import (
    charge_of,
    credit_note_of,
    dispute_of,
    intent_of,
    invoice_payment_of,
    refund_of,
    refunds_of_charge,
)
from projections.shapes.subscription import items_of, planned_end

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"

READERS: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "invoice": invoice_of,
    "charge": charge_of,
    "payment_intent": intent_of,
    "invoice_payment": invoice_payment_of,
    "refund": refund_of,
    "dispute": dispute_of,
    "credit_note": credit_note_of,
    "subscription": lambda source: (items_of(source), planned_end(source)),
}

ONLY_OLD = {"paid_out_of_band", "payment_intent", "charge"}
"""What invoices say in old shapes alone."""


def snapshots(version: str) -> list[dict[str, Any]]:
    """Return every snapshot of an invoice or subscription, in the order they were caused."""
    company = Company(Arguments(customers=40, months=6, seed=3, api_version=version), keep_truth=False)
    return [
        event["data"]["object"]
        for event in company.events()
        if event["type"].startswith(("invoice.", "customer.subscription."))
    ]


def comparable(read: object) -> str:
    """Write what was read, without what only one shape says; ids are the simulator's and get numbers in order."""
    if isinstance(read, Invoice):
        lines = tuple(line._replace(price_type=None, unit_amount=None) for line in read.lines)
        read = read._asdict() | {"lines": lines} | dict.fromkeys(ONLY_OLD)
    numbers: dict[str, str] = {}
    return re.sub(r"_[A-Za-z0-9]{24}", lambda found: numbers.setdefault(found[0], f"_{len(numbers)}"), repr(read))


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != ENDIVE])
def test_invoices_and_subscriptions_read_alike_in_every_version(version: str) -> None:
    both = list(zip(snapshots(ENDIVE), snapshots(version), strict=True))
    assert len(both) > 100
    for new, old in both:
        if old.get("paid_out_of_band"):
            continue  # before basil, what was paid outside Stripe was no part of the amount paid (§2.1)
        read = READERS[old["object"]]
        assert comparable(read(old)) == comparable(read(new)), old["id"]


def test_real_payloads_are_read() -> None:
    if not CORPUS.exists():
        pytest.skip("the corpus is not here")
    read = 0
    for path in sorted(CORPUS.rglob("*.json")):
        content = orjson.loads(path.read_bytes())
        found = [content, *content.values()] if isinstance(content, dict) else []
        found += [
            one["data"].get("object") for one in found if isinstance(one, dict) and isinstance(one.get("data"), dict)
        ]
        for one in found:
            if isinstance(one, dict) and str(one.get("object")) in READERS:
                assert READERS[one["object"]](one) is not None, path
                read += 1
    assert read > 20


def test_a_charge_of_an_old_shape_lists_its_refunds() -> None:
    charge = {"id": "ch_1", "refunds": {"data": [{"id": "re_1", "amount": 5, "charge": "ch_1"}]}}
    assert [(one.id, one.amount, one.status) for one in refunds_of_charge(charge)] == [("re_1", 5, "succeeded")]


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-(2.0**62), 2.0**62) | st.text(max_size=3),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=3), some, max_size=3),
    max_leaves=6,
)
KEYS: Final = (
    "status lines parent pricing period price plan taxes tax_amounts total amount currency payment refunds "
    "balance_transactions status_transitions quantity outcome last_payment_error items cancel_at total_taxes"
).split()


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), json, max_size=6), st.sampled_from(sorted(READERS)))
def test_hostile_shapes_are_read_as_far_as_they_go(source: dict[str, Any], kind: str) -> None:
    READERS[kind]({"id": "x_1", "lines": {"data": [source | {"id": "il_1"}]}} | source)


@pytest.mark.parametrize("large", [b"18446744073709551616", b"-9223372036854775809", b"1e300"])
def test_an_amount_that_is_not_read_whole_is_refused(large: bytes) -> None:
    source = orjson.loads(b'{"id": "in_1", "total": %s}' % large)
    with pytest.raises(BeyondReadingError, match="beyond 64 bits"):
        invoice_of(source)
    charge = charge_of({"id": "ch_1", "amount": 2**63, "amount_refunded": 0.5})
    assert charge is not None
    assert charge.amount == 2**63

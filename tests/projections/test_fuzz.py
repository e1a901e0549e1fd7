"""Real and simulated events with hostile JSON in them: readers read on, and a fold parks by its own refusal alone."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.services import projections_of
from api.settings import Settings
from ledger.simulator.company import Arguments, Company
from projections import folding
from projections.contract import Projection, Subject
from projections.facts import Fact, fact_of
from projections.folding import Folding, rows_of
from projections.links import links
from projections.revenue.entries import UnbalancedError
from projections.shapes import invoice, payment, price, subscription
from tests.http.test_fuzz import HOSTILE
from tests.shapes.test_shapes import CORPUS

EXAMPLES: Final = int(os.environ.get("FUZZ_BODIES", "40"))
PROJECTIONS: Final = projections_of(Settings())
SUBJECT: Final = Subject("self:live", "self:live/cus_1")
BEGUN: Final = datetime(2026, 1, 1, tzinfo=UTC)
REFUSALS: Final = (UnbalancedError,)
"""What a fold may say of a history that cannot be: the subject is parked, and shown with the error."""

READERS: Final[tuple[Callable[[dict[str, Any]], object], ...]] = (
    invoice.invoice_of, invoice.standing_of, invoice.subscription_of_invoice, invoice.lines_sold_once,
    invoice.period_of_lines, invoice.subscription_of, invoice.line_of,
    payment.charge_of, payment.intent_of, payment.invoice_payment_of, payment.refund_of, payment.refunds_of_charge,
    payment.dispute_of, payment.balance_transaction_of, payment.credit_note_of,
    price.price_of, price.tiers_of, lambda source: price.option_of(source, "usd"), price.coupon_of, price.discount_of,
    price.inclusive_percent, subscription.items_of, subscription.planned_end,
)  # fmt: skip


def parsed(text: str) -> Iterator[Any]:
    try:
        yield orjson.loads(text)
    except orjson.JSONDecodeError:
        return


JUNK: Final = [value for text in HOSTILE if len(text) < 1_000 for value in parsed(text)] + [
    2**64 - 1,
    -(2**63),
    253_402_300_800,
    [None],
    {},
]


@cache
def events() -> list[dict[str, Any]]:
    """Return real events, where the corpus is beside this checkout, and those of a simulated company."""
    company = Company(Arguments(customers=6, months=8, seed=9, api_version="mixed"), keep_truth=False)
    found = list(company.events())
    for path in sorted(CORPUS.rglob("*.json")):
        content = orjson.loads(path.read_bytes())
        found += [one for one in [content] if isinstance(one, dict) and "type" in one and "data" in one]
    return found


def spoiled(value: Any, dice: random.Random, often: float) -> Any:
    """Return the value with something hostile, doubled, left out or nested in some places, at any depth."""
    if dice.random() < often:
        return dice.choice([dice.choice(JUNK), [value], {"data": [value, value], "has_more": True}, str(value)])
    if isinstance(value, dict):
        return {key: spoiled(one, dice, often) for key, one in value.items() if dice.random() > often / 4}
    if isinstance(value, list):
        return [spoiled(one, dice, often) for one in value * dice.choice((1, 1, 1, 2))]
    return value


def history(seed: int, often: float) -> list[Fact]:
    """Return some events that were near each other, spoiled a little or much, as they come out of the log."""
    dice = random.Random(seed)
    first = dice.randrange(len(events()))
    facts = []
    for number, one in enumerate(events()[first : first + dice.randrange(1, 25)]):
        body = orjson.dumps(one | {"data": spoiled(one["data"], dice, often)})
        at = BEGUN + timedelta(minutes=number)
        facts.append(fact_of(f"evt_{number}", one["type"], at, number + 1, body))
    return facts


spoiling = {"seed": st.integers(0, 2**32), "often": st.sampled_from([0.0, 0.01, 0.05, 0.3])}


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(**spoiling)
def test_readers_read_past_whatever_an_object_says(seed: int, often: float) -> None:
    for fact in history(seed, often):
        links("self:live", fact)
        for source in inner(fact.subject):
            for read in READERS:
                read(source)


def inner(source: Any) -> Iterator[dict[str, Any]]:
    """Give an object and those within it."""
    if isinstance(source, dict):
        yield source
    for one in source.values() if isinstance(source, dict) else source if isinstance(source, list) else ():
        yield from inner(one)


def test_an_object_whose_kind_is_no_word_links_what_it_names() -> None:
    """An exception here would stop the follower, for everybody."""
    subject = {"id": "x_1", "object": {"id": []}, "charge": "ch_1"}
    assert [link.child for link in links("self:live", Fact("evt_1", "x", BEGUN, 1, subject, {}, {}))] == [
        "self:live/x_1"
    ]


@pytest.mark.parametrize("projection", PROJECTIONS, ids=attrgetter("name"))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(**spoiling)
def test_a_fold_gives_rows_or_refuses_as_it_says(projection: Projection, seed: int, often: float) -> None:
    facts = [fact for fact in history(seed, often) if fact.type in projection.types]
    try:
        rows = rows_of(projection, SUBJECT, facts)
    except REFUSALS:
        return
    widths = {table.name: len(table.columns) for table in projection.tables}
    assert all(len(row) == widths[table] for table, found in rows.items() for row in found)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=attrgetter("name"))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(**spoiling)
def test_a_state_of_spoiled_facts_goes_on_as_if_it_had_not_been_written(
    projection: Projection, seed: int, often: float
) -> None:
    facts = [fact for fact in history(seed, often) if fact.type in projection.types]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "REMEMBER_FROM", 2)
        try:
            first = Folding(projection, SUBJECT)
            first.hold(facts)
            folded = first.finish(100, ready=True)
        except REFUSALS:
            return
    if (ready := folded.ready) is not None:
        by_position = {fact.position: fact for fact in facts}
        after = [fact for fact in facts if fact.position >= ready.first_after and fact.created > ready.at]
        again = Folding(projection, SUBJECT, resume=ready, anchors=by_position)
        again.hold(after)
        assert again.finish(100).rows == folded.rows

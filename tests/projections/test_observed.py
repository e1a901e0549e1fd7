"""Observations: the bytes Stripe answered, in the log, and how a fold sees them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.cut import elements
from ledger.errors import MalformedEventError
from ledger.event import parse_envelope
from ledger.observation import OBSERVED, Answer, Observation, names_of, observation_event, observation_id, responses_of
from projections.contract import Subject
from projections.entitlements.rows import SourceRow
from projections.entitlements.tables import entitlements
from projections.facts import Fact, fact_of
from projections.folding import rows_of
from projections.links import links
from projections.terms import KnownTerms
from tests.stripe_events import event, subscription

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def observe(kind: str, of: str, *answers: bytes, names: dict[str, str] | None = None, book: str = "self:live") -> Fact:
    seen = Observation(
        book=book,
        kind=kind,
        of=of,
        created=NOON,
        observed_at=NOON + timedelta(seconds=9),
        answers=[Answer("/v1/x", {}, one) for one in answers],
        names=names or {},
        event_id="obs_1",
    )
    made = observation_event(seen)
    assert responses_of(made.body) == list(answers)
    return fact_of(made.event_id, made.type, made.created, 7, made.body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(JSON, max_size=5), st.dictionaries(st.text(), JSON, max_size=3), st.sampled_from([None, 1, "\t"]))
def test_each_element_of_a_page_is_cut_out_byte_for_byte(parts: list[Any], around: dict[str, Any], indent: Any) -> None:
    written = [json.dumps(one, indent=indent, ensure_ascii=False) for one in parts]
    try:
        page = f'{json.dumps(around)[:-1]}{"," if around else ""} \n"data" : [ {" ,".join(written)} ]}}'.encode()
        wanted = [one.encode() for one in written]
    except UnicodeEncodeError:
        return  # a lone surrogate is no UTF-8
    if "data" not in around:
        assert elements(page, "data") == wanted


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"data": 1}', b'{"data": [1', b'{"data"', b"\xff", b'{"a": 1}'])
def test_what_is_no_page_says_so(raw: bytes) -> None:
    with pytest.raises(MalformedEventError):
        elements(raw, "data")


def test_an_observation_is_an_event_of_its_objects_stream() -> None:
    raw = b'{ "id":"in_1", "object":"invoice","customer":"cus_1", "total": 3100.0 }'
    seen = Observation(
        "acct_1:test",
        "invoice",
        "in_1",
        NOON,
        NOON,
        [Answer("/v1/invoices", {}, raw)],
        names_of(orjson.loads(raw)),
        event_id="obs_1",
    )
    made = observation_event(seen)
    envelope = parse_envelope(made.body)
    assert made.stream_id == "acct_1:test/cus_1"
    assert (envelope.account, envelope.livemode, envelope.created) == ("acct_1", False, NOON)
    assert envelope.event_id == made.event_id == "obs_1"
    answers = [Answer("/v1/coupons/free", {}, b"{}")]
    coupon = Observation("self:live", "coupon", "free", NOON, NOON, answers, event_id="obs_2")
    assert observation_event(coupon).stream_id == "self:live/free"


def test_asking_again_for_the_same_reason_is_the_same_event() -> None:
    once, again, other, elsewhere = (
        observation_id(book, "coupon", "free", reason)
        for book, reason in (("self:live", "1"), ("self:live", "1"), ("self:live", "2"), ("self:test", "1"))
    )
    assert once == again
    assert len({once, other, elsewhere}) == 3


@pytest.mark.parametrize(
    ("answer", "type_"),
    [
        ({"object": "subscription", "status": "active"}, "customer.subscription.updated"),
        ({"object": "subscription", "status": "canceled"}, "customer.subscription.deleted"),
        ({"object": "invoice", "status": "paid"}, "invoice.paid"),
        ({"object": "invoice", "status": "draft"}, "invoice.updated"),
        ({"object": "customer", "deleted": True}, "customer.deleted"),
        ({"object": "balance_transaction"}, OBSERVED),
        ({"object": "charge", "status": ["odd"]}, "charge.updated"),
    ],
)
def test_an_object_is_seen_as_the_event_that_would_have_told(answer: dict[str, Any], type_: str) -> None:
    fact = observe(answer["object"], "x_1", orjson.dumps(answer))
    assert (fact.type, fact.subject, fact.observed) == (type_, answer, True)


def test_the_pages_of_a_list_are_seen_as_one() -> None:
    pages = [b'{"object":"list","data":[{"id":"il_1"}],"has_more":true}', b'{"object":"list","data":[{"id":"il_2"}]}']
    fact = observe("invoice.lines", "in_1", *pages, names={"customer": "cus_1", "invoice": "in_1"})
    assert fact.type == OBSERVED
    assert fact.subject == {
        "object": "list", "kind": "invoice.lines", "of": "in_1", "customer": "cus_1", "invoice": "in_1",
        "data": [{"id": "il_1"}, {"id": "il_2"}],
    }  # fmt: skip
    assert [link.child for link in links("self:live", fact)] == ["self:live/in_1"]


@pytest.mark.parametrize(
    "body", [b"{}", b'{"data":{"object":{"responses":7}}}', b'{"data":{"object":{"responses":[1]}}}']
)
def test_a_strange_observation_says_nothing(body: bytes) -> None:
    assert fact_of("obs_1", OBSERVED, NOON, 1, body).subject.get("data", []) == []


def test_an_observed_subscription_gives_what_an_event_would() -> None:
    projection = entitlements("org_id")
    raw = orjson.dumps(subscription(items="si_1:prod_1*3"))
    rows = rows_of(projection, Subject("self:live", "self:live/cus_1"), [observe("subscription", "sub_1", raw)])
    [row] = (SourceRow(*columns) for columns in rows["entitlement_source"])
    assert (row.item, row.quantity, row.status, row.valid_from) == ("si_1", Decimal(3), "active", NOON)


def test_tiers_once_observed_are_in_every_form_of_a_price() -> None:
    def told(number: int, type_: str, **more: Any) -> Fact:
        body = orjson.dumps(event(f"evt_{number}", type_, {"id": "price_1", "object": "price", **more}))
        return fact_of(f"evt_{number}", type_, NOON + timedelta(days=number), number, body)

    seen = observe("price", "price_1", b'{"id":"price_1","object":"price","tiers":[{"up_to":null}]}')
    terms = KnownTerms([told(-1, "price.created"), told(2, "price.updated", nickname="new"), seen])
    for days, nickname in ((-5, None), (1, None), (3, "new")):
        form = terms.at("price", "price_1", NOON + timedelta(days=days))
        assert form is not None
        assert (form["tiers"], form.get("nickname")) == ([{"up_to": None}], nickname)

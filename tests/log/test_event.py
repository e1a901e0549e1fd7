"""The envelope of an event and the stream it belongs to."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MalformedEventError
from ledger.event import parse_envelope, stream_of

GOOD = {"id": "evt_1", "type": "customer.created", "created": 1_768_000_000, "livemode": True}


def test_a_snapshot_event_is_read() -> None:
    envelope = parse_envelope(orjson.dumps(GOOD | {"account": "acct_1", "api_version": "2020-08-27"}))
    assert (envelope.event_id, envelope.type, envelope.livemode) == ("evt_1", "customer.created", True)
    assert (envelope.account, envelope.api_version) == ("acct_1", "2020-08-27")
    assert envelope.created == datetime.fromtimestamp(1_768_000_000, UTC)


def test_a_thin_event_is_read() -> None:
    thin = {
        "id": "evt_2",
        "object": "v2.core.event",
        "type": "v1.invoice.paid",
        "created": "2026-10-28T12:00:00.123Z",
        "livemode": False,
        "context": "org_1/acct_7",
        "related_object": {"id": "in_1", "type": "invoice"},
    }
    envelope = parse_envelope(orjson.dumps(thin))
    assert envelope.created == datetime(2026, 10, 28, 12, 0, 0, 123000, UTC)
    assert envelope.account == "acct_7"
    assert stream_of("acct_7:test", thin) == "acct_7:test/in_1"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": None}, "'id'"),
        ({"id": ""}, "'id'"),
        ({"id": "evt 1"}, "'id'"),
        ({"id": "evt\x00"}, "'id'"),
        ({"id": "e" * 256}, "'id'"),
        ({"type": 7}, "'type'"),
        ({"created": None}, "'created'"),
        ({"created": True}, "'created'"),
        ({"created": 1.5}, "'created'"),
        ({"created": 10**15}, "'created'"),
        ({"created": "yesterday"}, "'created'"),
        ({"created": -62_135_596_800}, "'created'"),
        ({"created": "0001-01-01T00:00:00Z"}, "'created'"),
        ({"created": "0001-01-01T00:00:00+14:00"}, "'created'"),
        ({"created": "9999-12-31T23:59:59.999999Z"}, "'created'"),
        ({"created": "9999-12-31T23:59:59-14:00"}, "'created'"),
        ({"created": "2026-01-01T00:00:00"}, "'created'"),
        ({"livemode": "yes"}, "'livemode'"),
        ({"account": {"id": "acct_1"}}, "'account'"),
        ({"account": "a:b/c"}, "'account'"),
    ],
)
def test_what_every_event_has_must_be_there(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(MalformedEventError, match=complaint):
        parse_envelope(orjson.dumps(GOOD | change))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"evt_1"', b"{", b"\xff\xfe", b'{"id": NaN}', b"[" * 100_000])
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedEventError):
        parse_envelope(body)


@pytest.mark.parametrize(
    ("subject", "previous", "stream"),
    [
        ({"object": "customer", "id": "cus_1"}, {}, "cus_1"),
        ({"object": "customer", "id": "cus_1", "customer_account": "acct_9"}, {}, "cus_1"),
        ({"id": "sub_1", "customer": "cus_1"}, {}, "cus_1"),
        ({"id": "sub_1", "customer": {"id": "cus_1", "object": "customer"}}, {}, "cus_1"),
        ({"id": "sub_1", "customer": None, "customer_account": "acct_9"}, {}, "acct_9"),
        ({"id": "pm_1", "customer": None}, {"customer": "cus_1"}, "cus_1"),
        ({"id": "ch_1", "customer": None, "payment_intent": "pi_1"}, {}, "pi_1"),
        ({"id": "dp_1", "charge": "ch_1"}, {}, "ch_1"),
        ({"id": "prod_1"}, {}, "prod_1"),
        ({"id": "sub_1", "customer": "cus\x00"}, {}, "sub_1"),
        ({"id": ["no"], "customer": 7}, {}, "evt_1"),
        ({}, {}, "evt_1"),
    ],
)
def test_the_stream_is_the_first_of_what_the_event_names(
    subject: dict[str, object], previous: dict[str, object], stream: str
) -> None:
    named = {"id": "evt_1", "data": {"object": subject, "previous_attributes": previous}}
    assert stream_of("self:live", named) == f"self:live/{stream}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(data=JSON, related=JSON)
def test_any_payload_has_a_stream(data: object, related: object) -> None:
    stream = stream_of("self:live", {"id": "evt_1", "data": data, "related_object": related})
    assert stream.startswith("self:live/")
    assert len(stream) > len("self:live/")

"""Bodies come back byte for byte, one by one or together."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from api.services import Services
from ledger import codec
from ledger.codec import BodyCodec, shipped_dictionary
from ledger.dictionary import BodyReader
from tests.stripe_events import event, new_event, subscription

ROWS = (
    "SELECT position, encoding, dictionary_id, salt, body FROM ledger.event WHERE book = 'self:live' ORDER BY position"
)
BODY = (
    b'{"id": "evt_1", "object": "event", "type": "customer.subscription.updated", "data": {"object": {"id": "sub_1"}}}'
)

CODEC = BodyCodec()
CODEC.use(shipped_dictionary())


def together(stored: list[bytes]) -> list[bytes]:
    return CODEC.decode_together(CODEC.encode(BODY).dictionary_id, stored)


@given(st.lists(st.builds(lambda some, times: BODY + some * times, st.binary(max_size=300), st.integers(0, 50))))
def test_what_was_compressed_together_with_others_comes_back_as_it_was(bodies: list[bytes]) -> None:
    encoded = [CODEC.encode(body) for body in bodies]
    assert [CODEC.decode(*one) for one in encoded] == bodies
    assert together([one.stored for one in encoded if one.encoding == codec.ZSTD_DICTIONARY]) == bodies


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"no frame",
        CODEC.encode(BODY).stored[:-1],
        zstandard.ZstdCompressor(write_content_size=False).compress(BODY),
    ],
    ids=["nothing", "no frame", "cut off", "of unknown size"],
)
def test_where_one_is_no_such_frame_none_is_decoded_together(odd: bytes) -> None:
    fine = CODEC.encode(BODY).stored
    assert together([fine, fine]) == [BODY, BODY]
    assert together([fine, odd]) == []


def test_nothing_comes_of_nothing() -> None:
    assert together([]) == []
    for others in ([], [CODEC.encode(BODY).stored]):
        assert together([zstandard.ZstdCompressor().compress(b""), *others]) == []


def test_none_is_decoded_together_by_a_dictionary_that_is_not_known() -> None:
    assert BodyCodec().decode_together(CODEC.encode(BODY).dictionary_id, [CODEC.encode(BODY).stored]) == []
    assert CODEC.decode_together(None, [CODEC.encode(BODY).stored]) == []


def test_what_comes_to_more_than_is_held_at_once_is_decoded_one_by_one() -> None:
    """A frame says how much it comes to; eight kilobytes can be sixteen megabytes."""
    large = CODEC.encode(BODY + b" " * 12 * 2**20).stored
    assert len(large) < 10_000
    assert [len(body) for body in together([large, large])] == [len(BODY) + 12 * 2**20] * 2
    assert together([large] * 3) == []


async def test_rows_that_were_erased_or_are_compressed_otherwise_are_left_to_be_decoded_one_by_one(
    services: Services, owner: asyncpg.Connection
) -> None:
    told = [event(f"evt_{n}", "customer.subscription.updated", subscription(customer="cus_1")) for n in range(5)]
    for one in told:  # the first is written before the log has a dictionary
        await services.appender.append([new_event(one)])
    await owner.execute("RESET ROLE")
    rows: list[dict[str, Any]] = [dict(row) for row in await owner.fetch(ROWS)]
    bodies = BodyReader()
    await bodies.prepare(owner, rows)
    exact = {row["position"]: bodies.decode(row) for row in rows}
    assert [row["encoding"] for row in rows] == [codec.ZSTD] + [codec.ZSTD_DICTIONARY] * 4
    assert bodies.decode_together(rows) == {row["position"]: exact[row["position"]] for row in rows[1:]}
    rows[1] |= {"salt": b"", "body": b""}
    rows[2] |= {"encoding": codec.RAW, "dictionary_id": None, "body": exact[rows[2]["position"]]}
    assert bodies.decode_together(rows) == {row["position"]: exact[row["position"]] for row in rows[3:]}

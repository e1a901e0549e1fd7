"""Any body at all, validly signed: it is refused or stored, never a 5xx, and what is stored can be read back.

``python -m bench.fuzz`` runs the same test with a hundred thousand bodies.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.services import Services, projections_of
from projections.builds import ensure_live
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.stripe_events import signature

BODIES: Final = int(os.environ.get("FUZZ_BODIES", "300"))

HOSTILE: Final = (
    "null", "true", "0", "-1", "1.5", "1e400", "-0.0", "9223372036854775808", "-" + "9" * 400, "1768000000.25",
    '""', '" "', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udfff\\ud800"', '"\u202e\u2028"', '"é"', '"../../x"',
    '"a/b%2Fc?d#e"', '"<script>alert(1)</script>"', '"=1+1"', '"' + "x" * 300 + '"', '"cus_1"', '"acct_1"', "[]", "{}",
    "[[[[[[[[]]]]]]]]", "[" * 1_000 + "]" * 1_000, '{"a":' * 300 + "1" + "}" * 300, '{"id":"x","id":"y"}',
    '{"id":{"id":"x"}}', '{"data":[{"id":null}]}', "[1,[2,{}]]",
)  # fmt: skip
"""JSON values, as text, that some reader somewhere does not expect."""

KEYS: Final = (
    "id", "object", "type", "created", "livemode", "account", "context", "api_version", "data", "previous_attributes",
    "customer", "status", "items", "price", "quantity", "metadata", "currency", "payment_intent", "charge", "lines",
    "related_object", "pending_webhooks", "x\\u0000", "\\ud800",
)  # fmt: skip
TYPES: Final = (
    "customer.subscription.updated", "customer.deleted", "product.updated", "invoice.paid", "charge.refunded",
    "v1.invoice.paid", "ledger.origin.opened", "unheard.of",
)  # fmt: skip


def written(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"


values = st.recursive(
    st.sampled_from(HOSTILE) | st.integers().map(str) | st.text("ab1_é", max_size=4).map(lambda text: f'"{text}"'),
    lambda some: st.lists(st.tuples(st.sampled_from(KEYS), some), max_size=4).map(written),
    max_leaves=6,
)
snapshots = st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=8).map(written)


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """An event that is good but for what a few keys, some of them written twice, say instead."""
    data = written([("object", draw(snapshots)), ("previous_attributes", draw(snapshots))])
    good = [("id", f'"evt_{draw(st.integers(0, 50))}"'), ("type", f'"{draw(st.sampled_from(TYPES))}"'),
            ("created", "1768000000"), ("livemode", "true"), ("data", data)]  # fmt: skip
    changed = draw(st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=3))
    dropped = draw(st.sets(st.sampled_from([key for key, _ in good]), max_size=1))
    return written([*(pair for pair in good if pair[0] not in dropped), *changed]).encode()


bodies = events() | st.binary(max_size=40) | values.map(str.encode) | events().map(lambda body: body[:-1])


STORED: Final = "SELECT book FROM ledger.event WHERE position = $1 AND event_id = $2"

BEHIND: Final = """
SELECT max(h.position - c.position)
FROM ledger.head AS h
JOIN ledger.checkpoint AS c ON c.book = h.book
WHERE c.build_id = $1
"""


@pytest.fixture
async def stored(services: Services) -> AsyncIterator[dict[tuple[str, str], bytes]]:
    """The first body of each book and id. Afterwards every projection passes them; what cannot be folded parks."""
    first: dict[tuple[str, str], bytes] = {}
    yield first
    assert first
    connection = await connect_runner(services.database)
    for projection in projections_of(services.settings):
        build = await ensure_live(connection, projection)
        while await follow(connection, projection, build):
            pass
        assert await connection.fetchval(BEHIND, build.build_id) == 0
    await connection.close()


@pytest.mark.timeout(14_400)
@settings(max_examples=BODIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=bodies)
async def test_any_signed_body_is_refused_or_stored_as_it_is(
    client: httpx.AsyncClient, services: Services, clock: ManualClock, stored: dict[tuple[str, str], bytes], body: bytes
) -> None:
    try:
        headers = signature(body, clock.now)
    except UnicodeDecodeError:  # the SDK signs text alone
        headers = {"Stripe-Signature": "t=1,v1=0"}
    answer = await client.post("/webhooks/stripe", content=body, headers=headers)
    assert answer.status_code in {200, 400}, body
    if answer.status_code == 400:
        return
    event_id, position = orjson.loads(body)["id"], answer.json()["position"]
    book = await services.pool.fetchval(STORED, position, event_id)
    first = stored.setdefault((book, event_id), body)
    path = f"/v1/events/{quote(event_id, safe='')}"
    raw = await client.get(f"{path}/raw", params={"book": book})
    assert (raw.status_code, raw.content) == (200, first)
    shown = await client.get(path, params={"book": book})
    assert (shown.status_code, shown.json()["position"]) == (200, position)

"""Any headers at all beside a good body: it is refused, or stored where a signature in them is right; never a 5xx."""

from __future__ import annotations

import os
from typing import Final

import asyncpg
import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import ManualClock
from tests.stripe_events import body_of, event, signature, subscription

HEADERS: Final = int(os.environ.get("FUZZ_BODIES", "300"))
BODY: Final = body_of(event("evt_1", "customer.subscription.created", subscription()))

STAMP, RIGHT = "STAMP", "RIGHT"
"""Stand for the time that is signed and the signature that is right."""

stamps = st.sampled_from(
    [STAMP, f"{STAMP}=x", f" {STAMP} ", f"+{STAMP}", f"0{STAMP}", f"{STAMP}.0", "", "-1", "1e9", "nan", "9" * 5_000,
     "1_0", "\u0661\u0662", "1" * 30, "None"]
)  # fmt: skip
signed = st.sampled_from([RIGHT, RIGHT.lower(), "0" * 64, "", "\u00fc", "\u202e", "=", RIGHT[:-1], "f" * 9_000])
parts = (
    st.tuples(st.just("t"), stamps)
    | st.tuples(st.sampled_from(["v1", "v0", "V1", " v1", "v1 ", "v2", ""]), signed)
    | st.tuples(st.text("tv1=, \t;", max_size=4), st.text("tv1=, \u00e9", max_size=8))
)
values = st.lists(parts, max_size=8).map(lambda some: ",".join(f"{name}={value}" for name, value in some))
others = st.sampled_from(
    [("content-type", "text/plain; charset=nonsense"), ("content-encoding", "gzip"), ("content-length", "-1"),
     ("content-length", "99999999999999999999"), ("content-length", "x"), ("x-request-id", "\u00e9" * 500),
     ("accept", "*" * 9_000), ("authorization", "Bearer \u00e9"), ("cookie", "a=b;" * 2_000), ("host", "\u00e9:x")]
)  # fmt: skip


@settings(max_examples=HEADERS, deadline=None, suppress_health_check=list(HealthCheck))
@given(written=st.lists(values, max_size=3), beside=st.lists(others, max_size=3))
@example(written=[f"t={STAMP},v1={RIGHT}"], beside=[])
@example(written=[f"t={STAMP}=x,v1={RIGHT}"], beside=[])
@example(written=[f"t={STAMP},v1={RIGHT}"] * 2, beside=[])
@example(written=[f"t={'9' * 5_000},v1={RIGHT}"], beside=[])
@example(written=[f"t={STAMP}," + "v1=0," * 2_000 + f"v1={RIGHT}"], beside=[])
async def test_any_header_is_refused_or_right(
    client: httpx.AsyncClient, clock: ManualClock, owner: asyncpg.Connection, written: list[str],
    beside: list[tuple[str, str]],
) -> None:  # fmt: skip
    stamp, right = signature(BODY, clock.now)["Stripe-Signature"].removeprefix("t=").split(",v1=")
    sent = [one.replace(STAMP, stamp).replace(RIGHT, right) for one in written]
    headers = [("stripe-signature", one) for one in sent] + beside
    answer = await client.post(
        "/webhooks/stripe", content=BODY, headers=[(name.encode(), value.encode()) for name, value in headers]
    )
    assert answer.status_code in {200, 400, 413}, headers
    assert answer.status_code != 200 or any(right in one for one in sent)
    assert await owner.fetchval("SELECT count(*) FROM ledger.event WHERE book = 'self:live'") <= 1

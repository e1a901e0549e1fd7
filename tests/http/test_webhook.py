"""``POST /webhooks/stripe``: what is taken, and what is refused without leaving a trace."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta

import asyncpg
import httpx
import orjson
import pytest

from api.credentials import Credentials
from api.secrets import parse_webhook_secrets
from api.services import Services
from tests.conftest import SECRET, ManualClock, client_of
from tests.stripe_events import Json, body_of, event, signature, subscription

WEBHOOK = "/webhooks/stripe"
GOOD = event("evt_1", "customer.subscription.created", subscription())


STORED = "SELECT event_id, source, signature, received_at FROM ledger.event WHERE book = 'self:live'"


async def stored(owner: asyncpg.Connection) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM ledger.event WHERE book <> 'ledger:control'"))


async def test_a_signed_event_is_stored_before_it_is_acknowledged(
    client: httpx.AsyncClient, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    body = body_of(GOOD)
    answer = await client.post(WEBHOOK, content=body, headers=signature(body, clock.now))
    assert (answer.status_code, answer.json()) == (200, {"received": True, "position": 1, "duplicate": False})
    again = await client.post(WEBHOOK, content=body, headers=signature(body, clock.now + timedelta(seconds=9)))
    assert again.json() == {"received": True, "position": 1, "duplicate": True}
    row = await owner.fetchrow(STORED)
    assert tuple(row) == ("evt_1", "webhook", signature(body, clock.now)["Stripe-Signature"], clock.now)


@pytest.mark.parametrize("type_", ["ledger.grant.created", "ledger.catalog.published", "ledger.body.erased"])
async def test_no_signature_makes_a_fact_of_our_own(
    client: httpx.AsyncClient, clock: ManualClock, owner: asyncpg.Connection, type_: str
) -> None:
    body = body_of(event("evt_1", type_, {"id": "grant_1", "customer": "cus_1", "feature": "sso", "reason": "mine"}))
    answer = await client.post(WEBHOOK, content=body, headers=signature(body, clock.now))
    assert (answer.status_code, answer.json()["type"], await stored(owner)) == (400, "malformed-event", 0)


def reserialised(body: bytes) -> bytes:
    return orjson.dumps(orjson.loads(body))


@pytest.mark.parametrize(
    ("change", "headers", "kind"),
    [
        (bytes, {"Stripe-Signature": "t=1768478400,v1=" + "0" * 64}, "signature"),
        (bytes, {"Stripe-Signature": "t=1768478400,v1=ü"}, "signature"),
        (bytes, {"Stripe-Signature": "nonsense"}, "signature"),
        (bytes, {"Stripe-Signature": ""}, "signature"),
        (bytes, {}, "signature"),
        (reserialised, None, "signature"),
        (lambda body: body.replace(b"active", b"unpaid"), None, "signature"),
        (lambda body: body + b" ", None, "signature"),
        (lambda body: b"\xff" + body, None, "signature"),
    ],
)
async def test_what_is_not_signed_like_this_is_refused(
    client: httpx.AsyncClient,
    clock: ManualClock,
    owner: asyncpg.Connection,
    change: object,
    headers: dict[str, str] | None,
    kind: str,
) -> None:
    body = body_of(GOOD)
    sent = signature(body, clock.now) if headers is None else headers
    encoded = {name.encode(): value.encode("latin-1") for name, value in sent.items()}
    answer = await client.post(WEBHOOK, content=change(body), headers=encoded)  # type: ignore[operator]
    assert (answer.status_code, answer.json()["type"]) == (400, kind)
    assert answer.headers["content-type"] == "application/problem+json"
    assert await stored(owner) == 0


@pytest.mark.parametrize(("seconds", "status"), [(-301, 400), (-299, 200), (299, 200), (301, 400), (-(10**9), 400)])
async def test_the_signatures_time_must_be_near(
    client: httpx.AsyncClient, clock: ManualClock, owner: asyncpg.Connection, seconds: int, status: int
) -> None:
    body = body_of(GOOD)
    headers = signature(body, clock.now + timedelta(seconds=seconds))
    answer = await client.post(WEBHOOK, content=body, headers=headers)
    assert answer.status_code == status
    assert await stored(owner) == (1 if status == 200 else 0)


@pytest.mark.parametrize(
    "content",
    [
        [GOOD],
        "evt_1",
        {name: value for name, value in GOOD.items() if name != "id"},
        {name: value for name, value in GOOD.items() if name != "type"},
        {name: value for name, value in GOOD.items() if name != "created"},
        GOOD | {"id": "evt\x00"},
        GOOD | {"created": 10**18},
    ],
)
async def test_a_signed_body_that_is_no_event_is_refused_and_counted(
    client: httpx.AsyncClient, clock: ManualClock, owner: asyncpg.Connection, content: object
) -> None:
    before = await unparsable(client)
    body = body_of(content)
    answer = await client.post(WEBHOOK, content=body, headers=signature(body, clock.now))
    assert (answer.status_code, answer.json()["type"]) == (400, "malformed-event")
    assert await stored(owner) == 0
    assert await unparsable(client) == before + 1


async def test_signed_bytes_that_are_no_text_are_counted_too(client: httpx.AsyncClient, clock: ManualClock) -> None:
    body, stamp = b'{"id":"evt_1","type":"x.y","created":1,"name":"\xff"}', int(clock.now.timestamp())
    signed = hmac.new(SECRET.encode(), b"%d." % stamp + body, hashlib.sha256).hexdigest()
    forged = hmac.new(b"whsec_other", b"%d." % stamp + body, hashlib.sha256).hexdigest()
    for header, said, counted in (
        (f"t={stamp},v1={signed}", "malformed-event", 1), (f"t={stamp},v1={forged},v1={signed}", "malformed-event", 1),
        (f"t={stamp - 301},v1={signed}", "signature", 0), (f"t={stamp},v1={forged}", "signature", 0),
        (f"v1={signed}", "signature", 0), (f"t={stamp},v0={signed}", "signature", 0), ("t=x,v1", "signature", 0),
    ):  # fmt: skip
        before = await unparsable(client)
        answer = await client.post(WEBHOOK, content=body, headers={"Stripe-Signature": header})
        assert (answer.status_code, answer.json()["type"]) == (400, said), header
        assert await unparsable(client) == before + counted


async def unparsable(client: httpx.AsyncClient) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("ledger_webhook_unparsable_total "))


async def test_an_event_over_one_mebibyte_is_refused(
    client: httpx.AsyncClient, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    fits = body_of(GOOD | {"padding": ""})
    fits = fits.replace(b'"padding": ""', b'"padding": "' + b"x" * (1024 * 1024 - len(fits)) + b'"')
    assert len(fits) == 1024 * 1024
    large = fits + b" "

    async def in_pieces() -> object:
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    for content in (large, in_pieces()):
        answer = await client.post(WEBHOOK, content=content, headers=signature(large, clock.now))  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["type"]) == (413, "too-large")
    assert await stored(owner) == 0
    assert (await client.post(WEBHOOK, content=fits, headers=signature(fits, clock.now))).status_code == 200


async def test_only_post_is_allowed(client: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    answer = await client.get(WEBHOOK)
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert await stored(owner) == 0


@pytest.mark.parametrize(
    ("secrets", "envelope", "status"),
    [
        ("{s}", {}, 200),
        ("live:{s}", {}, 200),
        ("test:{s}", {}, 400),
        ("test:{s}", {"livemode": False}, 200),
        ("live:{s}", {"livemode": False}, 400),
        ("test:{s},live:{s}", {}, 200),
        ("acct_1:{s}", {"account": "acct_1"}, 200),
        ("acct_1:{s}", {"account": "acct_2"}, 400),
        ("acct_1:{s}", {}, 400),
        ("live:acct_1:{s}", {"account": "acct_1", "livemode": False}, 400),
        ("whsec_old,{s}", {}, 200),
        ("whsec_other", {}, 400),
    ],
)
async def test_a_secret_vouches_only_for_its_mode_and_account(
    services: Services,
    credentials: Credentials,
    clock: ManualClock,
    owner: asyncpg.Connection,
    secrets: str,
    envelope: Json,
    status: int,
) -> None:
    configured = tuple(parse_webhook_secrets(secrets.format(s=SECRET)))
    serving = replace(services, credentials=replace(credentials, webhook_secrets=configured))
    body = body_of(GOOD | envelope)
    async with client_of(serving) as client:
        answer = await client.post(WEBHOOK, content=body, headers=signature(body, clock.now))
    assert answer.status_code == status
    assert await stored(owner) == (1 if status == 200 else 0)


async def test_during_a_rotation_either_signature_will_do(client: httpx.AsyncClient, clock: ManualClock) -> None:
    body = body_of(GOOD)
    mine = signature(body, clock.now)["Stripe-Signature"]
    theirs = signature(body, clock.now, "whsec_next")["Stripe-Signature"].split(",")[1]
    answer = await client.post(WEBHOOK, content=body, headers={"Stripe-Signature": f"{mine},{theirs},v0=00"})
    assert answer.status_code == 200


async def test_while_the_database_is_away_nothing_is_acknowledged(
    client: httpx.AsyncClient, clock: ManualClock, database_name: str, owner: asyncpg.Connection
) -> None:
    async def post(number: int) -> httpx.Response:
        body = body_of(GOOD | {"id": f"evt_{number}"})
        return await client.post(WEBHOOK, content=body, headers=signature(body, clock.now))

    assert (await post(1)).status_code == 200
    await owner.execute(f"ALTER DATABASE {database_name} CONNECTION LIMIT 0")
    await owner.execute(END_SESSIONS)
    for number in (2, 3):
        answer = await post(number)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await client.get("/v1/events")).status_code == 503
    await owner.execute(f"ALTER DATABASE {database_name} CONNECTION LIMIT -1")
    for _ in range(100):
        if (await post(2)).status_code == 200:
            break
        await asyncio.sleep(0.05)
    assert (await post(3)).json()["position"] == 3
    assert await stored(owner) == 3


END_SESSIONS = """
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE usename = 'ledger_service' AND datname = current_database()
"""

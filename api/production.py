"""What ``ledger doctor --production`` looks at: the checklist of a Stripe integration that takes real money.

Each line says what was checked and how. Nothing is written: the duplicate it sends itself is an event that the log has.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import httpx
from stripe import WebhookSignature

from api.app import create_app
from api.doctor import Check
from api.outward.access import API_KEY, StripeAccess
from api.outward.alarms import overdue
from api.outward.coverage import KEPT, covered_books, first_hour, hour_of, read_hours
from api.outward.paging import read_pages
from api.outward.refused import StripeRefusedError
from api.services import Services, projections_of
from api.settings import WEBHOOKS, Settings
from ledger.errors import LedgerError
from ledger.observation import OBSERVATIONS
from ledger.reader import StoredEvent, read_event, read_head
from projections.builds import list_builds

NEWEST_WEBHOOK: Final = """
SELECT e.event_id, e.book
FROM ledger.head AS h
CROSS JOIN LATERAL (
    SELECT event_id, book, recorded_at
    FROM ledger.event
    WHERE book = h.book AND source = 'webhook'
    ORDER BY position DESC
    LIMIT 1
) AS e
WHERE h.book LIKE '%:live'
ORDER BY e.recorded_at DESC
LIMIT 1
"""

STRAY_SUBSCRIPTIONS: Final = r"""
SELECT count(*) AS events, count(*) FILTER (WHERE stream_id NOT LIKE book || '/cus\_%'
                                              AND stream_id NOT LIKE book || '/acct\_%') AS stray
FROM ledger.event
WHERE type LIKE 'customer.subscription.%'
"""

LOGIN: Final = """
SELECT session_user AS login, r.rolsuper, pg_has_role(session_user, 'ledger_owner', 'MEMBER') AS owner
FROM pg_roles AS r
WHERE r.rolname = session_user
"""

_LAG_SECONDS: Final = 60
_FAILED_PAYMENTS: Final = frozenset({"invoice.payment_failed", "customer.subscription.updated", "invoice.paid"})


def settings_checks(settings: Settings) -> list[Check]:
    """Check what the settings alone say."""
    key = settings.stripe_api_key or ""
    secrets = [one.strip() for one in (settings.stripe_webhook_secrets or "").split(",") if one.strip()]
    bare = [one for one in secrets if not one.startswith(("live:", "test:"))]
    folder, data = settings.checkpoint_dir, settings.data_dir
    apart = folder is not None and folder.resolve() != data.resolve() and data.resolve() not in folder.resolve().parents
    owner, login = (_user(url) for url in (settings.owner_database_url, settings.database_url))
    return [
        Check("restricted key", ok=key.startswith("rk_live_"), value=_kind_of_key(key),
              how=f"{API_KEY} begins with rk_live_: a secret key (sk_) could do everything"),
        Check("webhook secrets", ok=bool(secrets) and not bare,
              value=f"{len(secrets)} set, {len(bare)} without a mode" if secrets else "generated",
              how="each begins with live: or test:, so that no test event is taken for a live one"),
        Check("external database", ok=not settings.embedded, value="embedded" if settings.embedded else "external",
              how="LEDGER_DATABASE_URL names a server with backups of its own"),
        Check("owner apart", ok=owner is not None and owner != login, value=owner or "(not set)",
              how="LEDGER_OWNER_DATABASE_URL is another login than the service's"),
        Check("signing key", ok=settings.signing_key is not None, value=_set(settings.signing_key),
              how="LEDGER_SIGNING_KEY comes from the environment, not from the data folder"),
        Check("checkpoints outside", ok=apart, value=str(folder) if folder else "(not set)",
              how="LEDGER_CHECKPOINT_DIR is a folder outside LEDGER_DATA_DIR"),
    ]  # fmt: skip


async def service_checks(serving: Services) -> list[Check]:
    """Check what the database, the service's own routes and Stripe say."""
    async with serving.pool.acquire() as connection:
        checks = [await _login(connection), await _ids(connection), await _projections(connection, serving)]
        checks.append(await _coverage(connection, serving))
    checks.append(await _duplicate(serving))
    checks.append(await _unsigned(serving))
    checks.append(await _endpoint(serving))
    return checks


async def _login(connection: asyncpg.Connection) -> Check:
    row = await connection.fetchrow(LOGIN)
    return Check(
        "service login",
        ok=row is not None and not row["rolsuper"] and not row["owner"],
        value=str(row["login"]) if row else "unknown",
        how="it must be neither a superuser nor a member of ledger_owner",
    )


async def _ids(connection: asyncpg.Connection) -> Check:
    row = await connection.fetchrow(STRAY_SUBSCRIPTIONS)
    return Check(
        "customer and subscription ids",
        ok=row["events"] > 0 and row["stray"] == 0,
        value=f"{row['events']} subscription events, {row['stray']} of no customer",
        how="every subscription event of the log stands in its customer's stream",
    )


async def _projections(connection: asyncpg.Connection, serving: Services) -> Check:
    builds = await list_builds(connection)
    named = {row["projection"] for row in builds}
    wanted = {one.name for one in projections_of(serving.settings)}
    now = serving.clock()
    late = [
        row for row in builds if row["waiting_since"] and (now - row["waiting_since"]).total_seconds() > _LAG_SECONDS
    ]
    parked = sum(row["parked"] for row in builds)
    return Check(
        "failed payments and entitlements",
        ok=wanted <= named and not late and not parked,
        value=f"{', '.join(sorted(named & wanted)) or 'nothing'} folded; {len(late)} late, {parked} parked",
        how="dunning and entitlements have live builds within a minute of the log, and nobody is parked",
    )


async def _coverage(connection: asyncpg.Connection, serving: Services) -> Check:
    now = serving.clock()
    books = [book for book in await covered_books(connection) if book.endswith(":live")]
    unproven = 0
    for book in books:
        begin = max(await first_hour(connection, book) or now, now - KEPT)
        unproven += len(overdue(await read_hours(connection, book, hour_of(begin), hour_of(now)), now))
    return Check(
        "nothing lost",
        ok=bool(books) and unproven == 0,
        value=f"{unproven} hours of {len(books)} live books are not proven complete",
        how="entitlements are reconciled from webhooks: every hour older than two was swept",
    )


async def _duplicate(serving: Services) -> Check:
    how = "the newest live webhook, sent to the service's own route once more, changes nothing"
    async with serving.pool.acquire() as connection:
        row = await connection.fetchrow(NEWEST_WEBHOOK)
        event = await read_event(connection, row["book"], row["event_id"]) if row else None
        before = await read_head(connection, row["book"]) if row else 0
    if event is None or not event.body:
        return Check("idempotent", ok=False, value="no live webhook has come yet", how=how)
    answer = await _post(serving, event.body, _signature(serving, event))
    async with serving.pool.acquire() as connection:
        after = await read_head(connection, event.book)
    told = answer.json() if answer.status_code == httpx.codes.OK else {}
    again = told.get("duplicate") is True and told.get("position") == event.position
    return Check(
        "idempotent", ok=again and before == after, value=f"{answer.status_code} {told or ''}".strip(), how=how
    )


async def _unsigned(serving: Services) -> Check:
    body = b'{"id": "evt_doctor", "object": "event", "type": "doctor.checked", "created": 0, "livemode": true}'
    answers = [await _post(serving, body, signature) for signature in (None, "t=1,v1=00")]
    return Check(
        "signatures",
        ok=all(answer.status_code == httpx.codes.BAD_REQUEST for answer in answers),
        value=", ".join(str(answer.status_code) for answer in answers),
        how="a body without a signature, and one with a wrong one, are refused by the service's own route",
    )


async def _post(serving: Services, body: bytes, signature: str | None) -> httpx.Response:
    app = create_app(lambda: nullcontext(serving))
    app.state.services = serving
    headers = {"Stripe-Signature": signature} if signature else {}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://doctor.invalid") as client:
        return await client.post(WEBHOOKS, content=body, headers=headers)


def _signature(serving: Services, event: StoredEvent) -> str | None:
    """Sign an event again, as Stripe does when it sends one twice."""
    account = event.book.rpartition(":")[0]
    covering = [one for one in serving.credentials.webhook_secrets if one.covers(livemode=True, account=account)]
    if not covering:
        return None
    sign: Callable[[str, str, int], str] = WebhookSignature.generate_signature_header
    return sign(event.body.decode(), covering[0].secret, int(serving.clock().timestamp()))


async def _endpoint(serving: Services) -> Check:
    how = "Stripe lists an enabled live endpoint over HTTPS that sends every type that is folded"
    if serving.stripe is None:
        return Check("endpoint at Stripe", ok=False, value="there is no key to ask with", how=how)
    try:
        endpoints = await _endpoints(serving.stripe)
    except LedgerError as error:
        told = error.status if isinstance(error, StripeRefusedError) else None
        hint = "; the key needs read permission for webhook endpoints" if told else ""
        return Check("endpoint at Stripe", ok=False, value=f"{error}{hint}", how=how)
    ours = [one for one in endpoints if urlsplit(str(one.get("url"))).path == WEBHOOKS]
    good = [one for one in ours if not _lacking(one, serving)]
    lacking = sorted({type_ for one in ours for type_ in _lacking(one, serving)})
    value = f"{len(good)} of {len(ours)}" + (f"; not sent: {', '.join(lacking[:5])} …" if lacking and not good else "")
    return Check("endpoint at Stripe", ok=bool(good), value=value, how=how)


async def _endpoints(stripe: StripeAccess) -> list[dict[str, Any]]:
    return [one async for page in read_pages(stripe, "/v1/webhook_endpoints") for one in page.elements]


def _lacking(endpoint: dict[str, Any], serving: Services) -> set[str]:
    """Return what keeps an endpoint from being enough: the types it does not send, or itself."""
    if endpoint.get("status") != "enabled" or not str(endpoint.get("url")).startswith("https://"):
        return {"(disabled or not HTTPS)"}
    sent = set(endpoint.get("enabled_events") or ())
    folded = {type_ for one in projections_of(serving.settings) for type_ in one.types | one.references} - OBSERVATIONS
    return set() if "*" in sent else {one for one in folded | _FAILED_PAYMENTS if not one.startswith("ledger.")} - sent


def _user(url: str | None) -> str | None:
    return urlsplit(url).username if url else None


def _kind_of_key(key: str) -> str:
    return f"{key[:8]}…" if key.startswith(("rk_", "sk_")) else "(not set)"


def _set(value: str | None) -> str:
    return "(set)" if value else "(not set)"

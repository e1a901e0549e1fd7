"""``POST /webhooks/stripe``: verify the raw bytes, read the envelope, append, and answer after the commit."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from stripe import SignatureVerificationError, WebhookSignature

from api.access import metrics_of, services
from api.front import asked_by_whom, request_id_of
from api.problems import JSONResponse, Problem, answer_problem
from api.secrets import WebhookSecret
from api.settings import WEBHOOKS
from ledger.errors import LogUnavailableError, MalformedEventError
from ledger.event import Envelope, NewEvent, Source, parse_envelope, received_event

_log = structlog.get_logger()

MAX_BODY_BYTES: Final = 1024 * 1024
_MAX_SIGNATURE_CHARACTERS: Final = 4096


class Intake:
    """ASGI application before another: webhooks are taken here, all else is passed on.

    Finding their route among all and Starlette's ways around a handler would cost a seventh of what taking one does.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive_: Receive, send: Send) -> None:
        """Take a webhook, or pass the request on."""
        is_webhook = scope["type"] == "http" and scope["path"] == WEBHOOKS and scope["method"] == "POST"
        if not is_webhook or b"%" in (scope.get("raw_path") or b""):
            await self._app(scope, receive_, send)
            return
        asked_by_whom(scope).route = WEBHOOKS
        request = Request(scope, receive_)
        try:
            response = await receive(request)
        except Exception as error:  # noqa: BLE001 - answered as behind the routes, where a bug is written down too
            with structlog.contextvars.bound_contextvars(request_id=request_id_of(scope)):
                response = await answer_problem(request, error)
        await response(scope, receive_, send)


async def receive(request: Request) -> Response:
    """Take one webhook. 200 says that the event is durable, not that anything was granted."""
    serving, metrics = services(request), metrics_of(request)
    try:
        event = verified_event(
            await read_body(request),
            request.headers.get("stripe-signature"),
            serving.credentials.webhook_secrets,
            now=serving.clock(),
            tolerance_seconds=serving.settings.webhook_tolerance,
            platform_account=serving.settings.account,
        )
        [place] = await serving.appender.append([event])
    except (Problem, MalformedEventError) as error:
        metrics.webhooks.labels("refused").inc()
        metrics.refused.labels(error.kind if isinstance(error, Problem) else "malformed-event").inc()
        if isinstance(error, MalformedEventError):
            metrics.unparsable.inc()
            _log.error("signed_body_unparsable", error=error, request_id=request_id_of(request.scope))
        raise
    except LogUnavailableError:
        metrics.webhooks.labels("unavailable").inc()
        raise
    metrics.webhooks.labels("duplicate" if place.duplicate else "appended").inc()
    return JSONResponse({"received": True, "position": place.position, "duplicate": place.duplicate})


async def read_body(request: Request) -> bytes:
    """Read at most the size we take; whatever ``Content-Length`` claims, no more is ever held."""
    claimed = request.headers.get("content-length", "0")
    if claimed.isdecimal() and int(claimed) > MAX_BODY_BYTES:
        raise Problem(413, f"an event has at most {MAX_BODY_BYTES} bytes")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Problem(413, f"an event has at most {MAX_BODY_BYTES} bytes")
    return bytes(body)


def verified_event(
    body: bytes,
    signature: str | None,
    secrets: Sequence[WebhookSecret],
    *,
    now: datetime,
    tolerance_seconds: int,
    platform_account: str,
) -> NewEvent:
    """Turn a signed body into an event to append.

    Raises ``Problem`` when the signature, its time, or the secret's cover is wrong, and ``MalformedEventError`` when
    the body is no event, though signed.
    """
    vouching = _verify(body, signature, secrets)
    _check_time(signature or "", now, tolerance_seconds)
    envelope = parse_envelope(body)
    _check_cover(envelope, vouching, platform_account)
    return received_event(
        envelope,
        body,
        platform_account=platform_account,
        source=Source.WEBHOOK,
        received_at=now,
        signature=signature,
    )


def _verify(body: bytes, signature: str | None, secrets: Sequence[WebhookSecret]) -> list[WebhookSecret]:
    """Return the secrets the body is signed with; during a rotation there may be several."""
    if not signature or len(signature) > _MAX_SIGNATURE_CHARACTERS:
        raise Problem(400, "the header Stripe-Signature is missing or too long", kind="signature")
    vouching = [secret for secret in secrets if _signed_with(body, signature, secret.secret)]
    if not vouching:
        raise Problem(400, "the signature matches no webhook secret", kind="signature")
    return vouching


def _signed_with(body: bytes, signature: str, secret: str) -> bool:
    try:
        WebhookSignature.verify_header(body, signature, secret)
    except UnicodeDecodeError:
        return _signs_bytes(body, signature, secret)
    except (SignatureVerificationError, UnicodeError, TypeError):
        # Signatures that are no ASCII are somebody else's.
        return False
    return True


def _signs_bytes(body: bytes, signature: str, secret: str) -> bool:
    """Verify a body that the SDK cannot, since it is no text: signed, it is Stripe's all the same, and an alarm."""
    parts = [part.split("=", 1) for part in signature.split(",") if "=" in part]
    stamp = next((value for name, value in parts if name == "t"), "")
    signed = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    given = [value for name, value in parts if name == "v1" and value.isascii()]
    return stamp.isdecimal() and any(hmac.compare_digest(one, signed) for one in given)


def _check_time(signature: str, now: datetime, tolerance_seconds: int) -> None:
    """Refuse what was signed too long ago, and too far ahead, which the SDK lets pass."""
    stamps = [part.split("=")[1] for part in signature.split(",") if part.startswith("t=")]  # as the SDK reads it
    age_seconds = int(now.timestamp()) - int(stamps[0])
    if abs(age_seconds) > tolerance_seconds:
        raise Problem(400, f"the signature's time is more than {tolerance_seconds} s from now", kind="signature-time")


def _check_cover(envelope: Envelope, vouching: Sequence[WebhookSecret], platform_account: str) -> None:
    account = envelope.account or platform_account
    if not any(secret.covers(livemode=envelope.livemode, account=account) for secret in vouching):
        raise Problem(400, "the secret does not cover this event's mode and account", kind="not-covered")

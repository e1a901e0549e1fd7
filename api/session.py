"""Signing in to the console with an API key: a signed, HttpOnly, SameSite cookie that names the key's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from api.secrets import ApiKey

COOKIE: Final = "ledger_session"
_MAX_AGE_SECONDS: Final = 12 * 3600


def start(response: Response, request: Request, keys: Sequence[ApiKey], key: ApiKey) -> None:
    """Sign ``key`` in."""
    response.set_cookie(
        COOKIE,
        _serializer(keys).dumps(key.digest),
        max_age=_MAX_AGE_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def current_key(request: Request, keys: Sequence[ApiKey]) -> ApiKey | None:
    """Return the key that is signed in; None when nobody is, or the key is no longer among the settings."""
    try:
        digest = _serializer(keys).loads(request.cookies.get(COOKIE, ""), max_age=_MAX_AGE_SECONDS)
    except BadData:
        return None
    return next((key for key in keys if key.digest == digest), None)


def end(response: Response) -> None:
    """Sign out."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


def _serializer(keys: Sequence[ApiKey]) -> URLSafeTimedSerializer:
    # Every process that serves these keys signs alike, and taking a key away ends all sessions.
    secret = hashlib.sha256("\n".join(sorted(key.digest for key in keys)).encode()).hexdigest()
    return URLSafeTimedSerializer(secret, salt="ledger-console-session")

"""Signing in to the console with an API key: a signed, HttpOnly, SameSite cookie that names the key's digest.

Every session has a random name, and forms that change anything carry a token signed over that name: neither another
site nor another session can make one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
from itsdangerous import BadData, URLSafeSerializer, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from api.secrets import ApiKey
from api.services import Services

COOKIE: Final = "ledger_session"
FLASH: Final = "ledger_flash"
_MAX_AGE_SECONDS: Final = 12 * 3600
_FLASH_SECONDS: Final = 60

ENDED: Final = "SELECT EXISTS (SELECT FROM ledger.signed_out WHERE session = $1)"

FORGET: Final = "DELETE FROM ledger.signed_out WHERE until < now()"

END: Final = """
INSERT INTO ledger.signed_out (session, until)
VALUES ($1, now() + make_interval(secs => $2))
ON CONFLICT (session) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in: with which key, and the session's own random name."""

    key: ApiKey
    name: str
    token: str
    """What a form of this session must carry."""


class Sessions:
    """Starts, recognises and ends the sessions of one service."""

    def __init__(self, keys: Sequence[ApiKey], secret: bytes) -> None:
        self._keys = keys
        # Every process that serves these keys signs alike, and taking a key away ends all sessions.
        joined = b"\n".join([secret, *(digest.encode() for digest in sorted(key.digest for key in keys))])
        own = hashlib.sha256(b"ledger console\n" + joined).hexdigest()
        self._sessions = URLSafeTimedSerializer(own, salt="ledger-console-session")
        self._tokens = URLSafeSerializer(own, salt="ledger-console-form")
        self._messages = URLSafeTimedSerializer(own, salt="ledger-console-flash")

    def start(self, response: Response, request: Request, key: ApiKey) -> None:
        """Sign ``key`` in."""
        signed = self._sessions.dumps([key.digest, secrets.token_urlsafe(16)])
        _set(response, request, COOKIE, signed, _MAX_AGE_SECONDS)

    def current(self, request: Request) -> Session | None:
        """Return who is signed in; None when nobody is, or the key is no longer among the settings."""
        try:
            digest, name = self._sessions.loads(request.cookies.get(COOKIE, ""), max_age=_MAX_AGE_SECONDS)
        except (BadData, ValueError, TypeError):
            return None
        key = next((key for key in self._keys if key.digest == digest), None)
        return None if key is None else Session(key, name, self._token(name))

    def holds(self, session: Session, token: str) -> bool:
        """Tell whether a form's token is this session's."""
        return secrets.compare_digest(session.token.encode(), token.encode("utf-8", "replace"))

    def _token(self, name: str) -> str:
        return str(self._tokens.dumps(name))

    def tell(self, response: Response, request: Request, session: Session, message: str) -> None:
        """Keep a message for the next page that this session sees."""
        _set(response, request, FLASH, str(self._messages.dumps([session.name, message])), _FLASH_SECONDS)

    def told(self, request: Request, session: Session) -> str | None:
        """Return the message kept for this session, if there is one."""
        try:
            name, message = self._messages.loads(request.cookies.get(FLASH, ""), max_age=_FLASH_SECONDS)
        except (BadData, ValueError, TypeError):
            return None
        return str(message) if name == session.name else None


def sessions_of(serving: Services) -> Sessions:
    """Return the sessions of these services, signed with what only they know."""
    secret = serving.notary.signer.private_key.private_bytes_raw()
    return Sessions(serving.credentials.api_keys, secret)


async def has_ended(pool: asyncpg.Pool, session: Session) -> bool:
    """Tell whether somebody signed this session out, here or at another process: its cookie may have been copied."""
    async with pool.acquire() as connection:
        return bool(await connection.fetchval(ENDED, session.name))


async def end(response: Response, pool: asyncpg.Pool, session: Session) -> None:
    """Sign out, for everybody who has the cookie; those that would have ended by now are forgotten."""
    async with pool.acquire() as connection:
        await connection.execute(FORGET)
        await connection.execute(END, session.name, float(_MAX_AGE_SECONDS))
    for name in (COOKIE, FLASH):
        response.delete_cookie(name, httponly=True, samesite="strict")


def forget_message(response: Response) -> None:
    """Drop the message that was shown."""
    response.delete_cookie(FLASH, httponly=True, samesite="strict")


def _set(response: Response, request: Request, name: str, value: str, seconds: int) -> None:
    # Behind a proxy that ends TLS only the browser knows: it says so with each form that it sends.
    secure = "https" in (request.url.scheme, request.headers.get("origin", "").partition(":")[0])
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="strict", secure=secure)

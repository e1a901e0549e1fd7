"""Webhook secrets and API keys: how they are written in settings, what they cover, how they are generated."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.books import BOOK
from ledger.errors import SettingError

SCOPES: Final = frozenset(
    {
        "admin",
        "checkout:write",
        "dunning:read",
        "entitlements:read",
        "events:read",
        "grants:write",
        "periods:close",
        "revenue:read",
    }
)
"""Everything a key may be allowed. ``admin`` includes all."""

_SECRET = re.compile(r"(?:(live|test):)?(?:(acct_[A-Za-z0-9]+):)?(whsec_[\x21-\x2b\x2d-\x7e]+)")
_KEY_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A signing secret and what it vouches for; None vouches for both modes, or for every account."""

    secret: str
    livemode: bool | None = None
    account: str | None = None

    def covers(self, *, livemode: bool, account: str) -> bool:
        """Tell whether an event of this mode and account may be signed with this secret."""
        return self.livemode in (None, livemode) and self.account in (None, account)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key by the digest of its text: what it may do, and in which book (None: in all)."""

    name: str
    scopes: frozenset[str]
    book: str | None
    digest: str

    def allows(self, scope: str) -> bool:
        """Tell whether the key has ``scope``."""
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, book: str) -> bool:
        """Tell whether the key may look into ``book``."""
        return self.book in (None, book)


def parse_webhook_secrets(text: str) -> list[WebhookSecret]:
    """Read ``[live:|test:][acct_…:]whsec_…``, comma-separated. Raises ``SettingError``."""
    parsed = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _SECRET.fullmatch(part)
        if match is None:
            raise SettingError("LEDGER_STRIPE_WEBHOOK_SECRETS", "write each as [live:|test:][acct_…:]whsec_…")
        mode, account, secret = match.groups()
        parsed.append(WebhookSecret(secret, None if mode is None else mode == "live", account))
    return parsed


def parse_api_keys(text: str) -> list[ApiKey]:
    """Read ``name:scope+scope[@book]:sha256-hex``, comma-separated. Raises ``SettingError``."""
    parsed = [_parse_api_key(part) for part in filter(None, (part.strip() for part in text.split(",")))]
    for number, key in enumerate(parsed):
        if any(other.digest == key.digest for other in parsed[:number]):
            raise SettingError("LEDGER_API_KEYS", f"key {key.name!r} is there twice: which of both counts is not clear")
    return parsed


def _parse_api_key(part: str) -> ApiKey:
    name, _, rest = part.partition(":")
    allowed, _, digest = rest.rpartition(":")
    scopes_text, at, book = allowed.partition("@")
    scopes = frozenset(scopes_text.split("+"))
    if not _KEY_NAME.fullmatch(name) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise SettingError("LEDGER_API_KEYS", "write each as name:scope+scope[@book]:sha256-hex")
    if at and not BOOK.fullmatch(book):
        raise SettingError("LEDGER_API_KEYS", f"key {name!r} is for {book!r}, which reads like no book (self:live)")
    if unknown := scopes - SCOPES:
        known = ", ".join(sorted(SCOPES))
        raise SettingError("LEDGER_API_KEYS", f"key {name!r} has unknown scope {min(unknown)!r}; there are {known}")
    return ApiKey(name, scopes, book or None, digest)


def format_api_key(key: ApiKey) -> str:
    """Write a key as it stands in ``LEDGER_API_KEYS``."""
    book = "" if key.book is None else f"@{key.book}"
    return f"{key.name}:{'+'.join(sorted(key.scopes))}{book}:{key.digest}"


def find_key(keys: Sequence[ApiKey], presented: str) -> ApiKey | None:
    """Return the key whose digest is that of ``presented``, comparing in constant time."""
    digest = digest_of(presented)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def digest_of(presented: str) -> str:
    """Return the SHA-256 of a key's text, in hex: all we ever keep of it."""
    return hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()


def generate_webhook_secret() -> str:
    """Make a webhook secret in Stripe's form."""
    return "whsec_" + secrets.token_urlsafe(24).replace("-", "A").replace("_", "B")


def generate_api_key() -> str:
    """Make the text of an API key."""
    return "lk_" + secrets.token_urlsafe(24).replace("-", "A").replace("_", "B")

"""Who may come in: secrets and keys from the settings, or generated once and kept in the data folder.

With an external database nothing is generated: what is missing stops the service with a message.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from api.secrets import (
    ApiKey,
    WebhookSecret,
    digest_of,
    generate_api_key,
    generate_webhook_secret,
    parse_api_keys,
    parse_webhook_secrets,
)
from api.settings import Settings
from ledger.errors import SettingError

FILE: Final = "credentials.json"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The webhook secrets and API keys in force, and the generated ones in plain text."""

    webhook_secrets: tuple[WebhookSecret, ...]
    api_keys: tuple[ApiKey, ...]
    generated_secret: str | None
    generated_key: str | None


def load_credentials(settings: Settings) -> Credentials:
    """Return the effective credentials; generates what is missing when the database is embedded.

    Raises ``SettingError`` naming the setting when something is missing and may not be generated.
    """
    secrets = parse_webhook_secrets(settings.stripe_webhook_secrets or "")
    keys = parse_api_keys(settings.api_keys or "")
    if settings.embedded:
        kept = _kept(settings)
        return Credentials(
            tuple(secrets or [WebhookSecret(kept["webhook_secret"])]),
            tuple(keys or [ApiKey("generated", frozenset({"admin"}), None, digest_of(kept["api_key"]))]),
            None if secrets else kept["webhook_secret"],
            None if keys else kept["api_key"],
        )
    if not secrets:
        raise SettingError("LEDGER_STRIPE_WEBHOOK_SECRETS", "needed with LEDGER_DATABASE_URL; see `ledger keys init`")
    if not keys:
        raise SettingError("LEDGER_API_KEYS", "needed with LEDGER_DATABASE_URL; see `ledger keys init`")
    return Credentials(tuple(secrets), tuple(keys), None, None)


def known_webhook_secrets(settings: Settings) -> list[str]:
    """Return the secrets that webhooks here may be signed with; generates none."""
    configured = [one.secret for one in parse_webhook_secrets(settings.stripe_webhook_secrets or "")]
    generated = _read(settings.data_dir / FILE).get("webhook_secret")
    return configured or ([generated] if generated else [])


def publish_url(settings: Settings) -> None:
    """Write where the service now listens beside the generated credentials."""
    file = settings.data_dir / FILE
    kept = _read(file)
    if kept.get("url") != settings.url:
        _write(file, kept | {"url": settings.url})


def _kept(settings: Settings) -> dict[str, str]:
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = settings.data_dir / FILE
    kept = _read(file)
    kept.setdefault("webhook_secret", generate_webhook_secret())
    kept.setdefault("api_key", generate_api_key())
    kept.setdefault("url", settings.url)
    if kept != _read(file):
        _write(file, kept)
    return kept


def _read(file: Path) -> dict[str, str]:
    try:
        content = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except orjson.JSONDecodeError as error:
        raise SettingError("LEDGER_DATA_DIR", f"{file} is damaged; restore it, or remove it for new keys") from error
    return {str(name): str(value) for name, value in content.items()}


def _write(file: Path, content: dict[str, str]) -> None:
    # Written beside and renamed: a kill in the middle must not cost the keys.
    unfinished = file.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        out.flush()
        os.fsync(out.fileno())
    unfinished.rename(file)

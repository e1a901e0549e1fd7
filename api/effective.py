"""``/v1/settings``: every setting as this service has it, whose keys it takes, and what it signs with; no secret."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.access import require, services
from api.doctor import setting_checks
from api.problems import JSONResponse
from api.secrets import ApiKey, WebhookSecret


async def get_settings(request: Request) -> Response:
    """Answer every setting in force; of secrets only whether they are set."""
    require(request, "admin")
    serving = services(request)
    credentials = serving.credentials
    content = {
        "settings": [
            {"name": one.name, "value": one.value, "about": one.how} for one in setting_checks(serving.settings)
        ],
        "api_keys": [_key_json(key) for key in credentials.api_keys],
        "webhook_secrets": [_secret_json(secret) for secret in credentials.webhook_secrets],
        "verifier_key": serving.notary.signer.verifier.encode(),
        "default_book": serving.settings.book_by_default,
    }
    return JSONResponse(content)


def _key_json(key: ApiKey) -> dict[str, Any]:
    return {"name": key.name, "scopes": sorted(key.scopes), "book": key.book}


def _secret_json(secret: WebhookSecret) -> dict[str, Any]:
    return {"livemode": secret.livemode, "account": secret.account}

"""How answers may be cached: not at all, for good, or as a copy that is revalidated (ETag, 304).

A tag is computed from an answer's content, not its freshness: positions move all the time, and a copy with the same
content is still right. Such tags are weak (RFC 9110); every process computes the same ones.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

from starlette.requests import Request
from starlette.responses import Response

Keeping = Literal["never", "checked", "for good"]

CONTROL: Final[dict[Keeping, str]] = {
    "never": "no-store",
    "checked": "private, no-cache",
    "for good": "private, max-age=31536000, immutable",
}

_FRESHNESS: Final = b',"freshness":{'
_SAID_OF_FRESHNESS: Final = re.compile(rb'"(?:book|build|stale|parked)":[^,}]+')
_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


def kept(request: Request, response: Response, keeping: Keeping) -> Response:
    """Set how long a successful answer may be cached; one the caller already has becomes a 304."""
    if response.status_code != 200 or keeping == "never":
        return response
    tag = tag_of(bytes(response.body))
    headers = {"ETag": tag, "Cache-Control": CONTROL[keeping], "Vary": "Authorization"}
    if not _has(request, tag):
        response.headers.update(headers)
        return response
    if (position := response.headers.get("ledger-position")) is not None:
        headers["Ledger-Position"] = position
    return Response(status_code=304, headers=headers)


def tag_of(body: bytes) -> str:
    """Return an answer's tag; of its freshness, only what says whether it can be relied on counts."""
    said, _, freshness = body.rpartition(_FRESHNESS) if _FRESHNESS in body else (body, b"", b"")
    digest = hashlib.sha256(said)
    for one in _SAID_OF_FRESHNESS.findall(freshness):
        digest.update(one)
    return f'W/"{digest.hexdigest()[:32]}"'


def _has(request: Request, tag: str) -> bool:
    """Tell whether the caller names the tag; tags are compared weakly, as the RFC has it for ``If-None-Match``."""
    named = request.headers.get("if-none-match", "")
    return named.strip() == "*" or tag.removeprefix("W/") in _TAG.findall(named)

"""Reading a request's JSON body: what is malformed is answered 400 and named."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request

from api.problems import Problem
from ledger.times import parse_rfc3339

BODY_BYTES_MAX = 65_536


async def raw_body(request: Request, at_most: int = BODY_BYTES_MAX) -> bytes:
    """Read at most ``at_most`` bytes, whatever ``Content-Length`` claims."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > at_most:
            raise Problem(413, f"a body of more than {at_most} bytes")
    return bytes(body)


async def json_body(request: Request, known: AbstractSet[str], at_most: int = BODY_BYTES_MAX) -> dict[str, Any]:
    """Return a body's JSON object; it may be empty, and may hold only ``known`` keys."""
    raw = await raw_body(request, at_most)
    try:
        content = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise Problem(400, "the body is not a JSON object")
    if strange := sorted(set(content) - known):
        raise Problem(400, f"unknown: {', '.join(strange)}; there are {', '.join(sorted(known))}")
    return content


def time_of(body: dict[str, Any], name: str) -> datetime | None:
    """Return a time of a body; None where it is not given."""
    value = body.get(name)
    if value is None:
        return None
    try:
        return parse_rfc3339(str(value))
    except (ValueError, OverflowError) as error:
        raise Problem(400, f"{name} is not an RFC 3339 time: {error}") from error


def text_of(body: dict[str, Any], name: str) -> str | None:
    """Return a text of a body; None where it is not given."""
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or "\x00" in value):
        raise Problem(400, f"{name} is text")
    return value


def reason_of(body: dict[str, Any]) -> str:
    """Return the reason given in a body. Raises 400 without one."""
    value = text_of(body, "reason")
    if value is None or not value.strip():
        raise Problem(400, "give a reason: it is recorded in the log with your name")
    return value

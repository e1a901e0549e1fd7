"""Calls the JSON routes in this process on behalf of the signed-in key, so that page and route never disagree."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from api.access import SIGNED_IN
from api.declared import Operation
from api.problems import Problem
from api.routes import OPERATIONS
from api.secrets import ApiKey
from ledger.times import rfc3339
from ledger.written import read_json

_BY_NAME: Final[Mapping[str, Operation]] = {f"{one.method} {one.path}": one for one in OPERATIONS}


def operation_of(name: str) -> Operation:
    """Return an operation by its path, or by another method and its path: ``POST /v1/grants``."""
    return _BY_NAME[name if " " in name else f"GET {name}"]


async def ask(
    request: Request, key: ApiKey, operation: Operation, values: Mapping[str, object], body: object = None
) -> Any:
    """Call an operation as ``key``, and return what it answers: JSON as data, anything else as text.

    Raises what the operation raises. Values that are None are left out; a body of bytes is sent as it is.
    """
    given = {name: _text(value) for name, value in values.items() if value is not None}
    path = {name: given.pop(name) for name in operation.path_names}
    content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    scope = {
        **request.scope,
        SIGNED_IN: key,
        "method": operation.method,
        "path": operation.path.format(**path),
        "path_params": path,
        "query_string": urlencode(given).encode(),
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    answer = await operation(Request(scope, receive))
    return _content(answer)


def _content(answer: object) -> Any:
    if not isinstance(answer, Response):
        raise TypeError("only what is answered whole can be shown on a page")
    is_json = (answer.media_type or answer.headers.get("content-type", "")).endswith("json")
    content = (
        read_json(bytes(answer.body)) if is_json and answer.body else bytes(answer.body).decode("utf-8", "replace")
    )
    if answer.status_code >= 400:
        raise Problem(answer.status_code, content.get("detail", "") if isinstance(content, dict) else content)
    return content


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return rfc3339(value)
    return str(value).lower() if isinstance(value, bool) else str(value)

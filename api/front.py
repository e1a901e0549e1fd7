"""What every request passes first and last, console pages included: an id, safe headers, one line in the log.

The line has the method, the route as declared (not the path, which names customers), status, milliseconds, the
request's id and the name of the key; no address, parameter or body. Probes and successful checks are logged at level
debug only.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.logs import is_personal
from api.metrics import Metrics
from api.secrets import ApiKey

CONTRACT: Final = "1"
"""The contract's version, sent with every response in the header ``Ledger-Contract``."""

REQUEST_ID: Final = "X-Request-Id"

_NAME: Final = REQUEST_ID.lower().encode()
_CONTRACT: Final = (b"ledger-contract", CONTRACT.encode())
_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9_.=-]{8,128}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
CHECK: Final = "/v1/customers/{customer}/entitlements/{feature}"
"""Asked thousands of times a second: a log line would cost more than the answer, and drown all other lines."""

_SCOPE_KEY: Final = "ledger.asked"

SAFE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Default headers; the console's pages and cacheable answers set their own."""


@dataclass(slots=True)
class AskedBy:
    """Who sent a request: its id, and the key's name once that is known.

    ``bearer`` caches the key that ``api.access`` found in the header; ``route`` is set by code that answers before
    Starlette's routes.
    """

    request_id: str
    key: str | None = None
    route: str | None = None
    bearer: ApiKey | None = None


def request_id_of(scope: Scope) -> str:
    """Return the id of a request."""
    return asked_by_whom(scope).request_id


def asked_by_whom(scope: Scope) -> AskedBy:
    """Return what the front knows about a request."""
    found: AskedBy = scope.setdefault(_SCOPE_KEY, AskedBy(""))
    return found


class Front:
    """ASGI application that wraps the whole of another, so that even an internal error has an id and is counted."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, complete its answer's headers, and log and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = AskedBy(_request_id(scope))
        scope[_SCOPE_KEY] = asked
        began, status, answered = time.perf_counter(), 0, 0.0

        async def pass_back(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter()
                message["headers"] = completed(message["headers"], asked)
            await send(message)

        try:
            await self._app(scope, receive, pass_back)
        except Exception:
            if status == 0:
                raise
            # The error was already answered and logged further in.
        finally:
            self._note(scope, asked, status, began, answered)

    def _note(self, scope: Scope, asked: AskedBy, status: int, began: float, answered: float) -> None:
        """Count the answer and log its line; ``status`` is 0 if the client went away before there was one."""
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = asked.route or str(getattr(scope.get("route"), "path", "none"))
        if status:
            # A stream goes on for hours, so measure until the answer began.
            self._metrics.answered(method, route, status, answered - began)
        if self._log is None:
            # Bind once, at the first request: an unbound logger is rebuilt for each line, even a suppressed one.
            self._log = structlog.get_logger().bind()
        is_no_news = route in _PROBES or (route == CHECK and status == 200)
        log = self._log.debug if is_no_news else self._log.warning if status >= 500 else self._log.info
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        log(
            "request",
            request_id=asked.request_id,
            method=method,
            route=route,
            status=status,
            ms=milliseconds,
            key=asked.key,
        )


class RequestIdInLogs:
    """ASGI application that wraps another: every line logged during a request carries the request's id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id in the context."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with structlog.contextvars.bound_contextvars(request_id=request_id_of(scope)):
            await self._app(scope, receive, send)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _NAME:
            given: str = value.decode("latin-1")
            if _WELL_FORMED.fullmatch(given) and not is_personal(given):
                return given
    return new_request_id()


def new_request_id() -> str:
    """Make an id for a request that brought none, or none that is usable."""
    return f"req_{os.urandom(12).hex()}"


def completed(headers: list[tuple[bytes, bytes]], asked: AskedBy) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with the ones that every answer has."""
    said = {name for name, _ in headers}  # in lower case, as ASGI requires
    missing = [one for one in SAFE if one[0] not in said]
    return [*headers, _CONTRACT, (_NAME, asked.request_id.encode()), *missing]

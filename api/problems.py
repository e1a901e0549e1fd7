"""What went wrong, for the caller: RFC 9457 ``application/problem+json``, and one table from errors to problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.front import request_id_of
from api.outward.refused import StripeRefusedError
from ledger.errors import (
    BeyondReadingError,
    KeyUsedError,
    LedgerError,
    LogUnavailableError,
    MalformedEventError,
    UndecodableBodyError,
)
from ledger.notary import ForkNeededError, NotProvableError
from ledger.postgres import AWAY
from ledger.written import json_bytes
from projections.builds import NoSuchBuildError, StillFoldingError
from projections.catalog import CatalogError
from projections.periods.closing import NotReadyToCloseError
from projections.periods.decisions import PeriodError

_log = structlog.get_logger()

TITLES: Mapping[int, str] = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    413: "Content too large",
    422: "Unprocessable content",
    431: "Request header fields too large",
    500: "Internal error",
    501: "Not configured",
    502: "Bad gateway",
    503: "Unavailable",
}

SLUGS: Mapping[int, str] = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    410: "erased",
    413: "too-large",
    422: "unprocessable",
    431: "head-too-large",
    500: "internal",
    501: "not-configured",
    502: "bad-gateway",
    503: "unavailable",
}


class Problem(Exception):  # noqa: N818 - the RFC's own word
    """A refusal to be sent to the caller; ``kind`` is the problem's type, by default the status's.

    ``more`` are further members of the problem, for machines.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind or SLUGS[status]
        self.headers = dict(headers or {})
        self.more = dict(more or {})


class JSONResponse(Response):
    """A JSON answer written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode ``content``; a sum may be beyond the 64 bits that orjson writes."""
        return json_bytes(content)


class ProblemResponse(JSONResponse):
    """A problem as the RFC writes it."""

    media_type = "application/problem+json"

    def __init__(self, problem: Problem, request_id: str) -> None:
        content = {
            "type": problem.kind,
            "title": TITLES.get(problem.status, "Error"),
            "status": problem.status,
            "detail": problem.detail,
            "request_id": request_id,
        } | problem.more
        super().__init__(content, status_code=problem.status, headers=problem.headers)


def problem_of(error: Exception) -> Problem:
    """Translate any exception: the caller's mistake is 4xx, what may pass is 503, the rest is our error (500)."""
    if isinstance(error, Problem):
        return error
    for kinds, told in TOLD:
        if isinstance(error, kinds):
            return told(error)
    return Problem(500, "internal error; the service's log says why")


def _as_http(error: HTTPException) -> Problem:
    return Problem(error.status_code if error.status_code in SLUGS else 400, error.detail, headers=error.headers)


def _not_ready(error: NotReadyToCloseError) -> Problem:
    exceptions = [one.content for one in error.objections]
    return Problem(409, str(error), kind="not-ready", more={"exceptions": exceptions})


def _refused_by_stripe(refused: StripeRefusedError) -> Problem:
    """Translate an error from Stripe: an invalid request is the caller's mistake, a refused Stripe key is ours."""
    import stripe

    error = refused.error
    if isinstance(error, stripe.IdempotencyError):
        return Problem(409, str(refused), kind="idempotency-key-used")
    if isinstance(error, (stripe.InvalidRequestError, stripe.CardError)):
        return Problem(400, str(refused), kind="stripe-refused")
    if isinstance(error, (stripe.AuthenticationError, stripe.PermissionError)):
        return Problem(502, str(refused), kind="stripe-key")
    return Problem(503, str(refused), kind="stripe-unavailable", headers={"Retry-After": "5"})


TOLD: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], Callable[[Any], Problem]], ...]] = (
    (CatalogError, lambda e: Problem(422, str(e), kind="invalid-catalog", more={"line": e.line, "key": e.key})),
    (BeyondReadingError, lambda e: Problem(409, f"{e}: this customer is parked", kind="parked")),
    (UndecodableBodyError, lambda e: Problem(500, f"{e}: `ledger verify --full` says what is damaged", kind="damaged")),
    (KeyUsedError, lambda e: Problem(409, str(e), kind="idempotency-key-used")),
    (MalformedEventError, lambda e: Problem(400, str(e), kind="malformed-event")),
    ((NotProvableError, NoSuchBuildError), lambda e: Problem(404, str(e))),
    (ForkNeededError, lambda e: Problem(503, str(e), kind="fork-needed")),
    (StillFoldingError, lambda e: Problem(503, str(e), kind="not-yet", headers={"Retry-After": "5"})),
    (NotReadyToCloseError, _not_ready),
    (PeriodError, lambda e: Problem(409, str(e))),
    (StripeRefusedError, _refused_by_stripe),
    (LogUnavailableError, lambda e: Problem(503, str(e), headers={"Retry-After": str(e.retry_after)})),
    (AWAY, lambda _: Problem(503, "the database cannot be reached", headers={"Retry-After": "1"})),
    (HTTPException, _as_http),
    (ClientDisconnect, lambda _: Problem(400, "the request ended before its body did", kind="incomplete")),
    (LedgerError, lambda e: Problem(400, str(e))),
)
"""What each error is to the caller; the first that fits."""


async def answer_problem(request: Request, error: Exception) -> Response:
    """Answer any exception of a route with its problem, and the id under which the log knows the request."""
    problem = problem_of(error)
    if problem.status == 500:
        _log.error("request_failed", exc_info=error)
    return ProblemResponse(problem, request_id_of(request.scope))


HANDLED = (Problem, LedgerError, HTTPException, ClientDisconnect, *AWAY)
"""The exceptions that are answered where they are raised; anything else is a bug, logged and answered 500."""

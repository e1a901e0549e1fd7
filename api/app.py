"""The web application: routes by value, services opened in the lifespan, every exception answered as a problem."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import services
from api.console import doors
from api.console.pages import PAGES
from api.declared import Operation
from api.openapi import CONTRACT, document
from api.outward import alarms
from api.parameters import SlashesInPaths
from api.problems import HANDLED, JSONResponse, Problem
from api.routes import OPERATIONS
from api.schemas import SCHEMAS
from api.services import Services
from ledger.migrate import check_schema
from ledger.postgres import AWAY
from projections.builds import list_builds

_LAG_SECONDS_READY = 60.0
_ASKED_OFTEN: Final = ("/webhooks/stripe", "/v1/customers/{customer}/entitlements/{feature}")


def create_app(open_: Callable[[], AbstractAsyncContextManager[Services]]) -> Starlette:
    """Make the application; ``open_`` opens its services when the server starts."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_() as opened:
            app.state.services = opened
            yield

    return Starlette(
        routes=[
            *(operation.route() for operation in sorted(OPERATIONS, key=_asked_seldom)),
            *doors.routes(PAGES),
            Route("/openapi.json", openapi, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", prometheus, methods=["GET"]),
        ],
        middleware=[Middleware(ContractHeader), Middleware(SlashesInPaths)],
        exception_handlers={**dict.fromkeys(HANDLED, doors.answer_error), Exception: doors.answer_error},
        lifespan=lifespan,
    )


def _asked_seldom(operation: Operation) -> bool:
    """Order the routes, which are tried in turn: what is asked all the time comes first."""
    return operation.path not in _ASKED_OFTEN


class ContractHeader:
    """ASGI middleware: every answer says which version of the contract it keeps."""

    _HEADER: Final = (b"ledger-contract", CONTRACT.encode())

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the header to what comes back."""

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], self._HEADER]
            await send(message)

        await self._app(scope, receive, send_with_header if scope["type"] == "http" else send)


async def openapi(_: Request) -> Response:
    """Answer the description of every route, OpenAPI 3.1."""
    return JSONResponse(_DOCUMENT)


_DOCUMENT: Final = document(OPERATIONS, SCHEMAS)


async def healthz(_: Request) -> Response:
    """Say that the process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Say whether database, schema and follower are in order; 503 with the reason when not."""
    serving = services(request)
    async with serving.pool.acquire() as connection:
        await check_schema(connection)
        builds = await list_builds(connection)
    if not builds:
        raise Problem(503, "no projection is built yet", kind="not-ready", headers={"Retry-After": "1"})
    now = serving.clock()
    waits = [(now - row["waiting_since"]).total_seconds() for row in builds if row["waiting_since"]]
    if waits and max(waits) > _LAG_SECONDS_READY:
        raise Problem(503, f"the follower is {max(waits):.0f} s behind", kind="not-ready", headers={"Retry-After": "5"})
    return JSONResponse({"status": "ready"})


async def prometheus(request: Request) -> Response:
    """Answer this process's metrics, and what the database says to be alarmed of."""
    serving = services(request)
    with contextlib.suppress(*AWAY):
        async with serving.pool.acquire() as connection:
            asks_stripe = serving.settings.stripe_api_key is not None
            await alarms.refresh(connection, serving.clock(), asks_stripe=asks_stripe)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

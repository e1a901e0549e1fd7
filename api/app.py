"""The web application: routes by value, services opened in the lifespan, every exception answered as a problem."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from api.caching import kept
from api.console import doors
from api.console.pages import PAGES
from api.declared import routes_of
from api.front import CHECK, Front, RequestIdInLogs
from api.health import healthz, readyz
from api.metrics import Metrics
from api.openapi import document
from api.parameters import SlashesInPaths
from api.present import Present
from api.problems import HANDLED, JSONResponse
from api.routes import OPERATIONS
from api.schemas import SCHEMAS
from api.scrape import prometheus
from api.services import Services
from api.settings import WEBHOOKS
from api.webhook import Intake

_ASKED_OFTEN: Final = (WEBHOOKS, CHECK)


class Application(Starlette):
    """Starlette behind our front door, which also sees what Starlette answers to a bug."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put the front before everything else, and webhooks and answers from memory before the routes."""
        routes = RequestIdInLogs(super().build_middleware_stack())
        return Front(Intake(Present(routes, self.state)), self.state.metrics)


def create_app(
    open_: Callable[[], AbstractAsyncContextManager[Services]], *, shares_metrics: bool = False
) -> Starlette:
    """Make the application; ``open_`` opens its services when the server starts.

    With ``shares_metrics`` it is one of several processes that answer ``/metrics`` for one another.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_() as opened:
            app.state.services = opened
            yield

    app = Application(
        routes=[
            *sorted(routes_of(OPERATIONS), key=_asked_seldom),
            *doors.routes(PAGES),
            Route("/openapi.json", openapi, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", prometheus, methods=["GET"]),
        ],
        middleware=[Middleware(SlashesInPaths)],
        exception_handlers={**dict.fromkeys(HANDLED, doors.answer_error), Exception: doors.answer_error},
        lifespan=lifespan,
    )
    # Never redirect: behind a proxy that ends TLS it would send the key in the clear, or to another host.
    app.router.redirect_slashes = False
    app.state.metrics = Metrics(shares=shares_metrics)
    return app


def _asked_seldom(route: Route) -> bool:
    """Order the routes, which are tried in turn: what is asked all the time comes first."""
    return route.path not in _ASKED_OFTEN


async def openapi(request: Request) -> Response:
    """Answer the description of every route, OpenAPI 3.1."""
    return kept(request, JSONResponse(_DOCUMENT), "checked")


_DOCUMENT: Final = document(OPERATIONS, SCHEMAS)

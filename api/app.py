"""The web application: routes by value, services opened in the lifespan, every exception answered as a problem."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import checkout, console, coverage, dunning, entitlements, events, log, mrr, projections, webhook
from api.access import services
from api.outward import alarms
from api.parameters import SlashesInPaths
from api.problems import HANDLED, JSONResponse, Problem, answer_problem
from api.services import Services
from ledger.migrate import check_schema
from ledger.postgres import AWAY
from projections.builds import list_builds

_LAG_SECONDS_READY = 60.0


def create_app(open_: Callable[[], AbstractAsyncContextManager[Services]]) -> Starlette:
    """Make the application; ``open_`` opens its services when the server starts."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_() as opened:
            app.state.services = opened
            yield

    return Starlette(
        routes=[
            Route("/", console.page, methods=["GET"]),
            Route("/sign-in", console.sign_in, methods=["GET", "POST"]),
            Route("/sign-out", console.sign_out, methods=["POST"]),
            Route("/webhooks/stripe", webhook.receive, methods=["POST"]),
            Route("/v1/events", events.list_events, methods=["GET"]),
            Route("/v1/events/{event_id}", events.get_event, methods=["GET"]),
            Route("/v1/events/{event_id}/raw", events.get_raw, methods=["GET"]),
            Route("/v1/coverage", coverage.get_coverage, methods=["GET"]),
            Route("/v1/observations", coverage.list_observations, methods=["GET"]),
            Route("/v1/customers/{customer}/entitlements", entitlements.list_entitlements, methods=["GET"]),
            Route("/v1/customers/{customer}/entitlements/{feature}", entitlements.get_entitlement, methods=["GET"]),
            Route("/v1/customers/{customer}/dunning", dunning.get_customer, methods=["GET"]),
            Route("/v1/dunning/cases", dunning.list_cases, methods=["GET"]),
            Route("/v1/dunning/attention", dunning.list_attention, methods=["GET"]),
            Route("/v1/dunning/summary", dunning.get_summary, methods=["GET"]),
            Route("/v1/revenue/mrr", mrr.get_mrr, methods=["GET"]),
            Route("/v1/revenue/mrr/movements", mrr.list_movements, methods=["GET"]),
            Route("/v1/checkout-sessions", checkout.create_checkout_session, methods=["POST"]),
            Route("/v1/portal-sessions", checkout.create_portal_session, methods=["POST"]),
            Route("/v1/log/checkpoint", log.get_checkpoint, methods=["GET"]),
            Route("/v1/log/proof/{event_id}", log.get_proof, methods=["GET"]),
            Route("/v1/log/verifier-key", log.get_verifier_key, methods=["GET"]),
            Route("/v1/projections", projections.list_projections, methods=["GET"]),
            Route("/v1/projections/{name}/rebuilds", projections.start_rebuild, methods=["POST"]),
            Route("/v1/projections/{name}/builds/{build}", projections.get_build, methods=["GET"]),
            Route("/v1/projections/{name}/builds/{build}", projections.delete_build, methods=["DELETE"]),
            Route("/v1/projections/{name}/builds/{build}/diff", projections.get_diff, methods=["GET"]),
            Route("/v1/projections/{name}/builds/{build}/promote", projections.promote_build, methods=["POST"]),
            Route("/v1/projections/{name}/rollback", projections.roll_back, methods=["POST"]),
            Route("/v1/parked", projections.list_parked, methods=["GET"]),
            Route("/v1/parked/{subject}/replay", projections.replay_parked, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", prometheus, methods=["GET"]),
        ],
        middleware=[Middleware(SlashesInPaths)],
        exception_handlers={**dict.fromkeys(HANDLED, answer_problem), Exception: answer_problem},
        lifespan=lifespan,
    )


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

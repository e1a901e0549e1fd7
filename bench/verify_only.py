"""The limit of the webhook row: our own server and route, verifying and parsing everything, storing nothing."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.credentials import load_credentials
from api.problems import JSONResponse
from api.services import wall_clock
from api.settings import load_settings
from api.webhook import read_body, verified_event


def main() -> None:
    """Serve until SIGINT, on the same event loop and HTTP parser as the service."""
    import uvicorn

    settings = load_settings()
    secrets = load_credentials(settings).webhook_secrets

    async def receive(request: Request) -> Response:
        verified_event(
            await read_body(request),
            request.headers.get("stripe-signature"),
            secrets,
            now=wall_clock(),
            tolerance_seconds=settings.webhook_tolerance,
            platform_account=settings.account,
        )
        return JSONResponse({"received": True, "position": 1, "duplicate": False})

    async def ready(_: Request) -> Response:
        return JSONResponse({})

    routes = [Route("/webhooks/stripe", receive, methods=["POST"]), Route("/readyz", ready)]
    uvicorn.run(Starlette(routes=routes), host=settings.host, port=settings.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

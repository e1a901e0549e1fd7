"""The limit of the check row: our own server and HTTP parser, with one route that returns bytes it is given.

The head of the answer is that of a check as well, but for the request's id, which is the same each time.
"""

from __future__ import annotations

import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.front import CONTRACT, REQUEST_ID, SAFE
from api.settings import load_settings


def main() -> None:
    """Serve until SIGINT; the bytes are the first argument."""
    import uvicorn

    safe = {name.decode(): value.decode() for name, value in SAFE}
    settings, content = load_settings(), sys.argv[1].encode()

    async def answer(_: Request) -> Response:
        headers = {
            "Ledger-Position": "1",
            "Ledger-Contract": CONTRACT,
            REQUEST_ID: "req_0123456789abcdef01234567",
        } | safe
        return Response(content, media_type="application/json", headers=headers)

    async def ready(_: Request) -> Response:
        return Response(b"{}")

    routes = [Route("/v1/customers/{customer}/entitlements/{feature}", answer), Route("/readyz", ready)]
    uvicorn.run(Starlette(routes=routes), host=settings.host, port=settings.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

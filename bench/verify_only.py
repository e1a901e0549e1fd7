"""The limit of the webhook row: the same server, front and route, verifying and parsing everything, storing nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import uvicorn

from api.app import create_app
from api.credentials import load_credentials
from api.logs import configure_logging
from api.services import Services, wall_clock
from api.settings import load_settings
from ledger.appender import Appended
from ledger.event import NewEvent


class Forgetting:
    """Says of every event that it stands in the log."""

    async def append(self, events: Sequence[NewEvent]) -> list[Appended]:
        """Answer at once."""
        return [Appended(1, duplicate=False) for _ in events]


def main() -> None:
    """Serve until SIGINT, on the same event loop and HTTP parser as the service."""
    settings = load_settings()
    configure_logging(settings)
    needed: Any = SimpleNamespace(
        settings=settings, credentials=load_credentials(settings), clock=wall_clock, appender=Forgetting()
    )

    @contextlib.asynccontextmanager
    async def open_() -> AsyncIterator[Services]:
        yield cast(Services, needed)

    uvicorn.run(
        create_app(open_),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main()

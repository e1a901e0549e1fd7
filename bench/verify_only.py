"""The limit of the webhook row: the same server, front and route, verifying and parsing everything, storing nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

from api.app import create_app
from api.children import fast_loop
from api.clock import wall_clock
from api.credentials import load_credentials
from api.logs import configure_logging
from api.services import Services
from api.settings import load_settings
from api.web import web_server
from ledger.event import NewEvent
from ledger.flush import Appended


class Forgetting:
    """Says of every event that it stands in the log."""

    async def append(self, events: Sequence[NewEvent]) -> list[Appended]:
        """Answer at once."""
        return [Appended(1, duplicate=False) for _ in events]


def main() -> None:
    """Serve until SIGINT, as the web process does."""
    settings = load_settings()
    configure_logging(settings)
    needed: Any = SimpleNamespace(
        settings=settings,
        credentials=load_credentials(settings),
        clock=wall_clock,
        appender=Forgetting(),
        live=SimpleNamespace(end=lambda: None),
    )

    @contextlib.asynccontextmanager
    async def open_() -> AsyncIterator[Services]:
        yield cast(Services, needed)

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(web_server(create_app(open_), settings).serve())


if __name__ == "__main__":
    main()

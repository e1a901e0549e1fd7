"""What commands that ask Stripe have open."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from api.outward.access import StripeAccess, open_access
from api.services import Services, open_services
from api.settings import Settings
from ledger.postgres import Database


@contextlib.asynccontextmanager
async def asking_stripe(settings: Settings, database: Database) -> AsyncIterator[tuple[Services, StripeAccess]]:
    """Open the database and what asks Stripe, in this order: nothing is asked for that could not be kept."""
    async with open_services(settings, database=database) as services, open_access(settings, services.clock) as access:
        async with services.pool.acquire():
            pass
        yield services, access

"""What a web process works with, opened once and closed with it: pool, appender, tail, projection, keys."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import asyncpg

from api.clock import Clock, wall_clock
from api.comparisons import Comparisons, open_comparisons
from api.credentials import Credentials, load_credentials
from api.database import database_of
from api.holders import HolderReader, open_holders
from api.live import Live, open_live
from api.settings import Settings
from api.signing import load_signer, outside_of
from ledger.appender import Appender, Limits
from ledger.errors import MistakeError
from ledger.notary import Notary
from ledger.note import SignerKey
from ledger.postgres import Database
from ledger.wakeup import Notifier
from projections.contract import Projection
from projections.dunning.tables import DUNNING
from projections.entitlements.changes import Changes
from projections.entitlements.tables import entitlements
from projections.periods.tables import PERIODS_PROJECTION
from projections.revenue.tables import revenue

if TYPE_CHECKING:
    from api.outward.access import StripeAccess

_WEB_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a route may use; nothing is global."""

    settings: Settings
    credentials: Credentials
    clock: Clock
    database: Database
    pool: asyncpg.Pool
    holders: HolderReader
    appender: Appender
    notary: Notary
    entitlements: Projection
    live: Live
    dunning: Projection
    revenue: Projection
    comparisons: Comparisons
    stripe: StripeAccess | None
    """Asks Stripe while somebody waits for it; None without a key."""


def projections_of(settings: Settings, clock: Clock = wall_clock) -> tuple[Projection, ...]:
    """Return every projection this release keeps, as these settings have it: a new one is registered here."""
    return (
        replace(entitlements(settings.org_metadata_key), consumer=Changes(clock)),
        DUNNING,
        revenue(),
        PERIODS_PROJECTION,
    )


def find_projection(settings: Settings, name: str, clock: Clock = wall_clock) -> Projection:
    """Return a projection by its name. Raises ``MistakeError`` naming those there are."""
    known = {one.name: one for one in projections_of(settings, clock)}
    if name not in known:
        raise MistakeError(f"there is no projection {name}: there are {', '.join(known)}")
    return known[name]


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    clock: Clock = wall_clock,
    database: Database | None = None,
    credentials: Credentials | None = None,
    signer: SignerKey | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Services]:
    """Open what a web process needs. The database may be away: reads and appends say so until it is back."""
    where = database or database_of(settings)
    entitled = find_projection(settings, "entitlements", clock)
    async with (
        where.as_role("ledger_app").pool(max_size=_WEB_CONNECTIONS, command_timeout=15) as pool,
        open_holders(where.as_role("ledger_app"), entitled) as holders,
        Notifier(where) as notifier,
        Appender(where, clock=clock, on_commit=notifier.appended, limits=limits) as appender,
        open_live(where, pool) as live,
        open_comparisons(clock) as comparisons,
        _stripe_of(settings, clock) as stripe,
    ):
        yield Services(
            settings=settings,
            credentials=credentials or load_credentials(settings),
            clock=clock,
            database=where,
            pool=pool,
            holders=holders,
            appender=appender,
            notary=Notary(pool, appender, signer or load_signer(settings), outside_of(settings), clock),
            entitlements=entitled,
            live=live,
            dunning=find_projection(settings, "dunning"),
            revenue=find_projection(settings, "revenue"),
            comparisons=comparisons,
            stripe=stripe,
        )


@contextlib.asynccontextmanager
async def _stripe_of(settings: Settings, clock: Clock) -> AsyncIterator[StripeAccess | None]:
    if settings.stripe_api_key is None:
        yield None
        return
    # Stripe's SDK takes as long to import as half of the rest, and most processes never ask.
    from api.outward import access as outward

    async with outward.open_access(settings, clock, outward.WHILE_SOMEBODY_WAITS) as access:
        yield access

"""Swapping the live build for another in one transaction, and going back.

Readers look up the live build in the registry and read its rows in one snapshot, so they see either the old one or the
new one. The views for people are replaced in the same transaction; while somebody holds a lock on one, the swap
retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from ledger.errors import LedgerError
from projections.builds import Build, live_build, positions_of, read_build
from projections.contract import Projection

PARKED: Final = "SELECT count(*) FROM ledger.parked WHERE build_id = $1"

SEEN: Final = """
SELECT EXISTS (
    SELECT FROM ledger.build_diff
    WHERE build_id = $1 AND live_build = $2 AND made_by = $3 AND made_at > now() - interval '24 hours'
)
"""

RETIRE: Final = "UPDATE ledger.build SET phase = 'retired', changed_at = clock_timestamp() WHERE build_id = $1"

MAKE_LIVE: Final = "UPDATE ledger.build SET phase = 'live', changed_at = clock_timestamp() WHERE build_id = $1"

LAST_RETIRED: Final = """
SELECT build_id
FROM ledger.build
WHERE projection = $1 AND phase = 'retired'
ORDER BY changed_at DESC
LIMIT 1
"""

BEHIND_SINCE: Final = """
SELECT min(e.recorded_at)
FROM ledger.head AS h
LEFT JOIN ledger.checkpoint AS c ON c.build_id = $1 AND c.book = h.book
JOIN ledger.event AS e ON e.book = h.book AND e.position = coalesce(c.position, 0) + 1
WHERE h.position > 0 AND h.book <> 'ledger:control'
"""

ADD_TO_OUTBOX: Final = """
INSERT INTO ledger.unsaid (build_id, decided_at, after, said)
SELECT $1, $2, coalesce(max(position), 0), $3
FROM ledger.head
WHERE book = 'ledger:control'
"""

STALE_AFTER: Final = timedelta(seconds=60)
_LOCK_MILLISECONDS: Final = 100
_TRIES: Final = 50
_PAUSE_SECONDS: Final = 0.1


class PromotionRefusedError(LedgerError):
    """A build may not become the live one; each reason is a sentence."""

    def __init__(self, build_id: str, reasons: list[str]) -> None:
        super().__init__(f"{build_id} cannot be made live: {'; '.join(reasons)}")
        self.build_id = build_id
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Swapped:
    """Which build replaced which, how far the new one had folded, and how far it lagged."""

    projection: str
    build: str
    previous: str | None
    positions: dict[str, int]
    lag_seconds: int

    def content(self, *, by: str, reason: str, forced: bool) -> dict[str, Any]:
        """Return the content of the event that records the swap."""
        return {
            "projection": self.projection,
            "build": self.build,
            "previous": self.previous,
            "positions": self.positions,
            "lag_seconds": self.lag_seconds,
            "by": by,
            "reason": reason,
            "forced": forced,
        }


Message = Callable[[Swapped], Mapping[str, Any]]
"""Gives what the outbox keeps of a swap, as JSON: it is written in the transaction that swaps."""


async def promote(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    now: datetime,
    message: Message,
    *,
    by: str,
    force: bool = False,
) -> Swapped:
    """Make a build the live one. Raises ``PromotionRefusedError``; ``force`` overrides the prudential reasons only."""
    live = await live_build(connection, projection.name)
    never, prudent = await _objections(connection, projection, build, live, by)
    if (lag := await _lag(connection, build, now)) > STALE_AFTER:
        never.append(f"it is {int(lag.total_seconds())} s behind the log")
    if never or (prudent and not force):
        raise PromotionRefusedError(build.build_id, [*never, *prudent])
    return await _swap(connection, projection, build, live, now, message)


async def _objections(
    connection: asyncpg.Connection, projection: Projection, build: Build, live: Build | None, by: str
) -> tuple[list[str], list[str]]:
    never, prudent = [], []
    if build.bounded:
        never.append("it is an audit copy, which stays where it is")
    elif build.phase == "live":
        never.append("it is live already")
    elif build.version != projection.version:
        never.append(f"it is of version {build.version}, and this release folds version {projection.version}")
    elif build.phase not in {"ready", "retired"}:
        never.append(f"it is {build.phase}, not ready")
    if parked := await connection.fetchval(PARKED, build.build_id):
        prudent.append(f"{parked} subjects are parked")
    if live is not None and not await connection.fetchval(SEEN, build.build_id, live.build_id, by):
        prudent.append(f"{by} has not compared it with {live.build_id} in the last 24 hours (`ledger diff`)")
    return never, prudent


async def previous_build(connection: asyncpg.Connection, projection: Projection) -> Build:
    """Return the build that was live before the present one. Raises ``PromotionRefusedError``."""
    build_id = await connection.fetchval(LAST_RETIRED, projection.name)
    if build_id is None:
        raise PromotionRefusedError(f"an earlier build of {projection.name}", ["there is no build to go back to"])
    return await read_build(connection, build_id)


async def roll_back(
    connection: asyncpg.Connection, projection: Projection, now: datetime, message: Message, *, stale: bool = False
) -> Swapped:
    """Make the build that was live before live again. Raises ``PromotionRefusedError`` if it lags too far.

    A retired build that this release cannot fold falls behind: its answers are as old as its checkpoint, and say so.
    ``stale`` accepts that.
    """
    build = await previous_build(connection, projection)
    lag = await _lag(connection, build, now)
    if lag > STALE_AFTER and not stale:
        reasons = [f"it is {int(lag.total_seconds())} s behind (--stale accepts that; over HTTP, force)"]
        raise PromotionRefusedError(build.build_id, reasons)
    return await _swap(connection, projection, build, await live_build(connection, projection.name), now, message)


async def _lag(connection: asyncpg.Connection, build: Build, now: datetime) -> timedelta:
    since = await connection.fetchval(BEHIND_SINCE, build.build_id)
    return timedelta() if since is None else max(now - since, timedelta())


async def _swap(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    live: Build | None,
    now: datetime,
    message: Message,
) -> Swapped:
    for attempt in range(_TRIES):
        try:
            async with connection.transaction():
                await _swap_once(connection, projection, build, live)
                swapped = await _swapped(connection, projection, build, live, now)
                await connection.execute(ADD_TO_OUTBOX, build.build_id, now, orjson.dumps(message(swapped)).decode())
        except asyncpg.LockNotAvailableError as error:
            if attempt == _TRIES - 1:
                why = "somebody keeps a view of it, or the registry, locked: try again"
                raise PromotionRefusedError(build.build_id, [why]) from error
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            break
    return swapped


async def _swapped(
    connection: asyncpg.Connection, projection: Projection, build: Build, live: Build | None, now: datetime
) -> Swapped:
    lag = await _lag(connection, build, now)
    positions = await positions_of(connection, build.build_id)
    previous = live.build_id if live else None
    return Swapped(projection.name, build.build_id, previous, positions, int(lag.total_seconds()))


async def _swap_once(connection: asyncpg.Connection, projection: Projection, build: Build, live: Build | None) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_MILLISECONDS}ms'")
    await connection.execute("LOCK TABLE ledger.build IN SHARE ROW EXCLUSIVE MODE")
    current = await live_build(connection, projection.name)
    if (current and current.build_id) != (live and live.build_id):
        raise PromotionRefusedError(build.build_id, ["another build was promoted meanwhile"])
    if live is not None:
        await connection.execute(RETIRE, live.build_id)
    await connection.execute(MAKE_LIVE, build.build_id)
    await connection.execute("SELECT set_config('search_path', $1, true)", build.schema_name)
    for view in projection.views.values():
        await connection.execute(view)
    if projection.consumer is not None:
        await projection.consumer.promoted(connection, build.build_id)

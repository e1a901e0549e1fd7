"""Following the log to its head, as the follower of a service does."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.postgres import Database
from projections.builds import ensure_live
from projections.contract import Projection
from projections.follower import follow
from projections.runner import connect_runner


async def follow_to_the_head(database: Database, projections: Iterable[Projection], *, telling: bool = False) -> None:
    """Fold what has been appended; ``telling``: also what the consumers make of what changed."""
    connection = await connect_runner(database)
    try:
        for projection in projections:
            build = await ensure_live(connection, projection)
            while await follow(connection, projection, build):
                pass
            if telling and projection.consumer is not None:
                await projection.consumer.turn(connection, build.build_id)
    finally:
        connection.terminate()

"""Reading a rebuild's next piece of the log while the last one is folded: the database works while Python does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import asyncpg

from ledger.tasks import end

SUBJECTS: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id > $1 AND ($2::text IS NULL OR stream_id <= $2) AND book = $3 AND position <= $4 AND type = ANY ($5)
ORDER BY stream_id, version
LIMIT $6
"""

# The planner would rather fetch all that is left of a part and sort it, for each piece again; and a plan that is made
# once for all parts would not stop where a part ends.
READ_IN_KEY_ORDER: Final = """
SET enable_bitmapscan = off;
SET enable_sort = off;
SET plan_cache_mode = force_custom_plan;
"""

PIECE_ROWS: Final = 1_000


class Place(NamedTuple):
    """Where a piece begins: after a stream of a book, up to another stream and a position, of some types."""

    after: str
    until: str | None
    book: str
    target: int
    types: tuple[str, ...]


class ReadAhead:
    """Reads pieces over a connection of its own. What the log holds up to a position never changes."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._begun: tuple[Place, asyncio.Task[list[asyncpg.Record]]] | None = None

    async def rows(self, place: Place) -> list[asyncpg.Record]:
        """Return a piece's rows: those being read already, where they are the ones."""
        begun, self._begun = self._begun, None
        if begun is not None:
            rows = await begun[1]
            if begun[0] == place:
                return rows
        return await self._read(place)

    def begin(self, place: Place) -> None:
        """Begin to read what will be asked for next."""
        self._begun = (place, asyncio.create_task(self._read(place)))

    async def _read(self, place: Place) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._connection.fetch(SUBJECTS, *place, PIECE_ROWS)
        return rows

    async def stop(self) -> None:
        """Let go of what nobody will ask for."""
        if self._begun is not None:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
                await end(self._begun[1])


@contextlib.asynccontextmanager
async def reading_ahead(connection: asyncpg.Connection) -> AsyncIterator[ReadAhead]:
    """Use a connection for reading ahead."""
    await connection.execute(READ_IN_KEY_ORDER)
    ahead = ReadAhead(connection)
    try:
        yield ahead
    finally:
        await ahead.stop()

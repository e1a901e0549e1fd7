"""Folding a rebuild's next piece of the log while the last one is written: the database works while Python does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

import asyncpg

from ledger.tasks import end
from projections.links import customers_of

SUBJECTS: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE stream_id > $1 AND stream_id <= $2 AND book = $3 AND position <= $4 AND type = ANY ($5)
  AND ($6::boolean IS NULL OR (stream_id ^@ ANY ($7)) = $6)
ORDER BY stream_id, version
LIMIT $8
"""

# Many streams and links are looked for, of which few are there: the planner, who does not know that, would rather
# read whole tables for them; and to plan for a list of a thousand takes longer than to look for them. It would also
# rather fetch all that is left of a part and sort it, for each piece again. For the whole session: a transaction would
# be left standing where what is made ahead is let go of while it begins or ends.
READ_BY_KEYS: Final = """
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_sort = off;
SET plan_cache_mode = force_generic_plan;
"""

PIECE_ROWS: Final = 1_000

Made = TypeVar("Made")


class Place(NamedTuple):
    """Where a piece begins: after a stream of a book, up to another stream and a position, of some types.

    ``customers`` says whether it is of customers' streams, or of all others; None: of any.
    """

    after: str
    until: str
    book: str
    target: int
    types: tuple[str, ...]
    customers: bool | None = None


Make = Callable[[asyncpg.Connection, Place], Awaitable[Made]]
"""Reads what begins at a place and makes something of it."""


async def read(connection: asyncpg.Connection, place: Place, limit: int) -> list[asyncpg.Record]:
    """Read up to ``limit`` rows of the piece that begins at a place."""
    rows: list[asyncpg.Record] = await connection.fetch(SUBJECTS, *place, customers_of(place.book), limit)
    return rows


class Ahead(Generic[Made]):
    """Makes pieces over a connection of its own. What the log holds up to a position never changes."""

    def __init__(self, connection: asyncpg.Connection, make: Make[Made]) -> None:
        self._connection = connection
        self._make = make
        self._begun: tuple[Place, asyncio.Task[Made]] | None = None

    @property
    def until(self) -> str | None:
        """The end of the part whose next piece is already being made."""
        return self._begun[0].until if self._begun else None

    async def piece(self, place: Place) -> Made:
        """Return the piece at a place; take the one already being made if that is it."""
        if self._begun is not None and self._begun[0] == place:
            task, self._begun = self._begun[1], None
            return await task
        await self.stop()
        return await self._make(self._connection, place)

    def begin(self, place: Place) -> None:
        """Begin to make the piece that will be asked for next."""
        self._begun = (place, asyncio.ensure_future(self._make(self._connection, place)))

    async def stop(self) -> None:
        """Discard the piece being made, which nobody will ask for."""
        begun, self._begun = self._begun, None
        if begun is not None:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
                await end(begun[1])


@contextlib.asynccontextmanager
async def working_ahead(connection: asyncpg.Connection, make: Make[Made]) -> AsyncIterator[Ahead[Made]]:
    """Use a connection for working ahead."""
    await connection.execute(READ_BY_KEYS)
    ahead = Ahead(connection, make)
    try:
        yield ahead
    finally:
        await ahead.stop()

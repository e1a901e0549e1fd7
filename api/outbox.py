"""The outbox of swaps: events about promotions and rollbacks that the log does not have yet (table ``ledger.unsaid``).

A message is written in the transaction that swaps builds, and published after it, or by whoever starts next.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from ledger.appender import Appender
from ledger.books import CONTROL_BOOK
from ledger.calls import Call, KeyedCall
from ledger.decisions import decide, restore
from projections.life import SWAPS, BuildLife
from projections.promotion import Swapped

OUTBOX: Final = """
SELECT build_id, decided_at, after, said
FROM ledger.unsaid
ORDER BY decided_at, build_id
FOR UPDATE
"""

IS_PUBLISHED: Final = """
SELECT EXISTS (
    SELECT FROM ledger.event
    WHERE stream_id = $1 AND position > $2 AND type = ANY ($3) AND created = $4
)
"""

PUBLISHED: Final = "DELETE FROM ledger.unsaid WHERE build_id = $1 AND decided_at = $2"


def swapped_json(swapped: Swapped) -> dict[str, Any]:
    """Write the answer to a request that swapped builds."""
    return {
        "build": swapped.build,
        "previous": swapped.previous,
        "positions": swapped.positions,
        "lag_seconds": swapped.lag_seconds,
    }


def message(what: str, swapped: Swapped, content: Mapping[str, Any], call: KeyedCall | None) -> Mapping[str, Any]:
    """Return a swap's message: the event to append, and the answer for a retry under its Idempotency-Key."""
    wanted = None if call is None else {"name": call.name, "wanted": call.wanted}
    return {"what": what, "content": content, "answer": swapped_json(swapped), "called": wanted}


async def publish(connection: asyncpg.Connection, appender: Appender) -> None:
    """Append to the log what is in the outbox, since the process that swapped may have been killed.

    If this one is killed between the append and the end of the transaction, the next finds the event in the log.
    """
    async with connection.transaction():
        for row in await connection.fetch(OUTBOX):
            build_id, at = row["build_id"], row["decided_at"]
            stream_id = f"{CONTROL_BOOK}/{build_id}"
            if not await connection.fetchval(IS_PUBLISHED, stream_id, row["after"], list(SWAPS), at):
                await _append(connection, appender, build_id, at, orjson.loads(row["said"]))
            await connection.execute(PUBLISHED, build_id, at)


async def _append(
    connection: asyncpg.Connection, appender: Appender, build_id: str, at: datetime, told: Mapping[str, Any]
) -> None:
    call = KeyedCall(**told["called"]) if told["called"] else None
    if call and (await restore(connection, Call, CONTROL_BOOK, call.name)).answered is not None:
        call = None
    noted = call.answered(told["answer"], at) if call else []

    def decision(life: BuildLife) -> None:
        (life.promote if told["what"] == "promote" else life.roll_back)(**told["content"])

    await decide(connection, appender, BuildLife, CONTROL_BOOK, build_id, decision, now=at, beside=lambda: noted)

"""Forgetting an event whose body was erased: every subject that had folded it is refolded without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from ledger.reader import StoredEvent
from projections import stored_links, stored_terms
from projections.builds import builds_of, enter
from projections.contract import Projection
from projections.follower import CHECKPOINT, replay

_FOLDED: Final = frozenset({"live", "ready", "retired", "catching_up"})


@dataclass(slots=True)
class Forgotten:
    """The builds in which the event's subject was refolded, and those that keep what they derived from it."""

    folded: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)


async def forget(connection: asyncpg.Connection, projections: Sequence[Projection], event: StoredEvent) -> Forgotten:
    """Refold everything that used an erased event, in every build that this release folds.

    Builds of other releases, audit copies and rebuilds in progress stay as they are.
    """
    forgotten = Forgotten()
    for projection in projections:
        if event.type not in projection.types | projection.references:
            continue
        for build in await builds_of(connection, projection.name):
            if build.phase not in _FOLDED or build.bounded or build.version != projection.version:
                forgotten.untouched.append(build.build_id)
                continue
            await enter(connection, build.schema_name)
            if await connection.fetchval(CHECKPOINT, build.build_id, event.book) is not None:
                # Whether anybody's rows show it or not: this moves the checkpoint, so that a step which has read the
                # body is dropped, and a follower forgets what it remembers.
                subjects = await _subjects(connection, projection, event)
                await replay(connection, projection, build, event.book, subjects)
            forgotten.folded.append(build.build_id)
    return forgotten


async def _subjects(connection: asyncpg.Connection, projection: Projection, event: StoredEvent) -> list[str]:
    """Return the subjects whose rows may rest on the event: its own, or all that used its terms."""
    if event.type in projection.references:
        # A reference object's stream is named as its users note it.
        return sorted(await stored_terms.users_of(connection, [event.stream_id]))
    roots = await stored_links.roots_of(connection, projection, [event.stream_id])
    return list(roots.values())

"""What is shown about builds: how far each is, and what was decided about them, by whom and why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from ledger.books import CONTROL_BOOK
from ledger.dictionary import BodyReader
from ledger.times import rfc3339
from projections.builds import Build, list_builds
from projections.rebuild import Progress, read_progress

DECISIONS: Final = ("requested", "certified", "promoted", "rolled_back", "dropped")
_TOPIC: Final = "ledger.build."
_LAST_POSITION: Final = 2**63 - 1

DECIDED: Final = """
SELECT stream_id, position, event_id, type, created, encoding, dictionary_id, salt, body
FROM ledger.event
WHERE book = $1 AND position < $2 AND type = ANY ($3) AND stream_id ~ $4 AND created <= $5
ORDER BY position DESC
LIMIT $6
"""

PARKED: Final = "SELECT build_id, count(*) AS parked FROM ledger.parked GROUP BY build_id"

_bodies = BodyReader()


def live_json(rows: list[asyncpg.Record], now: datetime, book: str | None = None) -> list[dict[str, Any]]:
    """Write the live builds: how far each has folded every book (or one), its digest, what is parked."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = found.setdefault(
            row["projection"],
            {
                "name": row["projection"],
                "version": row["version"],
                "build": row["build_id"],
                "digest": orjson.loads(row["certificate"])["digest"] if row["certificate"] else None,
                "books": [],
                "parked": row["parked"],
            },
        )
        if row["book"] is not None and book in (None, row["book"]):
            one["books"].append(_place_json(row, now))
    return list(found.values())


def _place_json(row: asyncpg.Record, now: datetime) -> dict[str, Any]:
    lag = max(0.0, (now - row["waiting_since"]).total_seconds()) if row["waiting_since"] else 0.0
    return {"book": row["book"], "position": row["position"], "head": row["head"], "lag_seconds": round(lag, 3)}


async def read_builds(
    connection: asyncpg.Connection, builds: Iterable[Build], now: datetime, book: str | None = None
) -> list[dict[str, Any]]:
    """Write builds, with how far each is in every book, or in one."""
    parked = {row["build_id"]: row["parked"] for row in await connection.fetch(PARKED)}
    places: dict[str, list[dict[str, Any]]] = {}
    for row in await list_builds(connection, every=True):
        if row["book"] is not None and book in (None, row["book"]):
            places.setdefault(row["build_id"], []).append(_place_json(row, now))
    return [
        build_json(build, await read_progress(connection, build), parked.get(build.build_id, 0), now)
        | {"books": places.get(build.build_id, [])}
        for build in builds
    ]


def build_json(build: Build, progress: Progress, parked: int, now: datetime) -> dict[str, Any]:
    """Write a build and how far it is. Until its parts are cut, the total is estimated from its books."""
    return {
        "build": build.build_id,
        "phase": _phase(build),
        "done": progress.events,
        "total": progress.expected if progress.parts else sum(build.targets.values()),
        **_speed(build, progress, now),
        "digest": (build.certificate or {}).get("digest"),
        "certificate": build.certificate,
        "parked": parked,
        "bounded": build.bounded,
        "targets": build.targets,
        "version": build.version,
        "requested_by": build.requested_by,
        "reason": build.reason,
        "created_at": rfc3339(build.created_at),
        "changed_at": rfc3339(build.changed_at),
        "started": progress.parts > 0 or build.phase != "folding",
    }


def _phase(build: Build) -> str:
    """Name a build's phase; it is ready only once its digest is there."""
    return "catching_up" if build.phase == "ready" and build.certificate is None else build.phase


def _speed(build: Build, progress: Progress, now: datetime) -> dict[str, Any]:
    """Return events folded a second since it was asked for, and how long the rest takes at that rate."""
    if build.phase != "folding":
        return {"rate": None, "eta_seconds": 0}
    seconds = (now - build.created_at).total_seconds()
    if seconds <= 0 or progress.events == 0:
        return {"rate": None, "eta_seconds": None}
    rate = progress.events / seconds
    return {"rate": round(rate, 1), "eta_seconds": round((progress.expected - progress.events) / rate)}


async def read_decisions(
    connection: asyncpg.Connection, projection: str, before: tuple[int] | None, until: datetime, limit: int
) -> list[dict[str, Any]]:
    """Return what was decided about a projection's builds up to a moment, newest first, as the control book has it."""
    types = [f"{_TOPIC}{one}" for one in DECISIONS]
    streams = f"^{CONTROL_BOOK}/{projection}-[0-9]+$"
    position = before[0] if before else _LAST_POSITION
    rows = await connection.fetch(DECIDED, CONTROL_BOOK, position, types, streams, until, limit)
    await _bodies.prepare(connection, rows)
    return [_decision_json(row) for row in rows]


def _decision_json(row: asyncpg.Record) -> dict[str, Any]:
    content = orjson.loads(_bodies.decode(row))["data"]["object"]
    return {
        "at": rfc3339(row["created"]),
        "what": row["type"].removeprefix(_TOPIC),
        "build": row["stream_id"].rpartition("/")[2],
        "previous": content.get("previous"),
        "by": content.get("by"),
        "reason": content.get("reason"),
        "forced": content.get("forced"),
        "lag_seconds": content.get("lag_seconds"),
        "digest": content.get("digest"),
        "event": row["event_id"],
        "position": row["position"],
    }

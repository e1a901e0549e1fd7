"""Leases: which process does work that only one may do at a time, and the term that fences off earlier holders.

A lease lasts some seconds by the database's clock and is renewed while its holder lives. Each change of holder raises
the term; a checkpoint moved under one term is never moved again under a lower one.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Final

import asyncpg

LEASE_SECONDS: Final = 5

TAKE: Final = """
INSERT INTO ledger.lease (name, holder, term, expires_at)
VALUES ($1, $2, 1, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, expires_at = excluded.expires_at,
    term = CASE WHEN lease.holder = excluded.holder AND lease.expires_at > now() THEN lease.term ELSE lease.term + 1 END
WHERE lease.holder = excluded.holder OR lease.expires_at <= now()
RETURNING term
"""

GIVE_BACK: Final = "UPDATE ledger.lease SET expires_at = now() WHERE name = $1 AND holder = $2"

IS_FREE: Final = "SELECT NOT EXISTS (SELECT FROM ledger.lease WHERE name = $1 AND expires_at > now())"

FENCE: Final = "UPDATE ledger.checkpoint SET term = $2 WHERE build_id = $1 AND term < $2"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was taken: its name, its holder and its term."""

    name: str
    holder: str
    term: int


def this_process() -> str:
    """Name this process, as the holder of leases."""
    return f"{socket.gethostname()}/{os.getpid()}"


async def take(connection: asyncpg.Connection, name: str, holder: str) -> Lease | None:
    """Take or renew a lease; None while somebody else has it."""
    term = await connection.fetchval(TAKE, name, holder, LEASE_SECONDS)
    return None if term is None else Lease(name, holder, term)


async def is_free(connection: asyncpg.Connection, name: str) -> bool:
    """Tell whether nobody has a lease."""
    return bool(await connection.fetchval(IS_FREE, name))


async def fence(connection: asyncpg.Connection, lease: Lease) -> None:
    """From now on refuse whatever an earlier holder still does to the build that the lease is for."""
    await connection.execute(FENCE, lease.name, lease.term)


async def give_back(connection: asyncpg.Connection, lease: Lease) -> None:
    """Give the lease back, so that another process can take it at once."""
    await connection.execute(GIVE_BACK, lease.name, lease.holder)

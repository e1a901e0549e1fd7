"""How the ledger connects to PostgreSQL: as which role, with which limits, and what counts as *away*."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import asyncpg

Role = Literal["ledger_app", "ledger_builder"]

ROLES: Final[tuple[Role, ...]] = ("ledger_app", "ledger_builder")
"""What the service's login must be a member of, and of nothing else."""

AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke in the middle of the protocol
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,  # also of a password
    asyncpg.InvalidCatalogNameError,
)
"""What asyncpg raises while the database is stopped, starting, full, unreachable, a standby, or lets us not in."""

_SESSION: Final = {
    "application_name": "ledger",
    "timezone": "UTC",
    "datestyle": "ISO",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "search_path": "pg_catalog",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",
}
"""What holds on every connection, whatever an administrator has set for the login or the database. Statements are
written for these, and how long one may take is for whoever waits for it to say."""

_CONNECT_SECONDS = 5
_COMMAND_SECONDS = 60


def said_by(error: BaseException) -> str:
    """Return what an error says; its kind where it says nothing, as some of those that mean a database is away."""
    return str(error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class Database:
    """An address of PostgreSQL and the role its connections take; makes connections and pools."""

    url: str
    role: Role | None = None

    def as_role(self, role: Role) -> Database:
        """Return the same address with connections that take ``role``."""
        return replace(self, role=role)

    async def connect(self, command_timeout: float = _COMMAND_SECONDS, **settings: str) -> asyncpg.Connection:
        """Open one connection, with further settings of PostgreSQL's where such are given."""
        options = self._options(command_timeout)
        options["server_settings"] |= settings
        return await asyncpg.connect(self.url, timeout=_CONNECT_SECONDS, **options)

    async def connect_by_key(self, command_timeout: float = _COMMAND_SECONDS) -> asyncpg.Connection:
        """Open one connection for statements that find rows by key, asked again and again.

        They are planned once, for indexes. A plan made while the log is short would else read all of it for every
        batch, and be kept until the log is analysed.
        """
        no_scans = dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
        return await self.connect(command_timeout, plan_cache_mode="force_generic_plan", **no_scans)

    def pool(self, *, max_size: int, command_timeout: float = _COMMAND_SECONDS) -> asyncpg.Pool:
        """Make a pool, to be opened with ``async with``. It opens connections only when they are needed."""
        return asyncpg.create_pool(
            self.url, min_size=0, max_size=max_size, timeout=_CONNECT_SECONDS, **self._options(command_timeout)
        )

    def pool_by_key(self, *, max_size: int, command_timeout: float = _COMMAND_SECONDS) -> asyncpg.Pool:
        """Make a pool for few statements that find rows by key, asked again and again.

        They are planned once, for indexes. What is set on a connection, such as its search path, stays: it is not
        reset when it is given back, which would be another way to the database and back.
        """
        options = self._options(command_timeout)
        options["server_settings"] |= {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
        return asyncpg.create_pool(
            self.url, min_size=0, max_size=max_size, timeout=_CONNECT_SECONDS, reset=_as_it_is, **options
        )

    def _options(self, command_timeout: float) -> dict[str, Any]:
        settings = dict(_SESSION)
        if self.role is not None:
            settings["role"] = self.role
        return {"command_timeout": command_timeout, "server_settings": settings}


async def _as_it_is(_: asyncpg.Connection) -> None:
    """Reset nothing."""

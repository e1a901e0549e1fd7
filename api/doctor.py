"""What ``ledger doctor`` checks: every setting in force, and what the log relies on in the database."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import asyncpg

from api.credentials import load_credentials
from api.database import running_database
from api.settings import Settings, environment_name
from api.signing import load_signer, open_checkpoint_dir
from ledger.errors import LedgerError, SettingError
from ledger.migrate import check_schema
from ledger.postgres import AWAY, Database

_SECRET_FIELDS: Final = frozenset(
    {"database_url", "owner_database_url", "stripe_webhook_secrets", "stripe_api_key", "api_keys", "signing_key"}
)

SERVER_SETTINGS: Final = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""What durability rests on: an acknowledged event survives a crash of the machine."""

TRIGGER = """
SELECT tgenabled = 'A'
FROM pg_trigger
WHERE tgrelid = 'ledger.event'::regclass AND tgname = 'event_is_immutable'
"""

PRIVILEGES = """
SELECT has_table_privilege('ledger_app', 'ledger.event', 'INSERT, SELECT')
   AND NOT has_table_privilege('ledger_app', 'ledger.event', 'UPDATE')
   AND NOT has_table_privilege('ledger_app', 'ledger.event', 'DELETE')
   AND NOT has_table_privilege('ledger_app', 'ledger.event', 'TRUNCATE')
   AND NOT pg_has_role(session_user, 'ledger_owner', 'MEMBER')
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result: what was checked, what was found, and how it was judged."""

    name: str
    ok: bool
    value: str
    how: str


def examine(settings: Settings) -> list[Check]:
    """Check every setting, then the database. What cannot be reached is a failed check, not an error."""
    checks = [*setting_checks(settings), _credentials(settings), _signing_key(settings), *place_checks(settings)]
    try:
        with running_database(settings) as database:
            checks += asyncio.run(_database(database.as_role("ledger_app")))
    except (LedgerError, asyncpg.PostgresError, *AWAY) as error:
        checks.append(Check("database", ok=False, value=str(error), how="it answers"))
    return checks


def setting_checks(settings: Settings) -> list[Check]:
    """Return every setting as it is in force; of secrets only whether they are set."""
    return [_setting(settings, name, str(field.description)) for name, field in Settings.model_fields.items()]


def _setting(settings: Settings, name: str, description: str) -> Check:
    value = getattr(settings, name)
    shown = "(not set)" if value is None else "(set)" if name in _SECRET_FIELDS else str(value)
    return Check(environment_name(name), ok=True, value=shown, how=description)


def _credentials(settings: Settings) -> Check:
    how = "every secret and key can be read"
    try:
        credentials = load_credentials(settings)
    except SettingError as error:
        return Check("credentials", ok=False, value=str(error), how=how)
    found = f"{len(credentials.webhook_secrets)} webhook secrets, {len(credentials.api_keys)} API keys"
    return Check("credentials", ok=True, value=found, how=how)


def _signing_key(settings: Settings) -> Check:
    how = "it can be read"
    try:
        return Check("signing key", ok=True, value=load_signer(settings).name, how=how)
    except SettingError as error:
        return Check("signing key", ok=False, value=str(error), how=how)


def place_checks(settings: Settings) -> list[Check]:
    """Check the address to listen on, the checkpoint folder, and whether Stripe's key looks like one."""
    checks = [_tried("address", settings.host, "this machine can listen there", lambda: _listen(settings.host))]
    if settings.checkpoint_dir is not None:
        shown, how = str(settings.checkpoint_dir), "checkpoints can be appended there"
        checks.append(_tried("checkpoint folder", shown, how, lambda: open_checkpoint_dir(settings)))
    if (key := settings.stripe_api_key) is not None:
        from api.outward.access import livemode_of

        checks.append(_tried("Stripe's key", key[:8], "it says for which mode it is", lambda: livemode_of(key)))
    return checks


def _tried(name: str, shown: str, how: str, attempt: Callable[[], object]) -> Check:
    try:
        attempt()
    except (OSError, UnicodeError, SettingError) as error:
        return Check(name, ok=False, value=str(error), how=how)
    return Check(name, ok=True, value=shown, how=how)


def _listen(host: str) -> None:
    # On any port: the running service may hold the one in the settings.
    family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.bind(address)


async def _database(database: Database) -> list[Check]:
    connection = await database.connect()
    try:
        return await database_checks(connection)
    finally:
        await connection.close()


async def database_checks(connection: asyncpg.Connection) -> list[Check]:
    """Check what the log relies on, as the service is connected."""
    version = await connection.fetchval("SHOW server_version")
    checks = [Check("database", ok=True, value=f"PostgreSQL {version}", how="it answers")]
    checks.append(await _schema(connection))
    if not checks[-1].ok:
        return checks
    for name, wanted in SERVER_SETTINGS.items():
        value = await connection.fetchval("SELECT current_setting($1)", name)
        checks.append(Check(name, ok=value == wanted, value=value, how=f"must be {wanted}"))
    guarded = await connection.fetchval(TRIGGER)
    checks.append(Check("trigger", ok=guarded, value=_yes(guarded), how="changes of events are refused always"))
    granted = await connection.fetchval(PRIVILEGES)
    checks.append(Check("grants", ok=granted, value=_yes(granted), how="the service may only add and read events"))
    return checks


async def _schema(connection: asyncpg.Connection) -> Check:
    try:
        await check_schema(connection)
    except LedgerError as error:
        return Check("schema", ok=False, value=str(error), how="it is this release's")
    return Check("schema", ok=True, value="current", how="it is this release's")


def _yes(value: object) -> str:
    return "yes" if value else "no"

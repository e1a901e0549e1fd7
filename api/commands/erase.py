"""``ledger erase``: the body of one event goes, and everything that was derived from it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from api.commands.builds import who
from api.commands.reasons import Reason
from api.database import running_database
from api.output import show_json
from api.services import Services, open_services, projections_of
from api.settings import Settings, load_settings
from ledger.decisions import decide
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.erasure import ERASURES_STREAM, Erasures, free_the_place, overwrite
from ledger.errors import MistakeError
from ledger.postgres import Database
from ledger.reader import StoredEvent, read_event
from projections.forgetting import Forgotten, forget
from projections.runner import connect_runner


def erase(
    event: Annotated[str, typer.Argument(help="The event's id.")],
    reason: Reason,
    book: Annotated[str | None, typer.Option(help="Which book; default: the default book.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Overwrite the body of one event with nothing, for good, after a signed event that says so. Needs the owner.

    Every proof still holds. Stopped in the middle, the same command goes on. Uses LEDGER_OWNER_DATABASE_URL, or
    LEDGER_DATABASE_URL, or the embedded database.

    Example: ledger erase evt_1 --reason "the customer asked for it"
    """
    settings = load_settings()
    with running_database(settings) as database:
        found, forgotten = asyncio.run(_erase(settings, database, book or settings.book_by_default, event, reason))
    if as_json:
        show_json({
            "event": found.event_id, "book": found.book, "position": found.position,
            "folded_again": forgotten.folded, "untouched": forgotten.untouched,
        })  # fmt: skip
        return
    typer.echo(f"{found.event_id} is erased: position {found.position} of {found.book} has no body any more")
    for build in forgotten.untouched:
        typer.echo(f"{build} was not folded again: it keeps what it made of the event until you drop it")


async def _erase(
    settings: Settings, database: Database, book: str, event_id: str, reason: str
) -> tuple[StoredEvent, Forgotten]:
    async with open_services(settings, database=database) as services:
        found = await _decide(services, book, event_id, reason)
        owner = await Database(_owner_url(settings)).connect(command_timeout=3600)
        try:
            await overwrite(owner, found)
            await free_the_place(owner)
        finally:
            await owner.close()
    connection = await connect_runner(database)
    try:
        return found, await forget(connection, projections_of(settings), found)
    finally:
        await connection.close()


async def _decide(services: Services, book: str, event_id: str, reason: str) -> StoredEvent:
    """Write down that the event is erased, and sign that, before anything is."""
    async with services.pool.acquire() as connection:
        found = await read_event(connection, book, event_id)
        if found is None:
            raise MistakeError(f"book {book} has no event {event_id}")
        await decide(
            connection,
            services.appender,
            Erasures,
            book,
            ERASURES_STREAM,
            lambda erasures: erasures.record(found, reason, who()),
            now=services.clock(),
        )
    await services.notary.sign_all()
    return found


def _owner_url(settings: Settings) -> str:
    if settings.embedded:
        return EmbeddedPostgres(settings.data_dir).url(SUPERUSER)
    return settings.owner_database_url or str(settings.database_url)

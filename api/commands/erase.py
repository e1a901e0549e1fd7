"""``ledger erase``: the bodies of events go, and everything that was derived from them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import asyncpg
import typer

from api.commands.books import Book, book_of
from api.commands.builds import who
from api.commands.options import Reason
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
    events: Annotated[list[str], typer.Argument(metavar="EVENT...", help="The event's id, or several.")],
    reason: Reason,
    book: Book = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Erase the bodies of events for good, after appending signed events that say so. Needs the owner's login.

    If the book lacks one of them, none is erased. Every proof still holds. After an interruption run the same command
    again. Uses LEDGER_OWNER_DATABASE_URL, or LEDGER_DATABASE_URL, or the embedded database.

    Example: ledger erase evt_1 --reason "the customer asked for it"
    """
    settings = load_settings()
    with running_database(settings) as database:
        erased = asyncio.run(_erase(settings, database, book_of(settings, database, book), events, reason))
    if as_json:
        contents = [_json(found, forgotten) for found, forgotten in erased]
        show_json(contents[0] if len(contents) == 1 else contents)
        return
    for found, _ in erased:
        typer.echo(f"{found.event_id} is erased: position {found.position} of {found.book} has no body any more")
    for build in dict.fromkeys(build for _, forgotten in erased for build in forgotten.untouched):
        typer.echo(f"{build} was not folded again: it keeps what it derived from the event until you drop it")


def _json(found: StoredEvent, forgotten: Forgotten) -> dict[str, Any]:
    return {
        "event": found.event_id,
        "book": found.book,
        "position": found.position,
        "folded_again": forgotten.folded,
        "untouched": forgotten.untouched,
    }


async def _erase(
    settings: Settings, database: Database, book: str, event_ids: Sequence[str], reason: str
) -> list[tuple[StoredEvent, Forgotten]]:
    async with open_services(settings, database=database) as services:
        found = await _decide(services, book, event_ids, reason)
        owner = await Database(_owner_url(settings)).connect(command_timeout=3600)
        try:
            for one in found:
                await overwrite(owner, one)
            await free_the_place(owner)
        finally:
            await owner.close()
    connection = await connect_runner(database)
    try:
        return [(one, await forget(connection, projections_of(settings), one)) for one in found]
    finally:
        await connection.close()


async def _decide(services: Services, book: str, event_ids: Sequence[str], reason: str) -> list[StoredEvent]:
    """Write down that the events are erased, and sign that, before anything is."""

    def record(erasures: Erasures) -> None:
        for one in found:
            erasures.record(one, reason, who())

    async with services.pool.acquire() as connection:
        found = [await _read(connection, book, event_id) for event_id in dict.fromkeys(event_ids)]
        await decide(
            connection,
            services.appender,
            Erasures,
            book,
            ERASURES_STREAM,
            record,
            now=services.clock(),
        )
    await services.notary.sign_all()
    return found


async def _read(connection: asyncpg.Connection, book: str, event_id: str) -> StoredEvent:
    found = await read_event(connection, book, event_id, lenient=True)
    if found is None:
        raise MistakeError(f"book {book} has no event {event_id}")
    return found


def _owner_url(settings: Settings) -> str:
    if settings.embedded:
        return EmbeddedPostgres(settings.data_dir).url(SUPERUSER)
    return settings.owner_database_url or str(settings.database_url)

"""``ledger events``."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from api.commands.books import Book, book_of
from api.database import running_database
from api.events import event_json
from api.output import show_json, show_table
from api.settings import load_settings
from ledger.conflicts import conflicts_of
from ledger.errors import MistakeError
from ledger.postgres import Database
from ledger.reader import Filter, StoredEvent, read_event, read_page
from ledger.times import rfc3339


def events(
    event: Annotated[str | None, typer.Argument(help="Show only this event.")] = None,
    book: Book = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's events.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    after: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Only positions after this one.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many to list at most.")] = 20,
    raw: Annotated[bool, typer.Option("--raw", help="With EVENT: write its exact bytes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the newest events of the log (with --after: those after a position), or show one.

    Example: ledger events --customer cus_1 --type invoice.paid --limit 50
    """
    if raw and event is None:
        raise MistakeError("--raw needs an EVENT whose bytes to write")
    settings = load_settings()
    with running_database(settings) as database:
        of_book = book_of(settings, database, book)
        if event is not None:
            found, conflicts = asyncio.run(_one(database, of_book, event, lenient=not raw))
            _show_one(found, conflicts, raw=raw)
            return
        wanted = Filter(after=after, type=type_, stream_id=f"{of_book}/{customer}" if customer else None)
        found_events = asyncio.run(_page(database, of_book, wanted, limit))
    if as_json:
        show_json({"data": [event_json(one, []) for one in found_events]})
        return
    rows = [
        (one.position, rfc3339(one.created), one.type, one.stream_id.partition("/")[2], one.event_id)
        for one in found_events
    ]
    show_table(["position", "created", "type", "about", "event"], rows)


def _show_one(event: StoredEvent, conflicts: list[Any], *, raw: bool) -> None:
    if raw:
        sys.stdout.buffer.write(event.body)
        sys.stdout.buffer.flush()
    else:
        show_json(event_json(event, conflicts))


async def _one(database: Database, book: str, event_id: str, *, lenient: bool) -> tuple[StoredEvent, list[Any]]:
    connection = await database.as_role("ledger_app").connect()
    try:
        found = await read_event(connection, book, event_id, lenient=lenient)
        if found is None:
            raise MistakeError(f"book {book} has no event {event_id}")
        return found, list(await conflicts_of(connection, book, event_id))
    finally:
        await connection.close()


async def _page(database: Database, book: str, wanted: Filter, limit: int) -> list[StoredEvent]:
    connection = await database.as_role("ledger_app").connect()
    try:
        newest_first = wanted.after == 0
        found = await read_page(connection, book, wanted, limit, newest_first=newest_first, lenient=True)
        return found[::-1] if newest_first else found
    finally:
        await connection.close()

"""``ledger verify``, ``ledger prove`` and ``ledger log``: what the log is worth, and to whom it can be shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.progress import Progress

from api.commands.books import Book, book_of
from api.commands.options import Reason
from api.database import running_database
from api.output import progress_bar, show_json
from api.services import Services, open_services
from api.settings import Settings, load_settings
from api.signing import outside_of
from ledger import offline_verify
from ledger.errors import MistakeError
from ledger.fork import fork_log
from ledger.identity import read_identity
from ledger.note import NoteError, VerifierKey, parse_verifier_key
from ledger.postgres import Database
from ledger.reader import StoredEvent, read_books, read_event
from ledger.verify import Report, verify_log

T = TypeVar("T")

app = typer.Typer(help="Sign the log's head, or let the log continue after a restore.", no_args_is_help=True)


def verify(
    full: Annotated[bool, typer.Option("--full", help="Also decode every body and recompute its digest.")] = False,
    verifier_key: Annotated[
        list[str] | None, typer.Option(help="Trust only signatures by this key. Repeatable.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Verify an exported archive instead, offline, without a database.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recompute the whole log against its Merkle roots and every checkpoint ever signed. Exit status 1 if it differs.

    Checkpoints and keys are read from the database and from the folders outside it; the keys outside are trusted.

    Example: ledger verify --full
    """
    if archive is not None:
        given = [part for key in verifier_key or [] for part in ("--verifier-key", key)]
        raise typer.Exit(offline_verify.main([str(archive), *given, *(["--json"] if as_json else [])]))
    settings = load_settings()
    keys = [_parse_key(text) for text in verifier_key or []]
    with running_database(settings) as database, progress_bar() as progress:
        report = asyncio.run(_verify(settings, database, keys, full=full, progress=progress))
    if as_json:
        show_json({
            "true": report.true, "events": report.events, "checkpoints": report.checkpoints,
            "erased": report.erased, "to_erase": report.to_erase, "lost": report.lost, "problems": report.problems,
        })  # fmt: skip
    else:
        _say(report)
    if not report.true:
        raise typer.Exit(1)


def _parse_key(text: str) -> VerifierKey:
    try:
        return parse_verifier_key(text)
    except NoteError as error:
        raise typer.BadParameter(str(error)) from error


def _say(report: Report) -> None:
    for problem in report.problems:
        typer.echo(f"NOT TRUE  {problem}")
    for erased in report.erased:
        typer.echo(f"erased    {erased}")
    for waiting in report.to_erase:
        typer.echo(f"to erase  {waiting}: decided, and its body is there: run `ledger erase` again")
    for lost in report.lost:
        typer.echo(f"lost      {lost}")
    verdict = "true" if report.true else "NOT TRUE"
    typer.echo(f"{verdict}: {report.events} events against {report.checkpoints} signed checkpoints")


async def _verify(
    settings: Settings, database: Database, keys: list[VerifierKey], *, full: bool, progress: Progress
) -> Report:
    connection = await database.as_role("ledger_app").connect(command_timeout=3600)
    try:
        outside = outside_of(settings)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            trusted = keys or outside.keys() or list((await read_identity(connection)).keys)
            task = progress.add_task("verify", total=sum(head.position for head in await read_books(connection)))
            return await verify_log(
                connection,
                trusted,
                outside.notes(),
                full=full,
                progress=lambda count: progress.advance(task, count),
            )
    finally:
        connection.terminate()


def prove(
    event: Annotated[str, typer.Argument(help="The event's id.")],
    book: Book = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the proof that one event is in the log (C2SP tlog-proof), signing the head first if needed.

    Example: ledger prove evt_1 > evt_1.proof
    """
    settings = load_settings()

    async def work(services: Services) -> tuple[StoredEvent, str]:
        async with services.pool.acquire() as connection:
            found = await read_event(connection, of_book, event)
        if found is None:
            raise MistakeError(f"book {of_book} has no event {event}")
        return found, (await services.notary.prove(found)).encode()

    with running_database(settings) as database:
        of_book = book_of(settings, database, book)
        found, proof = asyncio.run(_in_services(settings, database, work))
    if as_json:
        show_json({"event": found.event_id, "book": found.book, "position": found.position, "proof": proof})
    else:
        typer.echo(proof, nl=False)


@app.command("checkpoint")
def checkpoint(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Sign the head of every book that has moved, now, and append it to the checkpoints outside the database.

    Example: ledger log checkpoint
    """
    signed = _with_services(load_settings(), lambda services: services.notary.sign_all())
    if as_json:
        show_json({"signed": signed})
    else:
        typer.echo(f"signed {signed} books")


@app.command("fork")
def fork(
    reason: Reason,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Let the log continue after a restore that lost events: a new origin, and an event that names the lost range.

    Example: ledger log fork --reason "restored the backup of Monday"
    """
    settings = load_settings()

    async def work(services: Services) -> dict[str, tuple[int, int]]:
        outside = services.notary.outside
        async with services.pool.acquire() as connection:
            lost = await fork_log(
                connection, services.appender, outside.notes(), outside.keys(), reason=reason, now=services.clock()
            )
        await services.notary.sign_all()
        return lost

    lost = _with_services(settings, work)
    if as_json:
        show_json({book: {"from": first, "to": last} for book, (first, last) in lost.items()})
        return
    for book, (first, last) in lost.items():
        typer.echo(f"{book}: positions {first} to {last} were lost; the log goes on under a new origin")


def _with_services(settings: Settings, work: Callable[[Services], Awaitable[T]]) -> T:
    with running_database(settings) as database:
        return asyncio.run(_in_services(settings, database, work))


async def _in_services(settings: Settings, database: Database, work: Callable[[Services], Awaitable[T]]) -> T:
    async with open_services(settings, database=database) as services:
        return await work(services)

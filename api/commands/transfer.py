"""``ledger import``, ``export``, ``backup`` and ``restore``: events in and out, and the whole log kept safe."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.progress import Progress

from api.basis import Basis
from api.clock import wall_clock
from api.commands.books import Book, book_of
from api.comparing import cells_json
from api.database import running_database
from api.exporting import Export, all_months, export_books
from api.output import progress_bar, show_json
from api.services import find_projection, open_services
from api.settings import Settings, load_settings
from api.signing import outside_of
from api.tabular import STANDARD_OUTPUT, whole
from ledger.errors import MistakeError
from ledger.export import export_archive
from ledger.importing import Imported, import_file
from ledger.postgres import Database
from ledger.reader import read_books
from ledger.written import json_bytes
from projections.builds import StillFoldingError, read_build

_TABLES = ("journal", "mrr", "recognition", "events")
_ARCHIVE_ENDINGS = {".tar": "tar", ".gz": "gztar", ".tgz": "gztar", ".xz": "xztar"}


def import_(
    file: Annotated[
        Path, typer.Argument(help="Raw events as Stripe writes them, one JSON object per line.", dir_okay=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Append unsigned events from a file, in any order, each once. After an interruption run it again.

    Example: ledger import events.jsonl
    """
    if not file.is_file():
        raise typer.BadParameter(f"{file} is not a file")
    settings = load_settings()
    with running_database(settings) as database, progress_bar() as progress:
        task = progress.add_task("import (bytes)", total=file.stat().st_size)

        async def work() -> Imported:
            async with open_services(settings, database=database) as services:
                return await import_file(
                    services.appender,
                    file,
                    platform_account=settings.account,
                    now=services.clock(),
                    progress=lambda size: progress.advance(task, size),
                )

        imported = asyncio.run(work())
    if as_json:
        show_json({"appended": imported.appended, "duplicates": imported.duplicates})
    else:
        typer.echo(f"appended {imported.appended} events; {imported.duplicates} were in the log already")


class _Written(NamedTuple):
    """What an export wrote: for machines, and for people."""

    content: dict[str, Any]
    text: str


_THERE_ARE: Final = (
    "use `ledger export journal|recognition|mrr|events --format FORMAT`, `ledger export events --with-proof` and "
    "`ledger export rows --build BUILD`"
)


def export(
    what: Annotated[
        str,
        typer.Argument(
            help="`journal`, `recognition`, `mrr`: the books. `events`: the log, as a table or with proof. `rows`: "
            "what a build holds, such as an audit copy."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A file, or `-` for standard output; with proof a folder, or a .tar, .tar.gz or .tar.xz file.",
            show_default=False,
        ),
    ],
    with_proof: Annotated[
        bool, typer.Option("--with-proof", help="With salts, tiles, checkpoints, keys and a verifier.")
    ] = False,
    build: Annotated[str | None, typer.Option(help="The build whose rows to write.")] = None,
    as_format: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, parquet, or for the journal beancount.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="The first month, such as 2026-01.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The month after the last one.")] = None,
    book: Book = None,
    basis: Annotated[str, typer.Option(help="For closed months: `sealed`, or `restated` as known now.")] = "sealed",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Export the books or the log as a table, the journal as Beancount text, the log with proof, or a build's rows.

    Examples: ledger export journal --format beancount -o books.beancount

    ledger export recognition --format csv --from 2026-01 --to 2026-04 -o quarter.csv

    ledger export events --format jsonl --from 2026-01 --to 2026-04 -o events.jsonl

    ledger export events --with-proof -o audit-2026.tar.gz

    ledger export rows --build entitlements-3 -o entitlements-2026-03.jsonl
    """
    of_books = what in _TABLES and as_format is not None and not with_proof and build is None
    of_log = as_format is None and (what, with_proof, build is None) in {("events", True, True), ("rows", False, False)}
    if not of_books and not of_log:
        raise typer.BadParameter(_THERE_ARE)
    if of_log and (since, until, book, basis) != (None, None, None, "sealed"):
        raise typer.BadParameter("--from, --to, --book and --basis are for tables: a log or a build is written whole")
    printed = _is_printed(output, with_proof=with_proof)
    settings = load_settings()
    with running_database(settings) as database, progress_bar() as progress:
        if as_format is not None:
            of_book = book_of(settings, database, book)
            wanted = replace(_books(what, as_format, since, until, of_book, output), basis=_basis(basis))
            written = _write_table(database, wanted, progress)
        elif build is not None:
            count = asyncio.run(export_rows(settings, database, build, output))
            written = _Written({"rows": count, "build": build}, f"{count} rows of {build}")
        else:
            written = asyncio.run(_write_archive(settings, database, output, progress))
    if as_json:
        show_json({"output": str(output), **written.content}, err=printed)
    else:
        typer.echo(f"{output}: {written.text}", err=printed)


def _write_table(database: Database, wanted: Export, progress: Progress) -> _Written:
    task = progress.add_task(f"export {wanted.what} (rows)", total=None)
    count = asyncio.run(export_books(database, wanted, lambda count: progress.advance(task, count)))
    unit = "entries" if wanted.format == "beancount" else "rows"
    return _Written({unit: count, "book": wanted.book}, f"{count} {unit} of {wanted.book}")


def _is_printed(output: Path, *, with_proof: bool) -> bool:
    """Tell whether an export goes to standard output, having looked whether it may go where it is to."""
    printed = output == STANDARD_OUTPUT
    if printed and with_proof:
        raise typer.BadParameter("an archive with proof is a folder, or a .tar, .tar.gz or .tar.xz file")
    if output.exists() and not printed:
        raise MistakeError(f"{output} exists: an export never overwrites anything")
    return printed


def _books(what: str, as_format: str, since: str | None, until: str | None, book: str, output: Path) -> Export:
    first, last = all_months(int(wall_clock().timestamp()))
    months = (_month(since, first), _month(until, last))
    if months[0] >= months[1]:
        raise typer.BadParameter("--from must be before --to")
    return Export(what, book, *months, as_format, output)


def _basis(text: str) -> Basis:
    if text == "sealed":
        return "sealed"
    if text == "restated":
        return "restated"
    raise typer.BadParameter("--basis is sealed or restated")


def _month(text: str | None, default: date) -> date:
    if text is None:
        return default
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise typer.BadParameter(f"{text} is not a month: write 2026-01") from error


async def export_rows(settings: Settings, database: Database, build_id: str, output: Path) -> int:
    """Write each row of a build as a line of JSON, its certificate first; in one snapshot, in order of subject."""
    connection = await database.as_role("ledger_app").connect()
    count = 0
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            build = await read_build(connection, build_id)
            if build.phase in {"folding", "catching_up"}:
                raise StillFoldingError(build_id)
            tables = find_projection(settings, build.projection).tables
            with whole(output) as path, path.open("wb") as file:
                file.write(_line({"certificate": build.certificate, "build": build_id, "targets": dict(build.targets)}))
                for table in tables:
                    # Names of schemas and tables are made by this code.
                    rows = f"SELECT * FROM {build.schema_name}.{table.name} AS t ORDER BY subject, t::text"  # noqa: S608
                    async for row in connection.cursor(rows, prefetch=1_000):
                        file.write(_line({"table": table.name, **(cells_json(dict(row)) or {})}))
                        count += 1
    finally:
        await connection.close()
    return count


def _line(content: dict[str, Any]) -> bytes:
    return json_bytes(content) + b"\n"


async def _write_archive(settings: Settings, database: Database, output: Path, progress: Progress) -> _Written:
    async with open_services(settings, database=database) as services:
        await services.notary.sign_all()
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as scratch:
            folder = Path(scratch) / "archive"
            async with (
                services.pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                task = progress.add_task("export", total=sum(one.position for one in await read_books(connection)))
                made = await export_archive(
                    connection, folder, outside_of(settings), progress=lambda count: progress.advance(task, count)
                )
            _place(folder, output)
    content = {"events": made.events, "books": made.books, "checkpoints": made.checkpoints}
    return _Written(content, f"{made.events} events of {made.books} books, {made.checkpoints} checkpoints")


def _place(folder: Path, output: Path) -> None:
    if output.suffix not in _ARCHIVE_ENDINGS:
        folder.rename(output)
        return
    made = shutil.make_archive(str(folder), _ARCHIVE_ENDINGS[output.suffix], root_dir=folder)
    Path(made).rename(output)


def backup(
    folder: Annotated[Path, typer.Argument(help="Where to write it; must not exist yet.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Back up the log with its keys and checkpoints, while the service runs.

    Keep a copy of the checkpoints elsewhere too: they say whether a restore lost something.

    Example: ledger backup /backups/2026-01-31
    """
    from api.backup import backup as work

    work(load_settings(), folder)
    if as_json:
        show_json({"folder": str(folder)})
    else:
        typer.echo(f"{folder}: the database, its keys and its checkpoints")


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `ledger backup` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Restore a backup into an empty database. Then run `ledger verify`, and `ledger log fork` if events were lost.

    Example: ledger restore /backups/2026-01-31
    """
    from api.backup import restore as work

    work(load_settings(), folder)
    if as_json:
        show_json({"restored": str(folder)})
        return
    typer.echo("restored; `ledger verify --full` checks that it is complete")

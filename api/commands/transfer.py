"""``ledger import``, ``export``, ``backup`` and ``restore``: events in and out, and the whole log kept safe."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import Progress

from api.comparing import cells_json
from api.database import running_database
from api.output import progress_bar, show_json
from api.services import find_projection, open_services
from api.settings import Settings, load_settings
from api.signing import outside_of
from ledger.errors import MistakeError
from ledger.export import Exported, export_archive
from ledger.importing import Imported, import_file
from ledger.postgres import Database
from ledger.reader import read_books
from projections.builds import read_build

_ARCHIVE_ENDINGS = {".tar": "tar", ".gz": "gztar", ".tgz": "gztar", ".xz": "xztar"}


def import_(
    file: Annotated[
        Path, typer.Argument(help="Raw events as Stripe writes them, one JSON object a line.", dir_okay=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Append events from a file: any order, unsigned, each once. Stopped in the middle, it is simply run again.

    Example: ledger import events.jsonl
    """
    if not file.is_file():
        raise typer.BadParameter(f"{file} is no file")
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
        typer.echo(f"appended {imported.appended} events; the log had {imported.duplicates} of the file's already")


def export(
    what: Annotated[str, typer.Argument(help="`events`: the log. `rows`: what a build holds, such as an audit copy.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A folder, or a .tar, .tar.gz or .tar.xz file; for rows a .jsonl file."),
    ],
    with_proof: Annotated[
        bool, typer.Option("--with-proof", help="With salts, tiles, checkpoints, keys and a verifier.")
    ] = False,
    build: Annotated[str | None, typer.Option(help="The build whose rows to write.")] = None,
) -> None:
    """Write the log as an archive that `python verify.py ARCHIVE` checks offline, or the rows of a build.

    Examples: ledger export events --with-proof -o audit-2026.tar.gz

    ledger export rows --build entitlements-3 -o entitlements-2026-03.jsonl
    """
    if (what, with_proof, build is None) not in {("events", True, True), ("rows", False, False)}:
        raise typer.BadParameter("there are `ledger export events --with-proof` and `ledger export rows --build BUILD`")
    if output.exists():
        raise MistakeError(f"{output} exists: an export never overwrites anything")
    settings = load_settings()
    with running_database(settings) as database, progress_bar() as progress:
        if build is not None:
            count = asyncio.run(_export_rows(settings, database, build, output))
            typer.echo(f"{output}: {count} rows of {build}")
            return
        exported = asyncio.run(_export(settings, database, output, progress))
    typer.echo(f"{output}: {exported.events} events of {exported.books} books, {exported.checkpoints} checkpoints")


async def _export_rows(settings: Settings, database: Database, build_id: str, output: Path) -> int:
    """Write each row of a build as a line of JSON, its certificate first; in one snapshot, in order of subject."""
    connection = await database.as_role("ledger_app").connect()
    count = 0
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            build = await read_build(connection, build_id)
            tables = find_projection(settings, build.projection).tables
            with output.open("wb") as file:
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
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


async def _export(settings: Settings, database: Database, output: Path, progress: Progress) -> Exported:
    async with open_services(settings, database=database) as services:
        await services.notary.sign_all()
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as scratch:
            folder = Path(scratch) / "archive"
            async with (
                services.pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                task = progress.add_task("export", total=sum(one.position for one in await read_books(connection)))
                exported = await export_archive(
                    connection, folder, outside_of(settings), progress=lambda count: progress.advance(task, count)
                )
            _place(folder, output)
            return exported


def _place(folder: Path, output: Path) -> None:
    if output.suffix not in _ARCHIVE_ENDINGS:
        folder.rename(output)
        return
    made = shutil.make_archive(str(folder), _ARCHIVE_ENDINGS[output.suffix], root_dir=folder)
    Path(made).rename(output)


def backup(
    folder: Annotated[Path, typer.Argument(help="Where to; must not exist yet.")],
) -> None:
    """Back up the log with its keys and checkpoints, while the service goes on.

    Keep a copy of the checkpoints elsewhere too: they say whether a restore lost something.
    """
    from api.backup import backup as work

    work(load_settings(), folder)
    typer.echo(f"{folder}: the database, its keys and its checkpoints")


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `ledger backup` wrote.")],
) -> None:
    """Restore a backup into an empty database. Then run `ledger verify`; `ledger log fork` if it says what was lost."""
    from api.backup import restore as work

    work(load_settings(), folder)
    typer.echo("restored; `ledger verify --full` says whether it is all there")

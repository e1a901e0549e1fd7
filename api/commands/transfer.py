"""``ledger import``, ``export``, ``backup`` and ``restore``: events in and out, and the whole log kept safe."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from api.database import running_database
from api.output import progress_bar, show_json
from api.services import open_services
from api.settings import Settings, load_settings
from api.signing import outside_of
from ledger.errors import MistakeError
from ledger.export import Exported, export_archive
from ledger.importing import Imported, import_file
from ledger.postgres import Database
from ledger.reader import read_books

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
    what: Annotated[str, typer.Argument(help="`events`: the log.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder, or a .tar, .tar.gz or .tar.xz file.")],
    with_proof: Annotated[
        bool, typer.Option("--with-proof", help="With salts, tiles, checkpoints, keys and a verifier.")
    ] = False,
) -> None:
    """Write the log as an archive that `python verify.py ARCHIVE` checks offline, without the ledger.

    Example: ledger export events --with-proof -o audit-2026.tar.gz
    """
    if what != "events" or not with_proof:
        raise typer.BadParameter("there is `ledger export events --with-proof`")
    if output.exists():
        raise MistakeError(f"{output} exists: an export never overwrites anything")
    settings = load_settings()
    with running_database(settings) as database, progress_bar() as progress:
        exported = asyncio.run(_export(settings, database, output, progress))
    typer.echo(f"{output}: {exported.events} events of {exported.books} books, {exported.checkpoints} checkpoints")


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

"""``ledger close`` and ``ledger reopen``: closing months, for finance."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from api.commands.books import BookToChange, book_of
from api.commands.builds import who
from api.commands.options import Reason
from api.database import running_database
from api.output import progress_bar, show_json
from api.periods import close_checked
from api.services import Services, open_services
from api.settings import Settings, load_settings
from ledger.postgres import Database
from ledger.times import rfc3339
from projections.periods.closing import Asked, Closing, NotReadyToCloseError, reopen_month

Month = Annotated[str, typer.Argument(help="The month, such as 2026-01.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def close(
    month: Month,
    reason: Reason,
    book: BookToChange = None,
    force: Annotated[bool, typer.Option("--force", help="Close even if the checklist found something.")] = False,
    as_json: AsJson = False,
) -> None:
    """Close the oldest open month: what it reports is sealed, and what is learned later is posted in a later month.

    Example: ledger close 2026-01 --reason "books of January"
    """

    try:
        with progress_bar() as progress:
            task = progress.add_task("close (customers)", total=None)

            async def run(serving: Services, of: str) -> Closing:
                asked = Asked(of, month, who(), reason, serving.clock(), force)
                return await close_checked(serving, asked, lambda count: progress.advance(task, count))

            closing = _with_services(book, run)
    except NotReadyToCloseError as error:
        if as_json:
            show_json({"month": month, "status": "open", "exceptions": [one.content for one in error.objections]})
        raise
    content: dict[str, Any] = {
        "month": closing.month,
        "status": "closed",
        "seal": closing.seal,
        "digest": closing.digest,
        "position": closing.position,
        "exceptions": [one.content for one in closing.objections],
    }
    if as_json:
        show_json(content)
        return
    typer.echo(f"{closing.month} is closed at position {closing.position}: seal {closing.seal}, {closing.digest}")
    for one in closing.objections:
        typer.echo(f"despite: {one.detail}")


def reopen(month: Month, reason: Reason, book: BookToChange = None, as_json: AsJson = False) -> None:
    """Reopen the latest closed month; its seal stays readable.

    Example: ledger reopen 2026-01 --reason "an invoice was missing"
    """

    async def run(serving: Services, of: str) -> str:
        now = serving.clock()
        await reopen_month(serving.pool, serving.appender, of, month, by=who(), reason=reason, now=now)
        return rfc3339(now)

    at = _with_services(book, run)
    if as_json:
        show_json({"month": month, "status": "open", "at": at})
    else:
        typer.echo(f"{month} is open again")


def _with_services(book: str | None, run: Callable[[Services, str], Awaitable[Any]]) -> Any:
    settings = load_settings()
    with running_database(settings) as database:
        return asyncio.run(_run(settings, database, book_of(settings, database, book), run))


async def _run(
    settings: Settings, database: Database, book: str, run: Callable[[Services, str], Awaitable[Any]]
) -> Any:
    async with open_services(settings, database=database) as serving:
        return await run(serving, book)

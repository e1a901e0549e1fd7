"""``ledger catalog`` and ``ledger grant``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer

from api.catalog import feature_name, holder_of, value_text
from api.clock import wall_clock
from api.commands.books import Book, BookToChange, book_of
from api.commands.builds import AsJson, who
from api.commands.options import Reason, moment_of
from api.database import running_database
from api.entitlements import value_json
from api.granting import Grant, ends_too_soon, make_grant, publish_catalog, read_publications, revoke_grant
from api.output import progress_bar, show_json, show_table
from api.problems import Problem
from api.services import Services, open_services
from api.settings import load_settings
from ledger.errors import MistakeError
from projections.catalog import Catalog, check_catalog
from projections.entitlements.preview import Difference, count_holders, preview
from projections.facts import number

Found = TypeVar("Found")

CatalogFile = Annotated[Path, typer.Argument(help="The catalog, as TOML.", exists=True, dir_okay=False)]

app = typer.Typer(
    help="Which product gives which features: publish a catalog, show it, or preview what it would change."
)


@app.command()
def publish(
    file: CatalogFile,
    effective_from: Annotated[
        str | None, typer.Option(help="From when it applies (RFC 3339); default: now (a book's first: always).")
    ] = None,
    book: BookToChange = None,
    as_json: AsJson = False,
) -> None:
    """Publish a catalog, which takes effect at once; `ledger catalog diff FILE` shows beforehand what it would change.

    Example: ledger catalog publish catalog.toml --effective-from 2026-02-01T00:00:00Z
    """
    text, since = _read(file), moment_of(effective_from, "--effective-from")
    made, position = _with(
        book,
        lambda serving, connection, of_book: publish_catalog(
            connection, serving.appender, of_book, text, effective_from=since, by=who(), now=serving.clock()
        ),
    )
    if as_json:
        show_json({"version": made.number, "effective_from": made.effective_from, "position": position})
    elif position is None:
        typer.echo(f"unchanged: this is catalog {made.number}")
    else:
        typer.echo(f"catalog {made.number} applies from {made.effective_from or 'the beginning'} (position {position})")


@app.command()
def show(
    number: Annotated[int | None, typer.Option("--version", min=1, help="Which one; default: the newest.")] = None,
    book: Book = None,
    as_json: AsJson = False,
) -> None:
    """Print a published catalog, as it was published.

    Example: ledger catalog show > catalog.toml
    """
    known = _with(book, lambda serving, connection, of_book: read_publications(connection, of_book))
    if as_json:
        show_json({"data": [one._asdict() for one in known]})
        return
    if not known or (number is not None and number > len(known)):
        raise MistakeError(
            "no such catalog is published" if known else "nothing is published: features come from products' metadata"
        )
    typer.echo(known[(number or len(known)) - 1].content, nl=False)


@app.command()
def diff(file: CatalogFile, book: Book = None, as_json: AsJson = False) -> None:
    """Show which customers would gain or lose what if this catalog were published now. Changes nothing.

    Example: ledger catalog diff catalog.toml
    """
    catalog = check_catalog(_read(file))
    found = _with(book, lambda serving, connection, of_book: _differences(serving, connection, of_book, catalog))
    summary = {kind: sum(one.change == kind for one in found) for kind in ("gained", "lost", "changed")}
    summary = {"customers": len({one.customer for one in found}), **summary}
    rows = [(one.customer, one.feature, one.change, value_json(one.before), value_json(one.after)) for one in found]
    columns = ("customer", "feature", "change", "before", "after")
    if as_json:
        show_json({"summary": summary, "data": [dict(zip(columns, row, strict=True)) for row in rows]})
        return
    if rows:
        show_table(columns, rows)
    typer.echo(", ".join(f"{name} {count}" for name, count in summary.items()))


async def _differences(serving: Services, connection: Any, of_book: str, catalog: Catalog) -> list[Difference]:
    found: list[Difference] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        with progress_bar() as bar:
            task = bar.add_task("customers", total=await count_holders(connection, serving.entitlements, of_book))
            async for looked_at, some in preview(connection, serving.entitlements, of_book, catalog, serving.clock()):
                found += some
                bar.advance(task, looked_at)
    return found


def grant(
    customer: Annotated[str | None, typer.Argument(help="cus_… or org:NAME.")] = None,
    feature: Annotated[str | None, typer.Argument(help="The feature's name.")] = None,
    value: Annotated[str | None, typer.Option(help="A quantity or a choice; default: a plain yes.")] = None,
    valid_from: Annotated[str | None, typer.Option("--from", help="From when (RFC 3339); default: now.")] = None,
    valid_until: Annotated[str | None, typer.Option("--until", help="Until when; default: no end.")] = None,
    reason: Reason = "",
    revoke: Annotated[str | None, typer.Option(metavar="GRANT", help="Revoke this grant instead.")] = None,
    book: BookToChange = None,
    as_json: AsJson = False,
) -> None:
    """Grant a customer or an organisation a feature by hand, or take a grant back.

    Example: ledger grant cus_1 seats --value 5 --until 2026-12-31T00:00:00Z --reason "goodwill"
    """
    if revoke is not None:
        if customer is not None or feature is not None:
            raise MistakeError("--revoke takes a grant alone, without customer or feature")
        grant_id = revoke
        position = _with(
            book,
            lambda serving, connection, of_book: revoke_grant(
                connection, serving.appender, of_book, revoke, reason=reason, by=who(), now=serving.clock()
            ),
        )
    else:
        wanted = _grant(customer, feature, value, valid_from, valid_until, reason)
        grant_id, position = _with(
            book,
            lambda serving, connection, of_book: make_grant(
                connection, serving.appender, of_book, wanted, by=who(), idempotency_key=None, now=serving.clock()
            ),
        )
    if as_json:
        show_json({"id": grant_id, "position": position})
    else:
        typer.echo(f"{grant_id} is {'revoked' if revoke else 'granted'} (position {position})")


def _grant(
    customer: str | None,
    feature: str | None,
    value: str | None,
    valid_from: str | None,
    valid_until: str | None,
    reason: str,
) -> Grant:
    if customer is None or feature is None:
        raise MistakeError("name a customer and a feature: ledger grant cus_1 seats")
    start, end = moment_of(valid_from, "--from"), moment_of(valid_until, "--until")
    if ends_too_soon(start, end, wall_clock()):
        raise MistakeError("--until must be after the grant begins")
    try:
        exact = number(value)
        amount = value if exact is None else orjson.loads(format(exact, "f"))
        return Grant(holder_of(customer), feature_name(feature), value_text(amount), start, end, reason)
    except Problem as problem:
        raise MistakeError(problem.detail) from problem


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MistakeError(f"{file} cannot be read: {error}") from error


def _with(book: str | None, work: Callable[[Services, Any, str], Coroutine[Any, Any, Found]]) -> Found:
    settings = load_settings()
    with running_database(settings) as database:
        of_book = book_of(settings, database, book)

        async def run() -> Found:
            async with open_services(settings, database=database) as serving, serving.pool.acquire() as connection:
                return await work(serving, connection, of_book)

        return asyncio.run(run())

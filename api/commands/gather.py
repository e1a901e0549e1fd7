"""``ledger backfill``, ``sweep`` and ``observe``: what Stripe has and the log lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.progress import Progress

from api.clock import wall_clock
from api.commands.asking import asking_stripe
from api.commands.options import moment_of
from api.database import running_database
from api.logs import configure_logging
from api.output import progress_bar, show_json
from api.outward.coverage import KEPT
from api.outward.gather import Gathered, Gathering
from api.outward.observer import Observed, Observer
from api.outward.wanted import try_again
from api.settings import Settings, load_settings
from ledger.postgres import Database


def backfill(
    since: Annotated[
        str | None, typer.Option(help="Only what was created from this time on (RFC 3339). Stripe keeps 30 days.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Append what Stripe's Events API still has, oldest first, for the account and its connected accounts.

    Events that came by webhook are not appended twice. After an interruption it resumes from the last completed hour.

    Example: ledger backfill --since 2026-01-01T00:00:00Z
    """
    begin = moment_of(since, "--since")
    if begin is not None and begin > wall_clock():
        raise typer.BadParameter("--since is in the future")
    _gather("backfill", lambda gathering: gathering.backfill(begin), begin, as_json=as_json)


def sweep(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the events that Stripe has and the log lacks, append them, and record which hours are proven complete.

    `ledger serve` does the same every ten minutes. Exit status 1 if an event could not be read.

    Example: ledger sweep
    """
    _gather("sweep", lambda gathering: gathering.sweep(), None, as_json=as_json)


def observe(
    retry: Annotated[bool, typer.Option("--retry", help="Also retry requests that were given up.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask Stripe for what events leave out (long lists, fees, tiers, coupons), and append the answers as observations.

    `ledger serve` does the same as events arrive. Exit status 1 if a request fails; see GET /v1/observations.

    Example: ledger observe --retry
    """
    settings = load_settings()
    configure_logging(settings)
    with running_database(settings) as database:
        observed = asyncio.run(_observe(settings, database, retry=retry))
    if as_json:
        show_json({"answered": observed.answered, "waiting": observed.waiting, "given_up": observed.given_up})
    else:
        typer.echo(f"{observed.answered} answered, {observed.waiting} wait, {observed.given_up} given up")
    if observed.waiting or observed.given_up:
        raise typer.Exit(1)


async def _observe(settings: Settings, database: Database, *, retry: bool) -> Observed:
    async with asking_stripe(settings, database) as (services, access):
        if retry:
            async with services.pool.acquire() as connection:
                await try_again(connection, services.clock())
        observer = Observer(access, services.pool, services.appender, settings.account, services.clock)
        return await observer.work_off()


def _gather(
    name: str, work: Callable[[Gathering], Awaitable[Gathered]], since: datetime | None, *, as_json: bool
) -> None:
    settings = load_settings()
    configure_logging(settings)
    with running_database(settings) as database, progress_bar() as progress:
        gathered = asyncio.run(_run(settings, database, name, work, since, progress))
    if as_json:
        show_json({
            "books": {
                book: {"listed": count, "appended": gathered.found[book], "unreadable": gathered.unreadable[book]}
                for book, count in sorted(gathered.listed.items())
            },
            "refused": gathered.refused,
        })  # fmt: skip
    else:
        for book, count in sorted(gathered.listed.items()):
            typer.echo(
                f"{book}: Stripe has {count} events of the hours asked about; {gathered.found[book]} were missing"
            )
        if not gathered.listed:
            typer.echo("Stripe has no events for these hours")
    if gathered.unreadable.total():
        typer.echo("some events could not be read; their hours are not proven", err=True)
    for book, told in gathered.refused.items():
        typer.echo(f"{book} was not fetched completely: {told}", err=True)
    if gathered.unreadable.total() or gathered.refused:
        raise typer.Exit(1)


async def _run(
    settings: Settings,
    database: Database,
    name: str,
    work: Callable[[Gathering], Awaitable[Gathered]],
    since: datetime | None,
    progress: Progress,
) -> Gathered:
    async with asking_stripe(settings, database) as (services, access):
        total = KEPT if since is None else min(KEPT, services.clock() - since)
        task = progress.add_task(f"{name} (hours)", total=total / timedelta(hours=1))
        gathering = Gathering(
            access,
            services.pool,
            services.appender,
            settings.account,
            services.clock,
            progress=lambda passed: progress.advance(task, passed / timedelta(hours=1)),
        )
        return await work(gathering)

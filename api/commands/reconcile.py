"""``ledger reconcile``: where the log and Stripe's present objects differ."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.progress import Progress

from api.commands.asking import asking_stripe
from api.comparing import cell_json
from api.database import running_database
from api.logs import configure_logging
from api.output import progress_bar, show_json, show_table
from api.outward.reconcile import Reconciled, Reconciliation
from api.settings import Settings, load_settings
from ledger.postgres import Database
from projections.drift import Drift


def reconcile(
    customer: Annotated[str | None, typer.Option(help="Only this customer's objects.")] = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Append what differs as observations, so that the projections agree with Stripe again."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare Stripe's customers, subscriptions, invoices, products, prices, coupons and purchases with the log's.

    Prints each field that differs, and the event that is likely missing. `ledger sweep` first brings back what Stripe
    still lists; --record closes older gaps, and is how to start on an existing account. Status 1 where drift is left.

    Example: ledger reconcile --customer cus_1
    """
    if customer is not None and not customer.strip():
        raise typer.BadParameter("--customer is empty")
    settings = load_settings()
    configure_logging(settings)
    with running_database(settings) as database, progress_bar() as progress:
        done = asyncio.run(_run(settings, database, customer, progress, record=record))
    count = sum(len(some) for some in done.drift.values())
    rows = [(book, one) for book, some in done.rows.items() for one in some]
    if as_json:
        show_json({
            "compared": done.compared, "recorded": done.recorded,
            "drift": [_json(book, one) for book, some in done.drift.items() for one in some],
            "rows": [_json(book, one) for book, one in rows],
            "refused": done.refused,
        })  # fmt: skip
    else:
        if count:
            lines = [line for book, some in done.drift.items() for one in some for line in _lines(book, one)]
            show_table(["book", "object", "customer", "field", "log", "Stripe", "likely missing"], lines)
        for book, one in rows:
            typer.echo(
                f"{book}: the log has {one.id} as Stripe has it, its rows do not: ledger replay {book}/{one.customer}"
            )
        typer.echo(f"compared {done.compared} objects: {count} differ, {done.recorded} were recorded")
    for book, told in done.refused.items():
        typer.echo(f"{book} was not compared: {told}", err=True)
    if count > done.recorded or rows or done.refused:
        raise typer.Exit(1)


def _lines(book: str, drift: Drift) -> list[tuple[object, ...]]:
    if not drift.fields:
        return [(book, drift.id, drift.customer, "(all)", "unknown", "exists", drift.missing_event)]
    return [
        (book, drift.id, drift.customer, name, ours, theirs, drift.missing_event)
        for name, (ours, theirs) in drift.fields.items()
    ]


def _json(book: str, drift: Drift) -> dict[str, Any]:
    return {
        "book": book,
        "object": drift.kind,
        "id": drift.id,
        "customer": drift.customer,
        "unknown": drift.unknown,
        "fields": {
            name: {"log": cell_json(ours), "stripe": cell_json(theirs)} for name, (ours, theirs) in drift.fields.items()
        },
        "likely_missing": drift.missing_event,
    }


async def _run(
    settings: Settings, database: Database, customer: str | None, progress: Progress, *, record: bool
) -> Reconciled:
    async with asking_stripe(settings, database) as (services, access):
        task = progress.add_task("reconcile (objects)", total=None)
        reconciliation = Reconciliation(
            access,
            services.pool,
            services.appender,
            settings.account,
            services.clock,
            services.entitlements,
            record=record,
            progress=lambda count: progress.advance(task, count),
        )
        return await reconciliation.run(customer)

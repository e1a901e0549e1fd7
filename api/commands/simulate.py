"""``ledger simulate`` and ``ledger demo``: a company that never was, to try everything on."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import orjson
import typer
from rich.progress import Progress

from api.clock import wall_clock
from api.credentials import known_webhook_secrets
from api.database import running_database
from api.logs import configure_logging
from api.output import greet_in_json, progress_bar, say_aside, show_json
from api.settings import Settings, load_settings
from api.tabular import STANDARD_OUTPUT, whole
from ledger.errors import MistakeError
from ledger.postgres import Database
from ledger.simulated import append_simulated
from ledger.simulator.answers import answers
from ledger.simulator.calendar import unix
from ledger.simulator.company import MIXED, Arguments, Company
from ledger.simulator.faults import Delivery, with_faults
from ledger.simulator.versions import ENDIVE, VERSIONS

DEMO_FOLDER: Final = ".ledger-demo"
DEMO_MONTHS: Final = 36
_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_LAST_YEAR: Final = 9_999
_SHOWN_EVERY: Final = 500
_LOOK_SECONDS: Final = 5
"""So soon a demo says where it is to be looked at, though folding its years goes on for a minute."""


def simulate(
    customers: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="How many customers sign up over that time.")
    ] = 300,
    months: Annotated[int, typer.Option(min=1, max=600, help="How many months to simulate.")] = 36,
    seed: Annotated[int, typer.Option(help="Each seed gives a different company.")] = 1,
    start: Annotated[str, typer.Option(help="Its first month.", metavar="YYYY-MM")] = "2023-11",
    api_version: Annotated[
        str, typer.Option(help=f"The shape of the events: {', '.join(VERSIONS)} or {MIXED}.")
    ] = ENDIVE,
    faults: Annotated[
        str, typer.Option(help="Delivery faults: all, or e.g. duplicate=0.1,delay,shuffle,drop=0.01,resend.")
    ] = "none",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the events to this file, one per line; `-`: print them."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Write the right answers to this file, as JSON; `-`: print them.")
    ] = None,
    instants: Annotated[int, typer.Option(min=0, help="For how many random instants to write answers.")] = 100,
    post: Annotated[str | None, typer.Option(help="Send the events, signed, to this webhook address.")] = None,
    secret: Annotated[
        str | None, typer.Option(help="The webhook secret to sign with; default: the service's own on this machine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Simulate a company on Stripe Billing and write (or post) its events, with the right answers beside them.

    The same arguments give the same bytes. Example:

    ledger simulate --customers 50 --months 12 --api-version mixed --faults all -o events.jsonl --truth truth.json
    """
    if (output is None) == (post is None):
        raise MistakeError("give -o FILE or --post URL for the events")
    if output == truth == STANDARD_OUTPUT:
        raise MistakeError("-o - and --truth - would both be printed: write one of them to a file")
    if post is None and secret is not None:
        raise MistakeError("--secret is for --post")
    signing = _secret(secret) if post is not None else ""
    if api_version not in {*VERSIONS, MIXED}:
        raise MistakeError(f"--api-version must be one of {', '.join(VERSIONS)}, {MIXED}")
    arguments = Arguments(customers, months, seed, api_version, _first_second(start))
    if int(start[:4]) + months // 12 >= _LAST_YEAR:
        raise MistakeError(f"{months} months from {start} on end after the last possible year, {_LAST_YEAR}")
    company = Company(arguments, keep_truth=truth is not None)
    deliveries = with_faults(company.deliveries(indented=post is not None), faults, seed)
    with progress_bar() as progress:
        shown = _shown(deliveries, arguments, progress)
        count = _write(output, shown) if output else _post(shown, str(post), signing)
    if truth is not None:
        content = answers(company, instants=instants)
        with _written(truth) as file:
            file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    beside = STANDARD_OUTPUT in (output, truth)
    if as_json:
        show_json({"events": count, "customers": customers, "months": months}, err=beside)
    else:
        typer.echo(f"{count} events of {customers} customers over {months} months", err=beside)


def _secret(given: str | None) -> str:
    """Return the webhook secret: as given, from the settings, or as the service on this machine has generated it."""
    known = [given] if given is not None else known_webhook_secrets(load_settings())
    if not known:
        raise MistakeError("--post needs the --secret to sign with: no service was started with this data folder")
    return str(known[0])


def _first_second(month: str) -> int:
    match = _MONTH.fullmatch(month)
    if match is None:
        raise MistakeError(f"--start must be a month such as 2023-11, not {month}")
    return unix(int(match[1]), int(match[2]))


def _shown(deliveries: Iterator[Delivery], arguments: Arguments, progress: Progress) -> Iterator[Delivery]:
    task = progress.add_task("days simulated", total=(arguments.end - arguments.start) // 86_400)
    for count, delivery in enumerate(deliveries):
        if count % _SHOWN_EVERY == 0:
            progress.update(task, completed=(delivery.at - arguments.start) // 86_400)
        yield delivery


def _write(output: Path, deliveries: Iterator[Delivery]) -> int:
    if output == STANDARD_OUTPUT:  # as they come: whoever reads them need not wait
        count = _lines(sys.stdout.buffer, deliveries)
        sys.stdout.buffer.flush()
        return count
    with _written(output) as file:
        return _lines(file, deliveries)


@contextlib.contextmanager
def _written(output: Path) -> Iterator[BinaryIO]:
    try:
        with whole(output) as path, path.open("wb") as file:
            yield file
    except OSError as error:
        raise MistakeError(f"{output}: {error.strerror}") from error


def _lines(file: BinaryIO, deliveries: Iterator[Delivery]) -> int:
    count = 0
    for delivery in deliveries:
        file.write(delivery.body + b"\n")
        count += 1
    return count


def _post(deliveries: Iterator[Delivery], url: str, secret: str) -> int:
    from api.posting import post_all

    posted = asyncio.run(post_all(deliveries, url, secret, progress=lambda _: None))
    return posted.received


def demo(
    customers: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many customers sign up over that time.")
    ] = 300,
    months: Annotated[int, typer.Option(min=1, max=120, help="How many months to simulate.")] = DEMO_MONTHS,
    as_json: Annotated[bool, typer.Option("--json", help="Print addresses and generated credentials as JSON.")] = False,
) -> None:
    """Serve the history of a simulated company from a folder of its own (.ledger-demo, or LEDGER_DATA_DIR).

    Stopped and started again it goes on with what is there; delete the folder to begin anew.

    Example: ledger demo --customers 1000 --months 12
    """
    from api.serve import bind
    from api.serve import serve as run

    settings = _demo_settings()
    configure_logging(settings)
    bind(settings).close()  # before twenty seconds of playing, not after
    arguments = Arguments(customers, months, start=_months_ago(wall_clock(), months))
    with running_database(settings) as database, progress_bar() as progress:
        count = asyncio.run(_load(database, settings, arguments, progress))
    say = say_aside if as_json else typer.echo
    if count:
        say(f"{count} events of a simulated company: {customers} customers, {months} months")
        say("They are being folded; the console's overview shows progress.")
    greet = greet_in_json if as_json else None
    run(settings, migrate_first=False, say=say, ready_seconds=_LOOK_SECONDS, greet=greet)


def _demo_settings() -> Settings:
    settings = load_settings()
    if settings.database_url is not None:
        raise MistakeError("LEDGER_DATABASE_URL is set: the demo only runs on a database of its own")
    if "data_dir" in settings.model_fields_set:
        return settings
    import os

    # The children of `serve` read their settings from the environment.
    os.environ["LEDGER_DATA_DIR"] = DEMO_FOLDER
    return load_settings()


def _months_ago(now: datetime, months: int) -> int:
    """Return the start of a company whose last month has just ended."""
    total = now.astimezone(UTC).year * 12 + now.month - 1 - months
    return unix(total // 12, total % 12 + 1)


async def _load(database: Database, settings: Settings, arguments: Arguments, progress: Progress) -> int:
    about = {"customers": arguments.customers, "months": arguments.months, "seed": arguments.seed}
    company = Company(arguments, keep_truth=False)
    task = progress.add_task("events", total=None)
    return await append_simulated(
        database,
        ((delivery.at, delivery.body) for delivery in company.deliveries()),
        about,
        platform_account=settings.account,
        clock=wall_clock,
        progress=lambda count: progress.advance(task, count),
    )

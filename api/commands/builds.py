"""``ledger rebuild``, ``diff``, ``promote``, ``rollback``, ``parked``, ``replay``, ``project``: for engineers."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, TypeVar

import typer
from rich.progress import Progress as Bar

from api.clock import wall_clock
from api.commands.books import default_book
from api.commands.options import Reason, moment_of
from api.comparing import ROW_COLUMNS, comparison_csv, comparison_json, comparison_rows
from api.database import running_database
from api.operations import Operations, Until, replay_parked
from api.output import progress_bar, show_json, show_table
from api.services import find_projection, open_services, projections_of
from api.settings import Settings, load_settings
from ledger.errors import LedgerError, MistakeError
from ledger.postgres import Database
from ledger.times import rfc3339
from projections.builds import Build, ensure_live
from projections.promotion import Swapped
from projections.rebuild import Progress
from projections.runner import Runner, connect_runner

Answer = TypeVar("Answer")

_POLL_SECONDS: Final = 0.2

Name = Annotated[str, typer.Argument(help="The projection, such as revenue: `ledger status` lists them.")]
BuildId = Annotated[str, typer.Argument(help="The build, as `ledger status` lists it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def who() -> str:
    """Name the person at the command line, as the log will."""
    return f"cli:{getpass.getuser()}"


def _with(name: str, work: Callable[[Operations], Coroutine[Any, Any, Answer]]) -> Answer:
    settings = load_settings()
    find_projection(settings, name)  # a wrong name is said before a database is started
    with running_database(settings) as database:
        return asyncio.run(_run(settings, database, name, work))


async def _run(
    settings: Settings, database: Database, name: str, work: Callable[[Operations], Coroutine[Any, Any, Answer]]
) -> Answer:
    async with operations(settings, database, name) as ready:
        return await work(ready)


@contextlib.asynccontextmanager
async def operations(settings: Settings, database: Database, name: str) -> AsyncIterator[Operations]:
    """Open what the operations of one projection need."""
    async with open_services(settings, database=database) as services:
        yield Operations(database, find_projection(settings, name), services.appender, wall_clock)


def rebuild(
    name: Name,
    until: Annotated[
        str | None,
        typer.Option(help="Only events recorded by then (RFC 3339): an audit copy, which is never promoted."),
    ] = None,
    until_position: Annotated[int | None, typer.Option(min=0, help="Only up to this position of --book.")] = None,
    book: Annotated[str | None, typer.Option(help="The book of --until-position.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes fold.")] = 1,
    reason: Annotated[str | None, typer.Option(help="The reason, recorded in the log with your name.")] = None,
    promote_if_equal: Annotated[
        bool, typer.Option("--promote-if-equal", help="Make it live if it equals the live build, row for row.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fold all of history into a new build beside the live one, which keeps answering.

    After an interruption the same command resumes where it was. Example: ledger rebuild entitlements --workers 2
    """
    if until is not None and until_position is not None:
        raise MistakeError("--until and --until-position cannot be combined")
    bound = Until(moment_of(until, "--until"), until_position, book)
    if promote_if_equal and bound.bounded:
        raise MistakeError("an audit copy (--until, --until-position) is never promoted")
    with progress_bar() as bar:
        build, parked = _with(name, lambda ready: _rebuild(ready, bound, workers, reason, bar))
    content = {"build": build.build_id, "phase": build.phase, "certificate": build.certificate, "parked": parked}
    if promote_if_equal:
        content |= _with(name, lambda ready: _promote_if_equal(ready, build, reason or "a rebuild that is equal"))
    if as_json:
        show_json(content)
        return
    typer.echo(f"{build.build_id} is {build.phase}; digest {(build.certificate or {}).get('digest')}")
    if parked:
        typer.echo(f"{parked} subjects could not be folded: `ledger parked` says which and why")
    if promote_if_equal:
        typer.echo("promoted: it is equal" if content["promoted"] else "not promoted: it differs, see `ledger diff`")


async def _rebuild(ready: Operations, until: Until, workers: int, reason: str | None, bar: Bar) -> tuple[Build, int]:
    if until.position is not None and until.book is None:
        until = replace(until, book=await default_book(load_settings(), ready.database))
    build = await ready.request_rebuild(by=who(), reason=reason, until=until)
    task = bar.add_task(f"{build.build_id} (events)", total=None)

    def report(progress: Progress) -> None:
        bar.update(task, completed=progress.events, total=progress.expected)

    await _rebuild_in_processes(build, workers, lambda: _tell(ready, build, report))
    parked = sum(row["build_id"] == build.build_id for row in await ready.parked())
    return (await ready.read(build.build_id))[0], parked


async def _tell(ready: Operations, build: Build, report: Callable[[Progress], None]) -> None:
    report((await ready.read(build.build_id))[1])


async def _rebuild_in_processes(build: Build, workers: int, tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let processes that give way fold and one of them complete it; they end with this one, which holds their input."""
    kinds = ["rebuild", *["fold"] * (workers - 1)]
    children = [await _start(kind, build) for kind in kinds]
    try:
        while any(child.returncode is None for child in children):
            await tell()
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        for child in children:
            if child.returncode is None:
                child.terminate()
            await child.wait()
    await tell()
    if children[0].returncode != 0:
        raise LedgerError("the workers ended before everything was folded: run the command again to continue")


async def _start(kind: str, build: Build) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "api.processes", kind, build.build_id)
    # A session of its own: the terminal's is shared with whatever else was started there.
    return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, start_new_session=True)


async def _promote_if_equal(ready: Operations, build: Build, reason: str) -> dict[str, Any]:
    comparison = await ready.compare(build.build_id, by=who())
    if comparison.differences:
        return {"promoted": False, "differences": len(comparison.differences)}
    await ready.promote(build.build_id, by=who(), reason=reason)
    return {"promoted": True, "differences": 0}


def diff(
    name: Name,
    build: BuildId,
    customer: Annotated[str | None, typer.Option(help="Only this customer's rows (cus_…).")] = None,
    format_: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="How to print.")] = "table",
    as_json: AsJson = False,
) -> None:
    """Show every row that a build would change, its old and new values, and the first event that made the difference.

    Example: ledger diff entitlements entitlements-2
    """
    projection = find_projection(load_settings(), name)
    comparison = _with(name, lambda ready: ready.compare(build, by=who(), customer=customer))
    if as_json or format_ == "json":
        show_json(comparison_json(comparison, projection))
    elif format_ == "csv":
        typer.echo(comparison_csv(comparison), nl=False)
    else:
        if comparison.differences:
            show_table(ROW_COLUMNS, comparison_rows(comparison))
        found = comparison.summary(projection)
        typer.echo(
            f"{comparison.build} beside {comparison.live}: {found['added']} added, {found['removed']} removed, "
            f"{found['changed']} changed, of {len(found['customers'])} subjects"
        )


def promote(
    name: Name,
    build: BuildId,
    reason: Reason,
    force: Annotated[
        bool, typer.Option("--force", help="Promote even if subjects are parked or you have not compared it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a build the live one, in one transaction. Refused unless you compared it, or if subjects are parked.

    Example: ledger promote entitlements entitlements-2 --reason "refunds count now"
    """
    _show_swap(_with(name, lambda ready: ready.promote(build, by=who(), reason=reason, force=force)), as_json=as_json)


def rollback(
    name: Name,
    reason: Reason,
    stale: Annotated[bool, typer.Option("--stale", help="Accept that it is more than 60 s behind the log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the previous live build live again.

    Example: ledger rollback entitlements --reason "the new build forgets add-ons"
    """
    _show_swap(_with(name, lambda ready: ready.roll_back(by=who(), reason=reason, stale=stale)), as_json=as_json)


def _show_swap(swapped: Swapped, *, as_json: bool) -> None:
    if as_json:
        show_json({"build": swapped.build, "previous": swapped.previous, "lag_seconds": swapped.lag_seconds})
    else:
        typer.echo(f"{swapped.build} is live, instead of {swapped.previous}; it lags {swapped.lag_seconds} s")


def drop(
    name: Name,
    build: BuildId,
    reason: Annotated[str | None, typer.Option(help="The reason, recorded in the log with your name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Delete a build and its rows, unless it is live. History stays, so it can be folded again.

    Example: ledger drop entitlements entitlements-2
    """
    _with(name, lambda ready: ready.drop(build, by=who(), reason=reason))
    if as_json:
        show_json({"dropped": build})
    else:
        typer.echo(f"{build} is deleted")


def parked(as_json: AsJson = False) -> None:
    """List the subjects that could not be folded: since when, at which event, and why.

    Example: ledger parked --json
    """
    from projections.entitlements.tables import NAME

    rows = _with(NAME, lambda ready: ready.parked())
    if as_json:
        show_json([{**dict(row), "since": rfc3339(row["since"])} for row in rows])
        return
    names = ("projection", "build_id", "subject", "event_id", "error", "since")
    show_table(names, [[row[name] for name in names] for row in rows])


def replay(
    subject: Annotated[
        str | None, typer.Argument(help="The subject, as `ledger parked` lists it, or a customer; default: all.")
    ] = None,
    name: Annotated[str | None, typer.Option("--projection", help="The projection; default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fold parked subjects again, once the cause is fixed.

    Example: ledger replay self:live/cus_1 --projection revenue
    """
    from projections.entitlements.tables import NAME

    settings = load_settings()
    concerned = projections_of(settings) if name is None else [find_projection(settings, name)]
    cleared, still = _with(NAME, lambda ready: replay_parked(ready, concerned, subject))
    if as_json:
        show_json({"folded": cleared, "parked": still})
    else:
        typer.echo(f"{cleared} folded again, {still} still parked")
    if still:
        raise typer.Exit(1)


def project(as_json: AsJson = False) -> None:
    """Bring the live builds up to the log's head once, then end; `serve` does so all the time.

    Example: ledger project
    """
    settings = load_settings()
    with running_database(settings) as database:
        passed = asyncio.run(_project(settings, database))
    if as_json:
        show_json({"passed": passed})
    else:
        typer.echo(f"passed {passed} events")


async def _project(settings: Settings, database: Database) -> int:
    connection = await connect_runner(database)
    passed = 0
    try:
        for projection in projections_of(settings):
            await ensure_live(connection, projection)
            runner = Runner(connection, projection, holder=f"project/{os.getpid()}")
            while done := await runner.turn():
                passed += done
            await runner.give_back()
        return passed
    finally:
        connection.terminate()

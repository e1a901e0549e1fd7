"""Closing a month: check whether anything blocks it, seal what it reports, and decide that it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from ledger.appender import Appender
from ledger.decisions import decide, restore
from ledger.errors import LedgerError, VersionConflictError
from ledger.event import NewEvent
from ledger.operator import operator_event
from ledger.reader import read_head
from projections.builds import enter_build
from projections.certify import code_of
from projections.contract import Projection
from projections.periods import tables
from projections.periods.decisions import SEALED, STREAM, PeriodError, Periods, chunk_stream
from projections.periods.effective import Objection, read_objections
from projections.periods.months import is_month, month_end, month_named, month_of
from projections.periods.owners import Scope, by_owner
from projections.periods.query import read_closed, read_first_month
from projections.periods.reported import reported_lines, reported_movements
from projections.periods.seal import Sealing

_POLL_SECONDS: Final = 0.05
_TOLD_EVERY: Final = 500

Progress = Callable[[int], None]
"""Told how many customers more are read."""
_FOLDS: Final = "`ledger serve` folds it, and so does `ledger project`, once"

ANY_PARKED: Final = "SELECT EXISTS (SELECT FROM ledger.parked WHERE build_id = $1 AND book = $2)"


class NotReadyToCloseError(LedgerError):
    """Something blocks closing the month; ``objections`` is the list. It can still be closed by force."""

    def __init__(self, month: str, objections: Sequence[Objection]) -> None:
        super().__init__(f"{month} is not ready: " + "; ".join(one.detail for one in objections))
        self.objections = tuple(objections)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to close a month of a book: by whom, why, at what time, and whether despite objections."""

    book: str
    month: str
    by: str
    reason: str
    now: datetime
    force: bool = False
    wait_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Closing:
    """A month that was closed: its seal, its position, and the objections it was closed despite."""

    month: str
    seal: int
    digest: str
    position: int
    objections: tuple[Objection, ...]


@dataclass(frozen=True, slots=True)
class _Report:
    """What a month would report now, and as of which position."""

    digest: str
    chunks: int
    position: int
    oldest: str
    objections: tuple[Objection, ...]


async def close_month(
    pool: asyncpg.Pool,
    appender: Appender,
    revenue: Projection,
    asked: Asked,
    others: Sequence[Objection] = (),
    progress: Progress = lambda _: None,
    beside: Callable[[Closing], Sequence[NewEvent]] = lambda _: (),
) -> Closing:
    """Close a month. Raises ``PeriodError`` if it is not its turn, ``NotReadyToCloseError`` with the objections.

    ``others`` are further objections; ``beside`` gives events to append together with the decision.
    """
    if not is_month(asked.month):
        raise PeriodError(f"{asked.month} is not a month such as 2026-01")
    if asked.now < month_end(asked.month):
        raise PeriodError(f"{asked.month} has not ended")
    async with pool.acquire() as connection:
        behind = await _catch_up(connection, revenue, asked)
        decided = await restore(connection, Periods, asked.book, STREAM)
        with tempfile.TemporaryFile() as lines, tempfile.TemporaryFile() as moved:
            sealing = Sealing(lines, moved)
            report = await _report(connection, revenue, asked, decided, sealing, progress)
            objections = (*behind, *report.objections, *others)
            if objections and not asked.force:
                raise NotReadyToCloseError(asked.month, objections)
            for event in _events(asked, sealing, report.digest):
                with contextlib.suppress(VersionConflictError):  # named after what it holds: it is there already
                    await appender.append([event])
        code = code_of(revenue)
        numbers: list[int] = []

        def close(periods: Periods) -> None:
            if periods.version != decided.version:
                raise PeriodError("a month was closed or reopened meanwhile: look again")
            number = periods.close(
                asked.month,
                oldest=report.oldest,
                digest=report.digest,
                chunks=report.chunks,
                position=report.position,
                by=asked.by,
                reason=asked.reason,
                forced=bool(objections),
                exceptions=[one.content for one in objections],
                policies={"mrr": ["stripe-2026", "all-discounts"], "version": revenue.version},
                code=code,
            )
            numbers.append(number)

        def closing() -> Closing:
            return Closing(asked.month, numbers[-1], report.digest, report.position, objections)

        await decide(
            connection, appender, Periods, asked.book, STREAM, close, now=asked.now, beside=lambda: beside(closing())
        )
    return closing()


async def read_checklist(
    connection: asyncpg.Connection, revenue: Projection, book: str, month: str, as_of: datetime | None = None
) -> list[Objection]:
    """Return what blocks closing a month, considering what happened up to a moment (None: its end).

    Reads one snapshot in the caller's transaction.
    """
    before = month_end(month)
    if as_of is not None and as_of < before:
        before = min(before, as_of.replace(microsecond=0) + timedelta(seconds=1))
    seals = await enter_build(connection, tables.NAME, book)
    books = await enter_build(connection, revenue.name, book)
    behind = _behind({revenue.name: books.position, tables.NAME: seals.position}, books.head)
    return [*behind, *await read_objections(connection, books.build, book, before)]


async def reopen_month(
    pool: asyncpg.Pool,
    appender: Appender,
    book: str,
    month: str,
    *,
    by: str,
    reason: str,
    now: datetime,
    beside: Sequence[NewEvent] = (),
) -> None:
    """Reopen the latest closed month, and append the events ``beside``. Raises ``PeriodError`` for any other month."""
    async with pool.acquire() as connection:
        await decide(
            connection, appender, Periods, book, STREAM, lambda periods: periods.reopen(month, by=by, reason=reason),
            now=now, beside=lambda: beside,
        )  # fmt: skip


async def _catch_up(connection: asyncpg.Connection, revenue: Projection, asked: Asked) -> list[Objection]:
    """Wait a little until both projections have folded the present log; object if they have not."""
    head = await read_head(connection, asked.book)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + asked.wait_seconds
    while True:
        positions = {}
        for name in (revenue.name, tables.NAME):
            async with connection.transaction(readonly=True):
                positions[name] = (await enter_build(connection, name, asked.book)).position
        behind = _behind(positions, head)
        if not behind or loop.time() + _POLL_SECONDS > deadline:
            return behind
        await asyncio.sleep(_POLL_SECONDS)


def _behind(positions: Mapping[str, int], head: int) -> list[Objection]:
    return [
        Objection("behind", f"{name} has folded up to {position}, the log is at {head}: {_FOLDS}", [])
        for name, position in positions.items()
        if position < head
    ]


async def _report(
    connection: asyncpg.Connection,
    revenue: Projection,
    asked: Asked,
    decided: Periods,
    sealing: Sealing,
    progress: Progress,
) -> _Report:
    """Collect what the month reports, one owner after another, in one snapshot.

    Raises ``PeriodError`` if it is not its turn, or if earlier seals cannot be read in full.
    """
    end = month_end(asked.month)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        freshness = await enter_build(connection, revenue.name, asked.book)
        first = await read_first_month(connection, asked.book)
        oldest = asked.month if first is None else month_named(first)
        decided.check(asked.month, oldest)
        objections = await read_objections(connection, freshness.build, asked.book, end)
        seals = await enter_build(connection, tables.NAME, asked.book)
        closed = await read_closed(connection, asked.book)
        if {one.month: one.seal for one in closed.periods} != {one: decided.seals[one] for one in decided.closed}:
            raise PeriodError("what was closed last is not folded yet: try again")
        if await connection.fetchval(ANY_PARKED, seals.build, asked.book):
            raise PeriodError("a seal cannot be read: `ledger parked` says why")
        first_open = closed.first_open or oldest
        scope = Scope(asked.book, end, closed.digests())
        count = 0
        async for one in by_owner(connection, revenue.name, None, scope, with_movements=True):
            lines = reported_lines(one.lines, one.sealed_lines, first_open)
            moved = reported_movements(one.moved, one.sealed_moved, first_open)
            sealing.add(
                (line for line in lines if month_of(line.at) == asked.month),
                (some for some in moved if month_of(some.at) == asked.month),
            )
            count += 1
            if count % _TOLD_EVERY == 0:
                progress(_TOLD_EVERY)
        progress(count % _TOLD_EVERY)
    return _Report(sealing.digest(), sealing.count(), freshness.position, oldest, tuple(objections))


def _events(asked: Asked, sealing: Sealing, digest: str) -> Iterator[NewEvent]:
    """Make the events that hold a seal, each in a stream named after what the seal holds.

    They are content and decide nothing, so no aggregate makes them: the same content gives the same event. The decision
    is the close, made by ``Periods``, which names their digest.
    """
    for content in sealing.chunks(digest):
        stream = chunk_stream(digest, content["number"])
        yield operator_event(asked.book, stream, 1, SEALED, {"id": stream, **content}, now=asked.now)

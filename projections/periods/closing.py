"""Closing a month: look whether anything stands against it, seal what it reports, and decide that it is closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from ledger.appender import Appender
from ledger.decisions import decide, restore
from ledger.errors import LedgerError, VersionConflictError
from ledger.event import NewEvent
from ledger.operator import operator_event
from ledger.reader import read_head
from projections.builds import enter_build
from projections.certify import source_digest
from projections.contract import Projection
from projections.periods import tables
from projections.periods.decisions import SEALED, STREAM, PeriodError, Periods
from projections.periods.effective import Objection, read_lines, read_movements, read_objections
from projections.periods.months import is_month, month_end, month_of
from projections.periods.query import read_closed, read_sealed_lines, read_sealed_movements
from projections.periods.reported import reported_lines, reported_movements
from projections.periods.seal import Seal, chunks_of, sealed

_POLL_SECONDS: Final = 0.05
_FOLDS: Final = "`ledger serve` folds it, and so does `ledger project`, once"

ANY_PARKED: Final = "SELECT EXISTS (SELECT FROM ledger.parked WHERE build_id = $1 AND book = $2)"


class NotReadyToCloseError(LedgerError):
    """Something stands against closing the month; ``objections`` is the list, and it can be closed by force."""

    def __init__(self, month: str, objections: Sequence[Objection]) -> None:
        super().__init__(f"{month} is not ready: " + "; ".join(one.detail for one in objections))
        self.objections = tuple(objections)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which month of which book is to be closed, by whom and why, at what time, and whether in spite of objections."""

    book: str
    month: str
    by: str
    reason: str
    now: datetime
    force: bool = False
    wait_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Closing:
    """A month that was closed: its seal, the position it is about, and what stood against it."""

    month: str
    seal: int
    digest: str
    position: int
    objections: tuple[Objection, ...]


@dataclass(frozen=True, slots=True)
class _Report:
    """What a month reports as things stand, and from which position."""

    seal: Seal
    position: int
    oldest: str
    objections: tuple[Objection, ...]


async def close_month(
    pool: asyncpg.Pool, appender: Appender, revenue: Projection, asked: Asked, others: Sequence[Objection] = ()
) -> Closing:
    """Close a month. Raises ``PeriodError`` where it is not its turn, ``NotReadyToCloseError`` with what objects.

    ``others`` are objections from elsewhere.
    """
    if not is_month(asked.month):
        raise PeriodError(f"{asked.month} is no month such as 2026-01")
    if asked.now < month_end(asked.month):
        raise PeriodError(f"{asked.month} has not ended")
    async with pool.acquire() as connection:
        behind = await _catch_up(connection, revenue, asked)
        decided = await restore(connection, Periods, asked.book, STREAM)
        report = await _report(connection, revenue, asked, decided)
        decided.check(asked.month, report.oldest)
        objections = (*behind, *report.objections, *others)
        if objections and not asked.force:
            raise NotReadyToCloseError(asked.month, objections)
        for event in _events(asked, report.seal):
            with contextlib.suppress(VersionConflictError):  # named after what it holds: it is there already
                await appender.append([event])
        numbers: list[int] = []

        def close(periods: Periods) -> None:
            if periods.version != decided.version:
                raise PeriodError("a month was closed or reopened meanwhile: look again")
            number = periods.close(
                asked.month,
                oldest=report.oldest,
                digest=report.seal.digest,
                chunks=len(chunks_of(report.seal)),
                position=report.position,
                by=asked.by,
                reason=asked.reason,
                forced=bool(objections),
                exceptions=[one.content for one in objections],
                policies={"mrr": ["stripe-2026", "all-discounts"], "version": revenue.version},
                code=source_digest(revenue),
            )
            numbers.append(number)

        await decide(connection, appender, Periods, asked.book, STREAM, close, now=asked.now)
    return Closing(asked.month, numbers[-1], report.seal.digest, report.position, objections)


async def read_checklist(connection: asyncpg.Connection, revenue: Projection, book: str, month: str) -> list[Objection]:
    """Return what stands against closing a month as things are; of one snapshot in the caller's transaction."""
    seals = await enter_build(connection, tables.NAME, book)
    books = await enter_build(connection, revenue.name, book)
    behind = _behind({revenue.name: books.position, tables.NAME: seals.position}, books.head)
    return [*behind, *await read_objections(connection, books.build, book, month_end(month))]


async def reopen_month(
    pool: asyncpg.Pool, appender: Appender, book: str, month: str, *, by: str, reason: str, now: datetime
) -> None:
    """Open the latest closed month again. Raises ``PeriodError`` for any other."""
    async with pool.acquire() as connection:
        await decide(
            connection, appender, Periods, book, STREAM, lambda periods: periods.reopen(month, by=by, reason=reason),
            now=now,
        )  # fmt: skip


async def _catch_up(connection: asyncpg.Connection, revenue: Projection, asked: Asked) -> list[Objection]:
    """Wait a little until both projections have folded what is in the log now; object where they have not."""
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


async def _report(connection: asyncpg.Connection, revenue: Projection, asked: Asked, decided: Periods) -> _Report:
    """Read what the month reports. Raises ``PeriodError`` where not all that was sealed before can be read."""
    end = month_end(asked.month)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        freshness = await enter_build(connection, revenue.name, asked.book)
        lines = await read_lines(connection, asked.book, end)
        moved = await read_movements(connection, asked.book, end)
        objections = await read_objections(connection, freshness.build, asked.book, end)
        seals = await enter_build(connection, tables.NAME, asked.book)
        closed = await read_closed(connection, asked.book)
        if {one.month: one.seal for one in closed.periods} != {one: decided.seals[one] for one in decided.closed}:
            raise PeriodError("what was closed last is not folded yet: try again")
        if await connection.fetchval(ANY_PARKED, seals.build, asked.book):
            raise PeriodError("a seal cannot be read: `ledger parked` says why")
        sealed_lines = await read_sealed_lines(connection, asked.book, closed.digests())
        sealed_moved = await read_sealed_movements(connection, asked.book, closed.digests())
    months = [one.original_month for one in lines] + [month_of(one.at) for one in moved]
    oldest = min(months, default=asked.month)
    first_open = closed.first_open or oldest
    seal = sealed(
        (one for one in reported_lines(lines, sealed_lines, first_open) if month_of(one.at) == asked.month),
        (one for one in reported_movements(moved, sealed_moved, first_open) if month_of(one.at) == asked.month),
    )
    return _Report(seal, freshness.position, oldest, tuple(objections))


def _events(asked: Asked, seal: Seal) -> list[NewEvent]:
    """Make the events that hold a seal, each in a stream named after what the seal holds.

    They are content and decide nothing, so no aggregate makes them: the same content is the same event, whoever comes
    second. What is decided is the close, by ``Periods``, which names their digest.
    """
    found = []
    for content in chunks_of(seal):
        stream = f"seal:{seal.digest}:{content['number']}"
        found.append(operator_event(asked.book, stream, 1, SEALED, {"id": stream, **content}, now=asked.now))
    return found


async def read_seal(connection: asyncpg.Connection, book: str, digest: str) -> dict[str, Any]:
    """Return what a seal holds, by its digest; the connection has entered a build of periods."""
    lines: list[Any] = list(await read_sealed_lines(connection, book, [digest]))
    moved: list[Any] = list(await read_sealed_movements(connection, book, [digest]))
    return {"lines": lines, "movements": moved}

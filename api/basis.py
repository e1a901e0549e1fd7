"""Whether a read of revenue answers what was sealed of closed months, or what is known of them now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

import asyncpg
from starlette.requests import Request

from api.access import services
from api.problems import Problem
from api.reads import Asked, build_for
from ledger.times import rfc3339
from projections.builds import enter_build
from projections.periods.ageing import read_sealed_receivable
from projections.periods.entries import read_named, reported_journal
from projections.periods.months import month_after, month_end, month_of
from projections.periods.query import Closed, enter_closed
from projections.periods.recalled import Seals, read_sealed_owners, read_seals, reported_as_known
from projections.periods.sums import (
    SealedSums,
    day_of,
    read_sealed_sums,
    reported_balances,
    reported_month,
    reported_months,
)
from projections.periods.unpaid import read_deferred, read_sealed_deferred
from projections.revenue import query
from projections.revenue.journal import Books
from projections.revenue.owed import Owed, receivable
from projections.revenue.pages import Wanted
from projections.revenue.query import Sums
from projections.revenue.schedule import month_of as month_of_second
from projections.revenue.schedule import month_start
from projections.revenue.shown import Shown
from projections.revenue.unpaid import deferred_unpaid

Basis = Literal["sealed", "restated"]

_SECOND: Final = timedelta(seconds=1)


def wants_sealed(request: Request) -> bool:
    """Tell whether closed months are to be answered as they were sealed, which is so unless ``basis=restated``."""
    basis = request.query_params.get("basis", "sealed")
    if basis not in ("sealed", "restated"):
        raise Problem(400, "basis must be sealed or restated")
    return basis == "sealed"


def basis_json(*, is_sealed: bool) -> Basis:
    """Name what an answer rests on: sealed where any of it was, or corrects what was."""
    return "sealed" if is_sealed else "restated"


def honours_closes(asked: Asked) -> bool:
    """Tell whether closes bear on a read: a build that is asked by name answers what it folded, and knows of none."""
    return asked.build is None or asked.known is not None


async def build_or_close(request: Request, asked: Asked, last: datetime) -> Asked:
    """Return what is asked of a whole book up to a last moment, with the kept build that holds what was known then.

    What lies in months that were closed by then is known from their seals, and needs no build. Raises 409
    ``build-required`` where there is neither.
    """
    serving = services(request)
    try:
        return await build_for(serving, serving.revenue.name, asked)
    except Problem:
        if not wants_sealed(request):
            raise
        async with serving.pool.acquire() as connection, connection.transaction(readonly=True):
            closed = await enter_closed(connection, asked.book, asked.known)
        if closed.until is None or last >= closed.until:
            raise
        return asked


class Reporting:
    """The books as one request reads them: sealed in closed months unless it asks for what is known now."""

    def __init__(self, request: Request, asked: Asked) -> None:
        self._asked = asked
        self._revenue = services(request).revenue.name
        self._wanted = wants_sealed(request) and honours_closes(asked)
        self.is_sealed = False
        self.left_out_at: datetime | None = None
        self._seals = Seals(Closed(()), ())

    async def balances(self, connection: asyncpg.Connection, at: int) -> Sums:
        """Return what every account comes to at a second."""
        closed, sealed = await self._read(connection, month_of_second(month_start(at, 1)))
        month = sealed_month(closed, datetime.fromtimestamp(at, UTC))
        self.is_sealed = self.is_sealed or month is not None
        return await reported_balances(connection, self._asked.book, sealed, at)

    async def months(
        self, connection: asyncpg.Connection, first: date, until: date, at: int | None
    ) -> tuple[Sums, dict[date, Sums]]:
        """Return what everything came to before a month, and what each month from it on did."""
        closed, sealed = await self._read(connection, first)
        if at is not None:
            sealed_month(closed, datetime.fromtimestamp(at, UTC))
        self.is_sealed = sealed is not None and first <= sealed.first_open
        return await reported_months(connection, self._asked.book, sealed, first, until, at)

    async def month(self, connection: asyncpg.Connection, month: str) -> tuple[Sums, Sums]:
        """Return what one whole month comes to as is known now, and as it is reported."""
        first, until = day_of(month), day_of(month_after(month))
        _, sealed = await self._read(connection, first)
        self.is_sealed = sealed is not None and first <= sealed.first_open
        now = (await query.months(connection, self._asked.book, first, until, None)).get(first, {})
        return now, await reported_month(connection, self._asked.book, sealed, first, now)

    async def closed(self, connection: asyncpg.Connection) -> Closed:
        """Return which months are closed as far as the request is about; the connection is in revenue afterwards."""
        if not self._wanted:
            return Closed(())
        closed = await enter_closed(connection, self._asked.book, self._asked.known)
        await enter_build(connection, self._revenue, self._asked.book, self._asked.build)
        return closed

    async def journal(self, connection: asyncpg.Connection, wanted: Wanted) -> AsyncIterator[list[Shown]]:
        """Give a journal month by month: as closes account for it, then as it is."""
        closed = await self.closed(connection)
        self._tell(closed, wanted)
        async for some in reported_journal(connection, self._revenue, self._asked.build, wanted, closed):
            yield some

    async def recall(self, connection: asyncpg.Connection, wanted: Wanted, subjects: Sequence[str]) -> list[str]:
        """Read what was sealed of some, and name them with all of whom what is wanted was sealed.

        Their journal is then told by ``recalled``. The connection is in revenue afterwards.
        """
        book, named, found = self._asked.book, wanted.entry or wanted.line, set(subjects)
        closed = await enter_closed(connection, book, self._asked.known) if self._wanted else Closed(())
        if closed.until is not None:
            if wanted.customer is None and named is not None:
                found.update(await read_sealed_owners(connection, book, closed, named))
            self._seals = await read_seals(connection, book, closed, found)
        await enter_build(connection, self._revenue, book, self._asked.build)
        self._tell(closed, wanted)
        return sorted(found)

    def recalled(self, made: list[Books], wanted: Wanted) -> list[Shown]:
        """Return the journal of those who were recalled, as closes account for it."""
        return reported_as_known(made, self._seals, wanted)

    def _tell(self, closed: Closed, wanted: Wanted) -> None:
        """Remember what an answer rests on, and when what it leaves out is posted."""
        self.is_sealed = closed.until is not None and wanted.since <= closed.until.timestamp()
        if self.is_sealed and closed.until and not wanted.prior and closed.until.timestamp() <= wanted.until:
            self.left_out_at = closed.until

    async def named(self, connection: asyncpg.Connection, wanted: Wanted) -> list[Shown]:
        """Return one entry or line of a journal, as closes account for it and as it is."""
        closed = await self.closed(connection)
        self._tell(closed, wanted)
        return await read_named(connection, self._revenue, self._asked.build, wanted, closed)

    async def receivable(self, connection: asyncpg.Connection, at: datetime) -> list[Owed]:
        """Return what is owed on each invoice at a moment: the end of a closed month, or any of an open one."""
        book, build = self._asked.book, self._asked.build
        closed = await enter_closed(connection, book, self._asked.known) if self._wanted else Closed(())
        month = sealed_month(closed, at)
        if month is None:
            fresh = await enter_build(connection, self._revenue, book, build)
            return await receivable(connection, fresh.version, book, at)
        self.is_sealed = True
        return await read_sealed_receivable(connection, self._revenue, build, book, closed.digests(month))

    async def unpaid(self, connection: asyncpg.Connection, at: int) -> dict[str, int]:
        """Return what is deferred and not paid at a second, by currency; the connection is in revenue afterwards."""
        book, build = self._asked.book, self._asked.build
        some = [one for one in await self.receivable(connection, datetime.fromtimestamp(at, UTC)) if one.invoice]
        owed = {(one.currency, one.invoice): one.amount for one in some}
        invoices = sorted({one.invoice for one in some if one.invoice})
        closed = await enter_closed(connection, book, self._asked.known) if self._wanted else Closed(())
        month = sealed_month(closed, datetime.fromtimestamp(at, UTC))
        if month is not None:
            deferred = await read_sealed_deferred(connection, book, closed.digests(month), invoices)
        await enter_build(connection, self._revenue, book, build)
        if month is None:
            deferred = await read_deferred(connection, book, [one.customer for one in some], invoices, at)
        return deferred_unpaid(owed, deferred)

    async def _read(self, connection: asyncpg.Connection, first: date) -> tuple[Closed, SealedSums | None]:
        """Read what is sealed, where a month is not after the first open one; and turn back to the build of revenue."""
        if not self._wanted:
            return Closed(()), None
        closed = await enter_closed(connection, self._asked.book, self._asked.known)
        sealed = None
        if closed.until is not None and first <= closed.until.date():
            sealed = await read_sealed_sums(connection, self._asked.book, closed)
        await enter_build(connection, self._revenue, self._asked.book, self._asked.build)
        return closed, sealed


def sealed_month(closed: Closed, at: datetime) -> str | None:
    """Return the closed month whose end a moment is; None where the moment's month is open.

    Raises 409 ``sealed`` for any other moment before the first open month: only the ends of months were reported.
    """
    if closed.until is None or at >= closed.until:
        return None
    month = month_of(at)
    if closed.of(month) is None:
        return None  # before the first month that had anything to close
    end = month_end(month)
    if at < end - _SECOND:
        detail = (
            f"{month} is closed: what was sealed of it is its end, {rfc3339(end - _SECOND)}; "
            "basis=restated answers what is known now of any moment"
        )
        raise Problem(409, detail, kind="sealed")
    return month

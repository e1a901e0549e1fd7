"""Whether revenue reads answer closed months from their seals (``sealed``) or as known now (``restated``)."""

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
    """Return whether closed months are answered from their seals: always unless ``basis=restated``."""
    basis = request.query_params.get("basis", "sealed")
    if basis not in ("sealed", "restated"):
        raise Problem(400, "basis must be sealed or restated")
    return basis == "sealed"


def basis_json(*, is_sealed: bool) -> Basis:
    """Name an answer's basis: sealed if any part of it comes from a seal or corrects one."""
    return "sealed" if is_sealed else "restated"


def honours_closes(asked: Asked) -> bool:
    """Return whether closes matter to a read: a build asked for by name answers what it folded and knows of none."""
    return asked.build is None or asked.known is not None


async def build_or_close(request: Request, asked: Asked, last: datetime) -> Asked:
    """Return what is asked about a whole book up to a last moment, with the kept build that holds what was known then.

    Months closed by then are known from their seals and need no build. Raises 409 ``build-required`` if there is
    neither.
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
    """The books as one request reads them: closed months from their seals, unless it asks for what is known now."""

    def __init__(self, request: Request, asked: Asked) -> None:
        self._asked = asked
        self._revenue = services(request).revenue.name
        self._wanted = wants_sealed(request) and honours_closes(asked)
        self.is_sealed = False
        self.left_out_at: datetime | None = None
        self._seals = Seals(Closed(()), ())

    async def balances(self, connection: asyncpg.Connection, at: int) -> Sums:
        """Return the balance of every account at a second."""
        closed, sealed = await self._read(connection, month_of_second(month_start(at, 1)))
        month = sealed_month(closed, datetime.fromtimestamp(at, UTC))
        self.is_sealed = self.is_sealed or month is not None
        return await reported_balances(connection, self._asked.book, sealed, at)

    async def months(
        self, connection: asyncpg.Connection, first: date, until: date, at: int | None
    ) -> tuple[Sums, dict[date, Sums]]:
        """Return the totals before a month, and those of each month from it on."""
        closed, sealed = await self._read(connection, first)
        if at is not None:
            sealed_month(closed, datetime.fromtimestamp(at, UTC))
        self.is_sealed = sealed is not None and first <= sealed.first_open
        return await reported_months(connection, self._asked.book, sealed, first, until, at)

    async def month(self, connection: asyncpg.Connection, month: str) -> tuple[Sums, Sums]:
        """Return one whole month as known now, and as reported."""
        first, until = day_of(month), day_of(month_after(month))
        _, sealed = await self._read(connection, first)
        self.is_sealed = sealed is not None and first <= sealed.first_open
        now = (await query.months(connection, self._asked.book, first, until, None)).get(first, {})
        return now, await reported_month(connection, self._asked.book, sealed, first, now)

    async def closed(self, connection: asyncpg.Connection) -> Closed:
        """Return which months are closed, as the request knows it; afterwards the connection is in revenue's build."""
        if not self._wanted:
            return Closed(())
        closed = await enter_closed(connection, self._asked.book, self._asked.known)
        await enter_build(connection, self._revenue, self._asked.book, self._asked.build)
        return closed

    async def journal(self, connection: asyncpg.Connection, wanted: Wanted) -> AsyncIterator[list[Shown]]:
        """Yield a journal month by month: as reported for closed months, then the effective one."""
        closed = await self.closed(connection)
        self._tell(closed, wanted)
        async for some in reported_journal(connection, self._revenue, self._asked.build, wanted, closed):
            yield some

    async def recall(self, connection: asyncpg.Connection, wanted: Wanted, subjects: Sequence[str]) -> list[str]:
        """Read what was sealed about some customers; return them and others for whom the wanted entries were sealed.

        ``recalled`` then returns their journal. Afterwards the connection is in revenue's build.
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
        """Return the journal of the recalled customers as closes reported it."""
        return reported_as_known(made, self._seals, wanted)

    def _tell(self, closed: Closed, wanted: Wanted) -> None:
        """Remember an answer's basis, and when what it leaves out would be posted."""
        self.is_sealed = closed.until is not None and wanted.since <= closed.until.timestamp()
        if self.is_sealed and closed.until and not wanted.prior and closed.until.timestamp() <= wanted.until:
            self.left_out_at = closed.until

    async def named(self, connection: asyncpg.Connection, wanted: Wanted) -> list[Shown]:
        """Return one entry or line of a journal, as reported and as effective."""
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
        """Return what is deferred and unpaid at a second, by currency; the connection is then in revenue's build."""
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
        """Read what is sealed, for a month up to the first open one, and return to revenue's build."""
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

"""Exports to files, for a range of months and in one snapshot: the books as reported, and the log itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson

from api.basis import Basis
from api.events import data_of
from api.mrr import movement_id
from api.revenue import roll_forward
from api.tabular import FORMATS, Columns, TextWriter, whole
from ledger.errors import MistakeError
from ledger.postgres import Database
from ledger.reader import Filter, StoredEvent, read_page
from projections.builds import enter_build
from projections.mrr.intervals import Bounds
from projections.mrr.query import Wanted as Moves
from projections.mrr.rows import MovementRow
from projections.periods.entries import reported_journal
from projections.periods.query import Closed, enter_closed
from projections.periods.sums import SealedSums, read_sealed_sums, reported_balances, reported_months
from projections.periods.worth import movements_as_reported
from projections.revenue import beancount, query
from projections.revenue.documents import time_of
from projections.revenue.pages import Wanted
from projections.revenue.schedule import month_name, month_start
from projections.revenue.shown import Shown, balances_json

JOURNAL: Final[Columns] = {
    "entry": "text", "at": "time", "customer": "text", "kind": "text", "currency": "text", "original_month": "text",
    "account": "text", "amount": "amount", "invoice": "text", "line": "text", "subscription": "text",
    "product": "text", "price": "text", "tax_rate": "text", "because": "texts",
}  # fmt: skip

MRR: Final[Columns] = {
    "movement": "text", "customer": "text", "at": "time", "currency": "text", "kind": "text", "amount": "amount",
    "before": "amount", "after": "amount", "paid_at": "time", "reason": "text", "involuntary": "truth",
    "subscriptions": "texts", "because": "texts",
}  # fmt: skip

EVENTS: Final[Columns] = {
    "id": "text", "book": "text", "position": "amount", "type": "text", "created": "time", "stream": "text",
    "source": "text", "api_version": "text", "recorded_at": "time", "received_at": "time", "erased": "truth",
    "data": "text", "hash": "text",
}  # fmt: skip

_REVENUE: Final = "revenue"
_ROWS: Final = 5_000
_EVENTS: Final = 500

Progress = Callable[[int], None]
"""Told how many rows more are written."""


@dataclass(frozen=True, slots=True)
class Export:
    """What to write of which book, for the months from ``first`` up to ``until``, in which format.

    Closed months are written as they were sealed (``basis``), or as is known of them now.
    """

    what: str
    book: str
    first: date
    until: date
    format: str
    path: Path
    basis: Basis = "sealed"

    @property
    def since(self) -> int:
        """The first second."""
        return query.seconds(self.first)

    @property
    def last(self) -> int:
        """The last second."""
        return query.seconds(self.until) - 1


async def export_books(database: Database, export: Export, progress: Progress) -> int:
    """Write an export; return how many rows it has. Raises ``MistakeError`` for what cannot be written."""
    if export.format not in {*FORMATS, "beancount"} or (export.format == "beancount" and export.what != "journal"):
        raise MistakeError(f"{export.what} is not written as {export.format}")
    connection = await database.as_role("ledger_app").connect()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            if export.what == "events":
                with whole(export.path) as path:
                    return await _events(connection, export, path, progress)
            if (await enter_build(connection, _REVENUE, export.book)).build is None:
                raise MistakeError("revenue is not built yet: start `ledger serve`, or run `ledger rebuild revenue`")
            with whole(export.path) as path:
                if export.format == "beancount":
                    return await _beancount(connection, export, path, progress)
                if export.what == "journal":
                    return await _journal(connection, export, path, progress)
                if export.what == "mrr":
                    return await _mrr(connection, export, path, progress)
                return await _recognition(connection, export, path, progress)
    finally:
        await connection.close()


async def _journal(connection: asyncpg.Connection, export: Export, path: Path, progress: Progress) -> int:
    count = 0
    with closing(FORMATS[export.format](path, JOURNAL)) as writer:
        async for entries in _entries(connection, export):
            rows = [row for entry in entries for row in journal_rows(entry)]
            writer.write(rows)
            progress(len(rows))
            count += len(rows)
    return count


async def _entries(connection: asyncpg.Connection, export: Export) -> AsyncIterator[list[Shown]]:
    wanted = Wanted(export.book, export.since, export.last)
    closed = await _closed(connection, export)
    async for entries in reported_journal(connection, _REVENUE, None, wanted, closed):
        yield entries


async def _closed(connection: asyncpg.Connection, export: Export) -> Closed:
    """Return which months are closed as far as the export is about; the connection is in revenue afterwards."""
    closed = await enter_closed(connection, export.book) if export.basis == "sealed" else Closed(())
    await enter_build(connection, _REVENUE, export.book)
    return closed


async def _sealed_sums(connection: asyncpg.Connection, export: Export) -> SealedSums | None:
    if export.basis == "restated":
        return None
    closed = await enter_closed(connection, export.book)
    sealed = await read_sealed_sums(connection, export.book, closed)
    await enter_build(connection, _REVENUE, export.book)
    return sealed


async def _beancount(connection: asyncpg.Connection, export: Export, path: Path, progress: Progress) -> int:
    count = 0
    sealed = await _sealed_sums(connection, export)
    before = await reported_balances(connection, export.book, sealed, export.since - 1)
    with closing(TextWriter(path)) as writer:
        writer.write(beancount.preamble(export.book))
        writer.write(beancount.opening(export.since, {key: balances_json(one) for key, one in sorted(before.items())}))
        async for entries in _entries(connection, export):
            writer.write(beancount.transactions(entries))
            progress(len(entries))
            count += len(entries)
    return count


async def _mrr(connection: asyncpg.Connection, export: Export, path: Path, progress: Progress) -> int:
    bounds = Bounds(time_of(export.since), time_of(export.last + 1))
    wanted = Moves(export.book, "stripe-2026", bounds, None, bounds.end)
    closed = await _closed(connection, export)
    count = 0
    with closing(FORMATS[export.format](path, MRR)) as writer:
        async for rows in movements_as_reported(connection, _REVENUE, wanted, closed, _ROWS):
            writer.write([movement_row(row) for row in rows])
            progress(len(rows))
            count += len(rows)
    return count


def movement_row(row: MovementRow) -> dict[str, Any]:
    """Return a movement as it is exported: positive amounts, the kind says which way."""
    shown = {name: value for name, value in row._asdict().items() if name in MRR}
    return shown | {"movement": movement_id(row)}


async def _recognition(connection: asyncpg.Connection, export: Export, path: Path, progress: Progress) -> int:
    sealed = await _sealed_sums(connection, export)
    opening, months = await reported_months(connection, export.book, sealed, export.first, export.until, None)
    first = export.first if opening else min(months, default=export.until)  # before the first event there is nothing
    rows = [
        {"month": month, "currency": currency, **flat(one)}
        for month, by_currency in roll_forward(opening, months, first, export.until).items()
        for currency, one in by_currency.items()
    ]
    with closing(FORMATS[export.format](path, _recognition_columns())) as writer:
        writer.write(rows)
    progress(len(rows))
    return len(rows)


def _recognition_columns() -> Columns:
    """Return the columns of any month, so that a book without one has them too."""
    [blank] = roll_forward({"": {}}, {}, date(1970, 1, 1), date(1970, 2, 1))["1970-01"].values()
    return {"month": "text", "currency": "text", **dict.fromkeys(flat(blank), "amount")}


async def _events(connection: asyncpg.Connection, export: Export, path: Path, progress: Progress) -> int:
    first, until = time_of(export.since), time_of(export.last + 1)
    count = after = 0
    with closing(FORMATS[export.format](path, EVENTS)) as writer:
        while page := await read_page(connection, export.book, Filter(after=after), _EVENTS):
            rows = [event_row(one, export.format) for one in page if first <= one.created < until]
            writer.write(rows)
            progress(len(rows))
            count += len(rows)
            after = page[-1].position
    return count


def event_row(event: StoredEvent, as_format: str) -> dict[str, Any]:
    """Return an event as it is exported; its data is JSON, in a table as text."""
    data = data_of(event)
    written: object = None
    if data is not None:
        written = orjson.Fragment(data) if as_format == "jsonl" else data.decode()
    return {
        "id": event.event_id,
        "book": event.book,
        "position": event.position,
        "type": event.type,
        "created": event.created,
        "stream": event.stream_id,
        "source": event.source,
        "api_version": event.api_version,
        "recorded_at": event.recorded_at,
        "received_at": event.received_at,
        "erased": not event.salt,
        "data": written,
        "hash": event.leaf.hex(),
    }


def journal_rows(entry: Shown) -> list[dict[str, Any]]:
    """Return a row for each posting of an entry."""
    whole = {
        "entry": entry.entry,
        "at": time_of(entry.at),
        "customer": entry.customer,
        "kind": entry.kind,
        "currency": entry.currency,
        "original_month": entry.original_month or month_name(entry.at),
        "because": list(entry.because),
    }
    return [whole | line._asdict() for line in entry.lines]


def flat(one: Mapping[str, Any]) -> dict[str, int]:
    """Return a month's roll-forward with its groups side by side: ``released_refunds`` and the like."""
    found: dict[str, int] = {}
    for name, value in one.items():
        if isinstance(value, dict):
            found |= {f"{name}_{part}": amount for part, amount in value.items()}
        else:
            found[name] = value
    return found


def all_months(now: int) -> tuple[date, date]:
    """Return the months from the beginning of time up to the present one, included."""
    return date(1970, 1, 1), time_of(month_start(now, 1)).date()

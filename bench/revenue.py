"""Books of many customers: how long a trial balance and a year's recognition take, at a month's end and inside one.

One customer's year (twelve monthly invoices, each paid by card) is folded by the projection; its rows are multiplied
in SQL, so that what is read is what a build of that many customers holds.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any, Final

import asyncpg
import orjson

from bench.ground import Ground
from bench.table import Row, percentiles_ms
from projections.builds import ensure_live, enter
from projections.contract import Subject
from projections.facts import fact_of
from projections.folding import rows_of
from projections.refold import Refolded, Refolding
from projections.revenue import query
from projections.revenue.accounts import CLASSES
from projections.revenue.schedule import months_after
from projections.revenue.tables import revenue
from projections.writing import write_new

CUSTOMERS: Final = 50_000
_START: Final = int(datetime(2026, 1, 3, 12, tzinfo=UTC).timestamp())
_LIMIT_SECONDS: Final = 1.0


def _year() -> list[dict[str, Any]]:
    """Tell a customer's year: an invoice a month, paid at once."""
    told: list[tuple[int, str, dict[str, Any]]] = []
    for month in range(12):
        at, end = months_after(_START, month), months_after(_START, month + 1)
        line = {"id": f"il_{month}", "amount": 3_100, "period": {"start": at, "end": end}}
        invoice = {
            "id": f"in_{month}", "object": "invoice", "customer": "cus_1", "currency": "usd", "status": "paid",
            "total": 3_100, "total_excluding_tax": 3_100, "amount_due": 3_100, "amount_paid": 3_100, "created": at,
            "lines": {"data": [line]}, "status_transitions": {"finalized_at": at + 3_600, "paid_at": at + 3_600},
            "charge": f"ch_{month}",
        }  # fmt: skip
        charge = {
            "id": f"ch_{month}", "object": "charge", "customer": "cus_1", "currency": "usd", "status": "succeeded",
            "amount": 3_100, "captured": True, "created": at + 3_600,
        }  # fmt: skip
        told += [(at + 3_600, "charge.succeeded", charge), (at + 3_600, "invoice.paid", invoice)]
    return [{"id": f"evt_{n}", "created": at, "type": type_, "data": {"object": subject}}
            for n, (at, type_, subject) in enumerate(told)]  # fmt: skip


async def _fill(connection: asyncpg.Connection, customers: int) -> None:
    """Make a build of that many customers, each with the same year."""
    projection, subject = revenue(), Subject("self:live", "self:live/cus_1")
    facts = [
        fact_of(one["id"], one["type"], datetime.fromtimestamp(one["created"], UTC), place, orjson.dumps(one))
        for place, one in enumerate(_year(), 1)
    ]
    rows = rows_of(projection, subject, facts)
    refolded = Refolded(subject.stream_id, {name: list(some) for name, some in rows.items()})
    await write_new(connection, projection, Refolding([refolded]))
    for table in ("journal_entry", "earning_span", "revenue_sum"):
        columns = ", ".join("t.subject || n" if name == "subject" else f't."{name}"' for name in
                            next(one.columns for one in projection.tables if one.name == table))  # fmt: skip
        # Names of tables and columns are constants of the projection.
        await connection.execute(
            f"INSERT INTO {table} SELECT {columns} FROM {table} AS t, generate_series(2, $1::int) AS n", customers
        )
        await connection.execute(f"ANALYZE {table}")


async def revenue_rows(ground: Ground, customers: int = CUSTOMERS) -> list[Row]:
    """Measure the reports of a book of many customers."""
    database = await ground.fresh()
    builder = await database.as_role("ledger_builder").connect()
    build = await ensure_live(builder, revenue())
    await enter(builder, build.schema_name)
    await _fill(builder, customers)
    await builder.close()
    connection = await database.as_role("ledger_app").connect()
    await enter(connection, build.schema_name)
    moments = {
        "at a month's end": int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) - 1,
        "inside a month": int(datetime(2026, 11, 17, 9, 30, 7, tzinfo=UTC).timestamp()),
    }

    async def year(at: int | None) -> None:
        await query.opening(connection, "self:live", date(2026, 1, 1))
        await query.months(connection, "self:live", date(2026, 1, 1), date(2027, 1, 1), at)

    rows = [
        await _row(f"trial balance, {customers:,} customers, {name}", lambda at=at: _balance(connection, at))  # type: ignore[misc]
        for name, at in moments.items()
    ]
    rows.append(await _row(f"a year's recognition, {customers:,} customers", lambda: year(None)))
    rows.append(await _row("the same, as of inside a month", lambda: year(moments["inside a month"])))
    await connection.close()
    return rows


async def _balance(connection: asyncpg.Connection, at: int) -> None:
    found = await query.balances(connection, "self:live", at)
    if sum(amount for name, amount in found["usd"].items() if name in _ACCOUNTS):
        raise AssertionError("the books do not balance")


_ACCOUNTS: Final = frozenset(CLASSES)


async def _row(name: str, read: Callable[[], Awaitable[None]]) -> Row:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        await read()
        times.append(time.perf_counter() - began)
    median, worst = percentiles_ms(times)
    return Row(
        name, f"{median:,.0f} ms", f"limit {_LIMIT_SECONDS:.0f} s", median / 1000 / _LIMIT_SECONDS, "≤ 1", median, worst
    )

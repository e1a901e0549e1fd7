"""What reports add up over everybody stands in indexes: PostgreSQL can answer them without reading a row."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from ledger.postgres import Database
from projections.builds import ensure_live, enter
from projections.mrr import query as mrr
from projections.revenue import query
from projections.revenue.tables import revenue
from projections.runner import connect_runner

BOOK = "self:live"
JANUARY, JULY = date(2026, 1, 1), date(2026, 7, 1)
MOMENT = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        (query.WHOLE_MONTHS, (BOOK, JULY)),
        (query.BY_MONTH, (BOOK, JANUARY, JULY)),
        (query.BY_DAY, (BOOK, JANUARY, JULY)),
        (query.FALLEN, (BOOK, JANUARY, JULY)),
        (mrr.TOTALS, (BOOK, MOMENT, "stripe-2026")),
        (mrr.OPENING, (BOOK, "stripe-2026", MOMENT, None)),
    ],
)
async def test_sums_of_everybody_are_read_from_an_index_alone(
    database: Database, statement: str, arguments: tuple[object, ...]
) -> None:
    connection = await connect_runner(database)
    build = await ensure_live(connection, revenue())
    await enter(connection, build.schema_name)
    for setting in ("enable_seqscan = off", "enable_bitmapscan = off", "plan_cache_mode = force_custom_plan"):
        await connection.execute(f"SET {setting}")
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *arguments))
    await connection.close()
    assert plan.count("Index Only Scan") == 1, plan

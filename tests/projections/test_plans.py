"""What a follower asks at every step it asks by key: a plan that reads a table whole costs more with every event."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger.postgres import Database
from projections import joining, reading, refold, rivals, stored_links, stored_terms
from projections.builds import ensure_live, enter
from projections.entitlements import holdings
from projections.entitlements.tables import entitlements
from projections.runner import connect_follower

BOOK, SOME = "self:live", ["self:live/cus_1", "self:live/cus_2"]
TIMES = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)]
TYPES = ["customer.subscription.updated"]


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        (stored_links.LINKS_UP, (SOME,)),
        (stored_links.LINKS_DOWN, (SOME,)),
        (joining.HAD_EVENTS, (SOME, 9)),
        (stored_terms.USERS, (SOME,)),
        (stored_terms.REFERENCES, (BOOK, 1, 9, TYPES)),
        (stored_terms.TERMS_BEFORE, (SOME, 9, TYPES)),
        (rivals.NOTED, (SOME,)),
        (reading.HISTORIES, (SOME, 9, TYPES)),
        (reading.AT_MOST, (SOME, 9, TYPES, 10_000)),
        (reading.SINCE, (SOME, [1, 2], [1, 2], TIMES, 9, TYPES, None)),
        (reading.POSITIONS, (BOOK, [1, 2])),
        (reading.KEPT, (SOME,)),
        (refold.KEPT_STATES, (SOME, TIMES)),
        (holdings.HELD, (SOME, BOOK, "entitlements", None, [])),
    ],
)
async def test_no_table_is_read_whole(database: Database, statement: str, arguments: tuple[object, ...]) -> None:
    connection = await connect_follower(database)
    try:
        build = await ensure_live(connection, entitlements("org_id"))
        await enter(connection, build.schema_name)
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *arguments))
    finally:
        await connection.close()
    assert "Seq Scan" not in plan, plan
    assert "Hash" not in plan.replace("HashAggregate", ""), plan

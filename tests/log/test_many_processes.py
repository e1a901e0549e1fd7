"""Four processes of eight writers, a tenth of the events sent twice, one tailing reader; at full size in ``bench``."""

from __future__ import annotations

from bench.many import run
from ledger.postgres import Database


async def test_nothing_is_missed_doubled_or_out_of_order(database: Database) -> None:
    outcome = await run(database, 4_000)
    assert outcome.faultless, outcome
    assert (outcome.appended, outcome.duplicates, outcome.read) == (4_000, 400, 4_000)

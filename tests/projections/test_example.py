"""The projection that the documentation shows works as it is shown."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import orjson
import pytest

from api.operations import Operations
from ledger.appender import Appender
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.contract import Projection
from projections.follower import follow
from projections.runner import connect_runner
from tests.conftest import ManualClock
from tests.projections.histories import company, disordered, new_events

DOCUMENT = Path(__file__).parents[2] / "docs" / "projections.md"


async def test_the_example_of_the_documentation(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 30
    (tmp_path / "example_projection.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    paid = importlib.import_module("example_projection").PAID
    assert isinstance(paid, Projection)

    bodies = company(31, 20)[0]
    connection = await connect_runner(database)
    live = await ensure_live(connection, paid)
    async with Appender(database, clock=clock) as appender:
        for batch in disordered(bodies, 3):
            await appender.append(new_events(batch))
            while await follow(connection, paid, live):
                pass
        expected: dict[str, tuple[int, int]] = {}
        for event in map(orjson.loads, bodies):
            if event["type"] == "invoice.paid":
                book = f"{event.get('account', 'self')}:{'live' if event['livemode'] else 'test'}"
                subject = f"{book}/{event['data']['object']['customer']}"
                count, amount = expected.get(subject, (0, 0))
                expected[subject] = (count + 1, amount + event["data"]["object"]["amount_paid"])
        rows = await connection.fetch(f"SELECT * FROM {live.schema_name}.paid")
        assert {row["subject"]: (row["invoices"], row["amount"]) for row in rows} == expected
        assert len(expected) > 5

        ready = Operations(database, paid, appender, clock)
        build = await ready.request_rebuild(by="test", reason=None)
        await ready.fold(build.build_id)
        await ready.complete(build.build_id)
        assert (await ready.compare(build.build_id, by="test")).differences == []
    await connection.close()

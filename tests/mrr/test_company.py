"""What the simulated company is worth is what the simulator says, at the end of every month and in every shape."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger.simulator.calendar import month_ends
from ledger.simulator.company import MIXED
from ledger.simulator.versions import VERSIONS
from projections.mrr.portfolio import spans, worth_in
from tests.mrr.companies import folded


@pytest.mark.parametrize("version", [*VERSIONS, MIXED])
def test_mrr_is_the_truth_at_every_months_end(version: str) -> None:
    truth, portfolios, arguments = folded(version, 120, 18)
    ends = month_ends(arguments.start, arguments.end)
    found: dict[str, dict[int, dict[str, int]]] = {book: {end: {} for end in ends} for book in truth}
    for subject, portfolio in portfolios.items():
        for life in portfolio.lives.values():
            for end, totals in found[subject.book].items():
                worth = worth_in(life.spans, datetime.fromtimestamp(end - 1, UTC))
                if worth is not None and worth.net_forever:
                    totals[worth.currency] = totals.get(worth.currency, 0) + worth.net_forever
    assert found == {book: {end: one.mrr(end - 1) for end in ends} for book, one in truth.items()}
    assert all(worth.incomplete == () for one in portfolios.values() for worth in (span.worth for span in spans(one)))

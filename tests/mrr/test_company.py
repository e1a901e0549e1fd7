"""What the simulated company is worth is what the simulator says, at the end of every month and in every shape."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger.simulator.calendar import month_ends
from ledger.simulator.company import MIXED
from ledger.simulator.truth_mrr import movements_of
from ledger.simulator.versions import VERSIONS
from projections.mrr.movements import movements
from projections.mrr.portfolio import Portfolio, spans, worth_in
from tests.mrr.companies import folded


def is_known(portfolio: Portfolio) -> bool:
    """Tell whether events told everything: not what a price costs in another currency before it was ever billed."""
    return not any(span.worth.incomplete for span in spans(portfolio))


@pytest.mark.parametrize("version", [*VERSIONS, MIXED])
def test_worth_and_its_movements_are_the_truth(version: str) -> None:
    truth, portfolios, arguments = folded(version, 70, 12)
    unknown = 0
    for subject, portfolio in portfolios.items():
        lives = truth[subject.book].lives
        for key, life in portfolio.lives.items():
            for end in month_ends(arguments.start, arguments.end):
                worth = worth_in(life.spans, datetime.fromtimestamp(end - 1, UTC))
                amount = worth.net_forever if worth is not None else 0
                assert amount == lives[key].monthly(end - 1) or (
                    worth is not None and worth.incomplete == ("currency",)
                )
        if not is_known(portfolio):
            unknown += 1
            continue
        paid = {key: life.paid_at for key, life in portfolio.lives.items() if life.paid_at is not None}
        found = [
            (one.currency, one.at, one.kind, one.amount, one.involuntary) for one in movements(spans(portfolio), paid)
        ]
        expected = [
            (one.currency, datetime.fromtimestamp(one.at, UTC), one.kind, one.amount, one.involuntary)
            for one in movements_of(lives[key] for key in portfolio.lives if key in lives)
            if one.at < arguments.end
        ]
        assert sorted(found) == sorted(expected)
    assert unknown <= 2

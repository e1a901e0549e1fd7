"""The recurring part: monthly worth of subscriptions and its movements, as a fold of the revenue projection."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from ledger.catalogs import PUBLISHED
from projections.contract import Rows, Subject, Terms
from projections.facts import Fact
from projections.mrr import portfolio, rows
from projections.mrr.portfolio import Portfolio
from projections.revenue.part import Part
from projections.revenue.policy import Ruling, policy_at, published


@dataclass(slots=True)
class Recurring:
    """What has been folded of one subject so far."""

    subject: Subject
    portfolio: Portfolio = field(default_factory=Portfolio)
    rulings: list[Ruling] | None = None

    def grouping(self, at: datetime) -> timedelta:
        """Return how long a group of changes is that begins at a time, by the policy in force then."""
        return policy_at(self.rulings or (), int(at.timestamp())).group


def step(state: Recurring, fact: Fact, terms: Terms) -> None:
    """Let a subject see its next event. What policies were published does not change while a subject is folded."""
    if state.rulings is None:
        state.rulings = published(terms)
    portfolio.step(state.portfolio, fact, terms)


class Whole(Protocol):
    """The state of all parts, of which this one needs only its own."""

    @property
    def recurring(self) -> Recurring:
        """This part's."""


def rows_of(state: Whole) -> Rows:
    """Return what a subject's subscriptions come to."""
    return rows.rows_of(state.recurring.subject, state.recurring.portfolio, state.recurring.grouping)


RECURRING: Final = Part(
    name="recurring",
    types=portfolio.TYPES,
    tables=(rows.SPANS, rows.MOVEMENTS),
    begin=Recurring,
    step=step,
    rows=rows_of,
    views={"mrr_movements": rows.MOVEMENTS_VIEW},
    references=portfolio.REFERENCES | {PUBLISHED},
)

"""The revenue fold: its parts side by side, each seeing the events of its types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from projections.contract import Row, Rows, Subject, Terms
from projections.facts import Fact
from projections.revenue.books import BOOKS
from projections.revenue.facts import Facts
from projections.revenue.part import Part
from projections.revenue.recurring import RECURRING, Recurring

PARTS: Final[tuple[Part, ...]] = (BOOKS, RECURRING)
"""Every part; a new one gets a field in ``State``, named as it is."""

_BY_TYPE: Final[dict[str, tuple[Part, ...]]] = {
    type_: tuple(part for part in PARTS if type_ in part.types) for part in PARTS for type_ in part.types
}


@dataclass(slots=True)
class State:
    """What has been folded of one subject so far, by part."""

    subject: Subject
    books: Facts
    recurring: Recurring


def begin(subject: Subject) -> State:
    """Begin with nothing known of a subject."""
    return State(subject, **{part.name: part.begin(subject) for part in PARTS})


def step(state: State, fact: Fact, terms: Terms) -> None:
    """Let each part that cares see the next event."""
    for part in _BY_TYPE.get(fact.type, ()):
        part.step(getattr(state, part.name), fact, terms)


def rows(state: State) -> Rows:
    """Return what a subject's state comes to, in all parts' tables."""
    found: dict[str, list[Row]] = {}
    for part in PARTS:
        for table, some in part.rows(state).items():
            found.setdefault(table, []).extend(some)
    return found

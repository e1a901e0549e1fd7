"""What somebody picks on the pages of the books: a currency, months, and which policy and basis the figures follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from api.console.frame import Visit
from api.problems import Problem
from projections.mrr.worth import POLICIES as WORTH_POLICIES
from projections.periods.months import is_month, month_after, month_of
from projections.revenue.policy import POLICIES

_MONTHS: Final = 12
_MONTHS_AT_MOST: Final = 60
_CURRENCY: Final = 3

PUBLISHED: Final = "published"
BASES: Final = ("sealed", "restated")
CHOICES: Final = {"policy": (PUBLISHED, *POLICIES), "worth": WORTH_POLICIES, "basis": BASES}
"""What may be picked, by the name of its parameter; the first is what holds unasked."""

_CARRIED: Final = ("currency", "from", "through", *CHOICES)


@dataclass(frozen=True, slots=True)
class Picks:
    """What was picked: months from ``first`` through ``last``, and None where nothing was."""

    first: str
    last: str
    currency: str | None
    policy: str
    worth: str
    basis: str
    carried: Mapping[str, str]
    """What was picked by hand, as parameters: it goes along from page to page."""

    @property
    def choices(self) -> Mapping[str, Sequence[str]]:
        """What may be picked."""
        return CHOICES

    @property
    def until(self) -> str:
        """The month after the last."""
        return month_after(self.last)

    @property
    def months(self) -> list[str]:
        """Every month, oldest first."""
        found = [self.first]
        while found[-1] < self.last:
            found.append(month_after(found[-1]))
        return found

    def one_of(self, there: Sequence[str]) -> str | None:
        """Return the currency to show, of those there are: the one that was picked, else the first."""
        return self.currency or next(iter(there), None)


def read_picks(visit: Visit) -> Picks:
    """Read what was picked. Raises 400 for what cannot be."""
    present = month_of(visit.as_of or visit.now)
    last = month_picked(visit, "through", present)
    first = month_picked(visit, "from", min(month_after(last, 1 - _MONTHS), last))
    if not first <= last < month_after(first, _MONTHS_AT_MOST):
        raise Problem(400, f"pick months in order, at most {_MONTHS_AT_MOST} of them")
    currency = visit.query("currency").lower()
    if currency and not (len(currency) == _CURRENCY and currency.isascii() and currency.isalpha()):
        raise Problem(400, "currency must be three letters")
    chosen = {name: _choice(visit, name, there) for name, there in CHOICES.items()}
    carried = {name: visit.query(name) for name in _CARRIED if visit.query(name)}
    return Picks(first, last, currency or None, **chosen, carried=carried)


def month_picked(visit: Visit, name: str, default: str) -> str:
    """Return the month that a parameter names."""
    month = visit.query(name) or default
    if not is_month(month):
        raise Problem(400, f"{name} must be a month such as 2026-03")
    return month


def given(visit: Visit, name: str) -> str | None:
    """Return a parameter that is passed on to a route; None where its field was left empty."""
    return visit.query(name) or None


def in_order(currencies: Iterable[str]) -> list[str]:
    """Return currencies as they are listed, each once."""
    return sorted(set(currencies))


def _choice(visit: Visit, name: str, there: Sequence[str]) -> str:
    chosen = visit.query(name) or there[0]
    if chosen not in there:
        raise Problem(400, f"{name} must be one of {', '.join(there)}")
    return chosen

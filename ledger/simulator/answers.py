"""The right answers about a company that has run to its end, at every month's end and at random instants."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from ledger.simulator.calendar import month_ends
from ledger.simulator.company import Company
from ledger.simulator.truth import Truth


def answers(company: Company, *, instants: int) -> dict[str, Any]:
    """Write the truth by book. A month's amounts are of all that came before its end."""
    arguments = company.arguments
    luck = random.Random(f"{arguments.seed}/instants")  # noqa: S311 - repeatable, not secret
    ends = [arguments.start, *month_ends(arguments.start, arguments.end)]
    sampled = sorted(luck.randrange(arguments.start, arguments.end) for _ in range(instants))
    return {
        book: {
            "months": [_month(truth, begin, end) for begin, end in pairwise(ends)],
            "instants": [_at(truth, at) | {"trial_balance": truth.books.trial_balance(at)} for at in sampled],
        }
        for book, truth in company.truth.items()
    }


def _month(truth: Truth, begin: int, end: int) -> dict[str, Any]:
    return _at(truth, end) | {
        "movements": truth.movements(begin, end),
        "trial_balance": truth.books.trial_balance(end, whole=False),
        "recognition": truth.books.recognition(begin, end),
    }


def _at(truth: Truth, at: int) -> dict[str, Any]:
    return {
        "at": at,
        "entitlements": truth.entitlements(at),
        "subscriptions": truth.statuses(at),
        "mrr": truth.mrr(at),
        "at_risk": truth.at_risk(at),
        "cases": truth.dunning(at),
    }

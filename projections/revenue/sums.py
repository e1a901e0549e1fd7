"""What a subject's journal comes to in each month, quarter and year: a wide row a currency, so that reports add few.

A month that is not over is read from its days, of which only what facts posted is kept: what time has earned by then
is one formula a span. Columns are the accounts, debit positive, and the flows of the roll-forward (stripe-domain
§5.8), natural.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final

from projections.contract import Row
from projections.revenue.accounts import CLASSES
from projections.revenue.entries import Entry
from projections.revenue.recognition import Earning, months_of
from projections.revenue.schedule import DAY

RELEASES: Final = ("refunds", "disputes", "credit_notes", "voids", "bad_debt")
FLOWS: Final = ("billed", *(f"released_{cause}" for cause in RELEASES), "reinstated")
COLUMNS: Final = (*CLASSES, *FLOWS)

DAYS: Final = 0
"""How many months a row of a single day has."""

_FLOW: Final = {
    "invoice": "billed",
    "refund": "released_refunds",
    "dispute": "released_disputes",
    "credit_note": "released_credit_notes",
    "void": "released_voids",
    "write_off": "released_bad_debt",
    "payment": "reinstated",
    "refund_credited": "reinstated",
    "refund_failed": "reinstated",
    "credit_note_void": "reinstated",
    "dispute_won": "reinstated",
}
"""Which flow a kind of entry is, by what it does to deferred (and unbilled) revenue."""

Sums = dict[tuple[str, date], dict[str, int]]
"""Accounts and flows by currency and first day."""


def daily(entries: Iterable[Entry]) -> Sums:
    """Sum up what was posted by currency and day."""
    sums: Sums = {}
    for entry in entries:
        into = sums.setdefault((entry.currency, day_of(entry.at)), {})
        for account, amount, _ in entry.postings:
            into[account] = into.get(account, 0) + amount
            if (flow := flow_of(entry.kind, account, amount)) is not None:
                into[flow[0]] = into.get(flow[0], 0) + flow[1]
    return sums


def monthly(days: Sums, found: Iterable[Earning]) -> Sums:
    """Sum up by currency and month what was posted on days, and what time earns."""
    sums: Sums = {}
    for (currency, day), amounts in days.items():
        _add(sums.setdefault((currency, day.replace(day=1)), {}), amounts)
    for one in found:
        for start, end in months_of(one.span):
            if amount := one.earned(start, end):
                into = sums.setdefault((one.currency, month_of(start)), {})
                into[one.account] = into.get(one.account, 0) + amount
                into["revenue"] = into.get("revenue", 0) - amount
    return sums


def flow_of(kind: str, account: str, amount: int) -> tuple[str, int] | None:
    """Return which flow a posting of a kind of entry is part of, and with how much."""
    if kind == "sale":
        return ("billed", -amount) if account == "revenue" else None
    flow = _FLOW.get(kind)
    if flow is None or account not in {"deferred_revenue", "unbilled_receivable"}:
        return None
    return (flow, amount if flow.startswith("released") else -amount)


def sum_rows(subject: str, book: str, days: Sums, months: Sums) -> list[Row]:
    """Return the rows of a subject: each day's and month's, and the sums of each quarter and year."""
    periods: dict[tuple[str, int, date], dict[str, int]] = {
        (currency, DAYS, day): amounts for (currency, day), amounts in days.items()
    }
    for (currency, month), amounts in months.items():
        periods[currency, 1, month] = amounts
        for count in (3, 12):
            first = month.replace(month=month.month - (month.month - 1) % count)
            _add(periods.setdefault((currency, count, first), {}), amounts)
    return [
        (subject, book, currency, count, period, *map(_without_zeros(amounts).get, COLUMNS))
        for (currency, count, period), amounts in sorted(periods.items())
    ]


def _without_zeros(amounts: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in amounts.items() if amount}


def _add(into: dict[str, int], amounts: dict[str, int]) -> None:
    for name, amount in amounts.items():
        into[name] = into.get(name, 0) + amount


def month_of(at: int) -> date:
    """Return the first day of the UTC month that a second lies in."""
    return day_of(at).replace(day=1)


def day_of(at: int) -> date:
    """Return the UTC day that a second lies in."""
    return _day(at // DAY)


@lru_cache(maxsize=50_000)
def _day(number: int) -> date:
    return datetime.fromtimestamp(number * DAY, UTC).date()

"""What a subject's journal comes to in each month, quarter and year: a wide row a currency, so that reports add few.

Columns are the accounts, debit positive, and the flows of the roll-forward (stripe-domain §5.8), natural.
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

Month = tuple[str, date]


def monthly(entries: Iterable[Entry], found: Iterable[Earning]) -> dict[Month, dict[str, int]]:
    """Sum up accounts and flows by currency and month."""
    sums: dict[Month, dict[str, int]] = {}
    for entry in entries:
        into = sums.setdefault((entry.currency, month_of(entry.at)), {})
        for account, amount, _ in entry.postings:
            into[account] = into.get(account, 0) + amount
            if (flow := flow_of(entry.kind, account, amount)) is not None:
                into[flow[0]] = into.get(flow[0], 0) + flow[1]
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


def sum_rows(subject: str, book: str, sums: dict[Month, dict[str, int]]) -> list[Row]:
    """Return the rows of a subject: each month's, and the sums of each quarter and year."""
    periods: dict[tuple[str, int, date], dict[str, int]] = {}
    for (currency, month), amounts in sums.items():
        periods[currency, 1, month] = amounts
        for months in (3, 12):
            first = month.replace(month=month.month - (month.month - 1) % months)
            longer = periods.setdefault((currency, months, first), {})
            for name, amount in amounts.items():
                longer[name] = longer.get(name, 0) + amount
    return [
        (subject, book, currency, months, period, *(amounts.get(name) or None for name in COLUMNS))
        for (currency, months, period), amounts in sorted(periods.items())
    ]


def month_of(at: int) -> date:
    """Return the first day of the UTC month that a second lies in."""
    return _month_of_day(at // DAY)


@lru_cache(maxsize=50_000)
def _month_of_day(day: int) -> date:
    return datetime.fromtimestamp(day * DAY, UTC).date().replace(day=1)

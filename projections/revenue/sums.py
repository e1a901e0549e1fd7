"""A subject's journal summed by month, quarter and year: one wide row per currency, so that reports add few rows.

A month that is not over is read from its days, of which only what facts posted is kept: what time has earned by then
is one formula a span. Columns are the accounts, debit positive, and the flows of the roll-forward (stripe-domain
§5.8), natural; and of revenue what was earned on subscriptions (``counting``), which is asked of whole months only.
A month's row also says by which months' invoices it was earned: of the first two in columns, of which most months have
no more, and of others in lists side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

from projections.contract import Row
from projections.revenue.accounts import CLASSES
from projections.revenue.counting import EARNED, Counting, Falls
from projections.revenue.entries import Entry
from projections.revenue.recognition import Earning, months_of
from projections.revenue.schedule import day_of, month_of

RELEASES: Final = ("refunds", "disputes", "credit_notes", "voids", "bad_debt")
FLOWS: Final = ("billed", *(f"released_{cause}" for cause in RELEASES), "reinstated")
COLUMNS: Final = (*CLASSES, *FLOWS)
KEPT: Final = (*COLUMNS, *EARNED)
FALLEN: Final = (
    "invoiced_first",
    "fallen_first",
    "invoiced_second",
    "fallen_second",
    "invoiced_others",
    "fallen_others",
)

USUAL: Final = (
    "stripe_balance",
    "accounts_receivable",
    "unbilled_receivable",
    "deferred_revenue",
    "tax_liability",
    "revenue",
    "stripe_fees",
    "billed",
)
"""What most rows have something of: an index holds these, so that whoever adds up a book reads no rows."""

SELDOM: Final = tuple(column for column in COLUMNS if column not in USUAL)
"""What few rows have anything of; those alone are read for it."""

DAYS: Final = 0
"""How many months a row of a single day has."""

_FLOW: Final = {
    "invoice": "billed",
    "refund": "released_refunds",
    "dispute": "released_disputes",
    "credit_note": "released_credit_notes",
    "void": "released_voids",
    "write_off": "released_bad_debt",
    "credits_applied": "billed",
    "credits_reinstated": "released_voids",
    "payment": "reinstated",
    "refund_credited": "reinstated",
    "refund_failed": "reinstated",
    "credit_note_void": "reinstated",
    "dispute_won": "reinstated",
}
"""Which flow a kind of entry is, by what it does to deferred (and unbilled) revenue."""

_AT_ONCE: Final = frozenset({"sale", "credits_ended", "application_fee", "transfer", "transfer_reversal"})
"""Kinds of entries that bill and earn in one."""

Sums = dict[tuple[str, date], dict[str, int]]
"""Accounts and flows by currency and first day."""


def daily(entries: Iterable[Entry], counting: Counting, falls: Falls) -> Sums:
    """Sum up what was posted by currency and day; and of which month's invoices it was earned, into ``falls``."""
    sums: Sums = {}
    for entry in entries:
        into = sums.setdefault((entry.currency, day_of(entry.at)), {})
        for account, amount, line in entry.postings:
            if account == "revenue":
                counting.fall(falls, entry.currency, month_of(entry.at), entry.invoice, -amount)
                if counting.subscribed(entry.invoice, line):
                    into["earned_counted"] = into.get("earned_counted", 0) - amount
            post(into, entry.kind, account, amount)
    return sums


def monthly(days: Sums, found: Iterable[Earning], counting: Counting, falls: Falls) -> Sums:
    """Sum up by currency and month what was posted on days, and what time earns, this again also into ``falls``."""
    sums: Sums = {}
    for (currency, day), amounts in days.items():
        _add(sums.setdefault((currency, day.replace(day=1)), {}), amounts)
    for one in found:
        for start, end in months_of(one.span):
            if amount := one.earned(start, end):
                into = sums.setdefault((one.currency, month_of(start)), {})
                into[one.account] = into.get(one.account, 0) + amount
                into["revenue"] = into.get("revenue", 0) - amount
                counting.fall(falls, one.currency, month_of(start), one.invoice, amount)
                for name, part in zip(EARNED, counting.parts(one, start, amount), strict=True):
                    into[name] = into.get(name, 0) + part
    return sums


def post(into: dict[str, int], kind: str, account: str, amount: int) -> None:
    """Add what a kind of entry posts to an account, and to the flow that it is part of."""
    into[account] = into.get(account, 0) + amount
    if (flow := flow_of(kind, account, amount)) is not None:
        into[flow[0]] = into.get(flow[0], 0) + flow[1]


def flow_of(kind: str, account: str, amount: int) -> tuple[str, int] | None:
    """Return which flow a posting of a kind of entry is part of, and with how much."""
    if kind in _AT_ONCE:
        return ("billed", -amount) if account == "revenue" else None
    flow = _FLOW.get(kind)
    if flow is None or account not in {"deferred_revenue", "unbilled_receivable"}:
        return None
    return (flow, amount if flow.startswith("released") else -amount)


def sum_rows(subject: str, book: str, days: Sums, months: Sums, falls: Falls) -> list[Row]:
    """Return the rows of a subject: each day's and month's, and the sums of each quarter and year."""
    nothing = (None,) * len(FALLEN)
    fallen = {(currency, 1, month): _sides(amounts) for (currency, month), amounts in falls.items()}
    periods: dict[tuple[str, int, date], dict[str, int]] = {
        (currency, DAYS, day): amounts for (currency, day), amounts in days.items()
    }
    for (currency, month), amounts in months.items():
        periods[currency, 1, month] = amounts
        for count in (3, 12):
            first = month.replace(month=month.month - (month.month - 1) % count)
            _add(periods.setdefault((currency, count, first), {}), amounts)
    return [
        (
            subject,
            book,
            currency,
            count,
            period,
            *map(_without_zeros(amounts).get, KEPT),
            *fallen.get((currency, count, period), nothing),
        )
        for (currency, count, period), amounts in sorted(periods.items())
    ]


def _sides(amounts: dict[date, int]) -> Row:
    """Return a month's revenue as its columns: months of invoice, and how much of each was earned."""
    first, second, *others = [*sorted(amounts.items()), (None, None)] if len(amounts) == 1 else sorted(amounts.items())
    return (*first, *second, [month for month, _ in others] or None, [amount for _, amount in others] or None)


def _without_zeros(amounts: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in amounts.items() if amount}


def _add(into: dict[str, int], amounts: dict[str, int]) -> None:
    for name, amount in amounts.items():
        into[name] = into.get(name, 0) + amount

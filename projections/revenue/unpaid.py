"""What is deferred and not yet paid: a memo, since some reports show neither side of it. Pure.

Of each invoice on which something is owed it is what is deferred, but no more than is owed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from projections.revenue.journal import Books
from projections.revenue.recognition import Earning, earnings, entries_of_time, months_of

_ACCOUNTS = ("accounts_receivable", "deferred_revenue")

Amounts = Mapping[tuple[str, str | None], int]
"""Amounts by currency and invoice."""


def deferred_unpaid(owed: Amounts, deferred: Amounts) -> dict[str, int]:
    """Return what is deferred and not paid, by currency."""
    found: dict[str, int] = {}
    for (currency, invoice), amount in owed.items():
        if (unpaid := min(amount, deferred.get((currency, invoice), 0))) > 0:
            found[currency] = found.get(currency, 0) + unpaid
    return found


def earned_by(one: Earning, at: int) -> int:
    """Return what a span has earned by a second, its last one included: as the journal shows it then."""
    amount = 0
    for start, end in months_of(one.span):
        if start > at:
            break
        amount += one.earned(start, end if at >= end - 1 else at)
    return amount


def unpaid_of(made: Iterable[Books], at: int) -> dict[str, int]:
    """Return what is deferred and not paid of some subjects at a second, by currency."""
    sums: dict[str, dict[tuple[str, str | None], int]] = {account: {} for account in _ACCOUNTS}
    for books in made:
        posted = (entry for entry in books.journal.entries if entry.at <= at)
        for entry in (*posted, *entries_of_time(earnings(books.bills), at)):
            for account, amount, _ in entry.postings:
                if account in sums:
                    key = (entry.currency, entry.invoice)
                    sums[account][key] = sums[account].get(key, 0) + amount
    owed, deferred = (sums[account] for account in _ACCOUNTS)
    return deferred_unpaid(owed, {key: -amount for key, amount in deferred.items()})

"""What was owed on each invoice, and since when: its receivable step by step, kept beside the invoice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from projections.contract import Row
from projections.revenue.documents import InvoiceRow, time_of
from projections.revenue.entries import Entry


class Owing(NamedTuple):
    """Since when how much was owed, and since when nothing is any more (None: something is, or nothing ever was)."""

    owed_at: list[datetime]
    owed: list[int]
    settled_at: datetime | None


NOTHING: Final = Owing([], [], None)


def owing_on(entries: Iterable[Entry]) -> dict[str, Owing]:
    """Return it for every invoice on which something was owed for a second or longer; entries are in order of time."""
    reached: dict[str, dict[int, int]] = {}
    owed: dict[str, int] = {}
    for entry in entries:
        change = sum(amount for account, amount, _ in entry.postings if account == "accounts_receivable")
        if change and entry.invoice is not None:
            owed[entry.invoice] = owed.get(entry.invoice, 0) + change
            reached.setdefault(entry.invoice, {})[entry.at] = owed[entry.invoice]
    return {invoice: _owing(totals) for invoice, totals in reached.items()}


def _owing(totals: Mapping[int, int]) -> Owing:
    """Leave out what changed and was back within one second, as when an invoice is paid as it is finalised."""
    steps: list[tuple[int, int]] = []
    before = 0
    for at, total in totals.items():
        if total != before:
            steps.append((at, total))
        before = total
    settled_at = time_of(steps[-1][0]) if steps and before == 0 else None
    return Owing([time_of(at) for at, _ in steps], [total for _, total in steps], settled_at)


def with_owing(invoices: Iterable[InvoiceRow], owing: Mapping[str, Owing]) -> list[Row]:
    """Return the rows of invoices with what was owed on each."""
    return [(*row, *owing.get(row.invoice, NOTHING)) for row in invoices]

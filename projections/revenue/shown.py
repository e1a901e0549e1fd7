"""Entries as they are shown: each posting with what it is about; also from books folded without rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from projections.revenue.accounts import CLASSES
from projections.revenue.entries import Entry
from projections.revenue.journal import Books
from projections.revenue.recognition import earnings, entries_of_time
from projections.revenue.sums import COLUMNS, flow_of


class About(NamedTuple):
    """What an invoice's line is about."""

    subscription: str | None = None
    product: str | None = None
    price: str | None = None
    tax_rate: str | None = None


class ShownLine(NamedTuple):
    """A posting with what it is about."""

    account: str
    amount: int
    invoice: str | None
    line: str | None
    subscription: str | None
    product: str | None
    price: str | None
    tax_rate: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry as it is shown. ``original_month`` is the closed month that an entry of a later one belongs to."""

    entry: str
    at: int
    customer: str | None
    kind: str
    currency: str
    original_month: str | None
    lines: tuple[ShownLine, ...]
    because: tuple[str, ...]


Abouts = Mapping[tuple[str | None, str | None], About]
"""What lines are about, by invoice and line; a whole invoice's by its key and None."""

DIMENSIONS: Final = (
    "account", "customer", "kind", "invoice", "line", "subscription", "product", "price", "tax_rate", "month",
)  # fmt: skip
"""What a journal can be summed by, beside the currency."""

_NOTHING: Final = About()


def about_of(abouts: Abouts, account: str, invoice: str | None, line: str | None) -> About:
    """Return what a posting is about: its line, else its invoice; a tax rate on tax alone."""
    about = abouts.get((invoice, line)) or abouts.get((invoice, None)) or _NOTHING
    return about if about.tax_rate is None or account == "tax_liability" else about._replace(tax_rate=None)


def show(entry: Entry, customer: str | None, abouts: Abouts) -> Shown:
    """Show an entry with what its lines are about."""
    lines = []
    for account, amount, line in entry.postings:
        lines.append(ShownLine(account, amount, entry.invoice, line, *about_of(abouts, account, entry.invoice, line)))
    return Shown(entry.key, entry.at, customer, entry.kind, entry.currency, None, tuple(lines), entry.because)


def show_all(made: Iterable[Books], since: int, until: int) -> list[Shown]:
    """Show the entries of some subjects in a stretch of time, with what time has earned by its end."""
    found: list[Shown] = []
    for books in made:
        facts = books.facts
        abouts: dict[tuple[str | None, str | None], About] = {}
        for key, invoice in facts.invoices.items():
            abouts[key, None] = About(invoice.subscription)
            for line in invoice.lines:
                abouts[key, line.key] = About(line.subscription, line.product, line.price, line.tax_rate)
        found += [show(entry, facts.customer, abouts) for entry in _entries(books, until) if entry.at >= since]
    return sorted(found, key=lambda one: (one.at, one.entry))


def sums_of(made: Iterable[Books], since: int, until: int) -> dict[str, dict[str, int]]:
    """Sum up accounts and flows of some subjects in a stretch of time, by currency."""
    found: dict[str, dict[str, int]] = {}
    for books in made:
        before = _sums(books, since - 1)
        for currency, amounts in _sums(books, until).items():
            into = found.setdefault(currency, {})
            for name, amount in amounts.items():
                into[name] = into.get(name, 0) + amount - before.get(currency, {}).get(name, 0)
    return found


def _entries(books: Books, until: int) -> list[Entry]:
    posted = [entry for entry in books.journal.entries if entry.at <= until]
    return [*posted, *entries_of_time(earnings(books.bills), until)]


def _sums(books: Books, until: int) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for entry in _entries(books, until):
        into = found.setdefault(entry.currency, {})
        for account, amount, _ in entry.postings:
            into[account] = into.get(account, 0) + amount
            if (flow := flow_of(entry.kind, account, amount)) is not None:
                into[flow[0]] = into.get(flow[0], 0) + flow[1]
    return found


def grouped(entries: Iterable[Shown], by: Sequence[str], month: Mapping[str, str]) -> list[dict[str, object]]:
    """Sum a journal by some of ``DIMENSIONS``; ``month`` names each entry's."""
    sums: dict[tuple[object, ...], int] = {}
    for entry in entries:
        whole = {"customer": entry.customer, "kind": entry.kind, "month": month.get(entry.entry)}
        for line in entry.lines:
            values = whole | line._asdict()
            key = (entry.currency, *(values[name] for name in by))
            sums[key] = sums.get(key, 0) + line.amount
    names = ("currency", *by)
    rows = [dict(zip(names, key, strict=True)) | {"amount": amount} for key, amount in sums.items() if amount]
    return sorted(rows, key=lambda row: place_of(row, by))


def place_of(row: Mapping[str, object], by: Sequence[str]) -> tuple[str, ...]:
    """Return by what a row of sums has its place among the others."""
    return tuple(str(row[name] or "") for name in ("currency", *by))


def balances_json(amounts: Mapping[str, int]) -> dict[str, int]:
    """Return every account, in the order of a trial balance."""
    return {account: amounts.get(account, 0) for account in CLASSES}


def natural(amounts: Mapping[str, int]) -> dict[str, int]:
    """Return a month's roll-forward: every column that reports use, in natural signs."""
    given = {column: amounts.get(column, 0) for column in COLUMNS}
    return given | {
        "recognized": -given["revenue"],
        "deferred": -given["deferred_revenue"],
        "unbilled": given["unbilled_receivable"],
        "recoverables": -given["recoverables"],
    }

"""The journal as Beancount text: accounts declared, every entry a transaction linked to its events. Pure.

Beancount reads the same signs as we write: debits positive. An amount is written in whole units with its currency's
decimals, so nothing is rounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from ledger.money import whole
from ledger.times import rfc3339
from projections.revenue.accounts import CLASSES, Class
from projections.revenue.documents import time_of
from projections.revenue.shown import Shown

_ROOTS: Final[dict[Class, str]] = {
    "asset": "Assets",
    "liability": "Liabilities",
    "revenue": "Income",
    "contra_revenue": "Income",
    "gain": "Income",
    "expense": "Expenses",
    "equity": "Equity",
}
_NO_LINK: Final = re.compile(r"[^A-Za-z0-9_./-]")


def account_name(account: str) -> str:
    """Return our account's name in Beancount: accounts_receivable is Assets:AccountsReceivable."""
    return f"{_ROOTS[CLASSES[account]]}:{''.join(part.capitalize() for part in account.split('_'))}"


def preamble(book: str) -> Iterator[str]:
    """Give the title and an opening for every account there is."""
    yield f'option "title" {_text(book)}\n'
    for account in CLASSES:
        yield f"1970-01-01 open {account_name(account)}\n"
    yield "\n"


def opening(at: int, balances: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Give what everything came to before the first entry, as a transaction of its own."""
    for currency, amounts in balances.items():
        if any(amounts.values()):
            yield f'{_day(at - 1)} * "opening" {_text(currency)}\n'
            for account, amount in amounts.items():
                if amount:
                    yield _posting(account, amount, currency)
            yield "\n"


def transactions(entries: Iterable[Shown]) -> Iterator[str]:
    """Give each entry as a transaction."""
    for entry in entries:
        links = "".join(f" ^{_NO_LINK.sub('-', event)}" for event in entry.because)
        yield f"{_day(entry.at)} * {_text(entry.kind)} {_text(entry.entry)}{links}\n"
        yield f"  at: {_text(rfc3339(time_of(entry.at)))}\n"
        if entry.customer:
            yield f"  customer: {_text(entry.customer)}\n"
        for line in entry.lines:
            yield _posting(line.account, line.amount, entry.currency)
            for name, value in (("invoice", line.invoice), ("line", line.line), ("product", line.product)):
                if value:
                    yield f"    {name}: {_text(value)}\n"
        yield "\n"


def _posting(account: str, amount: int, currency: str) -> str:
    return f"  {account_name(account)}  {whole(amount, currency)} {currency.upper()}\n"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

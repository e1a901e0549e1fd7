"""Closes and seals to rows: each chunk of a seal is a subject of its own, and so is the list of closed months.

Besides its rows a chunk keeps their totals: reports add up these few numbers, however much was sealed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from ledger.event import Json
from ledger.written import json_bytes
from projections.contract import Row, Rows, Subject, Terms
from projections.facts import Fact
from projections.periods.decisions import CLOSED, REOPENED, SEALED
from projections.periods.reported import original_entry
from projections.periods.seal import SealedLine, SealedMovement, rows_in
from projections.revenue.prints import MODULUS, print_of
from projections.revenue.sums import COLUMNS, post


class PeriodRow(NamedTuple):
    """One close of one month, and its reopening where it was reopened. ``position`` is what the close is about.

    ``exceptions`` and ``policies`` are JSON as it was sealed.
    """

    subject: str
    book: str
    month: str
    seal: int
    digest: str
    chunks: int
    position: int
    by: str
    at: datetime
    reason: str
    forced: bool
    exceptions: str
    policies: str
    code: str
    reopened_by: str | None
    reopened_at: datetime | None
    reopened_reason: str | None
    closed_event: str
    reopened_event: str | None


class LineRow(NamedTuple):
    """A sealed posting (``seal.SealedLine``) of the seal with this digest."""

    subject: str
    book: str
    digest: str
    place: int
    owner: str
    customer: str
    entry: str
    kind: str
    of: str
    at: datetime
    original_month: str
    currency: str
    account: str
    amount: int
    invoice: str | None
    line: str | None
    subscription: str | None
    product: str | None
    price: str | None
    tax_rate: str | None
    because: list[str]


class MovementRow(NamedTuple):
    """A sealed movement (``seal.SealedMovement``) of the seal with this digest."""

    subject: str
    book: str
    digest: str
    place: int
    owner: str
    customer: str
    policy: str
    currency: str
    kind: str
    at: datetime
    before: int
    after: int
    prior_period: bool
    paid: bool
    involuntary: bool
    reason: str | None
    because: list[str]


class OwedRow(NamedTuple):
    """How much a chunk changed what is owed on an invoice, if it did: most are paid within their month."""

    subject: str
    book: str
    digest: str
    place: int
    owner: str
    currency: str
    invoice: str | None
    amount: int


class PrintRow(NamedTuple):
    """The prints (``revenue.prints``) of the postings in one chunk: owners, and a print for each."""

    subject: str
    book: str
    digest: str
    owners: list[str]
    prints: list[int]


class WorthRow(NamedTuple):
    """How much the movements of one chunk changed worth, and the number of customers who are worth something."""

    subject: str
    book: str
    digest: str
    policy: str
    currency: str
    amount: int
    customers: int
    movements: int


class MovedRow(NamedTuple):
    """The sum of the movements of one kind in one chunk: in its month, and on each day from the first on."""

    subject: str
    book: str
    digest: str
    policy: str
    currency: str
    kind: str
    amount: int
    days: list[int]


class LastRow(NamedTuple):
    """Whose worth the movements of one chunk changed, and by how much: owners, and an amount for each."""

    subject: str
    book: str
    digest: str
    policy: str
    currency: str
    owners: list[str]
    amounts: list[int]


@dataclass(slots=True)
class State:
    """What has been folded of one subject so far: a book's closes, or one chunk of a seal."""

    subject: Subject
    periods: list[PeriodRow] = field(default_factory=list)
    lines: list[LineRow] = field(default_factory=list)
    movements: list[MovementRow] = field(default_factory=list)
    owed: list[OwedRow] = field(default_factory=list)
    prints: list[PrintRow] = field(default_factory=list)
    worth: list[WorthRow] = field(default_factory=list)
    moved: list[MovedRow] = field(default_factory=list)
    last: list[LastRow] = field(default_factory=list)


def step(state: State, fact: Fact, _: Terms) -> None:
    """Apply a subject's next event to its state."""
    if fact.type == SEALED:
        _sealed(state, fact.subject)
    elif fact.type == CLOSED:
        _closed(state, fact)
    elif fact.type == REOPENED:
        _reopened(state, fact)


def rows(state: State) -> Rows:
    """Return the rows of a subject's state."""
    return {
        "period": state.periods,
        "sealed_line": state.lines,
        "sealed_movement": state.movements,
        "sealed_total": total_rows(state.lines),
        "sealed_owed": state.owed,
        "sealed_print": state.prints,
        "sealed_worth": state.worth,
        "sealed_moved": state.moved,
        "sealed_last": state.last,
    }


def _sealed(state: State, content: Json) -> None:
    subject, digest = state.subject, content["seal"]
    lines, moved = rows_in(content)
    state.lines = [
        LineRow(subject.stream_id, subject.book, digest, place, one.owner, _customer(subject.book, one.owner),
                *one[1:-1], because=list(one.because))
        for place, one in enumerate(lines)
    ]  # fmt: skip
    state.movements = [
        MovementRow(subject.stream_id, subject.book, digest, place, one.owner, _customer(subject.book, one.owner),
                    *one[1:-1], because=list(one.because))
        for place, one in enumerate(moved)
    ]  # fmt: skip
    chunk = (subject.stream_id, subject.book, digest)
    state.owed = [OwedRow(*chunk, place, *key, amount) for place, (key, amount) in enumerate(owed(lines).items())]
    printed = prints(lines)
    state.prints = [PrintRow(*chunk, list(printed), list(printed.values()))] if printed else []
    state.worth = [WorthRow(*chunk, *key, *sums) for key, sums in sorted(worth(moved).items())]
    state.moved = [MovedRow(*chunk, *key, sum(days), days) for key, days in sorted(by_day(moved).items())]
    state.last = [
        LastRow(*chunk, *key, list(some), list(some.values())) for key, some in sorted(changed(moved).items())
    ]


def total_rows(lines: Iterable[LineRow]) -> list[Row]:
    """Return what a chunk's postings come to in each currency: how many they are, and a column each account and flow.

    A month comes to what its chunks do, without their postings. Raises ``ValueError`` for an account there is not.
    """
    counts: dict[tuple[str, str, str, str], int] = {}
    sums: dict[tuple[str, str, str, str], dict[str, int]] = {}
    for one in lines:
        key = (one.subject, one.book, one.digest, one.currency)
        counts[key] = counts.get(key, 0) + 1
        post(sums.setdefault(key, {}), one.of, one.account, one.amount)
    if unknown := {account for amounts in sums.values() for account in amounts}.difference(COLUMNS):
        raise ValueError(f"a seal posts to accounts that are none: {', '.join(sorted(unknown))}")
    return [(*key, counts[key], *map(amounts.get, COLUMNS)) for key, amounts in sorted(sums.items())]


def owed(lines: Iterable[SealedLine]) -> dict[tuple[str, str, str | None], int]:
    """Return by owner, currency and invoice what postings change of what is owed, where anything is left of it."""
    found: dict[tuple[str, str, str | None], int] = {}
    for one in lines:
        if one.account == "accounts_receivable":
            key = (one.owner, one.currency, one.invoice)
            found[key] = found.get(key, 0) + one.amount
    return {key: amount for key, amount in found.items() if amount}


def prints(lines: Iterable[SealedLine]) -> dict[str, int]:
    """Return the print of each owner's postings, a correction's as what it corrects."""
    found: dict[str, int] = {}
    for one in lines:
        key = (original_entry(one), one.original_month, one.currency, one.account, one.line)
        found[one.owner] = (found.get(one.owner, 0) + print_of(*key, one.amount)) % MODULUS
    return found


def worth(moved: Iterable[SealedMovement]) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Return by policy and currency what movements come to, how many more are worth something, and their number.

    Each movement of somebody begins where the one before ended, across seals too; so those who begin to be worth
    something, less those who cease to, are those who are.
    """
    found: dict[tuple[str, str], tuple[int, int, int]] = {}
    for one in moved:
        key = (one.policy, one.currency)
        amount, customers, count = found.get(key, (0, 0, 0))
        more = (one.after > 0) - (one.before > 0)
        found[key] = (amount + one.after - one.before, customers + more, count + 1)
    return found


def by_day(moved: Iterable[SealedMovement]) -> dict[tuple[str, str, str], list[int]]:
    """Return by policy, currency and kind how much moved on each day of the month, up to the last of them."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for one in moved:
        days = found.setdefault((one.policy, one.currency, one.kind), [])
        days += [0] * (one.at.day - len(days))
        days[one.at.day - 1] += abs(one.after - one.before)
    return found


def changed(moved: Iterable[SealedMovement]) -> dict[tuple[str, str], dict[str, int]]:
    """Return by policy and currency whose worth movements changed, and by how much in all."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for one in moved:
        owners = found.setdefault((one.policy, one.currency), {})
        owners[one.owner] = owners.get(one.owner, 0) + one.after - one.before
    kept = {key: {owner: amount for owner, amount in some.items() if amount} for key, some in found.items()}
    return {key: some for key, some in kept.items() if some}


def _customer(book: str, owner: str) -> str:
    return owner.removeprefix(f"{book}/")


def _closed(state: State, fact: Fact) -> None:
    said = fact.subject
    state.periods.append(
        PeriodRow(
            subject=state.subject.stream_id,
            book=state.subject.book,
            month=said["month"],
            seal=said["seal"],
            digest=said["digest"],
            chunks=said["chunks"],
            position=said["position"],
            by=said["by"],
            at=fact.created,
            reason=said["reason"],
            forced=said["forced"],
            exceptions=_json(said["exceptions"]),
            policies=_json(said["policies"]),
            code=said["code"],
            reopened_by=None,
            reopened_at=None,
            reopened_reason=None,
            closed_event=fact.event_id,
            reopened_event=None,
        )
    )


def _json(value: Any) -> str:
    return json_bytes(value, sort_keys=True).decode()


def _reopened(state: State, fact: Fact) -> None:
    said = fact.subject
    which = (said["month"], said["seal"])
    state.periods = [
        row._replace(
            reopened_by=said["by"],
            reopened_at=fact.created,
            reopened_reason=said["reason"],
            reopened_event=fact.event_id,
        )
        if (row.month, row.seal) == which
        else row
        for row in state.periods
    ]

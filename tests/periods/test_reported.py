"""A sealed month never changes, and what is sealed and what is still to report are always what is so."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.periods.fold import prints
from projections.periods.months import is_month, month_after, month_end, month_of, month_start
from projections.periods.reported import reported_lines, reported_movements
from projections.periods.seal import PRIOR_PERIOD, SealedLine, SealedMovement, Sealing, rows_in, written

FIRST = "2026-01"
Json = dict[str, Any]
Step = tuple[str, str, str, str, int]


class Seal(NamedTuple):
    """A seal that was made, and read back from its chunks."""

    lines: tuple[SealedLine, ...]
    movements: tuple[SealedMovement, ...]
    digest: str


def chunks_of(lines: Iterable[SealedLine], moved: Iterable[SealedMovement], size: int) -> list[Json]:
    """Seal some rows, owner by owner, and cut the seal into what its events say."""
    sealing = Sealing(BytesIO(), BytesIO())
    given, also = list(lines), list(moved)
    for owner in sorted({one.owner for one in given} | {one.owner for one in also}):
        sealing.add([one for one in given if one.owner == owner], [one for one in also if one.owner == owner])
    chunks = list(sealing.chunks(sealing.digest(), size))
    assert len(chunks) == sealing.count(size)
    assert [one["number"] for one in chunks] == list(range(1, len(chunks) + 1))
    return chunks


def sealed(lines: Iterable[SealedLine], moved: Iterable[SealedMovement], size: int = 2_000) -> Seal:
    chunks = chunks_of(lines, moved, size)
    parts = [rows_in(orjson.loads(orjson.dumps(one))) for one in chunks]
    return Seal(
        tuple(row for some, _ in parts for row in some),
        tuple(row for _, some in parts for row in some),
        chunks[0]["seal"],
    )


@dataclass
class Company:
    """What is so now, by fact; the seals of the months closed so far, in order."""

    facts: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    worth: dict[str, dict[str, int]] = field(default_factory=dict)
    seals: list[Seal] = field(default_factory=list)

    @property
    def first_open(self) -> str:
        return month_after(FIRST, len(self.seals))

    def lines(self) -> list[SealedLine]:
        """Give the effective journal: an invoice's entry, half of it on each of two accounts against receivables."""
        found = []
        for (owner, entry), (month, amount) in sorted(self.facts.items()):
            parts = (
                ("accounts_receivable", amount),
                ("revenue", -(amount // 2)),
                ("tax_liability", amount // 2 - amount),
            )
            found += [line(owner, entry, month, account, part) for account, part in parts if part]
        return found

    def movements(self) -> list[SealedMovement]:
        """Give the effective movements: from each month's worth to the next that differs."""
        found = []
        for owner, by_month in sorted(self.worth.items()):
            at = 0
            for month, now in sorted(by_month.items()):
                if now != at:
                    found.append(movement(owner, month, at, now))
                    at = now
        return found

    def report(self) -> tuple[list[SealedLine], list[SealedMovement]]:
        lines = [one for seal in self.seals for one in seal.lines]
        moved = [one for seal in self.seals for one in seal.movements]
        return (
            reported_lines(self.lines(), lines, self.first_open),
            reported_movements(self.movements(), moved, self.first_open),
        )

    def close(self) -> None:
        lines, moved = self.report()
        month = self.first_open
        self.seals.append(
            sealed(
                (one for one in lines if month_of(one.at) == month), (one for one in moved if month_of(one.at) == month)
            )
        )

    def take(self, step: Step) -> None:
        """Let something be told, forgotten or worth, or a month be closed or reopened."""
        what, owner, entry, month, amount = step
        if what == "tell":
            self.facts[owner, entry] = (month, amount)
        elif what == "forget":
            self.facts.pop((owner, entry), None)
        elif what == "worth":
            self.worth.setdefault(owner, {})[month] = amount
        elif what == "close":
            self.close()
        elif self.seals:
            self.seals.pop()


def line(owner: str, entry: str, month: str, account: str, amount: int) -> SealedLine:
    at = month_start(month) + timedelta(days=9)
    product = "prod_1" if account == "revenue" else None
    about = (entry, None, None, product, None, None)
    return SealedLine(owner, entry, "invoice", "invoice", at, month, "usd", account, amount, *about, ("evt_1",))


def movement(owner: str, month: str, before: int, after: int) -> SealedMovement:
    at = month_start(month) + timedelta(days=9)
    kind = "new" if before == 0 else "churn" if after == 0 else "expansion" if after > before else "contraction"
    return SealedMovement(owner, "stripe-2026", "usd", kind, at, before, after, False, True, False, None, ("evt_1",))


def totals(lines: Iterable[SealedLine]) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for one in lines:
        found[one.owner, one.account] += one.amount
    return {key: amount for key, amount in found.items() if amount}


OWNERS = st.sampled_from(("cus_1", "cus_2"))
MONTHS = st.sampled_from(tuple(month_after(FIRST, n) for n in range(6)))
TELL = st.tuples(st.just("tell"), OWNERS, st.sampled_from(("in_1", "in_2")), MONTHS, st.integers(-99, 99))
FORGET = st.tuples(st.just("forget"), OWNERS, st.sampled_from(("in_1", "in_2")), MONTHS, st.just(0))
VALUE = st.tuples(st.just("worth"), OWNERS, st.just(""), MONTHS, st.integers(0, 9))
PERIODS = st.tuples(st.sampled_from(("close", "close", "reopen")), st.just(""), st.just(""), st.just(""), st.just(0))


STEPS = st.lists(st.one_of(TELL, TELL, FORGET, VALUE, VALUE, PERIODS), max_size=25)


@settings(max_examples=250, deadline=None)
@given(STEPS)
def test_sealed_and_prior_period_entries_are_always_what_is_so(steps: list[Step]) -> None:
    company = Company()
    for step in steps:
        before = [seal.digest for seal in company.seals]
        company.take(step)
        kept = len(before) - (step[0] == "reopen")
        assert [seal.digest for seal in company.seals][: max(kept, 0)] == before[: max(kept, 0)]
        _check(company)


def _check(company: Company) -> None:
    lines, moved = company.report()
    past = [one for seal in company.seals for one in seal.lines]
    early = prints(one for one in company.lines() if one.original_month < company.first_open)
    was = prints(past)
    differing = {owner for owner in {*early, *was} if early.get(owner, 0) != was.get(owner, 0)}
    assert differing == {one.owner for one in lines if one.kind == PRIOR_PERIOD}, "prints tell whose books changed"
    assert totals([*past, *lines]) == totals(company.lines())
    assert all(month_of(at) >= company.first_open for at in [one.at for one in lines] + [one.at for one in moved])
    assert all(one.kind == PRIOR_PERIOD or one.original_month >= company.first_open for one in lines)
    for seal_number, seal in enumerate(company.seals):
        assert {month_of(one.at) for one in seal.lines} <= {month_after(FIRST, seal_number)}
    entries: Counter[tuple[str, str]] = Counter()
    for posting in (*past, *lines):
        entries[posting.owner, posting.entry] += posting.amount
    assert not any(entries.values())
    story = sorted((one for seal in company.seals for one in seal.movements), key=lambda one: one.at)
    for owner in company.worth:
        own = [
            one
            for one in (*story, *sorted(moved, key=lambda one: (one.at, not one.prior_period)))
            if one.owner == owner
        ]
        assert all(one.after == following.before for one, following in pairwise(own))
        assert sum(one.kind == "new" and one.before != 0 for one in own) == 0
        effective = [one.after for one in company.movements() if one.owner == owner]
        assert (own[-1].after if own else 0) == (effective[-1] if effective else 0)


def test_a_late_payment_is_posted_in_the_month_that_is_open() -> None:
    company = Company()
    company.facts["cus_1", "in_1"] = ("2026-01", 100)
    company.close()
    company.facts["cus_1", "in_2"] = ("2026-01", 10)
    lines, _ = company.report()
    assert [(one.entry, one.kind, f"{one.at:%m-%d}", one.original_month, one.amount) for one in lines] == [
        ("in_2:prior:2026-01:2026-02", PRIOR_PERIOD, "02-01", "2026-01", 10),
        ("in_2:prior:2026-01:2026-02", PRIOR_PERIOD, "02-01", "2026-01", -5),
        ("in_2:prior:2026-01:2026-02", PRIOR_PERIOD, "02-01", "2026-01", -5),
    ]
    company.close()
    assert company.report()[0] == []
    company.facts["cus_1", "in_2"] = ("2026-02", 10)
    assert {(one.original_month, one.account): one.amount for one in company.report()[0] if one.amount > 0} == {
        ("2026-01", "revenue"): 5, ("2026-01", "tax_liability"): 5, ("2026-02", "accounts_receivable"): 10,
    }  # fmt: skip


def test_a_late_subscription_is_new_when_it_is_told() -> None:
    company = Company(worth={"cus_1": {"2026-01": 5}})
    company.close()
    company.worth = {"cus_1": {"2026-01": 7, "2026-02": 8}, "cus_2": {"2026-01": 3}}
    told = [(one.owner, one.kind, f"{one.at:%m-%d}", one.before, one.after) for one in company.report()[1]]
    assert told == [
        ("cus_1", "expansion", "02-01", 5, 7),
        ("cus_2", "new", "02-01", 0, 3),
        ("cus_1", "expansion", "02-10", 7, 8),
    ]


def test_a_seal_is_the_same_cut_into_events_and_put_together() -> None:
    lines = [line("cus_1", f"in_{n}", "2026-01", account, sign * n) for n in range(1, 8)
             for account, sign in (("accounts_receivable", 1), ("revenue", -1))]  # fmt: skip
    seal = sealed(reversed(lines), [movement("cus_1", "2026-01", 0, 5)])
    assert seal == sealed(lines, seal.movements)
    assert sealed(lines, seal.movements, size=4) == seal
    chunks = chunks_of(lines, seal.movements, size=4)
    assert [len(one["lines"]) + len(one["movements"]) for one in chunks] == [4, 4, 4, 2, 1]
    assert (
        seal.digest == hashlib.sha256(b"".join([*map(written, seal.lines), *map(written, seal.movements)])).hexdigest()
    )
    assert sealed([], []) == ((), (), hashlib.sha256().hexdigest())


def test_a_posting_of_which_nothing_is_known_is_written_as_it_was_before_that_was_sealed() -> None:
    """So the digests of seals that were made then still hold."""
    row = line("cus_1", "in_1", "2026-01", "tax_liability", 5)
    assert written(row) == (
        b'["cus_1","in_1","invoice","invoice","2026-01-10T00:00:00Z","2026-01","usd","tax_liability",5,"in_1",null,["evt_1"]]\n'
    )
    assert rows_in({"lines": [orjson.loads(written(row))], "movements": []}) == ([row], [])


@pytest.mark.parametrize(("month", "known"), [("2026-01", True), ("2026-13", False), ("2026-1", False), ("x", False)])
def test_months(month: str, known: bool) -> None:
    assert is_month(month) == known
    assert month_end("2026-12") == month_start("2027-01")

"""What holds for one bill whatever happens to it: every kind of fact, on several lines, with tax and negative lines."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.revenue.bill import Bill
from projections.revenue.entries import Entry, Journal, Posting
from projections.revenue.facts import LineFact
from projections.revenue.policy import POLICIES, Policy
from projections.revenue.pots import split
from projections.revenue.recognition import earnings, entries_of_time
from projections.revenue.schedule import DAY, half_even, left_at, spans_of
from tests.revenue.stories import balances, seconds

START = seconds("2026-01-01")
FAR = START + 4_000 * DAY

amounts = st.integers(1, 40_000)
nets = st.integers(-30_000, 90_000)
lines_ = st.lists(
    st.tuples(nets, st.integers(-20, 40), st.integers(0, 120), st.sampled_from((0, 1, 31, 90, 365))),
    min_size=1,
    max_size=3,
)  # fmt: skip
KINDS = (
    "pay",
    "refund",
    "fail",
    "cover",
    "credit",
    "credit_line",
    "uncredit",
    "write_off",
    "withdraw",
    "reinstate",
    "void",
)
facts_ = st.lists(st.tuples(st.sampled_from(KINDS), amounts, st.integers(0, 60 * DAY)), max_size=14)


class History:
    """Does to a bill what Stripe could, and checks it after every fact."""

    def __init__(self, policy: Policy, lines: list[tuple[int, int, int, int]], *, held: bool = False) -> None:
        self.bill = Bill("in_1", "usd", policy, Journal(), ("evt_1",), "in_1")
        self.bill.pots.held = held
        self.at = START + 60 * DAY
        self.signs = [1 if net >= 0 else -1 for net, *_ in lines]
        self.made = [
            LineFact(f"il_{n}", net, net * tax // 100, START + begin * DAY, START + (begin + days) * DAY)
            for n, (net, tax, begin, days) in enumerate(lines)
        ]
        self.bill.finalize(self.at, self.made)
        self.paid = self.refunded = 0
        self.count = 0
        self.ended = False
        self.check()

    def do(self, kind: str, amount: int, later: int) -> None:
        self.at += later
        # In the last second of its span an entry is shown whole (docs/finance.md); a pot is empty a second later.
        self.at += (self.at + 1) % DAY == 0
        self.count += 1
        if not self.ended:
            getattr(self, kind)(f"x_{self.count}", amount)
        self.bill.pots.advance(self.at)
        self.check()

    def pay(self, key: str, amount: int) -> None:
        bound = self.bill.owed if self.bill.written_off_at is None else self.bill.pots.suspended
        if bound > 0:
            paid = amount if amount % 7 == 0 else min(amount, bound)
            self.bill.pay(key, self.at, paid, "payments_clearing", ["evt"])
            self.paid += paid

    def refund(self, key: str, amount: int) -> None:
        if self.paid:
            self.bill.refund(key, self.at, min(amount, self.paid), ["evt"])

    def fail(self, _: str, amount: int) -> None:
        if keys := [key for key in self.bill.taken if key.startswith("x_")]:
            self.bill.fail_refund(keys[amount % len(keys)], self.at, ["evt"])

    def cover(self, key: str, amount: int) -> None:
        """A credit note that speaks of an earlier refund."""
        if keys := [one for one in self.bill.taken if one.startswith("x_")]:
            refund = keys[amount % len(keys)]
            part = min(amount, self.bill.taken[refund].amount)
            if part > 0:
                self.bill.cover_refund(refund, self.at, part, key, ["evt"])
                self.bill.credit(key, self.at, part, 0, [Posting("refunds_clearing", -part)], [], ["evt"])

    def credit(self, key: str, amount: int) -> None:
        before = min(amount, max(self.bill.owed, 0) + self.bill.pots.suspended)
        self.bill.credit(key, self.at, before + amount % 50, before, [], [], ["evt"])

    def credit_line(self, key: str, amount: int) -> None:
        line = self.made[amount % len(self.made)].key
        before = min(amount, max(self.bill.owed, 0) + self.bill.pots.suspended)
        if before > 0:
            self.bill.credit(key, self.at, before, before, [], [(line, before)], ["evt"])

    def uncredit(self, _: str, amount: int) -> None:
        if keys := sorted(self.bill.credits):
            self.bill.uncredit(keys[amount % len(keys)], self.at, ["evt"])

    def write_off(self, *_: Any) -> None:
        if self.bill.owed > 0 and self.bill.written_off_at is None:
            self.bill.write_off(self.at, ["evt"])

    def withdraw(self, key: str, amount: int) -> None:
        if self.paid:
            self.bill.withdraw(key, self.at, amount, f"dp_{amount % 2}", ["evt"])

    def reinstate(self, key: str, amount: int) -> None:
        taken = self.bill.taken.get(f"dp_{amount % 2}")
        if taken is not None and taken.amount:
            self.bill.reinstate(key, self.at, min(amount, taken.amount), f"dp_{amount % 2}", ["evt"])

    def void(self, *_: Any) -> None:
        self.bill.void(self.at, ["evt"])
        self.ended = True

    def entries(self, until: int) -> list[Entry]:
        return [*self.bill.journal.entries, *entries_of_time(earnings({"in_1": self.bill}), until)]

    def check(self) -> None:
        pots = list(self.bill.pots.lines.values())
        found = balances(self.entries(self.at))
        relief = self.bill.policy.tax_relief

        def is_(account: str, amount: int) -> None:
            assert found.get(account, 0) == amount, account

        suspended = [line.suspended for line in pots]
        is_("deferred_revenue", sum(line.d for line in pots))
        is_("recoverables", sum(line.g for line in pots))
        is_("accounts_receivable", self.bill.owed)
        is_("tax_liability", sum(line.x for line in pots) + (0 if relief else sum(one.tax for one in suspended)))
        lost = sum(one.earned + (0 if relief else one.tax) for one in suspended) + self.bill.excess
        is_("bad_debt", lost)
        kept = found.get("revenue", 0) - sum(
            found.get(name, 0) for name in ("refunds", "disputes", "credit_notes", "voids")
        )
        assert kept == sum(line.r for line in pots) + sum(one.earned for one in suspended)
        for line, fact in zip(sorted(pots, key=lambda one: one.key), self.made, strict=True):
            sign = 1 if fact.net >= 0 else -1
            assert all(pot * sign >= 0 for pot in (line.d, line.r, line.g)), line
            assert line.x * fact.tax >= 0, line


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), st.booleans(), lines_, facts_)
def test_whatever_happens_the_books_are_right(
    policy: str, held: bool, lines: list[tuple[int, int, int, int]], facts: list[tuple[str, int, int]]
) -> None:
    history = History(POLICIES[policy], lines, held=held)
    for fact in facts:
        history.do(*fact)
    history.bill.activate(history.at)
    history.at = FAR
    history.bill.pots.advance(FAR)
    history.check()
    assert balances(history.entries(FAR)).get("deferred_revenue", 0) == 0
    assert balances(history.entries(FAR)).get("unbilled_receivable", 0) == 0


@given(st.lists(st.integers(-(10**16), 10**16), min_size=1, max_size=12), st.fractions(0, 1))
def test_a_split_comes_to_its_amount_and_never_changes_a_sign(weights: list[int], part: Any) -> None:
    total = sum(weights)
    amount = int(total * part)
    shares = split(amount, weights)
    assert sum(shares) == (amount if total else 0)
    assert all(0 <= share <= weight or weight <= share <= 0 for share, weight in zip(shares, weights, strict=True))


@given(
    st.integers(-(10**16), 10**16),
    st.integers(0, 800 * DAY),
    st.integers(1, 800 * DAY),
    st.sampled_from(("second", "day", "month")),
    st.integers(0, 1_600 * DAY),
)
def test_a_period_is_earned_steadily_and_whole(
    amount: int, begin: int, length: int, granularity: Any, since: int
) -> None:
    start, end = START + begin, START + begin + length
    spans = spans_of(amount, start, end, START + since, granularity)
    moments = sorted({START, start, end, *(span.start for span in spans), *range(start, end, max(length // 7, 1))})
    left = [left_at(spans, at) for at in moments if at >= START + since or at < start]
    assert all(abs(one) >= abs(two) for one, two in pairwise(left))
    assert left_at(spans, end) == 0
    if spans:
        assert left_at(spans, max(start, START + since)) == amount


@pytest.mark.parametrize(("n", "d", "rounded"), [(1, 2, 0), (3, 2, 2), (-1, 2, 0), (-3, 2, -2), (5, 3, 2), (-5, 3, -2)])
def test_halves_go_to_the_even_neighbour(n: int, d: int, rounded: int) -> None:
    assert half_even(n, d) == rounded

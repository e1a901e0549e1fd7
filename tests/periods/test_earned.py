"""What sums keep of a month is what every line, and every entry, says of it: whatever lines and lives there are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from projections.periods.tie_out import Earned, earned_in
from projections.revenue.counting import Counting, Falls, Stretch
from projections.revenue.documents import time_of
from projections.revenue.entries import Entry, Posting
from projections.revenue.owing import NOTHING, Owing, owing_on
from projections.revenue.policy import Granularity
from projections.revenue.recognition import Earning
from projections.revenue.schedule import month_start, spans_of
from projections.revenue.sums import daily, monthly
from tests.periods.test_close import Book, book, finalize

__all__ = ["book"]

JANUARY = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
MONTHS = [month_start(JANUARY, count) for count in range(6)]
TIMES = st.one_of(
    st.integers(JANUARY, MONTHS[-1]), st.sampled_from(MONTHS), st.sampled_from([one - 1 for one in MONTHS])
)
AMOUNTS = st.integers(-100_000, 100_000).filter(bool)
GRANULARITIES: tuple[Granularity, ...] = ("second", "day")
INVOICED = {"in_1": date(2025, 12, 1), "in_2": date(2026, 1, 1)}
SUBSCRIPTIONS = st.sampled_from([None, "sub_1", "sub_2", "sub_3"])


@st.composite
def earnings(draw: st.DrawFn) -> tuple[Earning, str | None]:
    """Draw a line's span, and its subscription."""
    start, end = sorted(draw(st.lists(TIMES, min_size=2, max_size=2, unique=True)))
    granularity = draw(st.sampled_from(GRANULARITIES))
    (span,) = spans_of(draw(AMOUNTS), start, end, start, granularity)
    line = f"il_{draw(st.integers(0, 10**9))}"
    return Earning("in_1", line, draw(st.sampled_from(["usd", "eur"])), "deferred_revenue", span, True, ()), draw(
        SUBSCRIPTIONS
    )


@st.composite
def lives(draw: st.DrawFn) -> dict[str, list[Stretch]]:
    """Draw what some subscriptions were worth from when to when: something, nothing, or not known of."""
    found: dict[str, list[Stretch]] = {}
    for key in ("sub_1", "sub_2"):
        edges = sorted(draw(st.lists(TIMES, max_size=6, unique=True)))
        edges = [*edges, 2**40] if draw(st.booleans()) else edges
        stretches = [Stretch(*pair, draw(st.booleans())) for pair in pairwise(edges)]
        found[key] = [one for one in stretches if draw(st.integers(0, 4))]
    return found


@given(st.lists(earnings(), max_size=8, unique_by=lambda one: one[0].line), lives())
def test_a_month_keeps_what_its_lines_earned(
    lines: list[tuple[Earning, str | None]], lived: Mapping[str, list[Stretch]]
) -> None:
    counting = Counting({(one.invoice, one.line): subscription for one, subscription in lines}, lived, {})
    sums = monthly({}, [one for one, _ in lines], counting, {})
    worthless = {
        key: [(time_of(one.since), time_of(min(one.until, 2**33))) for one in some if one.worthless]
        for key, some in lived.items()
    }
    for start in MONTHS:
        end = month_start(start, 1)
        known = frozenset(
            key for key, some in lived.items() if any(one.since < end and one.until > start for one in some)
        )
        wanted = earned_in(lines, worthless, known, start, end)
        kept = {currency: one for (currency, month), one in sums.items() if month == time_of(start).date()}
        assert {currency: earned_of(one) for currency, one in kept.items() if any(earned_of(one))} == {
            currency: one for currency, one in wanted.items() if any(one)
        }


def earned_of(amounts: Mapping[str, int]) -> Earned:
    counted, uncounted = amounts.get("earned_counted", 0), amounts.get("earned_uncounted", 0)
    return Earned(counted, uncounted, -amounts.get("revenue", 0) - counted - uncounted)


def test_what_facts_post_on_a_subscription_counts_and_the_rest_does_not() -> None:
    counting = Counting({("in_1", None): "sub_1", ("in_1", "il_1"): None, ("in_2", "il_2"): "sub_2"}, {}, INVOICED)
    about = [("in_1", "il_1"), ("in_1", None), ("in_2", "il_2"), ("in_2", None), (None, "cs_1")]
    entries = [
        Entry(f"e_{n}", JANUARY, "sale", "usd", (Posting("revenue", -(10**n), line), Posting("bank", 10**n)), invoice)
        for n, (invoice, line) in enumerate(about)
    ]
    falls: Falls = {}
    assert daily(entries, counting, falls)["usd", date(2026, 1, 1)]["earned_counted"] == 111
    assert falls == {("usd", date(2026, 1, 1)): {date(2025, 12, 1): 11, date(2026, 1, 1): 11_100}}


@given(st.lists(st.tuples(st.sampled_from(["in_1", "in_2"]), st.integers(0, 9), st.integers(-3, 3).filter(bool))))
def test_what_was_owed_at_any_moment_is_what_had_been_posted(moves: list[tuple[str, int, int]]) -> None:
    entries = [
        Entry(f"e_{n}", at, "payment", "usd",
              (Posting("accounts_receivable", amount), Posting("bank", -amount)), invoice)
        for n, (invoice, at, amount) in enumerate(sorted(moves, key=lambda one: one[1]))
    ]  # fmt: skip
    owing = owing_on(entries)
    for invoice in ("in_1", "in_2"):
        found = owing.get(invoice, NOTHING)
        for at in range(11):
            wanted = sum(amount for key, moved, amount in moves if (key, moved <= at) == (invoice, True))
            assert owed_at(found, at) == wanted
            if found.settled_at is not None and at >= found.settled_at.timestamp():
                assert wanted == 0
        assert (found.settled_at is None) == (not found.owed or found.owed[-1] != 0)


def owed_at(found: Owing, at: int) -> int:
    return next((total for since, total in zip(*reversed_of(found), strict=True) if since <= time_of(at)), 0)


def reversed_of(found: Owing) -> tuple[list[datetime], list[int]]:
    return found.owed_at[::-1], found.owed[::-1]


async def test_a_build_of_an_older_version_answers_the_same_the_long_way(book: Book) -> None:
    finalize(book.history, "01-20", 600, "in_2", "01-20", "02-01")
    await book.tell()
    asked: list[tuple[str, dict[str, Any]]] = [
        ("revenue/tie-out", {"month": "2026-01"}),
        ("revenue/tie-out", {"month": "2026-02", "policy": "all-discounts"}),
        ("revenue/ageing", {"at": "2026-01-15T00:00:00Z"}),
        ("revenue/ageing", {}),
    ]
    now = [await book.get(path, **parameters) for path, parameters in asked]
    connection = await book.database.as_role("ledger_builder").connect()
    await connection.execute("UPDATE ledger.build SET version = 2 WHERE projection = 'revenue'")
    await connection.execute("UPDATE build_revenue_1.revenue_sum SET earned_counted = NULL, earned_uncounted = NULL")
    await connection.execute("UPDATE build_revenue_1.invoice SET owed_at = '{}', owed = '{}', settled_at = NULL")
    await connection.close()
    assert [await book.get(path, **parameters) for path, parameters in asked] == now
    assert now[2]["currencies"]["usd"]["total"] == 9000
    assert now[3]["currencies"]["usd"]["total"] == 9600

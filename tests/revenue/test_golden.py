"""The golden cases of stripe-domain §5.5, to the unit: in every shape, whatever the order of arrival."""

from __future__ import annotations

import random

import pytest

from projections.revenue.journal import books_of
from projections.revenue.policy import POLICIES
from tests.revenue.stories import SHAPES, balances, books, events_of, facts_of, gathered, journal_at, seconds

QUARTER = "9000@2026-01-01..2026-04-01"

GOLDEN = {
    "one month from the 15th": (
        "2026-01-15 invoice 3100@2026-01-15..2026-02-15",
        """
        2026-02-01  revenue=1700 deferred_revenue=1400
        2026-03-01  revenue=3100 deferred_revenue=0
        """,
    ),
    "customer credit": (
        """
        2026-01-15 invoice 3100@2026-01-15..2026-02-15 starting=-1100 balance=1100
        2026-01-15 paid
        """,
        """
        2026-02-01  revenue=1700 accounts_receivable=0 customer_balance=-1100 customer_balance_adj=0 stripe_balance=2000
        2026-03-01  revenue=3100 payments_clearing=0
        """,
    ),
    "a negative invoice": (
        "2026-01-15 invoice -3100@2026-01-15..2026-02-15 balance=-3100",
        """
        2026-02-01  revenue=-1700 customer_balance=3100 accounts_receivable=0
        2026-03-01  revenue=-3100 deferred_revenue=0
        """,
    ),
    "cancelled without refund": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        """,
        """
        2026-02-01  revenue=3100
        2026-03-01  revenue=5900
        2026-04-01  revenue=9000 deferred_revenue=0 stripe_balance=9000
        """,
    ),
    "full refund": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        2026-02-01 refund re_1 9000
        """,
        "2026-03-01  revenue=3100 refunds=3100 deferred_revenue=0 stripe_balance=0 refunds_clearing=0",
    ),
    "partial refund": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        2026-02-01 refund re_1 900
        """,
        """
        2026-02-01  revenue=3100 refunds=310 deferred_revenue=5310
        2026-03-01  revenue=5620
        2026-04-01  revenue=8410 deferred_revenue=0
        """,
    ),
    "void": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-02-01 void
        """,
        "2026-04-01  revenue=3100 voids=3100 accounts_receivable=0 deferred_revenue=0",
    ),
    "uncollectible": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-02-01 uncollectible
        """,
        "2026-04-01  revenue=3100 bad_debt=3100 accounts_receivable=0 deferred_revenue=0",
    ),
    "uncollectible, then paid": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-02-01 uncollectible
        2026-04-02 paid
        """,
        "2026-05-01  revenue=3100 bad_debt=0 recoverables=5900 stripe_balance=9000 accounts_receivable=0",
    ),
    "uncollectible, then voided": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-02-01 uncollectible
        2026-04-02 void
        """,
        "2026-05-01  revenue=3100 bad_debt=0 voids=3100 accounts_receivable=0 deferred_revenue=0 customer_balance=0",
    ),
    "uncollectible when a part was paid by credit": (
        """
        2026-01-15 invoice 3100@2026-01-15..2026-02-15 starting=-1100 balance=1100
        2026-02-01 uncollectible
        """,
        "2026-03-01  bad_debt=1097 recoverables=497 accounts_receivable=0 deferred_revenue=0",
    ),
    "uncollectible, then paid, then disputed": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-02-01 uncollectible
        2026-04-02 paid
        2026-05-02 dispute dp_1 9000
        """,
        """
        2026-05-01  recoverables=5900 bad_debt=0
        2026-06-01  recoverables=0 bad_debt=0 disputes=3100 deferred_revenue=0 stripe_balance=0
        """,
    ),
    "dispute won": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-01-01 paid
        2026-02-01 dispute dp_1 9000
        2026-04-01 won dp_1
        """,
        """
        2026-03-31  disputes=3100 deferred_revenue=0 stripe_balance=0 recoverables=0
        2026-04-02  disputes=3100 deferred_revenue=0 stripe_balance=9000 recoverables=9000
        """,
    ),
    "refund and dispute of more than there is, by month": (
        """
        2026-01-01 invoice 10000@2026-01-01..2026-11-01
        2026-01-01 paid
        2026-02-01 refund re_1 8000
        2026-03-01 dispute dp_1 8000
        """,
        """
        2026-01-31T23:59:59  revenue=1000
        2026-02-01  refunds=800
        2026-02-28T23:59:59  revenue=1200
        2026-12-01  revenue=1200 disputes=400 other_loss=6000 deferred_revenue=0
        """,
    ),
    "refund and dispute of more than there is": (
        """
        2026-01-01 invoice 10000@2026-01-01..2026-11-01
        2026-01-01 paid
        2026-02-01 refund re_1 8000
        2026-03-01 dispute dp_1 8000
        """,
        """
        2026-01-31T23:59:59  revenue=1020
        2026-02-01  refunds=816
        2026-02-28T23:59:59  revenue=1204
        2026-12-01  revenue=1204 disputes=388 other_loss=6000 deferred_revenue=0
        """,
    ),
    "credit note before payment, at the start": (
        """
        2026-01-01 invoice 12000@2026-01-01..2026-04-01
        2026-01-01 credit cn_1 3000
        2026-01-01 paid
        """,
        """
        2026-02-01  revenue=3100 accounts_receivable=0 credit_notes=0
        2026-03-01  revenue=5900
        2026-04-01  revenue=9000
        """,
    ),
    "credit note on an open invoice": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-02-01 credit cn_1 4500
        """,
        """
        2026-02-01  accounts_receivable=4500 revenue=3100 credit_notes=1550
        2026-03-01  revenue=4500
        2026-04-01  revenue=6050 deferred_revenue=0 accounts_receivable=4500
        """,
    ),
    "a credit note on an open invoice that is voided again": (
        f"""
        2026-01-01 invoice {QUARTER}
        2026-02-01 credit cn_1 4500
        2026-02-11 uncredit cn_1
        """,
        """
        2026-02-10  accounts_receivable=4500 credit_notes=1550
        2026-02-11  accounts_receivable=9000 credit_notes=0 revenue=4100
        2026-04-01  accounts_receivable=9000 credit_notes=0 revenue=9000 deferred_revenue=0
        """,
    ),
    "a downgrade that is billed at the end": (
        """
        2026-04-01 invoice 9000@2026-04-01..2026-05-01
        2026-05-01 invoice 1000@2026-04-21..2026-05-01 -3000@2026-04-21..2026-05-01 id=in_2 balance=-2000
        """,
        """
        2026-04-30T23:59:59  revenue=7000 unbilled_receivable=-2000
        2026-05-01  revenue=7000 unbilled_receivable=0 customer_balance=2000
        """,
    ),
    "a year": (
        "2026-01-01 invoice 36500@2026-01-01..2027-01-01",
        """
        2026-02-01  revenue=3100
        2026-03-01  revenue=5900
        2026-04-01  revenue=9000
        2027-01-01  revenue=36500 deferred_revenue=0
        """,
    ),
}


def expected(table: str) -> list[tuple[str, dict[str, int]]]:
    lines = [line.split() for line in table.strip().splitlines()]
    return [
        (date, {name: int(amount) for name, amount in (word.split("=") for word in words)}) for date, *words in lines
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, shape: str) -> None:
    story, table = GOLDEN[name]
    made = books(story, shape, "month" if name.endswith("by month") else "second")
    for date, wanted in expected(table):
        found = balances(journal_at(made, seconds(date)))
        assert {account: found.get(account, 0) for account in wanted} == wanted, date
        assert sum(balances_of_debits(made, date)) == 0


def balances_of_debits(made: object, date: str) -> list[int]:
    return [posting.amount for entry in journal_at(made, seconds(date)) for posting in entry.postings]  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", GOLDEN)
def test_no_order_of_arrival_and_no_duplicate_matters(name: str, shape: str) -> None:
    facts = facts_of(events_of(GOLDEN[name][0], shape))
    first = books_of(gathered(facts), POLICIES["second"]).journal
    dice = random.Random(1)
    for _ in range(12):
        some = dice.sample(facts, len(facts)) + dice.choices(facts, k=3)
        assert books_of(gathered(some), POLICIES["second"]).journal == first

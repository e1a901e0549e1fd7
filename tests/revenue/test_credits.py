"""Billing credits (stripe-domain §5.4, row 18): owed when bought, earned as what they are used on, or as they end."""

from __future__ import annotations

import random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.services import Services
from ledger.postgres import Database
from projections.revenue.journal import Books, books_of
from projections.revenue.policy import POLICIES, Policy, Ruling, rulings_of
from projections.revenue.shown import natural, sums_of
from tests.revenue.stories import balances, events_of, facts_of, gathered, journal_at, seconds
from tests.revenue.test_reads import ask, load

CATALOG = """
[revenue]
prepaid_credits = ["prod_credits"]
"""

SELLING = Ruling(None, Policy(prepaid=frozenset({"prod_credits"})))

BOUGHT = """
2026-01-01 invoice 10000 product=prod_credits
2026-01-01 paid
2026-01-01 grant credgr_1 10000
"""
FEBRUARY = "2026-02-01..2026-03-01"

STORIES = {
    "bought, and kept": (BOUGHT, {"2026-06-01": "billing_credits=10000 revenue=0 stripe_balance=10000"}, []),
    "used on a prepaid line": (
        BOUGHT
        + f"""
        2026-02-01 invoice 2900@{FEBRUARY} id=in_2 credits=cbtxn_1:2800
        2026-02-01 use cbtxn_1 2800
        2026-02-01 paid id=in_2 charge=ch_2
        """,
        {
            "2026-02-01": "billing_credits=7200 deferred_revenue=2900 accounts_receivable=0 revenue=0",
            "2026-02-15": "billing_credits=7200 deferred_revenue=1450 revenue=1450",
            "2026-03-01": "billing_credits=7200 deferred_revenue=0 revenue=2900 stripe_balance=10100",
        },
        [],
    ),
    "used on usage, which is billed afterwards": (
        BOUGHT
        + f"""
        2026-03-01 invoice 2800@{FEBRUARY} id=in_2 credits=cbtxn_1:2800
        2026-03-01 use cbtxn_1 2800
        """,
        {
            "2026-02-28T23:59:59": "billing_credits=10000 unbilled_receivable=2800 revenue=2800",
            "2026-03-01": "billing_credits=7200 unbilled_receivable=0 deferred_revenue=0 revenue=2800",
        },
        [],
    ),
    "expired": (
        BOUGHT
        + f"""
        2026-02-01 invoice 2800@{FEBRUARY} id=in_2 credits=cbtxn_1:2800
        2026-02-01 use cbtxn_1 2800
        2026-05-01 end cbtxn_9 7200
        """,
        {"2026-04-30": "billing_credits=7200 revenue=2800", "2026-05-01": "billing_credits=0 revenue=10000"},
        [],
    ),
    "given back as the invoice is voided, and used again": (
        BOUGHT
        + f"""
        2026-02-01 invoice 2900@{FEBRUARY} id=in_2 credits=cbtxn_1:2800
        2026-02-01 use cbtxn_1 2800
        2026-02-15 void id=in_2
        2026-02-15 reinstate cbtxn_2 2800
        2026-04-01 invoice 3000@2026-04-01..2026-05-01 id=in_3 credits=cbtxn_3:3000
        2026-04-01 use cbtxn_3 3000 id=in_3
        """,
        {
            "2026-02-14T23:59:59": "billing_credits=7200",
            "2026-02-15": "billing_credits=10000 deferred_revenue=0 revenue=1450 voids=1450 accounts_receivable=0",
            "2026-06-01": "billing_credits=7000 deferred_revenue=0 revenue=4450 voids=1450",
        },
        [],
    ),
    "given back, it is said, before it was used": (
        BOUGHT
        + f"""
        2026-01-20 reinstate cbtxn_2 2800
        2026-02-01 invoice 2900@{FEBRUARY} id=in_2 credits=cbtxn_1:2800
        2026-02-01 use cbtxn_1 2800
        2026-02-15 void id=in_2
        """,
        {
            "2026-01-31": "billing_credits=10000",
            "2026-02-01": "billing_credits=10000 deferred_revenue=100",
            "2026-06-01": "billing_credits=10000 deferred_revenue=0",
        },
        [],
    ),
    "a gift": (
        f"""
        2026-01-01 grant credgr_1 5000 category=promotional
        2026-02-01 invoice 2900@{FEBRUARY} id=in_2 credits=cbtxn_1:2800
        2026-02-01 use cbtxn_1 2800
        2026-05-01 end cbtxn_9 2200
        """,
        {"2026-06-01": "billing_credits=0 revenue=100 accounts_receivable=100"},
        [],
    ),
    "more than was bought: the rest is a gift": (
        BOUGHT
        + f"""
        2026-02-01 grant credgr_2 2000
        2026-02-01 invoice 12000@{FEBRUARY} id=in_2 credits=cbtxn_1:10000,cbtxn_2:2000
        2026-02-01 use cbtxn_1 10000
        2026-02-01 use cbtxn_2 2000 grant=credgr_2
        """,
        {"2026-06-01": "billing_credits=0 revenue=10000 deferred_revenue=0"},
        [],
    ),
    "refunded in part: what is left of the sale": (
        BOUGHT
        + f"""
        2026-02-01 invoice 4000@{FEBRUARY} id=in_2 credits=cbtxn_1:4000
        2026-02-01 use cbtxn_1 4000
        2026-03-01 refund re_1 5000
        2026-03-01 end cbtxn_9 6000 how=credits_voided
        """,
        {
            "2026-03-01": "refunds=2000 billing_credits=0 revenue=7000 other_loss=0 refunds_clearing=0",
            "2026-06-01": "refunds=2000 billing_credits=0 revenue=7000 stripe_balance=5000",
        },
        [],
    ),
    "taxed where they are sold": (
        """
        2026-01-01 invoice 10000 tax=1900 product=prod_credits
        2026-01-01 paid
        2026-01-01 grant credgr_1 10000
        2026-02-01 refund re_1 11900
        """,
        {
            "2026-01-01": "billing_credits=10000 tax_liability=1900 accounts_receivable=0",
            "2026-02-01": "billing_credits=0 tax_liability=0 refunds=0 stripe_balance=0",
        },
        [],
    ),
    "never paid": (
        """
        2026-01-01 invoice 10000 product=prod_credits
        2026-01-01 grant credgr_1 10000
        2026-02-01 uncollectible
        2026-03-01 paid
        """,
        {
            "2026-02-01": "billing_credits=0 bad_debt=0 recoverables=0 accounts_receivable=0",
            "2026-03-01": "billing_credits=0 recoverables=10000 stripe_balance=10000",
        },
        [],
    ),
    "of a grant that is not known": (
        f"""
        2026-02-01 invoice 2900@{FEBRUARY} id=in_2 credits=cbtxn_1:2800
        2026-02-01 use cbtxn_1 2800
        """,
        {"2026-06-01": "billing_credits=0 revenue=100"},
        ["credit_grant_unknown"],
    ),
    "bought in a way that the catalog does not name": (
        f"""
        2026-01-01 invoice 10000
        2026-01-01 paid
        2026-01-01 grant credgr_1 10000
        2026-02-01 invoice 2900@{FEBRUARY} id=in_2 credits=cbtxn_1:2800
        2026-02-01 use cbtxn_1 2800
        """,
        {"2026-06-01": "billing_credits=0 revenue=10100"},
        ["credits_not_sold"],
    ),
    "used without a transaction": (
        BOUGHT + f"2026-02-01 invoice 2900@{FEBRUARY} id=in_2 credits=cbtxn_1:2800",
        {"2026-06-01": "billing_credits=10000 revenue=100"},
        ["credits_not_linked"],
    ),
}  # fmt: skip


def books(story: str, policy: Policy | None = None, dice: random.Random | None = None) -> Books:
    facts = facts_of(events_of(story))
    found = gathered(dice.sample(facts, len(facts)) + dice.choices(facts, k=2) if dice else facts)
    found.rulings = [SELLING]
    return books_of(found, policy)


@pytest.mark.parametrize("name", STORIES)
def test_credits(name: str) -> None:
    story, moments, problems = STORIES[name]
    made, dice = books(story), random.Random(3)
    for date, table in moments.items():
        wanted = {account: int(amount) for account, amount in (word.split("=") for word in table.split())}
        found = balances(journal_at(made, seconds(date)))
        assert {account: found.get(account, 0) for account in wanted} == wanted, date
    assert [one.kind for one in made.journal.problems] == problems
    for _ in range(6):
        assert books(story, dice=dice).journal == made.journal


def test_what_sells_credits_is_no_choice_of_a_policy() -> None:
    made = books(STORIES["used on a prepaid line"][0], POLICIES["month"])
    found = balances(journal_at(made, seconds("2026-02-15")))
    assert (found["billing_credits"], found["revenue"]) == (7200, 1450)


def test_a_catalog_says_what_sells_credits() -> None:
    [ruling] = rulings_of([(None, {"content": CATALOG, "effective_from": None})])  # type: ignore[list-item]
    assert ruling == SELLING
    [other] = rulings_of([(None, {"content": "", "effective_from": None})])  # type: ignore[list-item]
    assert other.policy == Policy()


def steps(draw: st.DrawFn) -> str:
    """Tell a life of buying, using, giving back, refunding and losing credits."""
    lines, number = [], 10
    for day in range(2, 2 + draw(st.integers(1, 8))):
        number += 1
        date, amount = f"2026-01-{day * 2:02}", draw(st.integers(1, 4_000))
        verb = draw(st.sampled_from(("buy", "use", "use and void", "end", "refund")))
        if verb == "buy":
            lines += [f"{date} invoice {amount} id=in_{number} product=prod_credits",
                      f"{date} paid id=in_{number} charge=ch_{number}"]  # fmt: skip
        elif verb.startswith("use"):
            lines += [f"{date} invoice {amount + 7}@{date}..2026-03-01 id=in_{number} credits=cbtxn_{number}:{amount}",
                      f"{date} use cbtxn_{number} {amount} id=in_{number}"]  # fmt: skip
            if verb == "use and void":
                later = f"2026-01-{day * 2 + 1:02}"
                lines += [f"{later} void id=in_{number}", f"{later} reinstate cbtxn_b{number} {amount} id=in_{number}"]
        elif verb == "end":
            lines.append(f"{date} end cbtxn_{number} {amount}")
        else:
            lines.append(f"{date} refund re_{number} {min(amount, 900)}")
    return BOUGHT + "\n".join(lines)


LIVES = st.composite(steps)()


@settings(max_examples=60, deadline=None)
@given(LIVES, st.randoms(use_true_random=False))
def test_any_life_of_credits_comes_out_even(story: str, dice: random.Random) -> None:
    """Nothing is owed that was not sold, service ends, and what was billed was earned or released, or waits."""
    made = books(story)
    assert books(story, dice=dice).journal == made.journal
    for date in ("2026-01-16", "2026-02-01", "2026-06-01"):
        at = seconds(date)
        found = balances(journal_at(made, at))
        owed = sum(
            line.d for bill in made.bills.values() for key, line in bill.pots.lines.items() if key in bill.prepaid
        )
        assert found.get("billing_credits", 0) >= 0
        sums = natural(sums_of([made], 0, at).get("usd", {}))
        released = sum(amount for name, amount in sums.items() if name.startswith("released_"))
        assert (
            sums["billed"] - sums["recognized"] - released + sums["reinstated"] == sums["deferred"] - sums["unbilled"]
        )
    assert found.get("billing_credits", 0) == owed
    assert found.get("deferred_revenue", 0) == found.get("unbilled_receivable", 0) == 0


async def test_transactions_join_the_customer_they_do_not_name(
    client: httpx.AsyncClient, services: Services, database: Database
) -> None:
    """In whatever order they come, and published later than they were used."""
    events = events_of(STORIES["given back as the invoice is voided, and used again"][0])
    dice = random.Random(7)
    dice.shuffle(events)
    half = len(events) // 2
    await load(services, database, events[:half])
    headers = {"content-type": "application/toml"}
    answer = await client.put("/v1/catalog", content=CATALOG, params={"wait": "0"}, headers=headers)
    assert answer.status_code == 200, answer.text
    await load(services, database, events[half:])
    shown = (await ask(client, "trial-balance", at="2026-06-01T00:00:00Z"))["balances"]["usd"]
    assert (shown["billing_credits"], shown["revenue"], shown["voids"]) == (-7000, -4450, 1450)
    [line] = [
        line
        for entry in (await ask(client, "journal", entry="cbtxn_3", to="2026-12"))["data"]
        for line in entry["lines"]
        if line["account"] == "deferred_revenue"
    ]
    assert (line["invoice"], line["line"], line["subscription"], line["amount"]) == ("in_3", "cbtxn_3", "sub_1", -3000)
    months = (await ask(client, "recognition", from_="2026-01", to="2026-06"))["months"]
    told = [
        (one["usd"]["billed"], one["usd"]["recognized"], one["usd"]["released"]["voids"]) for one in months.values()
    ]
    assert told == [(0, 0, 0), (2900, 1450, 1450), (0, 0, 0), (3000, 3000, 0), (0, 0, 0)]
    assert (await ask(client, "problems"))["data"] == []

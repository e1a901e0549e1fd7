"""Pots, worked out by hand: 9000 over 90 days is 100 a day, so that every number here can be checked without a machine.

The rules are those of stripe-domain §5.4, *Pots*; each is quoted where it is tried.
"""

from __future__ import annotations

from dataclasses import replace

from projections.revenue.bill import Bill
from projections.revenue.entries import Journal
from projections.revenue.facts import LineFact
from projections.revenue.policy import POLICIES, Policy
from projections.revenue.pots import Line, Move, Pots, Suspended, Taken
from projections.revenue.schedule import DAY
from tests.revenue.stories import balances, seconds

START = seconds("2026-01-01")


def day(number: int) -> int:
    return START + number * DAY


def pots_of(**amounts: int) -> Pots:
    """Open lines of 90 days at their beginning."""
    pots = Pots()
    for key, amount in amounts.items():
        pots.open(START, Line(key, START, day(90)), amount, 0)
    return pots


def bill_of(policy: Policy, **amounts: int) -> Bill:
    bill = Bill("in_1", "usd", policy, Journal(), ("evt_1",), "in_1")
    bill.finalize(START, [LineFact(key, net, 0, START, day(90)) for key, net in amounts.items()])
    return bill


def held(pots: Pots, line: str = "il") -> tuple[int, int, int, int]:
    one = pots.lines[line]
    return one.d, one.r, one.g, one.x


def posted(bill: Bill, kind: str) -> dict[str, int]:
    return balances(bill.journal.entries, lambda entry: entry.kind == kind)


def test_a_write_off_gains_what_was_paid_for_and_had_not_been_gained_before() -> None:
    """*Split O over the pots (d,r,g,x); Cr recoverables D-d-g; then G += D-d-g, D=0, R -= r*."""
    pots = pots_of(il=9000)
    lost = pots.reduce(day(30), 3000)  # of D 6000 and R 3000, a third each
    assert lost.moves == [Move("il", "D", 2000), Move("il", "R", 1000)]
    pots.gain([Move("il", "G", 3000)])  # the dispute is won: all of it a gain
    assert held(pots) == (4000, 2000, 3000, 0)
    off = pots.write_off(day(30), 4500)  # half of it is owed: d 2000, r 1000, g 1500
    assert off.deferred == [Move("il", "D", 4000)]
    assert off.earned == [Move("il", "R", 1000)]
    assert off.gained == [Move("il", "G", 500)]  # D 4000 less d 2000 less g 1500
    assert pots.lines["il"].suspended == Suspended("il", 3500, 1000, 0)  # d + g, r, x
    assert held(pots) == (0, 1000, 3500, 0)


def test_a_write_off_of_a_bill_with_a_gain_posts_the_same() -> None:
    """The same history by its facts, half of it paid: the loss is what had been earned and is owed."""
    bill = bill_of(POLICIES["second"], il=9000)
    bill.pay("ch_1", START, 4500, "payments_clearing", [])
    bill.withdraw("txn_1", day(30), 3000, "dp_1", [])
    bill.reinstate("txn_2", day(30), 3000, "dp_1", [])
    bill.write_off(day(30), [])
    assert posted(bill, "write_off") == {
        "accounts_receivable": -4500,
        "deferred_revenue": -4000,
        "bad_debt": 1000,
        "recoverables": 500,
    }
    bill.pay("ch_2", day(40), 4500, "payments_clearing", [])
    assert held(bill.pots) == (0, 2000, 7000, 0)


def test_nothing_takes_more_than_the_invoice_comes_to() -> None:
    """*k = min(a, Σ all pots)*, also of a line that holds more because another is negative."""
    pots = pots_of(il_1=9000, il_2=-6000)
    taken = pots.reduce(START, 5000, "il_1")
    assert taken == Taken(START, [Move("il_1", "D", 3000)], excess=2000)
    assert (held(pots, "il_1")[0], held(pots, "il_2")[0], pots.total) == (6000, -6000, 0)


def test_nothing_writes_off_more_than_the_invoice_comes_to() -> None:
    """What is owed beyond the lines (a balance that was added) has no pot."""
    pots = pots_of(il_1=9000, il_2=-6000)
    off = pots.write_off(day(30), 3500)
    assert off.excess == 500
    assert [move.amount for move in off.earned] == [3000, -2000]
    assert pots.suspended == 3000
    assert pots.total == 0


def test_a_partial_undo_gives_back_its_part_of_what_no_pot_held() -> None:
    """*Give back what that fact took*: of 3000 from the pots and 2000 from nowhere, half is 1500 and 1000."""
    pots = pots_of(il=3000)
    taken = pots.reduce(START, 5000)
    assert taken == Taken(START, [Move("il", "D", 3000)], excess=2000)
    assert taken.part(2500) == Taken(START, [Move("il", "D", 1500)], excess=1000)
    assert taken == Taken(START, [Move("il", "D", 1500)], excess=1000)
    assert taken.part(2500) == Taken(START, [Move("il", "D", 1500)], excess=1000)
    assert taken.amount == 0


def test_a_dispute_won_in_two_halves_takes_the_loss_back_by_halves() -> None:
    """*Row 12b: other_loss the excess taken, recoverables the rest*."""
    bill = bill_of(POLICIES["second"], il=3000)
    bill.pay("ch_1", START, 3000, "payments_clearing", [])
    bill.withdraw("txn_1", START, 5000, "dp_1", [])
    assert balances(bill.journal.entries)["other_loss"] == 2000
    for number, (loss, gain) in enumerate([(1000, 1500), (0, 3000)]):
        bill.reinstate(f"won_{number}", day(1), 2500, "dp_1", [])
        found = balances(bill.journal.entries)
        assert (found["other_loss"], found["recoverables"]) == (loss, gain)


def test_an_undo_catches_up_with_the_time_since_it_was_taken() -> None:
    """*Give back exactly the pots that fact took, then catch up time*: it is as if nothing had been taken."""
    pots = pots_of(il=9000)
    taken = pots.reduce(day(30), 3000)  # D 6000 - 2000, R 3000 - 1000
    pots.advance(day(60))  # half of D's 4000: 30 of the 60 days that were left
    assert held(pots) == (2000, 4000, 0, 0)
    # 2000 come back into D and 1000 into R; of the 2000 half was earned between day 30 and day 60.
    assert pots.give_back(day(60), taken) == [Move("il", "R", 1000)]
    assert held(pots) == (3000, 6000, 0, 0)
    pots.advance(day(75))
    assert held(pots) == (1500, 7500, 0, 0)


def test_a_part_of_an_undo_catches_up_since_the_same_time() -> None:
    pots = pots_of(il=9000)
    taken = pots.reduce(day(30), 3000)
    assert pots.give_back(day(60), taken.part(1500)) == [Move("il", "R", 500)]  # half of D's 1000
    assert pots.give_back(day(75), taken) == [Move("il", "R", 750)]  # 45 of 60 days of D's 1000
    assert held(pots) == (1500, 7500, 0, 0)


def test_what_was_taken_in_two_goes_catches_up_since_the_later() -> None:
    """A dispute withdrawn twice, won at once and deferred again: nothing is earned that time has not earned."""
    bill = bill_of(POLICIES["reinstate"], il=9000)
    bill.pay("ch_1", START, 9000, "payments_clearing", [])
    bill.withdraw("txn_1", day(30), 3000, "dp_1", [])  # D 6000 - 2000, R 3000 - 1000
    bill.withdraw("txn_2", day(60), 3000, "dp_1", [])  # D 2000 - 1000, R 4000 - 2000
    assert bill.taken["dp_1"] == Taken(day(60), [Move("il", "D", 3000), Move("il", "R", 3000)])
    bill.reinstate("won", day(75), 6000, "dp_1", [])
    # D 500 + 3000, R 2500 + 3000; of the 3000 half was earned between day 60 and day 75.
    assert held(bill.pots) == (2000, 7000, 0, 0)


def test_a_late_payment_that_is_deferred_again_catches_up_since_the_write_off() -> None:
    """*recover_as_gains=false: a late payment gives D back what it took, then catches up*."""
    bill = bill_of(replace(POLICIES["second"], recover_as_gains=False), il=9000)
    bill.write_off(day(30), [])
    bill.pay("ch_1", day(60), 9000, "payments_clearing", [])
    assert posted(bill, "payment") == {"payments_clearing": 9000, "bad_debt": -3000, "deferred_revenue": 6000}
    assert posted(bill, "recognition") == {"deferred_revenue": -3000, "revenue": 3000}
    assert held(bill.pots) == (3000, 6000, 0, 0)

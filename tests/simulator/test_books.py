"""The truth of money: the golden cases of stripe-domain §5.5 by pencil and paper, and what holds of a company."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from ledger.simulator.calendar import month_ends, unix
from ledger.simulator.company import Company
from ledger.simulator.truth_books import Bill
from ledger.simulator.truth_replay import Row, shared

CREDITED = {"revenue", "deferred_revenue", "recoverables", "tax_liability", "customer_balance"}
JAN, FEB, MAR, APR, MAY, JUN = (unix(2026, month) for month in range(1, 7))
JAN_15, FEB_15 = unix(2026, 1, 15), unix(2026, 2, 15)


def bill(*lines: tuple[int, int, int], at: int | None = None, used: int = 0) -> Bill:
    """Make a bill of lines (amount, start, end), finalised at its beginning; ``used`` of the customer's balance."""
    at = lines[0][1] if at is None else at
    rows = [Row(f"il_{number}", start, end, net, 0) for number, (net, start, end) in enumerate(lines)]
    made = Bill("in_1", "usd", rows, at, min(row.start for row in rows), False, max(row.end for row in rows))
    made.note(at, "finalized", rows, sum(row.net for row in rows), used, False)
    return made


def balances(of: Bill, *moments: int, account: str) -> list[int]:
    """Return an account's balances just before some moments, in its own direction."""
    sign = -1 if account in CREDITED else 1
    return [sign * of.replayed(at, whole=False).accounts.get(account, 0) for at in moments]


def monthly(of: Bill, name: str, *moments: int) -> list[int]:
    """Return what flowed between one moment and the next."""
    flows = [of.replayed(at, whole=False).flows.get(name, 0) for at in moments]
    return [after - before for before, after in pairwise(flows)]


def quarter() -> Bill:
    return bill((9_000, JAN, APR))


def refunded(of: Bill, at: int, amount: int, key: str = "re_1") -> Bill:
    of.note(at, "refunded", key, amount)
    return of


def disputed(of: Bill, at: int, amount: int) -> Bill:
    of.note(at, "disputed", "dp_1", amount)
    return of


def test_half_of_one_month_and_half_of_the_next() -> None:
    one = bill((3_100, JAN_15, FEB_15))
    assert monthly(one, "recognized", JAN, FEB, MAR) == [1_700, 1_400]
    assert balances(one, FEB, MAR, account="deferred_revenue") == [1_400, 0]


def test_a_balance_pays_a_part() -> None:
    one = bill((3_100, JAN_15, FEB_15), used=1_100)
    one.note(JAN_15, "received", 2_000, "payments_clearing")
    assert balances(one, FEB, account="accounts_receivable") == [0]
    assert balances(one, FEB, account="customer_balance") == [-1_100]
    assert monthly(one, "recognized", JAN, FEB, MAR) == [1_700, 1_400]


def test_a_negative_bill_becomes_balance() -> None:
    one = bill((-3_100, JAN_15, FEB_15), used=-3_100)
    assert balances(one, FEB, account="customer_balance") == [3_100]
    assert balances(one, FEB, account="accounts_receivable") == [0]
    assert monthly(one, "recognized", JAN, FEB, MAR) == [-1_700, -1_400]


def test_a_quarter() -> None:
    assert monthly(quarter(), "recognized", JAN, FEB, MAR, APR) == [3_100, 2_800, 3_100]


def test_a_whole_refund() -> None:
    one = refunded(quarter(), FEB, 9_000)
    assert balances(one, MAR, account="revenue") == [3_100]
    assert balances(one, MAR, account="refunds") == [3_100]
    assert balances(one, MAR, account="deferred_revenue") == [0]


def test_a_partial_refund() -> None:
    one = refunded(quarter(), FEB, 900)
    assert balances(one, MAR, account="refunds") == [310]
    assert monthly(one, "released.refunds", FEB, MAR) == [590]
    assert monthly(one, "recognized", JAN, FEB, MAR, APR) == [3_100, 2_520, 2_790]


def test_a_failed_refund_gives_everything_back() -> None:
    one = refunded(quarter(), FEB, 900)
    one.note(FEB + 3 * 86_400, "undone", "re_1", "refunds", {"refunds_clearing": -900})
    assert monthly(one, "recognized", JAN, FEB, MAR, APR) == [3_100, 2_800, 3_100]
    assert balances(one, MAR, account="refunds") == [0]
    assert monthly(one, "reinstated", FEB, MAR) == [590]


def test_a_void() -> None:
    one = quarter()
    one.note(FEB, "voided", 9_000)
    assert balances(one, MAR, account="voids") == [3_100]
    assert balances(one, MAR, account="accounts_receivable") == [0]
    assert balances(one, MAR, account="deferred_revenue") == [0]
    assert monthly(one, "released.voids", FEB, MAR) == [5_900]


def written_off() -> Bill:
    one = quarter()
    one.note(FEB, "written_off", 9_000)
    return one


def test_a_write_off_and_what_may_follow() -> None:
    assert balances(written_off(), MAR, account="bad_debt") == [3_100]
    paid = written_off()
    paid.note(APR, "received", 9_000, "payments_clearing")
    for account, balance in (("bad_debt", 0), ("recoverables", 5_900), ("payments_clearing", 9_000)):
        assert balances(paid, MAY, account=account) == [balance]
    disputed(paid, MAY, 9_000)
    for account, balance in (("bad_debt", 0), ("recoverables", 0), ("disputes", 3_100), ("deferred_revenue", 0)):
        assert balances(paid, JUN, account=account) == [balance]
    void = written_off()
    void.note(APR, "voided", 9_000)
    assert balances(void, MAY, account="voids") == [3_100]
    assert balances(void, MAY, account="bad_debt") == [0]


def test_a_write_off_of_what_balance_had_paid_in_part() -> None:
    one = bill((3_100, JAN_15, FEB_15), used=1_100)
    one.note(FEB, "written_off", 2_000)
    expected = (("bad_debt", 1_097), ("recoverables", 497), ("accounts_receivable", 0), ("deferred_revenue", 0))
    for account, balance in expected:
        assert balances(one, MAR, account=account) == [balance]


def test_a_dispute_won() -> None:
    one = disputed(quarter(), FEB, 9_000)
    assert balances(one, MAR, account="disputes") == [3_100]
    assert balances(one, MAR, account="deferred_revenue") == [0]
    one.note(APR, "won", "dp_1", 9_000)
    assert balances(one, MAR, MAY, account="stripe_balance") == [-9_000, 0]
    assert balances(one, MAY, account="recoverables") == [9_000]


def test_a_refund_and_a_dispute_of_more_than_there_is() -> None:
    one = disputed(refunded(bill((10_000, JAN, unix(2026, 11))), FEB, 8_000), MAR, 8_000)
    assert monthly(one, "recognized", JAN, FEB) == [1_020]
    assert balances(one, MAR, account="refunds") == [816]
    assert monthly(one, "recognized", FEB, MAR) == [184]
    assert balances(one, APR, account="disputes") == [388]
    assert balances(one, APR, account="other_loss") == [6_000]


def test_credit_notes_before_payment() -> None:
    early = bill((12_000, JAN, APR))
    early.note(JAN, "credited", "cn_1", [(None, 3_000)], {"accounts_receivable": -3_000})
    assert monthly(early, "recognized", JAN, FEB, MAR, APR) == [3_100, 2_800, 3_100]
    late = quarter()
    late.note(FEB, "credited", "cn_1", [(None, 4_500)], {"accounts_receivable": -4_500})
    assert balances(late, MAR, account="accounts_receivable") == [4_500]
    assert monthly(late, "recognized", JAN, FEB, MAR, APR) == [3_100, 1_400, 1_550]
    assert balances(late, APR, MAY, account="credit_notes") == [1_550, 1_550]
    assert balances(late, APR, account="deferred_revenue") == [0]


def test_service_before_its_bill() -> None:
    down = bill((1_000, unix(2026, 4, 21), MAY), (-3_000, unix(2026, 4, 21), MAY), at=MAY)
    assert balances(down, MAY, account="unbilled_receivable") == [-2_000]
    assert monthly(down, "recognized", APR, MAY) == [-2_000]
    assert down.replayed(MAY, whole=True).accounts["unbilled_receivable"] == 0


def test_a_year() -> None:
    year = bill((36_500, JAN, unix(2027, 1)))
    assert monthly(year, "recognized", JAN, FEB, MAR, APR) == [3_100, 2_800, 3_100]


def test_shares_leave_no_rest_and_change_no_sign() -> None:
    assert shared(2_000, [1_400, 1_700, 0, 0]) == [903, 1_097, 0, 0]
    assert shared(5, [10, -3, 0]) == [7, -2, 0]
    assert shared(0, [0, 0]) == [0, 0]


def test_every_month_leads_from_its_opening_to_its_closing(company: Company) -> None:
    ends = [company.arguments.start, *month_ends(company.arguments.start, company.arguments.end)]
    for truth in company.truth.values():
        for begin, end in pairwise(ends):
            for month in truth.books.recognition(begin, end).values():
                assert _led(month) == month["deferred_closing"] - month["unbilled_closing"]
                assert month["net_revenue"] == month["recognized"] - sum(month["contra"].values())


def _led(month: dict[str, Any]) -> int:
    opening = month["deferred_opening"] - month["unbilled_opening"]
    released = sum(month["released"].values())
    return int(opening + month["billed"] - month["recognized"] - released + month["reinstated"])


def test_the_books_say_what_invoices_and_customers_say(company: Company) -> None:
    for truth in company.truth.values():
        books = truth.books.trial_balance(company.arguments.end)
        owed: Counter[str] = Counter()
        for invoice in truth.cases.invoices.values():
            last = invoice.standings[-1]
            owed[invoice.currency] += last.amount_remaining if last.status == "open" else 0
        for currency, balance in books.items():
            assert sum(balance.values()) == 0
            assert balance.get("accounts_receivable", 0) == owed[currency]
            assert balance.get("payments_clearing", 0) == -balance.get("pending_cash", 0)

"""From monthly recurring revenue to recognised revenue to cash, in named differences that leave nothing over. Pure.

Every difference is computed from what it is named after, except ``periods_and_prorations``: that is the rest of what
subscription lines earned, which comes from counting days instead of months and from prorations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from projections.revenue.accounts import CLASSES
from projections.revenue.recognition import Earning

Between = Literal["mrr_and_recognized", "recognized_and_cash"]

CASH: Final = ("stripe_balance", "pending_cash", "payout_in_transit", "bank", "external_asset")
"""Where money is, wherever it came in."""

ACCOUNTS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "deferred": ("deferred_revenue",),
    "unbilled": ("unbilled_receivable",),
    "receivables": ("accounts_receivable",),
    "tax": ("tax_liability",),
    "customer_balance": ("customer_balance", "customer_balance_adj", "customer_refunds_payable"),
    "prepaid_credits": ("billing_credits",),
    "refunds": ("refunds",),
    "disputes": ("disputes",),
    "credit_notes": ("credit_notes",),
    "voids": ("voids",),
    "bad_debt": ("bad_debt",),
    "recovered": ("recoverables",),
    "fees": ("stripe_fees", "dispute_fees"),
    "losses": ("other_loss",),
    "in_clearing": ("payments_clearing", "refunds_clearing"),
    "unconverted": ("fx_clearing",),
    "opening": ("opening_balance",),
}
"""The accounts behind each class of difference between what was recognised and what was paid."""


class Difference(NamedTuple):
    """Why two numbers differ, and by how much: added to the first it leads to the second."""

    name: str
    between: Between
    amount: int


class Earned(NamedTuple):
    """What a month earned in one currency, by what it was earned on."""

    counted: int  # on subscriptions, while they were worth something
    uncounted: int  # on subscriptions, while they were worth nothing
    others: int  # on everything else


class TieOut(NamedTuple):
    """A month in one currency: three numbers and the differences that lead from each to the next."""

    mrr: int
    recognized: int
    cash: int
    differences: tuple[Difference, ...]


def tie_out(
    mrr: int, average: Fraction, discounted: Fraction, earned: Earned, now: Mapping[str, int], change: Mapping[str, int]
) -> TieOut:
    """Tie a month out. ``average`` and ``discounted`` are worth over the month's time, the latter after all discounts.

    ``now`` and ``change`` are what accounts changed by (debit positive): as is known now, and as it is reported.
    """
    recognized, cash = -change.get("revenue", 0), sum(change.get(account, 0) for account in CASH)
    whole, less = round(average), round(discounted)
    first = {
        "changes_within_the_month": whole - mrr,
        "temporary_discounts": less - whole,
        "periods_and_prorations": earned.counted - less,
        "earned_while_not_counted": earned.uncounted,
        "not_recurring": earned.others,
        "prior_period": recognized + now.get("revenue", 0),
    }
    second = {name: -sum(change.get(account, 0) for account in accounts) for name, accounts in ACCOUNTS_OF.items()}
    found = [Difference(name, "mrr_and_recognized", amount) for name, amount in first.items() if amount]
    found += [Difference(name, "recognized_and_cash", amount) for name, amount in second.items() if amount]
    return TieOut(mrr, recognized, cash, tuple(found))


def earned_in(
    earnings: Iterable[tuple[Earning, str | None]],
    worthless: Mapping[str, Sequence[tuple[datetime, datetime | None]]],
    known: frozenset[str],
    start: int,
    end: int,
) -> dict[str, Earned]:
    """Sort what lines earn from ``start`` to ``end`` by the subscription of each; ``worthless`` are its times at 0."""
    found: dict[str, Earned] = {}
    for one, subscription in earnings:
        amount = one.earned(start, end)
        if subscription is None:
            part = Earned(0, 0, amount)
        elif subscription not in known:
            part = Earned(0, amount, 0)
        else:
            spans = worthless.get(subscription, ())
            without = sum(one.earned(*_within(since, until, start, end)) for since, until in spans)
            part = Earned(amount - without, without, 0)
        found[one.currency] = _plus(found.get(one.currency, Earned(0, 0, 0)), part)
    return found


def plus(one: Mapping[str, Earned], other: Mapping[str, Earned]) -> dict[str, Earned]:
    """Add up what was earned."""
    nothing = Earned(0, 0, 0)
    return {key: _plus(one.get(key, nothing), other.get(key, nothing)) for key in {*one, *other}}


def _plus(one: Earned, other: Earned) -> Earned:
    return Earned(*(a + b for a, b in zip(one, other, strict=True)))


def _within(since: datetime, until: datetime | None, start: int, end: int) -> tuple[int, int]:
    last = end if until is None else min(int(until.timestamp()), end)
    return max(int(since.timestamp()), start), last


def unclassed() -> set[str]:
    """Return the accounts that no class of difference explains: there are none."""
    return set(CLASSES) - {"revenue", *CASH} - {account for some in ACCOUNTS_OF.values() for account in some}

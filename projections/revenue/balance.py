"""Changes of a customer's balance that no invoice explains: those made by hand (stripe-domain §5.4, row 17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from projections.revenue.entries import Journal, Posting
from projections.revenue.facts import Facts

_SOON: Final = 3_600
"""What an event and its cause may lie apart: a difference that is gone within this is none."""


_MANY: Final = 1_000
"""So many sums are tried to explain a balance; busier hours are explained as a whole."""


class _Seen(NamedTuple):
    """What a balance was said to be, and what is posted in that moment but came after it."""

    at: int
    key: str
    balance: int
    because: str
    after: int = 0


def post_balance_changes(facts: Facts, journal: Journal) -> None:
    """Post the differences between the balance that Stripe shows and the one our entries come to."""
    for currency in sorted(_currencies(facts)):
        changes = sorted(
            (entry.at, posting.amount)
            for entry in journal.entries
            if entry.currency == currency
            for posting in entry.postings
            if posting.account == "customer_balance"
        )
        payable = sorted(
            (entry.at, -posting.amount)
            for entry in journal.entries
            if entry.currency == currency
            for posting in entry.postings
            if posting.account == "customer_refunds_payable"
        )
        _compare(_shown(facts, currency), changes, payable, currency, journal)


def _currencies(facts: Facts) -> set[str]:
    """Return what balances are kept in: what a customer names as its own, and others that its invoices tell of.

    One that names no currency keeps its own in that of its invoices; nothing is compared of one that was never seen.
    """
    named = {one.currency for one in facts.balances}
    if named:
        used = (one for one in facts.invoices.values() if one.starting_balance or (one.balance and "" in named))
        named |= {one.currency for one in used}
    return named - {""}


def _left_payable(payable: Sequence[tuple[int, int]], at: int) -> int:
    """Return what was to be refunded once more at a moment, and no later refund brought."""
    owed = sum(amount for when, amount in payable if when <= at)
    least = owed
    for _, amount in (one for one in payable if one[0] > at):
        owed += amount
        least = min(least, owed)
    return least


def _shown(facts: Facts, currency: str) -> list[_Seen]:
    """Return what the customer's events and the invoices' starting balances said."""
    seen = [_Seen(one.at, f"{one.because}:balance", one.balance, one.because)
            for one in facts.balances if one.currency in {currency, ""}]  # fmt: skip
    seen += [_Seen(one.finalized_at, f"{key}:starting_balance", one.starting_balance, one.because["finalize"],
                   one.balance)
             for key, one in facts.invoices.items() if one.currency == currency and one.starting_balance]  # fmt: skip
    return sorted(seen)


def _compare(
    seen: Sequence[_Seen],
    changes: Sequence[tuple[int, int]],
    payable: Sequence[tuple[int, int]],
    currency: str,
    journal: Journal,
) -> None:
    adjusted = settled = 0
    for one in seen:
        far = sum(amount for at, amount in changes if at < one.at - _SOON)
        near = [amount for at, amount in changes if one.at - _SOON <= at <= one.at + _SOON]
        expected = {far + adjusted}
        for amount in near:
            expected |= {one + amount for one in expected} if len(expected) < _MANY else {sum(near) + far + adjusted}
        if one.balance in expected:
            continue
        now = sum(amount for at, amount in changes if at <= one.at) + adjusted - one.after
        difference = one.balance - now
        adjusted += difference
        # To the cent what was to be refunded once more, and never was: it is credited instead (row 11c).
        owed = _left_payable(payable, one.at) - settled
        owed = owed if owed > 0 and owed == -difference else 0
        settled += owed
        postings = [
            Posting("customer_balance", difference),
            Posting("customer_refunds_payable", owed),
            Posting("customer_balance_adj", -difference - owed),
        ]
        journal.post(one.key, one.at, "balance_change", currency, postings, [one.because])

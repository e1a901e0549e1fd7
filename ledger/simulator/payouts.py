"""Payouts: every two weeks what Stripe holds goes to the company's bank; now and then the bank sends it back."""

from __future__ import annotations

from typing import Final

from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY
from ledger.simulator.objects import Payout

_EVERY: Final = 14 * DAY
_ARRIVES: Final = 2 * DAY
_PAID_OUT: Final = ("eur", "usd")
_ONE_FAILS_OF: Final = 23


def begin(account: Account) -> None:
    """Pay out from now on."""
    account.schedule(account.now + _EVERY, lambda: _pay_out(account, 1))


def _pay_out(account: Account, number: int) -> None:
    for currency in _PAID_OUT:
        amount = account.held.get(currency, 0)
        if amount > 0:
            pay_out(account, currency, amount, fails=number % _ONE_FAILS_OF == 0)
    account.schedule(account.now + _EVERY, lambda: _pay_out(account, number + 1))


def pay_out(account: Account, currency: str, amount: int, *, fails: bool = False) -> None:
    """Send an amount to the bank, where it arrives, or is refused, days later."""
    made = Payout(account.new_id("po"), amount, currency, account.now)
    account.move(currency, payout_in_transit=amount, stripe_balance=-amount)
    account.announce("payout.created", made)

    def arrive() -> None:
        made.status = "failed" if fails else "paid"
        if fails:
            account.move(currency, stripe_balance=amount, payout_in_transit=-amount)
        else:
            account.move(currency, bank=amount, payout_in_transit=-amount)
        account.announce(f"payout.{made.status}", made)

    account.schedule(account.now + _ARRIVES, arrive)

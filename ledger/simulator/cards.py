"""Cards: attached, replaced by their holder, renewed by the network, taken off."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.simulator.account import Account
from ledger.simulator.objects import Customer, Method, Subscription


def attach(account: Account, customer: Customer) -> None:
    """Attach a customer's first card, where they have none; Checkout does it unseen before it charges."""
    if customer.method is None:
        customer.method = Method(account.new_id("pm"), customer, account.now)
        account.announce("payment_method.attached", customer.method, asked=True)
        _mend(account, customer, "new_payment_method")


def replace(account: Account, customer: Customer, subscriptions: Iterable[Subscription]) -> None:
    """Let a customer bring another card, which everything they have is charged to from now on."""
    old, customer.method = customer.method, Method(account.new_id("pm"), customer, account.now)
    account.announce("payment_method.attached", customer.method, asked=True)
    account.announce("customer.updated", customer, asked=True)
    for one in subscriptions:
        account.announce("customer.subscription.updated", one, asked=True)
    if old is not None:
        old.customer = None
        account.announce("payment_method.detached", old, asked=True)
    _mend(account, customer, "new_payment_method")


def renew(account: Account, customer: Customer) -> None:
    """Let the card's network tell of a new number or date; the payment method keeps its id."""
    if customer.method is not None:
        customer.method.issue += 1
        account.announce("payment_method.automatically_updated", customer.method)
        _mend(account, customer, "network_updater")


def _mend(account: Account, customer: Customer, how: str) -> None:
    """Note that what could not be collected can be tried again with what is new."""
    for invoice in customer.open_invoices:
        if invoice.trouble is not None and (invoice.trouble.failures or invoice.trouble.attempts):
            invoice.trouble.needs_method = False
            invoice.trouble.new_method = how
            account.truth.invoice(account.now, invoice)

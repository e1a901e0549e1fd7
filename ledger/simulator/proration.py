"""Changing a subscription in the middle of its period: what is given back, what is charged for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from ledger.simulator.account import Account
from ledger.simulator.calendar import period_after
from ledger.simulator.catalog import Price, charged
from ledger.simulator.objects import Customer, Item, Line, Subscription
from ledger.simulator.render_invoice import invoice_item


def changed(account: Account, one: Subscription, wanted: Sequence[tuple[Price, int]]) -> tuple[list[Item], list[Line]]:
    """Return the subscription's items as wanted, and the lines that settle the difference until their periods end.

    An item whose product is still wanted is kept and changed; a trial has nothing to settle.
    """
    left = list(one.items)
    items: list[Item] = []
    lines: list[Line] = []
    for price, quantity in wanted:
        old = next((item for item in left if item.price.interval == price.interval), None)
        if old is None:
            items.append(_new(account, one, price, quantity))
            lines += _line(account, items[-1], one)
            continue
        left.remove(old)
        item = replace(old, price=price, quantity=quantity)
        items.append(item)
        if (old.price, old.quantity) != (price, quantity):
            lines += [*_line(account, old, one, credit=True), *_line(account, item, one)]
    for gone in left:
        lines += _line(account, gone, one, credit=True)
    return items, lines


def announce(account: Account, customer: Customer, one: Subscription | None, lines: Sequence[Line]) -> None:
    """Announce the invoice items that prorations, and what is billed once, are."""
    for line in lines:
        account.announce_rendered("invoiceitem.created", invoice_item(line, customer, one, account.livemode))


def _new(account: Account, one: Subscription, price: Price, quantity: int) -> Item:
    """Add an item in the period that its interval has from the subscription's anchor."""
    interval = price.interval or "month"
    end = one.trial_end if one.status == "trialing" else None
    peer = next((item for item in one.items if item.price.interval == interval), None)
    end = end or (peer.period_end if peer else None) or period_after(account.now, interval, account.now)
    start = peer.period_start if peer else account.now
    return Item(account.new_id("si"), price, quantity, account.now, start, end)


def _line(account: Account, item: Item, one: Subscription, *, credit: bool = False) -> list[Line]:
    if one.status == "trialing" or item.trial_end is not None:
        return []
    whole = item.price.amount(item.quantity, one.currency)
    span = max(item.period_end - item.period_start, 1)
    amount = charged(Fraction(whole * (item.period_end - account.now), span), one.currency)
    line = Line(
        id=account.new_id("il"),
        item=item.id,
        price=item.price,
        quantity=item.quantity,
        amount=-amount if credit else amount,
        start=account.now,
        end=item.period_end,
        proration=True,
        invoice_item=account.new_id("ii"),
    )
    return [line]

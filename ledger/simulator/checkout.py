"""Checkout sessions: single purchases, also by methods that pay days later, and the start of subscriptions."""

from __future__ import annotations

from ledger.simulator import payments
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY, HOUR
from ledger.simulator.catalog import Price
from ledger.simulator.objects import Customer, Session, Subscription


def open_session(account: Account, customer: Customer, price: Price, quantity: int, *, recurring: bool) -> Session:
    """Open a session; nothing is announced until it is completed or expires."""
    return Session(
        id=account.new_id("cs_live" if account.livemode else "cs_test"),
        customer=customer,
        mode="subscription" if recurring else "payment",
        price=price,
        quantity=quantity,
        created=account.now,
        org=customer.org,
    )


def buy(account: Account, session: Session, *, method: str = "card", clears: bool = True) -> None:
    """Complete a session for a single purchase. A bank debit is only a promise until it ``clears``, or does not."""
    customer = session.customer
    payment = payments.intend(account, customer, session.amount, session.currency)
    payment.method = method
    payment.pays = session.id
    session.payment = payment
    delayed = method != "card"
    payments.attempt(account, payment, "pending" if delayed else "ok")
    session.status = "complete"
    session.payment_status = "unpaid" if delayed else "paid"
    if not delayed:
        _booked(account, session)
    account.announce("checkout.session.completed", session)
    if delayed:
        account.schedule(account.now + 4 * DAY, lambda: _clear(account, session, clears=clears))
    else:
        note(account, session, holds=True)


def _clear(account: Account, session: Session, *, clears: bool) -> None:
    if session.payment is None:
        raise ValueError(f"{session.id} has no payment")
    payments.clear(account, session.payment, succeeded=clears)
    if clears:
        session.payment_status = "paid"
        _booked(account, session)
        note(account, session, holds=True)
    ending = "succeeded" if clears else "failed"
    account.announce(f"checkout.session.async_payment_{ending}", session)


def _booked(account: Account, session: Session) -> None:
    account.truth.books.bought(account.now, session.id, session.currency, session.amount)


def note(account: Account, session: Session, *, holds: bool) -> None:
    """Tell the truth whether a purchase gives access from now on."""
    if session.customer is not None:
        product = session.price.product
        account.truth.purchase(
            account.now, session.id, session.customer, product, session.quantity, holds=holds, named=session.named
        )


def subscribed(account: Account, session: Session, subscription: Subscription) -> None:
    """Complete a session whose subscription has started."""
    session.status = "complete"
    session.payment_status = "paid" if subscription.ever_paid else "no_payment_required"
    session.subscription = subscription
    session.invoice = subscription.latest_invoice
    account.announce("checkout.session.completed", session)


def abandon(account: Account, session: Session) -> None:
    """Let a session expire because nobody came back to it."""

    def expire() -> None:
        session.status = "expired"
        account.announce("checkout.session.expired", session)

    account.schedule(session.created + 24 * HOUR, expire)

"""A whole simulated company as a stream of events: its catalogue, its accounts, and customers who come over time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import orjson

from ledger.simulator import catalog, payouts
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY, later, unix
from ledger.simulator.dealings import DOINGS
from ledger.simulator.faults import Delivery
from ledger.simulator.lives import Life
from ledger.simulator.objects import Customer, Json
from ledger.simulator.troubles import billing_of
from ledger.simulator.truth import Truth
from ledger.simulator.versions import ENDIVE, VERSIONS

MIXED: Final = "mixed"
CONNECTED: Final = "acct_simulated0001"


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a company is made from: the same arguments make the same events, byte for byte."""

    customers: int = 300
    months: int = 36
    seed: int = 1
    api_version: str = ENDIVE
    start: int = unix(2023, 11)

    @property
    def end(self) -> int:
        """The first second after the company's last month."""
        return later(self.start, "month", self.months)


class Company:
    """The company's accounts by book: its own, one connected to it, and its own in test mode."""

    def __init__(self, arguments: Arguments, *, keep_truth: bool = True) -> None:
        self.arguments = arguments
        self.truth = {book: Truth(keep=keep_truth) for book in ("self:live", f"{CONNECTED}:live", "self:test")}
        self._accounts = {book: self._account(book) for book in self.truth}
        self._lives: dict[str, dict[str, Life]] = {book: {} for book in self.truth}
        self._billing = {book: billing_of(account, self._lives[book]) for book, account in self._accounts.items()}

    def events(self) -> Iterator[Json]:
        """Give every event in the order Stripe caused it."""
        for book, account in self._accounts.items():
            account.now = self.arguments.start
            self._open_catalogue(account)
            yield from account.announced()
            account.schedule(account.now, self._arrivals(book))
            payouts.begin(account)
        while (following := self._next()) is not None:
            yield from following.step()

    def customers(self, book: str) -> list[Customer]:
        """Return all customers that have come so far."""
        return [life.customer for life in self._lives[book].values()]

    def deliveries(self, *, indented: bool = False) -> Iterator[Delivery]:
        """Give every event as Stripe delivers it, a moment after it was caused."""
        latency = random.Random(f"{self.arguments.seed}/latency")  # noqa: S311 - repeatable, not secret
        option = orjson.OPT_INDENT_2 if indented else 0
        for event in self.events():
            yield Delivery(event["created"] + latency.randrange(3), orjson.dumps(event, option=option))

    def _next(self) -> Account | None:
        """Return the account where something happens next, up to the company's end."""
        due = [(account.next_at, book) for book, account in self._accounts.items() if account.next_at is not None]
        if not due or min(due)[0] >= self.arguments.end:
            return None
        return self._accounts[min(due)[1]]

    def _account(self, book: str) -> Account:
        seed = f"{self.arguments.seed}/{book}"
        owner, _, mode = book.rpartition(":")
        connected = owner if owner != "self" else None
        version = _versions(self.arguments.api_version, seed)
        return Account(seed, version, truth=self.truth[book], livemode=mode == "live", connected=connected)

    def _open_catalogue(self, account: Account) -> None:
        for product in catalog.PRODUCTS:
            account.announce("product.created", product, asked=True)
        for price in catalog.prices():
            account.announce("price.created", price, asked=True)
        for coupon in catalog.COUPONS:
            account.announce("coupon.created", coupon, asked=True)

    def _arrivals(self, book: str) -> Callable[[], None]:
        """Let customers come one after the other: nobody is kept in memory before they are there."""
        wanted = self._share(book)
        gap = (self.arguments.end - self.arguments.start - DAY) // max(wanted, 1)
        account = self._accounts[book]

        def arrive(number: int) -> None:
            if number < wanted:
                self._arrive(book, number)
                account.schedule(self.arguments.start + (number + 1) * gap, lambda: arrive(number + 1))

        return lambda: arrive(0)

    def _share(self, book: str) -> int:
        connected, test = self.arguments.customers // 20, self.arguments.customers // 30
        return {"self:live": self.arguments.customers - connected - test, "self:test": test}.get(book, connected)

    def _arrive(self, book: str, number: int) -> None:
        account = self._accounts[book]
        luck = random.Random(f"{self.arguments.seed}/{book}/{number}")  # noqa: S311 - repeatable, not secret
        currency = luck.choices(catalog.CURRENCIES, (56, 24, 10, 4, 6))[0]
        org = f"org_{luck.randrange(40)}" if luck.random() < 0.7 else None
        customer = Customer(account.new_id("cus"), number, currency, account.now, org=org)
        life = Life(account, self._billing[book], customer, luck, DOINGS)
        self._lives[book][customer.id] = life
        life.begin()


def _versions(api_version: str, seed: str) -> Callable[[], str]:
    if api_version != MIXED:
        return lambda: api_version
    luck = random.Random(f"{seed}/version")  # noqa: S311 - repeatable, not secret
    return lambda: luck.choice(VERSIONS)

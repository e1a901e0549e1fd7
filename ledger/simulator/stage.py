"""What can be told in a scenario: each word is something a customer, a bank or the company does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar, get_args

from ledger.simulator import cards, catalog, checkout
from ledger.simulator.account import Account
from ledger.simulator.collecting import Exhausted
from ledger.simulator.declines import DECLINES
from ledger.simulator.objects import CreditNote, Customer, Invoice, Session, Subscription
from ledger.simulator.subscriptions import Billing, Terms

Word = TypeVar("Word", bound=str)


@dataclass(slots=True, eq=False)
class Remembering(Billing):
    """Billing that remembers every invoice, so that a scenario can speak of the last one."""

    invoices: list[Invoice] = field(default_factory=list)

    def finalize(self, invoice: Invoice) -> None:
        """Remember an invoice, then go on with it."""
        if invoice not in self.invoices:
            self.invoices.append(invoice)
        Billing.finalize(self, invoice)


@dataclass(slots=True, eq=False)
class Stage:
    """One customer, one bank, and the things on the way."""

    account: Account
    bank: str = "ok"
    exhausted: Exhausted = "cancel"
    blocked: bool = False
    customer: Customer = field(init=False)
    billing: Remembering = field(init=False)
    subscriptions: list[Subscription] = field(default_factory=list)
    session: Session | None = None
    notes: list[CreditNote] = field(default_factory=list)

    def __post_init__(self) -> None:
        account = self.account
        self.customer = Customer(account.new_id("cus"), 1, "usd", account.now)
        self.billing = Remembering(
            account, lambda _: self.bank, lambda _: self.exhausted, blocks=lambda _: self.blocked
        )
        account.schedule(account.now, lambda: account.announce("customer.created", self.customer, asked=True))

    def subscribe(self, *words: str) -> None:
        """``subscribe team_month_usd*5 trial=14 card=no ending=pause collect=send_invoice org=acme``."""
        wanted, options = _wanted(words)
        trial = int(options.pop("trial", "0"))
        if options.pop("card", "yes") != "no":
            cards.attach(self.account, self.customer)
        terms = Terms(
            trial_days=trial,
            without_card=one_of(options.pop("ending", "create_invoice"), ("create_invoice", "pause", "cancel")),
            send_invoice=options.pop("collect", "card") == "send_invoice",
            org=options.pop("org", None),
            item_trial_days=int(options.pop("item_trial", "0")),
        )
        _nothing_left(options)
        self.subscriptions.append(self.billing.start(self.customer, wanted, terms))

    def change(self, *words: str) -> None:
        """``change team_month_usd*8``, with ``now`` invoiced at once."""
        wanted, options = _wanted(words)
        now = options.pop("now", None) is not None
        _nothing_left(options)
        self.billing.change(self.subscriptions[-1], wanted, invoice_now=now)

    def cancel(self) -> None:
        """``cancel``: end the last subscription now."""
        self.billing.cancel(self.subscriptions[-1])

    def cancel_first(self) -> None:
        """``cancel_first``: end the first one."""
        self.billing.cancel(self.subscriptions[0])

    def plan_the_end(self) -> None:
        """``cancel_at_period_end``."""
        self.billing.cancel_at_period_end(self.subscriptions[-1])

    def stay(self) -> None:
        """``stay``: take that back."""
        self.billing.cancel_at_period_end(self.subscriptions[-1], really=False)

    def hold(self, behavior: str) -> None:
        """``hold_collection void``, ``hold_collection no_more``."""
        self.billing.pause_collection(self.subscriptions[-1], None if behavior == "no_more" else behavior)

    def pause(self) -> None:
        """``pause`` the service."""
        self.billing.pause(self.subscriptions[-1])

    def resume(self) -> None:
        """``resume`` it."""
        self.billing.resume(self.subscriptions[-1])

    def answer(self, answer: str) -> None:
        """``bank stolen_card``: what it answers from now on."""
        self.bank = one_of(answer, ("ok", "action", *DECLINES))

    def exhaust(self, outcome: str) -> None:
        """``exhausted unpaid``: what becomes of a subscription when all attempts have failed."""
        self.exhausted = one_of(outcome, get_args(Exhausted))

    def buy(self, name: str, how: str = "card") -> None:
        """``buy course_once_usd``, ``debit`` that clears later, or ``bouncing_debit``."""
        how = one_of(how, ("card", "debit", "bouncing_debit"))
        session = checkout.open_session(self.account, self.customer, price_of(name), 1, recurring=False)
        self.session = session
        checkout.buy(
            self.account, session, method="card" if how == "card" else "us_bank_account", clears=how != "bouncing_debit"
        )

    def move(self, org: str) -> None:
        """``move acme``, ``move nowhere``."""
        self.customer.org = None if org == "nowhere" else org
        self.billing.customer_changed(self.customer)

    def delete(self) -> None:
        """``delete`` the customer."""
        self.billing.delete_customer(self.customer)


WORDS: Final[dict[str, Callable[..., None]]] = {
    "subscribe": Stage.subscribe,
    "change": Stage.change,
    "cancel": Stage.cancel,
    "cancel_first": Stage.cancel_first,
    "cancel_at_period_end": Stage.plan_the_end,
    "stay": Stage.stay,
    "hold_collection": Stage.hold,
    "pause": Stage.pause,
    "resume": Stage.resume,
    "bank": Stage.answer,
    "exhausted": Stage.exhaust,
    "buy": Stage.buy,
    "move": Stage.move,
    "delete": Stage.delete,
}


def _wanted(words: tuple[str, ...]) -> tuple[list[tuple[catalog.Price, int]], dict[str, str]]:
    wanted = [(price_of(name), int(quantity or 1)) for name, _, quantity in
              (word.partition("*") for word in words if "=" not in word and word != "now")]  # fmt: skip
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if "now" in words:
        options["now"] = "yes"
    return wanted, options


def price_of(name: str) -> catalog.Price:
    """Return a price by its lookup key; raises ``ValueError``."""
    try:
        return catalog.price_named(name)
    except KeyError as error:
        raise ValueError(f"{name} is no price") from error


def one_of(word: str, allowed: tuple[Word, ...]) -> Word:
    """Return the word where it is allowed; raises ``ValueError``."""
    for one in allowed:
        if one == word:
            return one
    raise ValueError(f"{word} is none of {', '.join(allowed)}")


def _nothing_left(options: dict[str, str]) -> None:
    if options:
        raise ValueError(f"unknown: {', '.join(options)}")

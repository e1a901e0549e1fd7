"""A life in a few lines: what happens on which day, and what must be true then.

    given  day 0   subscribe team_month_usd*5
           day 40  change team_month_usd*8 now
           day 61  bank insufficient_funds
    then   day 1   seats=5 sso
           day 41  seats=8
           day 63  seats=8            # past due is not revoked
           day 90  nothing

Days may have fractions (``day 0.5``). A ``#`` begins a remark. ``then`` lists what the customer may use: ``seats=5``
is that much of it, ``sso`` is a yes, ``nothing`` is nothing at all; what a line does not name, it says nothing about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, TypeVar, get_args

from ledger.errors import MistakeError
from ledger.simulator import catalog, checkout, payments
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY, unix
from ledger.simulator.objects import Customer, Json, Session, Subscription
from ledger.simulator.subscriptions import Billing, Exhausted, Terms
from ledger.simulator.truth import Truth
from ledger.simulator.versions import ENDIVE

START: Final = unix(2026, 1)

Word = TypeVar("Word", bound=str)


class ScenarioError(MistakeError):
    """A line of a scenario cannot be understood; it says which one and why."""

    def __init__(self, line: str, why: str) -> None:
        super().__init__(f"{line.strip()!r}: {why}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be so at a moment: feature to amount, or to True; empty where nothing may be granted."""

    at: int
    features: dict[str, int | bool]
    line: str


@dataclass(slots=True)
class Story:
    """A scenario that has been played: its customer, its events in causal order, what must be so, and the truth."""

    customer: str
    events: list[Json]
    expected: list[Expected]
    truth: Truth


def play(text: str, *, api_version: str = ENDIVE, seed: str = "scenario") -> Story:
    """Play a scenario in the shapes of one API version. Raises ``ScenarioError``."""
    truth = Truth()
    account = Account(seed, lambda: api_version, truth=truth)
    account.now = START
    stage = _Stage(account)
    events: list[Json] = []
    expected: list[Expected] = []
    last = START
    for part, at, words, line in _lines(text):
        if part == "then":
            expected.append(Expected(at, _features(words, line), line.strip()))
        else:
            account.schedule(at, _doing(stage, words, line))
        last = max(last, at)
    while account.next_at is not None and account.next_at <= last:
        events += account.step()
    return Story(stage.customer.id, events, expected, truth)


def _lines(text: str) -> list[tuple[str, int, list[str], str]]:
    part = ""
    found: list[tuple[str, int, list[str], str]] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words and words[0] in {"given", "then"}:
            part = words.pop(0)
        if not words:
            continue
        if not part or len(words) < 3 or words[0] != "day":
            raise ScenarioError(line, "a line reads: [given|then] day N what")
        try:
            at = START + int(Fraction(words[1]) * DAY)
        except ValueError as error:
            raise ScenarioError(line, f"{words[1]} is no day") from error
        found.append((part, at, words[2:], line))
    return found


def _features(words: list[str], line: str) -> dict[str, int | bool]:
    if words == ["nothing"]:
        return {}
    try:
        return {name: int(amount) if amount else True for name, _, amount in (word.partition("=") for word in words)}
    except ValueError as error:
        raise ScenarioError(line, "an amount is a whole number") from error


@dataclass(slots=True, eq=False)
class _Stage:
    """One customer, one bank, and the things on the way."""

    account: Account
    bank: str = "ok"
    exhausted: Exhausted = "cancel"
    customer: Customer = field(init=False)
    billing: Billing = field(init=False)
    subscriptions: list[Subscription] = field(default_factory=list)
    session: Session | None = None

    def __post_init__(self) -> None:
        account = self.account
        self.customer = Customer(account.new_id("cus"), 1, "usd", account.now)
        self.billing = Billing(account, lambda *_: self.bank, lambda _: self.exhausted)
        account.schedule(account.now, lambda: account.announce("customer.created", self.customer, asked=True))

    def subscribe(self, *words: str) -> None:
        wanted, options = _wanted(words)
        trial = int(options.pop("trial", "0"))
        self.customer.card = None if options.pop("card", "yes") == "no" else self.account.new_id("pm")
        terms = Terms(
            trial_days=trial,
            without_card=_one_of(options.pop("ending", "create_invoice"), ("create_invoice", "pause", "cancel")),
            send_invoice=options.pop("collect", "card") == "send_invoice",
            org=options.pop("org", None),
        )
        _nothing_left(options)
        self.subscriptions.append(self.billing.start(self.customer, wanted, terms))

    def change(self, *words: str) -> None:
        wanted, options = _wanted(words)
        now = options.pop("now", None) is not None
        _nothing_left(options)
        self.billing.change(self.subscriptions[-1], wanted, invoice_now=now)

    def cancel(self) -> None:
        self.billing.cancel(self.subscriptions[-1])

    def cancel_first(self) -> None:
        self.billing.cancel(self.subscriptions[0])

    def plan_the_end(self) -> None:
        self.billing.cancel_at_period_end(self.subscriptions[-1])

    def stay(self) -> None:
        self.billing.cancel_at_period_end(self.subscriptions[-1], really=False)

    def hold(self, behavior: str) -> None:
        self.billing.pause_collection(self.subscriptions[-1], None if behavior == "no_more" else behavior)

    def pause(self) -> None:
        self.billing.pause(self.subscriptions[-1])

    def resume(self) -> None:
        self.billing.resume(self.subscriptions[-1])

    def answer(self, answer: str) -> None:
        self.bank = _one_of(answer, ("ok", "action", *payments.DECLINES))

    def exhaust(self, outcome: str) -> None:
        self.exhausted = _one_of(outcome, get_args(Exhausted))

    def buy(self, name: str, how: str = "card") -> None:
        how = _one_of(how, ("card", "debit", "bouncing_debit"))
        session = checkout.open_session(self.account, self.customer, _price(name), 1, recurring=False)
        self.session = session
        checkout.buy(
            self.account, session, method="card" if how == "card" else "us_bank_account", clears=how != "bouncing_debit"
        )

    def move(self, org: str) -> None:
        self.customer.org = None if org == "nowhere" else org
        self.billing.customer_changed(self.customer)

    def delete(self) -> None:
        self.billing.delete_customer(self.customer)


_DOINGS: Final[dict[str, Callable[..., None]]] = {
    "subscribe": _Stage.subscribe,
    "change": _Stage.change,
    "cancel": _Stage.cancel,
    "cancel_first": _Stage.cancel_first,
    "cancel_at_period_end": _Stage.plan_the_end,
    "stay": _Stage.stay,
    "hold_collection": _Stage.hold,
    "pause": _Stage.pause,
    "resume": _Stage.resume,
    "bank": _Stage.answer,
    "exhausted": _Stage.exhaust,
    "buy": _Stage.buy,
    "move": _Stage.move,
    "delete": _Stage.delete,
}


def _doing(stage: _Stage, words: list[str], line: str) -> Callable[[], None]:
    name, *rest = words
    if name not in _DOINGS:
        raise ScenarioError(line, f"{name} is none of {', '.join(_DOINGS)}")

    def act() -> None:
        try:
            _DOINGS[name](stage, *rest)
        except (ValueError, TypeError, IndexError) as error:
            raise ScenarioError(line, str(error)) from error

    return act


def _wanted(words: tuple[str, ...]) -> tuple[list[tuple[catalog.Price, int]], dict[str, str]]:
    wanted = [(_price(name), int(quantity or 1)) for name, _, quantity in
              (word.partition("*") for word in words if "=" not in word and word != "now")]  # fmt: skip
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if "now" in words:
        options["now"] = "yes"
    return wanted, options


def _price(name: str) -> catalog.Price:
    try:
        return catalog.price_named(name)
    except KeyError as error:
        raise ValueError(f"{name} is no price") from error


def _one_of(word: str, allowed: tuple[Word, ...]) -> Word:
    for one in allowed:
        if one == word:
            return one
    raise ValueError(f"{word} is none of {', '.join(allowed)}")


def _nothing_left(options: dict[str, str]) -> None:
    if options:
        raise ValueError(f"unknown: {', '.join(options)}")

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
A line may also tell of the last case, of MRR at risk, of the books or of MRR:

    then   day 33  case state=retrying failures=1 open_amount=900
           day 33  at_risk usd=900
           day 33  mrr usd=900
           day 33  books deferred_revenue=-870

``stage`` and ``stage_money`` list the words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ledger.errors import MistakeError
from ledger.simulator import stage_money
from ledger.simulator.account import Account
from ledger.simulator.calendar import DAY, unix
from ledger.simulator.objects import Json
from ledger.simulator.stage import WORDS, Stage
from ledger.simulator.truth import Truth
from ledger.simulator.versions import ENDIVE

START: Final = unix(2026, 1)

_WORDS: Final = WORDS | stage_money.WORDS
_ABOUT: Final = ("case", "at_risk", "books", "mrr")


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


@dataclass(frozen=True, slots=True)
class Told:
    """What must be so of the last ``case``, of MRR ``at_risk``, the ``books`` or ``mrr`` at a moment."""

    at: int
    about: str
    facts: dict[str, int | str]
    line: str


@dataclass(slots=True)
class Story:
    """A scenario that has been played: its customer, its events in causal order, what must be so, and the truth."""

    customer: str
    events: list[Json]
    expected: list[Expected]
    told: list[Told]
    truth: Truth


def play(text: str, *, api_version: str = ENDIVE, seed: str = "scenario") -> Story:
    """Play a scenario in the shapes of one API version. Raises ``ScenarioError``."""
    truth = Truth()
    account = Account(seed, lambda: api_version, truth=truth)
    account.now = START
    stage = Stage(account)
    events: list[Json] = []
    expected: list[Expected] = []
    told: list[Told] = []
    last = START
    for part, at, words, line in _lines(text):
        if part == "then" and words[0] in _ABOUT:
            told.append(Told(at, words[0], _facts(words[1:]), line.strip()))
        elif part == "then":
            expected.append(Expected(at, _features(words, line), line.strip()))
        else:
            account.schedule(at, _doing(stage, words, line))
        last = max(last, at)
    while account.next_at is not None and account.next_at <= last:
        events += account.step()
    return Story(stage.customer.id, events, expected, told, truth)


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


def _facts(words: list[str]) -> dict[str, int | str]:
    facts: dict[str, int | str] = {}
    for word in words:
        name, _, value = word.partition("=")
        facts[name] = int(value) if value.removeprefix("-").isdigit() else value
    return facts


def _doing(stage: Stage, words: list[str], line: str) -> Callable[[], None]:
    name, *rest = words
    if name not in _WORDS:
        raise ScenarioError(line, f"{name} is none of {', '.join(_WORDS)}")

    def act() -> None:
        try:
            _WORDS[name](stage, *rest)
        except (ValueError, TypeError, IndexError) as error:
            raise ScenarioError(line, str(error)) from error

    return act

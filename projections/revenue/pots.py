"""Pots: where each invoice line's amount is, in four integers, whatever happens to the invoice.

``D`` is deferred, ``R`` earned and not taken back, ``G`` gained after it had been given up, ``X`` tax. Time moves D to
R. Every other fact takes from the pots or gives back to them, over all lines in one split, so that no order of facts
can give books in which every entry balances but the total is wrong (stripe-domain §5.4, *Pots*).

Pure integers: seconds and smallest currency units. Callers turn the returned moves into entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from projections.revenue.policy import Granularity
from projections.revenue.schedule import Span, fraction_left, half_even, left_at, spans_of

Pot = Literal["D", "R", "G", "X"]
_ORDER: tuple[Pot, ...] = ("D", "R", "G", "X")


class Move(NamedTuple):
    """An amount in one pot of one line."""

    line: str
    pot: Pot
    amount: int


@dataclass(slots=True)
class Taken:
    """What a fact took from the pots and when, so that it can be given back; ``excess`` is what no pot could give."""

    at: int
    moves: list[Move]
    excess: int = 0

    @property
    def amount(self) -> int:
        """The amount taken in all."""
        return sum(move.amount for move in self.moves) + self.excess

    def add(self, other: Taken) -> None:
        """Add what the same fact took later."""
        self.moves = _merged([*self.moves, *other.moves])
        self.excess += other.excess
        self.at = max(self.at, other.at)

    def part(self, amount: int) -> Taken:
        """Split off an amount, in proportion; what is left stays."""
        moves = [*self.moves, Move("", "X", self.excess)]
        shares = split(amount, [move.amount for move in moves])
        self.moves = [move._replace(amount=move.amount - some) for move, some in zip(self.moves, shares, strict=False)]
        self.excess -= shares[-1]
        given = [move._replace(amount=some) for move, some in zip(moves[:-1], shares, strict=False) if some]
        return Taken(self.at, given, shares[-1])


class Suspended(NamedTuple):
    """What was written off of a line and may still be paid: its deferred part, its earned part, its tax."""

    line: str
    future: int
    earned: int
    tax: int


class WrittenOff(NamedTuple):
    """What a write-off moves, by line; ``excess`` is what no pot held.

    ``deferred`` is D that leaves, ``earned`` and ``tax`` become a loss, ``gained`` is the part of D that was paid for.
    """

    deferred: list[Move]
    earned: list[Move]
    tax: list[Move]
    gained: list[Move]
    excess: int


@dataclass(slots=True)
class Line:
    """A line's pots, what was written off of it, and the spans over which it is earned.

    ``before`` are spans before it was billed, ``past`` those until now, ``spans`` the plan from now on.
    """

    key: str
    start: int
    end: int
    d: int = 0
    r: int = 0
    g: int = 0
    x: int = 0
    before: list[Span] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    past: list[Span] = field(default_factory=list)
    suspended: Suspended = field(default_factory=lambda: Suspended("", 0, 0, 0))


@dataclass(slots=True)
class Pots:
    """The pots of one invoice's lines, at the time of the last fact.

    While ``held``, nothing is earned: it is the first invoice of a subscription that is still incomplete.
    """

    granularity: Granularity = "second"
    lines: dict[str, Line] = field(default_factory=dict)
    held: bool = False

    def open(self, at: int, line: Line, amount: int, tax: int) -> int:
        """Begin a line of a finalised invoice; return what of ``amount`` was earned before (until now unbilled)."""
        if self.held or line.start >= line.end:
            unbilled = 0
        else:
            unbilled = amount - _left(amount, line, line.start, at, self.granularity)
            early = spans_of(amount, line.start, line.end, line.start, self.granularity)
            line.before = [span._replace(end=min(span.end, at)) for span in early if span.start < at]
        line.d, line.r, line.x = amount - unbilled, unbilled, tax
        self.lines[line.key] = line
        self._plan(line, at)
        return unbilled

    def release(self, at: int) -> list[Move]:
        """Let a held invoice earn from now on; return what its lines have earned by now."""
        self.held = False
        return [move for line in self._sorted() if (move := self._catch_up(line, at, line.d, line.start))]

    def earn_at_once(self, at: int) -> list[Move]:
        """Return what the lines without a period earn as they are billed."""
        at_once = [line for line in self._sorted() if line.start >= line.end]
        return [move for line in at_once if not self.held and (move := self._catch_up(line, at, line.d, line.start))]

    def advance(self, at: int) -> None:
        """Let time pass: move what was earned by ``at`` from D to R."""
        for line in self.lines.values():
            if line.spans:
                left = left_at(line.spans, at)
                line.r += line.d - left
                line.d = left

    @property
    def total(self) -> int:
        """The sum of all pots."""
        return sum(line.d + line.r + line.g + line.x for line in self.lines.values())

    def reduce(self, at: int, amount: int, line: str | None = None) -> Taken:
        """Take ``amount`` from all pots in proportion, first from the named line's; what no pot holds is excess.

        A negative line gives a negative share, so that the same proportion of every pot remains.
        """
        self.advance(at)
        named = [self.lines[line]] if line in self.lines else []
        moves: list[Move] = []
        rest = amount
        for lines in (named, self._sorted()):
            total = sum(one.d + one.r + one.g + one.x for one in lines)
            some = min(rest, total, self.total)
            if some > 0:
                moves += self._take(at, lines, some)
                rest -= some
        return Taken(at, _merged(moves), rest)

    def take_all(self, at: int) -> Taken:
        """Empty every pot."""
        self.advance(at)
        moves = [move for line in self._sorted() for move in _moves(line)]
        self._add(at, moves, -1)
        return Taken(at, moves)

    def give_back(self, at: int, taken: Taken) -> list[Move]:
        """Put back exactly what was taken; return what of it time has earned since, which is caught up."""
        self.advance(at)
        self._add(at, taken.moves, 1, keep_plan=True)
        return self._caught_up(at, taken.moves, taken.at)

    def defer(self, at: int, moves: Iterable[Move], since: int) -> list[Move]:
        """Put amounts into D and catch up the time since ``since``; return what was earned by that."""
        some = [Move(line, "D", amount) for line, _, amount in moves if amount]
        self.advance(at)
        self._add(at, some, 1, keep_plan=True)
        return self._caught_up(at, some, since)

    def use(self, line: str, amount: int) -> int:
        """Earn up to ``amount`` of a line's D at once (negative: undo that); return how much."""
        one = self.lines[line]
        some = min(amount, one.d)
        one.d -= some
        one.r = max(one.r + some, 0)
        return some

    def gain(self, moves: Iterable[Move]) -> None:
        """Put amounts into the named pots (not D, which has a plan)."""
        for line, pot, amount in moves:
            self._put(self.lines[line], pot, amount)

    def write_off(self, at: int, amount: int) -> WrittenOff:
        """Suspend what is owed: all of D leaves, and the part of it that was paid for becomes a gain."""
        self.advance(at)
        places = self._places(self._sorted())
        owed = min(amount, self.total) if amount > 0 else 0
        parts = dict(zip(((line.key, pot) for line, pot, _ in places),
                         split(owed, [held for _, _, held in places]), strict=True))  # fmt: skip
        off = WrittenOff([], [], [], [], amount - owed)
        for line in self._sorted():
            d, r, g, x = (parts[line.key, pot] for pot in _ORDER)
            line.suspended = Suspended(line.key, d + g, r, x)
            off.deferred.append(Move(line.key, "D", line.d))
            off.earned.append(Move(line.key, "R", r))
            off.tax.append(Move(line.key, "X", x))
            off.gained.append(Move(line.key, "G", line.d - d - g))
            line.g += line.d - d - g
            line.r -= r
            line.x -= x
            line.d = 0
            self._plan(line, at)
        return off

    @property
    def suspended(self) -> int:
        """What was written off and not paid, credited or voided since."""
        return sum(line.suspended.future + line.suspended.earned + line.suspended.tax for line in self.lines.values())

    def take_suspended(self, amount: int) -> list[Suspended]:
        """Take an amount out of what is suspended, in proportion."""
        lines = self._sorted()
        parts = [part for line in lines for part in line.suspended[1:]]
        shares = split(amount, parts)
        found: list[Suspended] = []
        for place, line in enumerate(lines):
            future, earned, tax = shares[3 * place : 3 * place + 3]
            _, had_future, had_earned, had_tax = line.suspended
            line.suspended = Suspended(line.key, had_future - future, had_earned - earned, had_tax - tax)
            found.append(Suspended(line.key, future, earned, tax))
        return found

    def give_suspended(self, parts: Iterable[Suspended]) -> None:
        """Put back what was taken out of what is suspended."""
        for line, future, earned, tax in parts:
            _, had_future, had_earned, had_tax = self.lines[line].suspended
            self.lines[line].suspended = Suspended(line, had_future + future, had_earned + earned, had_tax + tax)

    def _sorted(self) -> list[Line]:
        return [self.lines[key] for key in sorted(self.lines)]

    def _places(self, lines: Iterable[Line]) -> list[tuple[Line, Pot, int]]:
        return [(line, pot, held) for line in lines for pot, held in zip(_ORDER, _held(line), strict=True)]

    def _take(self, at: int, lines: Iterable[Line], amount: int) -> list[Move]:
        places = self._places(lines)
        shares = split(amount, [held for _, _, held in places])
        moves = [Move(line.key, pot, some) for (line, pot, _), some in zip(places, shares, strict=True) if some]
        self._add(at, moves, -1)
        return moves

    def _add(self, at: int, moves: Iterable[Move], sign: int, *, keep_plan: bool = False) -> None:
        planned: list[Line] = []
        for key, pot, amount in moves:
            line = self.lines[key]
            self._put(line, pot, sign * amount)
            if pot == "D":
                planned.append(line)
        if not keep_plan:
            for line in planned:
                self._plan(line, at)

    def _put(self, line: Line, pot: Pot, amount: int) -> None:
        if pot == "D":
            line.d += amount
        elif pot == "R":
            line.r += amount
        elif pot == "G":
            line.g += amount
        else:
            line.x += amount

    def _caught_up(self, at: int, moves: Iterable[Move], since: int) -> list[Move]:
        found: list[Move] = []
        for key, pot, amount in moves:
            if pot == "D" and (move := self._catch_up(self.lines[key], at, amount, since)):
                found.append(move)
        return found

    def _catch_up(self, line: Line, at: int, amount: int, since: int) -> Move | None:
        """Earn what time since ``since`` has earned of an amount in D, and plan the rest again."""
        left = amount if self.held else _left(amount, line, since, at, self.granularity)
        line.d -= amount - left
        line.r += amount - left
        self._plan(line, at)
        return Move(line.key, "R", amount - left) if amount != left else None

    def _plan(self, line: Line, at: int) -> None:
        """Plan again from ``at``: what is in D now is earned evenly over the remaining period."""
        line.past += [span._replace(end=min(span.end, at)) for span in line.spans if span.start < at]
        line.spans = [] if self.held else spans_of(line.d, line.start, line.end, at, self.granularity)


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """Split an amount in proportion to weights, which may be negative: largest remainder, ties to the earlier.

    If ``amount`` lies between 0 and the sum, no share exceeds its weight or has the opposite sign.
    """
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    parts = [divmod(amount * weight, total) for weight in weights]
    shares = [whole for whole, _ in parts]
    missing = amount - sum(shares)
    for place in sorted(range(len(parts)), key=lambda place: -abs(parts[place][1]))[:missing]:
        shares[place] += 1
    return shares


def _left(amount: int, line: Line, since: int, at: int, granularity: Granularity) -> int:
    left = fraction_left(line.start, line.end, since, at, granularity)
    return half_even(amount * left.numerator, left.denominator)


def _held(line: Line) -> tuple[int, int, int, int]:
    return (line.d, line.r, line.g, line.x)


def _moves(line: Line) -> list[Move]:
    return [Move(line.key, pot, amount) for pot, amount in zip(_ORDER, _held(line), strict=True) if amount]


def _merged(moves: Iterable[Move]) -> list[Move]:
    found: dict[tuple[str, Pot], int] = {}
    for line, pot, amount in moves:
        found[line, pot] = found.get((line, pot), 0) + amount
    return [Move(line, pot, amount) for (line, pot), amount in found.items() if amount]

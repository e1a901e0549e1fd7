"""The truth of one bill: everything that happened to it, done again with pencil and paper up to a moment.

A bill is a finalised invoice or a single purchase. Each of its lines keeps what is deferred, earned, gained back and
owed in tax (stripe-domain §5.4, *Pots*), and what was given up but may still be paid. Debits are positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

Amounts = dict[str, int]
POTS = ("deferred", "earned", "gained", "tax")


@dataclass(slots=True)
class Row:
    """One line of a bill: its pots, and how what is deferred is earned from ``since`` on."""

    id: str
    start: int
    end: int
    net: int
    tax: int
    deferred: int = 0
    earned: int = 0
    gained: int = 0
    since: int = 0
    then: int = 0
    lost_later: int = 0
    lost_earned: int = 0
    lost_tax: int = 0

    def left(self, amount: int, since: int, at: int) -> int:
        """Return what of an amount that is deferred at ``since`` is still so at ``at``."""
        since = max(since, self.start)
        if at >= self.end or self.start >= self.end:
            return 0
        return amount if at <= since else round(Fraction(amount * (self.end - at), self.end - since))

    def plan(self, at: int) -> None:
        """Go on from what is deferred now."""
        self.since, self.then = at, self.deferred

    def get(self, pot: str) -> int:
        """Return what is in a pot."""
        return int(getattr(self, pot))

    def add(self, pot: str, amount: int) -> None:
        """Put an amount into a pot, or take it out."""
        setattr(self, pot, self.get(pot) + amount)


@dataclass(slots=True)
class Taken:
    """What something took: when, from which pots of which line, and what it found no pot for."""

    at: int
    parts: list[tuple[Row, str, int]]
    excess: int

    def of(self, *pots: str) -> int:
        """Return what was taken from these pots."""
        return sum(amount for _, pot, amount in self.parts if pot in pots)


def shared(amount: int, weights: Sequence[int]) -> list[int]:
    """Split an amount in proportion; what rounding leaves over goes to the largest remainders, the first of equals."""
    whole = sum(weights)
    if not whole:
        return [0 for _ in weights]
    exact = [Fraction(amount * weight, whole) for weight in weights]
    shares = [part.numerator // part.denominator for part in exact]
    order = sorted(range(len(exact)), key=lambda place: shares[place] - exact[place])
    for place in order[: amount - sum(shares)]:
        shares[place] += 1
    return shares


@dataclass(slots=True)
class Replay:
    """A bill on its way through its facts: balances by account, and what flowed by name (see ``truth_books``)."""

    accounts: Amounts = field(default_factory=dict)
    flows: Amounts = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    held: bool = False
    lost: bool = False
    taken: dict[str, Taken] = field(default_factory=dict)

    def post(self, **amounts: int) -> None:
        """Write an entry; it must balance."""
        if sum(amounts.values()):
            raise ValueError(f"an entry does not balance: {amounts}")
        for account, amount in amounts.items():
            self.accounts[account] = self.accounts.get(account, 0) + amount

    def flow(self, name: str, amount: int) -> None:
        """Count what flowed."""
        self.flows[name] = self.flows.get(name, 0) + amount

    # Time.

    def pass_time(self, at: int) -> None:
        """Earn what time earns until ``at``."""
        for row in self.rows if not self.held else ():
            self._earn(row, row.deferred - row.left(row.then, row.since, at))

    def _earn(self, row: Row, amount: int) -> None:
        row.deferred -= amount
        row.earned += amount
        self.post(deferred_revenue=amount, revenue=-amount)
        self.flow("recognized", amount)

    def before(self, at: int, rows: Sequence[Row]) -> None:
        """Earn, before the bill is there, what belongs to the time before it."""
        for row in rows:
            if row.start < row.end and row.start < at:
                early = row.net - row.left(row.net, row.start, at)
                self.post(unbilled_receivable=early, revenue=-early)
                self.flow("recognized", early)

    # What happens to it.

    def finalized(self, at: int, rows: Sequence[Row], total: int, from_balance: int, held: bool) -> None:
        """The bill is there; what was earned before it is no longer unbilled."""
        self.before(at, rows)
        early = self.accounts.get("unbilled_receivable", 0)
        net, tax = sum(row.net for row in rows), sum(row.tax for row in rows)
        self.post(
            accounts_receivable=total, unbilled_receivable=-early, deferred_revenue=-(net - early), tax_liability=-tax
        )
        self.post(customer_balance=from_balance, accounts_receivable=-from_balance)
        self.flow("billed", net)
        self.held = held
        self.rows = sorted(rows, key=lambda row: row.id)
        for row in self.rows:
            row.earned = row.net - row.left(row.net, row.start, at) if row.start < min(row.end, at) else 0
            row.deferred = row.net - row.earned
            row.plan(at)
        self.pass_time(at)

    def bought(self, at: int, row: Row) -> None:
        """Something is bought and paid for at once."""
        self.post(payments_clearing=row.net + row.tax, revenue=-row.net, tax_liability=-row.tax)
        self.flow("billed", row.net)
        self.flow("recognized", row.net)
        row.earned = row.net
        row.plan(at)
        self.rows = [row]

    def released(self, at: int) -> None:
        """The subscription is active: the first bill begins to earn, from its beginning on."""
        self.held = False
        for row in self.rows:
            self._earn(row, row.deferred - row.left(row.deferred, row.start, at))
            row.plan(at)

    def received(self, _at: int, amount: int, account: str) -> None:
        """Money came for the bill, through ``account``."""
        if not self.lost:
            self.post(**{account: amount}, accounts_receivable=-amount)
            return
        later, earned, tax = self._recover(amount)
        self.post(**{account: amount}, bad_debt=-(earned + tax), recoverables=-later)

    def _recover(self, amount: int, *, back: bool = True) -> tuple[int, int, int]:
        """Take an amount out of what was lost; what comes ``back`` is in the pots again."""
        parts = [part for row in self.rows for part in (row.lost_later, row.lost_earned, row.lost_tax)]
        shares = shared(amount, parts)
        for place, row in enumerate(self.rows):
            later, earned, tax = shares[3 * place : 3 * place + 3]
            row.lost_later, row.lost_earned, row.lost_tax = (
                row.lost_later - later, row.lost_earned - earned, row.lost_tax - tax,
            )  # fmt: skip
            if back:
                row.gained, row.earned, row.tax = row.gained + later, row.earned + earned, row.tax + tax
        return sum(shares[0::3]), sum(shares[1::3]), sum(shares[2::3])

    def credited(self, at: int, key: str, parts: Sequence[tuple[str | None, int]], to: Amounts) -> None:
        """A credit note: ``to`` says where its amount goes, ``parts`` which line each of its lines names."""
        whole = sum(amount for _, amount in parts)
        if self.lost:
            _, earned, tax = self._recover(whole, back=False)
            self.post(credit_notes=earned, tax_liability=tax, bad_debt=-(earned + tax))
            self.flow("contra.credit_notes", earned)
            return
        taken = Taken(at, [], 0)
        for line, amount in parts:
            more = self._take(at, amount, line)
            taken.parts += more.parts
            taken.excess += more.excess
        self.taken[key] = taken
        self._post_taken(taken, "credit_notes", to)

    def refunded(self, at: int, key: str, amount: int) -> None:
        """A refund that no credit note explains."""
        self.taken[key] = self._take(at, amount, None)
        self._post_taken(self.taken[key], "refunds", {"refunds_clearing": -amount})

    def undone(self, at: int, key: str, contra: str, to: Amounts) -> None:
        """A credit note is void, or a refund failed: what it took is given back, and time catches up."""
        taken = self.taken.pop(key)
        later = taken.of("deferred")
        for row, pot, amount in taken.parts:
            row.add(pot, amount)
        self.post(
            **{account: -amount for account, amount in to.items()},
            **{contra: -taken.of("earned")},
            deferred_revenue=-later,
            recoverables=-taken.of("gained"),
            tax_liability=-taken.of("tax"),
            other_loss=-taken.excess,
        )
        self.flow("reinstated", later)
        self.flow(f"contra.{contra}", -taken.of("earned"))
        for row, pot, amount in taken.parts:
            if pot == "deferred":
                self._earn(row, amount - row.left(amount, taken.at, at))
                row.plan(at)

    def disputed(self, at: int, key: str, amount: int) -> None:
        """A bank took money back."""
        self.taken[key] = self._take(at, amount, None)
        self._post_taken(self.taken[key], "disputes", {"stripe_balance": -amount})

    def won(self, _at: int, key: str, amount: int) -> None:
        """The bank gave it back: a gain, for what it was for has been written down."""
        taken = self.taken.pop(key)
        gained = amount - taken.of("tax") - taken.excess
        self.post(stripe_balance=amount, tax_liability=-taken.of("tax"), other_loss=-taken.excess, recoverables=-gained)
        for row, pot, some in taken.parts:
            row.add("tax" if pot == "tax" else "gained", some)

    def voided(self, at: int, remaining: int) -> None:
        """As if it had never been; what the customer's balance had paid of it goes back there."""
        if self.lost:
            _, earned, tax = self._recover(remaining, back=False)
            self.post(voids=earned, tax_liability=tax, bad_debt=-(earned + tax))
            self.flow("contra.voids", earned)
            remaining = 0
        parts = [(row, pot, row.get(pot)) for row in self.rows for pot in POTS]
        for row, pot, amount in parts:
            row.add(pot, -amount)
            row.plan(at)
        whole = sum(amount for _, _, amount in parts)
        to = {"accounts_receivable": -remaining, "customer_balance": -(whole - remaining)}
        self._post_taken(Taken(at, parts, 0), "voids", to)

    def written_off(self, at: int, remaining: int) -> None:
        """What is open is given up: what was earned of it is a loss, what had been paid for the future a gain."""
        places = [(row, pot) for row in self.rows for pot in POTS]
        shares = shared(remaining, [row.get(pot) for row, pot in places])
        later = kept = earned = tax = 0
        for place, row in enumerate(self.rows):
            of_later, of_earned, of_gained, of_tax = shares[4 * place : 4 * place + 4]
            row.lost_later, row.lost_earned, row.lost_tax = of_later + of_gained, of_earned, of_tax
            keeps = row.deferred - of_later - of_gained
            later, kept, earned, tax = later + row.deferred, kept + keeps, earned + of_earned, tax + of_tax
            row.deferred, row.gained = 0, row.gained + keeps
            row.earned, row.tax = row.earned - of_earned, row.tax - of_tax
            row.plan(at)
        self.post(bad_debt=earned + tax, deferred_revenue=later, accounts_receivable=-remaining, recoverables=-kept)
        self.flow("released.bad_debt", later)
        self.lost = True

    def _take(self, at: int, amount: int, line: str | None) -> Taken:
        """Take an amount in proportion: from the line it names first, then from all."""
        parts: list[tuple[Row, str, int]] = []
        for rows in ([row for row in self.rows if row.id == line], self.rows):
            places = [(row, pot) for row in rows for pot in POTS]
            held = [row.get(pot) for row, pot in places]
            some = min(amount, sum(held), sum(row.get(pot) for row in self.rows for pot in POTS))
            if some > 0:
                amount -= some
                for (row, pot), share in zip(places, shared(some, held), strict=True):
                    if share:
                        row.add(pot, -share)
                        parts.append((row, pot, share))
        for row, pot, _ in parts:
            if pot == "deferred":
                row.plan(at)
        return Taken(at, parts, amount)

    def _post_taken(self, taken: Taken, contra: str, to: Amounts) -> None:
        later, earned = taken.of("deferred"), taken.of("earned")
        self.post(
            **{contra: earned},
            deferred_revenue=later,
            recoverables=taken.of("gained"),
            tax_liability=taken.of("tax"),
            other_loss=taken.excess,
            **to,
        )
        self.flow(f"released.{contra}", later)
        self.flow(f"contra.{contra}", earned)

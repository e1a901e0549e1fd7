"""A bill: one invoice, or a sale without one, with its pots and what is still owed on it.

Each method applies one fact at its time; facts come in order of time. What a fact posts, and the mirror that undoing it
posts, is defined only here; which facts there are, and when, is ``journal``'s affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from projections.revenue.entries import Journal, Posting, mirrored
from projections.revenue.facts import LineFact
from projections.revenue.policy import Policy
from projections.revenue.pots import Line, Move, Pots, Suspended, Taken
from projections.revenue.schedule import month_name


@dataclass(slots=True)
class Credit:
    """What a credit note did, to be undone when it is voided."""

    taken: Taken
    suspended: list[Suspended]
    excess: int
    receivable: int
    postings: tuple[Posting, ...]


@dataclass(slots=True)
class Bill:
    """One invoice's books; ``owed`` is its receivable, ``prepaid`` are its lines that sell billing credits.

    ``payable`` is what failed refunds still owe the customer; ``again`` is how much of that each later refund brought.
    """

    key: str
    currency: str
    policy: Policy
    journal: Journal
    because: tuple[str, ...] = ()
    invoice: str | None = None
    pots: Pots = field(default_factory=Pots)
    owed: int = 0
    payable: int = 0
    written_off_at: int | None = None
    excess: int = 0
    prepaid: frozenset[str] = frozenset()
    again: dict[str, int] = field(default_factory=dict)
    taken: dict[str, Taken] = field(default_factory=dict)
    credits: dict[str, Credit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Use the policy's granularity for earning."""
        self.pots.granularity = self.policy.granularity

    def finalize(self, at: int, lines: Sequence[LineFact]) -> None:
        """Bill the lines: clear what was earned unbilled, and defer the rest."""
        postings: list[Posting] = []
        for line in lines:
            unbilled = self.pots.open(at, Line(line.key, line.start, line.end), line.net, line.tax)
            self.owed += line.net + line.tax
            postings += [
                Posting("unbilled_receivable", -unbilled, line.key),
                Posting(self._deferral(line.key), unbilled - line.net, line.key),
                Posting("tax_liability", -line.tax, line.key),
            ]
        self._post(f"{self.key}:finalize", at, "invoice", [Posting("accounts_receivable", self.owed), *postings])
        self._earn(at, self.pots.earn_at_once(at), "rec")

    def sell(self, at: int, part: str, net: int, tax: int, because: Sequence[str]) -> None:
        """Sell something, or a further part of it, at once: it is earned when it is paid."""
        if self.key not in self.pots.lines:
            self.pots.open(at, Line(self.key, 0, 0), 0, 0)
        line = self.pots.lines[self.key]
        line.r += net
        line.x += tax
        postings = [
            Posting("payments_clearing", net + tax),
            Posting("revenue", -net, self.key),
            Posting("tax_liability", -tax, self.key),
        ]
        self._post(f"{self.key}{part}", at, "sale", postings, because)

    def spend(self, at: int, line: LineFact, because: Sequence[str]) -> None:
        """Bill a line that billing credits pay for instead of money; it is then earned like any line."""
        unbilled = self.pots.open(at, Line(line.key, line.start, line.end), line.net, 0)
        postings = [
            Posting("billing_credits", line.net, line.key),
            Posting("unbilled_receivable", -unbilled, line.key),
            Posting("deferred_revenue", unbilled - line.net, line.key),
        ]
        self._post(self.key, at, "credits_applied", postings, because)
        self._earn(at, self.pots.earn_at_once(at), "rec")

    def unspend(self, key: str, at: int, amount: int, because: Sequence[str]) -> int:
        """Give back billing credits that were used here; return how much."""
        taken = self.pots.reduce(at, min(amount, self.pots.total))
        postings = [*self._reduction(taken, "voids"), Posting("billing_credits", -taken.amount)]
        self._post(key, at, "credits_reinstated", postings, because)
        return taken.amount

    def end_credits(self, key: str, at: int, parts: Sequence[tuple[str, int]], because: Sequence[str]) -> None:
        """Earn what was paid for billing credits that nobody will use: they expired, or were voided."""
        postings = [
            posting
            for line, amount in parts
            for posting in (Posting("billing_credits", amount, line), Posting("revenue", -amount, line))
        ]
        self._post(f"{key}:{self.key}", at, "credits_ended", postings, because)

    def activate(self, at: int) -> None:
        """Let an incomplete subscription's first invoice earn from now on, and catch up."""
        if self.pots.held:
            self._earn(at, self.pots.release(at), "activate")

    def apply_balance(self, at: int, amount: int) -> None:
        """Apply the customer's balance: a credit pays (positive), a debt is added (negative)."""
        self.owed -= amount
        postings = [Posting("customer_balance", amount), Posting("accounts_receivable", -amount)]
        self._post(f"{self.key}:balance", at, "balance", postings)

    def pay(self, key: str, at: int, amount: int, account: str, because: Sequence[str]) -> None:
        """Take a payment: it recovers what was written off and pays what is owed; the rest is the customer's credit."""
        self.activate(at)
        late, earned = self._pay_written_off(at, amount)
        rest = amount - sum(-posting.amount for posting in late)
        paid = min(rest, max(self.owed, 0))
        self.owed -= paid
        postings = [
            Posting(account, amount),
            Posting("accounts_receivable", -paid),
            Posting("customer_balance", paid - rest),
            *late,
        ]
        self._post(key, at, "payment", postings, because)
        self._earn(at, earned, key)

    def _pay_written_off(self, at: int, amount: int) -> tuple[list[Posting], list[Move]]:
        suspended = min(amount, self.pots.suspended)
        excess = min(amount - suspended, self.excess)
        if self.written_off_at is None or suspended + excess <= 0:
            return [], []
        self.excess -= excess
        parts = self.pots.take_suspended(suspended)
        future = [Move(part.line, "G", part.future) for part in parts]
        earned: list[Move] = []
        if self.policy.recover_as_gains:
            self.pots.gain(future)
        else:
            earned = self.pots.defer(at, future, self.written_off_at)
        self.pots.gain(Move(part.line, "R", part.earned) for part in parts)
        self.pots.gain(Move(part.line, "X", part.tax) for part in parts)
        postings = [Posting("bad_debt", -excess)]
        for part in parts:
            postings += [
                Posting("bad_debt", -part.earned, part.line),
                Posting(self._lost_tax, -part.tax, part.line),
                Posting(
                    "recoverables" if self.policy.recover_as_gains else self._deferral(part.line),
                    -part.future,
                    part.line,
                ),
            ]
        return postings, earned

    @property
    def _lost_tax(self) -> str:
        return "tax_liability" if self.policy.tax_relief else "bad_debt"

    def write_off(self, at: int, because: Sequence[str]) -> None:
        """Write off what is owed: its earned part is a loss, its unearned part is no longer deferred."""
        owed, self.owed = self.owed, 0
        self.written_off_at = at
        off = self.pots.write_off(at, owed)
        self.excess = off.excess
        postings = [
            Posting("accounts_receivable", -owed),
            Posting("bad_debt", off.excess),
            *(Posting(self._deferral(line), amount, line) for line, _, amount in off.deferred),
            *(Posting("bad_debt", amount, line) for line, _, amount in off.earned),
            *(Posting(self._lost_tax, amount, line) for line, _, amount in off.tax),
            *(Posting("recoverables", -amount, line) for line, _, amount in off.gained),
        ]
        self._post(f"{self.key}:uncollectible", at, "write_off", postings, because)

    def void(self, at: int, because: Sequence[str]) -> None:
        """Void the invoice: nothing is owed any more, and what was paid returns to the customer's balance."""
        suspended = self.pots.take_suspended(self.pots.suspended)
        excess, self.excess = self.excess, 0
        taken = self.pots.take_all(at)
        owed, self.owed = self.owed, 0
        postings = [
            Posting("accounts_receivable", -owed),
            Posting("bad_debt", -excess),
            *self._given_up(suspended, "voids"),
            *self._reduction(taken, "voids"),
        ]
        rest = sum(posting.amount for posting in postings)
        self._post(f"{self.key}:void", at, "void", [*postings, Posting("customer_balance", -rest)], because)

    def _given_up(self, suspended: Iterable[Suspended], contra: str) -> list[Posting]:
        """Reverse the loss of a write-off: the customer never had to pay after all."""
        postings: list[Posting] = []
        for line, _, earned, tax in suspended:
            postings += [Posting(contra, earned, line), Posting("bad_debt", -earned, line)]
            postings += [Posting("tax_liability", tax, line), Posting(self._lost_tax, -tax, line)]
        return postings

    def credit(
        self,
        key: str,
        at: int,
        amount: int,
        before_payment: int,
        others: Sequence[Posting],
        lines: Sequence[tuple[str, int]],
        because: Sequence[str],
    ) -> None:
        """Credit a part: off what is owed, the rest to ``others`` (refunds, outside money) and the customer's balance.

        ``lines`` are what it takes of single lines; what they do not say is taken from all.
        """
        suspended_amount = min(before_payment, self.pots.suspended)
        excess = min(before_payment - suspended_amount, self.excess)
        suspended = self.pots.take_suspended(suspended_amount)
        self.excess -= excess
        rest = amount - suspended_amount - excess
        receivable = min(before_payment - suspended_amount - excess, max(self.owed, 0))
        self.owed -= receivable
        taken = self._reduce_lines(at, rest, lines)
        postings = [
            *self._given_up(suspended, "credit_notes"),
            *self._reduction(taken, "credit_notes"),
            Posting("accounts_receivable", -receivable),
            *others,
            # A credit for debt that was written off beyond the lines takes the loss back, and the debt with it.
            Posting("bad_debt", -excess),
        ]
        balance = sum(posting.amount for posting in postings)
        posted = self._post(key, at, "credit_note", [*postings, Posting("customer_balance", -balance)], because)
        self.credits[key] = Credit(taken, suspended, excess, receivable, posted)

    def _reduce_lines(self, at: int, amount: int, lines: Sequence[tuple[str, int]]) -> Taken:
        taken = Taken(at, [])
        rest = amount
        for line, some in lines:
            if line in self.pots.lines and (part := min(some, rest)) > 0:
                taken.add(self.pots.reduce(at, part, line))
                rest -= part
        if rest > 0 or not taken.moves:
            taken.add(self.pots.reduce(at, rest))
        return taken

    def uncredit(self, key: str, at: int, because: Sequence[str]) -> None:
        """Undo a credit note that was voided."""
        credit = self.credits.pop(key, None)
        if credit is None:
            return
        self.owed += credit.receivable
        self.excess += credit.excess
        self.pots.give_suspended(credit.suspended)
        earned = self.pots.give_back(at, credit.taken)
        self._post(f"{key}:void", at, "credit_note_void", mirrored(credit.postings), because)
        self._earn(at, earned, f"{key}:void")

    def refund(self, key: str, at: int, amount: int, because: Sequence[str]) -> None:
        """Refund money without a credit note; a part that an earlier refund failed to bring takes nothing again."""
        again = self.again[key] = min(amount, self.payable)
        self.payable -= again
        taken = self.taken[key] = self.pots.reduce(at, amount - again)
        postings = [
            Posting("customer_refunds_payable", again),
            *self._reduction(taken, "refunds"),
            Posting("refunds_clearing", -amount),
        ]
        self._post(f"{key}:{self.key}", at, "refund", postings, because)

    def cover_refund(self, key: str, at: int, amount: int, by: str, because: Sequence[str]) -> None:
        """Undo the part of a refund that a later credit note covers: the credit note takes it instead."""
        taken = self.taken.get(key)
        if taken is not None:
            part = taken.part(min(amount, taken.amount))
            owed = self._owe_again(key, amount - part.amount)
            self._undo(f"{by}:{key}", at, "refund_credited", part, "refunds", "refunds_clearing", because, owed)

    def fail_refund(self, key: str, at: int, because: Sequence[str]) -> None:
        """Undo what is left of a refund that failed; what it was to bring for an earlier one is owed again."""
        taken = self.taken.pop(key, None)
        if taken is not None:
            name, owed = f"{key}:{self.key}:failed", self._owe_again(key, self.again[key])
            self._undo(name, at, "refund_failed", taken, "refunds", "refunds_clearing", because, owed)

    def _owe_again(self, key: str, amount: int) -> list[Posting]:
        """Owe again, up to ``amount``, what a refund had brought in place of an earlier failed one."""
        again = min(amount, self.again[key])
        self.again[key] -= again
        self.payable += again
        return [Posting("refunds_clearing", again), Posting("customer_refunds_payable", -again)]

    def owe_refund(self, key: str, at: int, amount: int, because: Sequence[str]) -> None:
        """Owe the customer what a refund under a valid credit note failed to bring."""
        self.payable += amount
        postings = [Posting("refunds_clearing", amount), Posting("customer_refunds_payable", -amount)]
        self._post(f"{key}:{self.key}:payable", at, "refund_failed", postings, because)

    def withdraw(self, key: str, at: int, amount: int, dispute: str, because: Sequence[str]) -> None:
        """Lose money to a dispute."""
        taken = self.pots.reduce(at, amount)
        postings = [*self._reduction(taken, "disputes"), Posting("stripe_balance", -amount)]
        self._post(f"{key}:{self.key}", at, "dispute", postings, because)
        known = self.taken.setdefault(dispute, Taken(at, []))
        known.add(taken)

    def reinstate(self, key: str, at: int, amount: int, dispute: str, because: Sequence[str]) -> None:
        """Win money back: by policy a gain, or as if it had never been taken."""
        taken = self.taken.get(dispute, Taken(at, []))
        part = taken.part(min(amount, taken.amount))
        name = f"{key}:{self.key}"
        if not self.policy.recover_as_gains:
            self._undo(name, at, "dispute_won", part, "disputes", "stripe_balance", because)
            return
        gained = [Move(line, "X" if pot == "X" else "G", some) for line, pot, some in part.moves]
        self.pots.advance(at)
        self.pots.gain(gained)
        postings = [
            Posting("stripe_balance", amount),
            Posting("other_loss", -part.excess),
            *(Posting("tax_liability" if pot == "X" else "recoverables", -some, line) for line, pot, some in gained),
        ]
        unknown = sum(posting.amount for posting in postings)
        self._post(name, at, "dispute_won", [*postings, Posting("recoverables", -unknown)], because)

    def _undo(
        self,
        key: str,
        at: int,
        kind: str,
        taken: Taken,
        contra: str,
        account: str,
        because: Sequence[str],
        others: Sequence[Posting] = (),
    ) -> None:
        earned = self.pots.give_back(at, taken)
        postings = [*mirrored(self._reduction(taken, contra)), Posting(account, taken.amount), *others]
        self._post(key, at, kind, postings, because)
        self._earn(at, earned, key)

    def _reduction(self, taken: Taken, contra: str) -> list[Posting]:
        """Return the debits for what was taken from the pots."""
        accounts = {"R": contra, "G": "recoverables", "X": "tax_liability"}
        postings = [
            Posting(accounts.get(pot) or self._deferral(line), amount, line) for line, pot, amount in taken.moves
        ]
        return [*postings, Posting("other_loss", taken.excess)]

    def _deferral(self, line: str) -> str:
        """Name the account of a line's unearned part: for billing credits, what is owed until they are used."""
        return "billing_credits" if line in self.prepaid else "deferred_revenue"

    def _earn(self, at: int, moves: Iterable[Move], why: str) -> None:
        """Post what is earned at one instant: at once, or caught up after something was given back."""
        for line, _, amount in moves:
            key = f"{line}:rec:{month_name(at)}" + ("" if why == "rec" else f":{why}")
            postings = [Posting("deferred_revenue", amount, line), Posting("revenue", -amount, line)]
            self._post(key, at, "recognition", postings)

    def _post(
        self, key: str, at: int, kind: str, postings: Iterable[Posting], because: Sequence[str] = ()
    ) -> tuple[Posting, ...]:
        why = because or self.because
        return self.journal.post(key, at, kind, self.currency, postings, why, self.invoice)

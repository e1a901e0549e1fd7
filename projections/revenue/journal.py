"""Facts to entries: the effective journal of one subject, a pure function of its natural facts (stripe-domain §5.4).

Every fact becomes an act on a bill at its posting time. Acts are done in order of time and, within a second, of
``Rank``; so neither the order of arrival nor the order of events matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, auto
from functools import partial
from typing import NamedTuple

from projections.revenue.balance import post_balance_changes
from projections.revenue.bill import Bill
from projections.revenue.cash import post_cash, post_conversion
from projections.revenue.connecting import post_connect
from projections.revenue.entries import Journal, Posting, Problem
from projections.revenue.facts import (
    CreditMoveFact,
    CreditNoteFact,
    DisputeFact,
    Facts,
    InvoiceFact,
    InvoicePaymentFact,
    RefundFact,
)
from projections.revenue.identities import billed_lines
from projections.revenue.paying import Paying, Step, paying
from projections.revenue.policy import Policy, policy_at
from projections.revenue.pots import split
from projections.revenue.prepaid import Purse, served, sold_credits
from projections.revenue.returning import before_payment, covered_later, own_amounts, uncovered


class Rank(IntEnum):
    """The order of acts within one second."""

    FINALIZE = auto()
    BALANCE = auto()
    ACTIVATE = auto()
    COVER_REFUND = auto()
    CREDIT = auto()
    WRITE_OFF = auto()
    PAY = auto()
    REFUND = auto()
    REFUND_FAILED = auto()
    OWE_REFUND = auto()
    WITHDRAW = auto()
    REINSTATE = auto()
    UNCREDIT = auto()
    VOID = auto()
    SPEND = auto()
    UNSPEND = auto()
    END_CREDITS = auto()


class Act(NamedTuple):
    """Something to do to a bill at a time."""

    at: int
    rank: Rank
    key: str
    do: Callable[[int], None]


@dataclass(slots=True)
class Books:
    """A subject's bills and the acts on each. ``sharing`` are the bills that sell or use billing credits."""

    facts: Facts
    policy: Policy | None
    paying: Paying
    journal: Journal = field(default_factory=Journal)
    bills: dict[str, Bill] = field(default_factory=dict)
    acts: dict[str, list[Act]] = field(default_factory=dict)
    purses: dict[str, Purse] = field(default_factory=dict)
    sharing: set[str] = field(default_factory=set)

    def bill(self, key: str, at: int, currency: str, because: tuple[str, ...], invoice: str | None = None) -> Bill:
        """Open a bill for an invoice or a sale, under the policy asked for or else the one in force at that time."""
        policy = policy_at(self.facts.rulings or (), at)
        if self.policy is not None:
            policy = replace(self.policy, prepaid=policy.prepaid) if policy.prepaid else self.policy
        made = self.bills[key] = Bill(key, currency, policy, self.journal, because, invoice)
        self.acts[key] = []
        return made

    def act(self, bill: str, at: int, rank: Rank, key: str, do: Callable[[int], None]) -> None:
        """Schedule an act on a bill."""
        self.acts[bill].append(Act(at, rank, key, do))

    def run(self) -> None:
        """Do all acts in order, bill by bill, none before its bill was finalised; bills that share credits together."""
        shared: list[Act] = []
        for key in sorted(self.acts):
            opened = min((act.at for act in self.acts[key] if act.rank is Rank.FINALIZE), default=0)
            acts = [act._replace(at=max(act.at, opened)) for act in self.acts[key]]
            if key in self.sharing:
                shared += acts
                continue
            for act in sorted(acts, key=_order):
                act.do(act.at)
        for act in sorted(shared, key=_order):
            act.do(act.at)


def _order(act: Act) -> tuple[int, Rank, str]:
    return act[:3]


def books_of(facts: Facts, policy: Policy | None = None) -> Books:
    """Work out a subject's bills and entries: under one policy, or each bill under the one published for its time."""
    books, returned = Books(facts, policy, paying(facts)), facts.returned
    for _, invoice in sorted(facts.invoices.items()):
        _invoice(books, invoice)
    _sales(books)
    if facts.credit_moves:
        _credits(books)
    for _, payment in sorted(facts.invoice_payments.items()):
        if payment.invoice in facts.invoices:
            _payment(books, payment)
    for _, note in sorted(facts.credit_notes.items()):
        if note.invoice in books.bills:
            _credit_note(books, note)
    for _, refund in sorted(returned.items()):
        _refund(books, refund)
    _check_refunds(books)
    for _, dispute in sorted(facts.disputes.items()):
        _dispute(books, dispute)
    books.run()
    post_cash(facts, returned.values(), books.journal)
    post_connect(facts, books.journal)
    post_balance_changes(facts, books.journal)
    books.journal.entries.sort(key=lambda entry: (entry.at, entry.key))
    return books


def _invoice(books: Books, fact: InvoiceFact) -> None:
    bill = books.bill(fact.key, fact.finalized_at, fact.currency, (fact.because["finalize"],), fact.key)
    _hold(books, bill, fact)
    lines, problems = billed_lines(fact)
    books.journal.problems += problems
    if bill.policy.prepaid and (sold := sold_credits(lines, bill.policy)):
        bill.prepaid = frozenset(line.key for line in sold)
        lines = [*sold, *(line for line in lines if line.key not in bill.prepaid)]
        books.purses.setdefault(fact.currency, Purse()).sold += [(bill, line.key) for line in sold]
        books.sharing.add(fact.key)
    _check_credits(books, fact)
    books.act(fact.key, fact.finalized_at, Rank.FINALIZE, fact.key, lambda at: bill.finalize(at, lines))
    if fact.balance:
        books.act(fact.key, fact.finalized_at, Rank.BALANCE, fact.key, lambda at: bill.apply_balance(at, fact.balance))
    for place, step in enumerate(books.paying.residual.get(fact.key, ())):
        _residual(books, bill, fact, step, "" if place == 0 else f":{place + 1}")
    if fact.uncollectible_at is not None:
        because = [fact.because["uncollectible"]]
        books.act(fact.key, fact.uncollectible_at, Rank.WRITE_OFF, fact.key, lambda at: bill.write_off(at, because))
    if fact.voided_at is not None:
        books.act(fact.key, fact.voided_at, Rank.VOID, fact.key, lambda at: bill.void(at, [fact.because["void"]]))


def _hold(books: Books, bill: Bill, fact: InvoiceFact) -> None:
    """Let the first invoice of an incomplete subscription earn nothing until the subscription is active."""
    subscription = books.facts.subscriptions.get(fact.subscription or "")
    if subscription is not None and subscription.incomplete and fact.reason == "subscription_create":
        bill.pots.held = True
        if subscription.active_at is not None:
            books.act(bill.key, subscription.active_at, Rank.ACTIVATE, bill.key, bill.activate)


def _residual(books: Books, bill: Bill, fact: InvoiceFact, step: Step, place: str) -> None:
    """Pay what no invoice payment explains: an older API version's, one outside Stripe, or one not linked yet."""
    known = fact.key in books.paying.explained or step.outside
    name = f"{fact.key}:paid{place}" if known else f"{fact.key}:paid:residual{place}"
    account = "external_asset" if step.outside else "payments_clearing"
    books.act(fact.key, step.at, Rank.PAY, name, lambda at: bill.pay(name, at, step.amount, account, [step.because]))
    if not known:
        kind = "payment_matched_by_amount" if (fact.key, step.at) in books.paying.guessed else "payment_not_linked"
        books.journal.problems.append(Problem(kind, name, fact.currency, step.amount, step.at, (step.because,)))


def _payment(books: Books, payment: InvoicePaymentFact) -> None:
    account = "external_asset" if payment.record else "payments_clearing"
    bill = books.bills[payment.invoice]

    def pay(at: int) -> None:
        bill.pay(payment.key, at, payment.amount, account, [payment.because])

    books.act(payment.invoice, payment.paid_at, Rank.PAY, payment.key, pay)


def _sales(books: Books) -> None:
    for key, session in sorted(books.facts.sold.items()):
        takes = session.takes or [(session.paid_at, session.amount, session.because)]
        _sell(books, key, session.currency, takes, session.tax)
    for charge in books.paying.unlinked:
        _sell(books, charge.key, charge.currency, charge.takes, 0)
        at, _, event = charge.takes[0]
        problem = Problem("unlinked_charge", charge.key, charge.currency, charge.amount, at, (event,))
        books.journal.problems.append(problem)


def _sell(books: Books, key: str, currency: str, takes: Sequence[tuple[int, int, str]], tax: int) -> None:
    """Sell what was paid for, part by part as its money was taken."""
    whole = takes[-1][1]
    bill = books.bill(key, takes[0][0], currency, (takes[0][2],))
    before = taxed = 0
    for at, paid, because in takes:
        part, (_, taxes) = f":{paid}" if before else "", split(paid, [whole - tax, tax])
        net = paid - before - (taxes - taxed)
        sell = partial(bill.sell, part=part, net=net, tax=taxes - taxed, because=[because])
        books.act(key, at, Rank.FINALIZE, f"{key}{part}", sell)
        before, taxed = paid, taxes


def _check_credits(books: Books, fact: InvoiceFact) -> None:
    """Report an invoice that was paid with credits for which there is no transaction."""
    if not fact.billing_credits:
        return
    told = sum(move.amount for move in books.facts.credit_moves.values()
               if move.kind == "applied" and move.invoice == fact.key)  # fmt: skip
    if missing := fact.billing_credits - told:
        because = (fact.because["finalize"],)
        problem = Problem("credits_not_linked", fact.key, fact.currency, missing, fact.finalized_at, because)
        books.journal.problems.append(problem)


def _credits(books: Books) -> None:
    """Let bought credits be used, given back or end; credits that were given away are not money."""
    facts = books.facts
    for purse in books.purses.values():
        purse.sold.sort(key=lambda one: (facts.invoices[one[0].key].finalized_at, one[0].key, one[1]))
    spent: dict[tuple[str | None, str | None, str, str], list[Bill]] = {}
    for key, move in sorted(facts.credit_moves.items()):
        grant = facts.credit_grants.get(move.grant)
        purse = books.purses.setdefault(move.currency, Purse())
        if grant is None or (grant.paid and not purse.sold and move.kind == "applied"):
            kind = "credit_grant_unknown" if grant is None else "credits_not_sold"
            books.journal.problems.append(Problem(kind, key, move.currency, move.amount, move.at, (move.because,)))
        elif grant.paid and move.kind == "ended" and purse.sold:
            books.act(purse.sold[0][0].key, move.at, Rank.END_CREDITS, key, partial(purse.end, move))
        elif grant.paid and move.kind == "applied" and (invoice := facts.invoices.get(move.invoice or "")) is not None:
            used = spent.setdefault((move.invoice, move.line, move.grant, move.currency), [])
            used.append(_spend(books, move, invoice, purse))
    for key, move in sorted(facts.credit_moves.items()):
        bills = spent.get((move.invoice, move.line, move.grant, move.currency), [])
        if move.kind == "reinstated" and bills:
            unspend = partial(_unspend, move, bills, books.purses[move.currency])
            at = max(move.at, facts.invoices[move.invoice or ""].finalized_at)
            books.act(bills[0].key, at, Rank.UNSPEND, key, unspend)


def _spend(books: Books, move: CreditMoveFact, invoice: InvoiceFact, purse: Purse) -> Bill:
    bill = books.bill(move.key, invoice.finalized_at, move.currency, (move.because,), invoice.key)
    books.sharing.add(bill.key)
    _hold(books, bill, invoice)

    def spend(at: int) -> None:
        if amount := purse.take(move.key, move.amount):
            bill.spend(at, served(move, invoice, amount), [move.because])

    books.act(bill.key, invoice.finalized_at, Rank.SPEND, bill.key, spend)
    return bill


def _unspend(move: CreditMoveFact, bills: list[Bill], purse: Purse, at: int) -> None:
    """Give credits back because the invoice they were used on was voided."""
    rest = move.amount
    for bill in bills:
        given = bill.unspend(f"{move.key}:{bill.key}", at, rest, [move.because])
        purse.give(bill.key, given)
        rest -= given


def _credit_note(books: Books, note: CreditNoteFact) -> None:
    bill, invoice = books.bills[note.invoice], books.facts.invoices[note.invoice]
    before = before_payment(note, invoice, books.facts.credit_notes.values())
    after = note.amount - before
    refunds = sum(amount for _, amount in _refunded(books, note))
    refunds, outside = min(refunds, after), min(note.out_of_band, max(after - refunds, 0))
    credit = partial(
        bill.credit,
        note.key,
        amount=note.amount,
        before_payment=before,
        others=[Posting("refunds_clearing", -refunds), Posting("external_asset", -outside)],
        lines=[(line.line, line.amount) for line in note.lines if line.line],
        because=[note.because["credit_note"]],
    )
    books.act(note.invoice, note.created, Rank.CREDIT, note.key, credit)
    if note.incomplete:
        because = (note.because["credit_note"],)
        missing = note.amount - sum(line.amount for line in note.lines)
        problem = Problem("lines_incomplete", note.key, note.currency, missing, note.created, because)
        books.journal.problems.append(problem)
    if note.voided_at is not None:
        undone = [note.because["void"]]
        books.act(note.invoice, note.voided_at, Rank.UNCREDIT, note.key, lambda at: bill.uncredit(note.key, at, undone))


def _refunded(books: Books, note: CreditNoteFact) -> list[tuple[str, int]]:
    """Return the refunds a credit note names, with their amounts; where it gives none, the refund's own."""
    known = books.facts.refunds
    return [
        (key, amount if amount is not None else min(known[key].amount if key in known else note.amount, note.amount))
        for key, amount in note.refunds
    ]


def _refund(books: Books, refund: RefundFact) -> None:
    covering = [
        (note, amount)
        for note in sorted(books.facts.credit_notes.values(), key=lambda note: (note.created, note.key))
        for key, amount in _refunded(books, note)
        if key == refund.key and note.invoice in books.bills
    ]
    paid = books.paying.paid(refund.charge, refund.payment_intent)
    taken = uncovered(refund, paid, [one for one in covering if one[0].created <= refund.created])
    if not taken and not covering:
        because = tuple(refund.because.values())
        problem = Problem("refund_of_unknown", refund.key, refund.currency, refund.amount, refund.created, because)
        books.journal.problems.append(problem)
    for bill, amount in sorted(taken.items()):
        _refund_of_bill(books, refund, bill, amount)
    for note, amount in covering:
        _cover_refund(books, refund, note, amount, taken)


def _check_refunds(books: Books) -> None:
    """Report what a charge says was refunded and no refund accounts for: some API versions show no refunds."""
    told: dict[str | None, int] = {}
    for refund in books.facts.refunds.values():
        key = refund.charge or refund.payment_intent
        told[key] = told.get(key, 0) + refund.amount
    for key, charge in sorted(books.facts.charges.items()):
        known = told.get(key, 0) + (told.get(charge.payment_intent, 0) if charge.payment_intent else 0)
        missing = charge.refunded - max(charge.held, 0) - max(known, 0)
        if charge.taken_at is not None and missing > 0:
            because, at = (charge.because["refunded"],), charge.refunded_at
            books.journal.problems.append(Problem("refund_not_told", key, charge.currency, missing, at, because))


def _refund_of_bill(books: Books, refund: RefundFact, key: str, amount: int) -> None:
    bill = books.bills[key]
    if amount > 0:
        because = [refund.because["refund"]]
        books.act(key, refund.created, Rank.REFUND, refund.key, lambda at: bill.refund(refund.key, at, amount, because))
    if refund.failed_at is not None:
        failed = [refund.because["failed"]]
        books.act(
            key, refund.failed_at, Rank.REFUND_FAILED, refund.key, lambda at: bill.fail_refund(refund.key, at, failed)
        )


def _cover_refund(books: Books, refund: RefundFact, note: CreditNoteFact, amount: int, taken: dict[str, int]) -> None:
    """Let a credit note replace its part of a refund: give back what the refund took, if it came first."""
    because = [note.because["credit_note"]]
    for bill, some in covered_later(note, amount, taken).items() if note.created > refund.created else ():
        taken[bill] -= some
        by = note.key if bill == note.invoice else f"{note.key}:{bill}"
        cover = partial(books.bills[bill].cover_refund, refund.key, amount=some, by=by, because=because)
        books.act(bill, note.created, Rank.COVER_REFUND, note.key, cover)
    if refund.failed_at is not None:
        name, because = f"{refund.key}:{note.key}", [refund.because["failed"]]
        owe = partial(books.bills[note.invoice].owe_refund, name, amount=amount, because=because)
        books.act(note.invoice, max(refund.failed_at, note.created), Rank.OWE_REFUND, note.key, owe)


def _dispute(books: Books, dispute: DisputeFact) -> None:
    moves = sorted(dispute.moves.values(), key=lambda move: (move.at, move.key))
    amounts = own_amounts(dispute, moves)
    for move in moves:
        back, amount = move.amount > 0, amounts[move.key]
        if move.currency != dispute.currency:
            post_conversion(books.journal, move, amount if back else -amount, dispute.currency)
        shares = books.paying.shares(dispute.charge, dispute.payment_intent, amount)
        if not shares:
            _dispute_of_unknown(books, dispute, move.key, move.at, amount if back else -amount, move.because)
        for bill, part in shares:
            method = books.bills[bill].reinstate if back else books.bills[bill].withdraw
            rank = Rank.REINSTATE if back else Rank.WITHDRAW
            do = partial(method, move.key, amount=part, dispute=dispute.key, because=[move.because])
            books.act(bill, move.at, rank, move.key, do)


def _dispute_of_unknown(books: Books, dispute: DisputeFact, key: str, at: int, amount: int, because: str) -> None:
    """Post a dispute over an unknown payment: a loss, until the payment is known."""
    postings = [Posting("stripe_balance", amount), Posting("other_loss", -amount)]
    books.journal.post(key, at, "dispute", dispute.currency, postings, [because])
    problem = Problem("dispute_of_unknown", dispute.key, dispute.currency, -amount, at, (because,))
    books.journal.problems.append(problem)

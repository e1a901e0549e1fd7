"""Money on its way through Stripe: charges, refunds, dispute fees, conversions, payouts (§5.4 rows 3, 11, 14, 15)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from operator import attrgetter

from projections.revenue.entries import Journal, Posting, mirrored
from projections.revenue.facts import ChargeFact, DisputeMoveFact, Facts, PayoutFact, RefundFact, TransactionFact


def post_cash(facts: Facts, returned: Iterable[RefundFact], journal: Journal) -> None:
    """Post what moved on Stripe's balance and to the bank; what it was for is posted with the bills."""
    for _, charge in sorted(facts.charges.items()):
        _charge(charge, journal)
    for refund in sorted(returned, key=attrgetter("key")):
        _refund(refund, journal)
    for _, payout in sorted(facts.payouts.items()):
        _payout(payout, journal)
    for _, transaction in sorted(facts.transactions.items()):
        _transaction(facts, transaction, journal)
    for _, dispute in sorted(facts.disputes.items()):
        for _, move in sorted(dispute.moves.items()):
            _fee(move, journal)


def _charge(charge: ChargeFact, journal: Journal) -> None:
    waiting = charge.pending_at is not None
    if charge.pending_at is not None:
        postings = [Posting("pending_cash", charge.pending), Posting("payments_clearing", -charge.pending)]
        because = [charge.because["pending"]]
        journal.post(f"{charge.key}:pending", charge.pending_at, "charge_pending", charge.currency, postings, because)
        if charge.failed_at is not None:
            because = [charge.because["failed"]]
            undone = mirrored(postings)
            journal.post(f"{charge.key}:failed", charge.failed_at, "charge_failed", charge.currency, undone, because)
    # What was pending is on its way already; only what it came to beyond that is new.
    before, came = 0, charge.pending if waiting else 0
    for at, taken, event in charge.takes:
        postings = [
            Posting("stripe_balance", taken - before),
            Posting("pending_cash", -came),
            Posting("payments_clearing", came - (taken - before)),
        ]
        name = f"{charge.key}:cash:{taken}" if before else f"{charge.key}:cash"
        journal.post(name, at, "charge", charge.currency, postings, [event])
        before, came = taken, 0


def _refund(refund: RefundFact, journal: Journal) -> None:
    postings = [Posting("refunds_clearing", refund.amount), Posting("stripe_balance", -refund.amount)]
    because = [refund.because["refund"]]
    journal.post(refund.key, refund.created, "refund_cash", refund.currency, postings, because)
    if refund.failed_at is not None:
        name, because = f"{refund.key}:failed", [refund.because["failed"]]
        journal.post(name, refund.failed_at, "refund_returned", refund.currency, mirrored(postings), because)


def _payout(payout: PayoutFact, journal: Journal) -> None:
    amount, currency = payout.amount, payout.currency
    sent = [Posting("payout_in_transit", amount), Posting("stripe_balance", -amount)]
    arrived = [Posting("bank", amount), Posting("payout_in_transit", -amount)]
    journal.post(f"{payout.key}:created", payout.created_at, "payout", currency, sent, [payout.because["payout"]])
    if payout.paid_at is not None:
        journal.post(f"{payout.key}:paid", payout.paid_at, "payout_paid", currency, arrived, [payout.because["paid"]])
    if payout.failed_at is not None:
        back = mirrored(sent) + (mirrored(arrived) if payout.paid_at is not None else [])
        because = [payout.because["failed"]]
        journal.post(f"{payout.key}:failed", payout.failed_at, "payout_failed", currency, back, because)


def _fee(move: DisputeMoveFact, journal: Journal) -> None:
    postings = [Posting("dispute_fees", move.fee), Posting("stripe_balance", -move.fee)]
    journal.post(f"{move.key}:fee", move.at, "dispute_fee", move.currency, postings, [move.because])


def _transaction(facts: Facts, one: TransactionFact, journal: Journal) -> None:
    """Post what Stripe kept of a charge or refund, and its conversion into the balance's currency."""
    fee = [Posting("stripe_fees", one.fee), Posting("stripe_balance", -one.fee)]
    journal.post(f"{one.key}:fee", one.at, "fee", one.currency, fee, [one.because])
    of = facts.charges.get(one.source) or facts.refunds.get(one.source)
    if of is not None and of.currency != one.currency:
        sign = 1 if one.amount > 0 else -1
        move = DisputeMoveFact(one.key, one.currency, one.amount, one.fee, one.at, one.because)
        post_conversion(journal, move, sign * _part(facts, one, of), of.currency)


def _part(facts: Facts, one: TransactionFact, of: ChargeFact | RefundFact) -> int:
    """Return what a transaction is about: of a charge that was taken in parts each has one of its own."""
    own = sorted((each.at, key) for key, each in facts.transactions.items() if each.source == one.source)
    if isinstance(of, RefundFact) or len(own) == 1:
        return of.amount
    taken = [0, *(paid for _, paid, _ in of.takes)]
    parts = [after - before for before, after in pairwise(taken)]
    place = own.index((one.at, one.key))
    return parts[place] if place < len(parts) else 0


def post_conversion(journal: Journal, move: DisputeMoveFact, amount: int, currency: str) -> None:
    """Post a movement that happened in the balance's currency for an amount in another (§5.4 row 14b)."""
    own = [Posting("fx_clearing", amount), Posting("stripe_balance", -amount)]
    journal.post(f"{move.key}:convert:{currency}", move.at, "conversion", currency, own, [move.because])
    settled = [Posting("stripe_balance", move.amount), Posting("fx_clearing", -move.amount)]
    journal.post(f"{move.key}:convert:{move.currency}", move.at, "conversion", move.currency, settled, [move.because])

"""How returned money is divided among bills: refunds, credit notes that name them, and disputes.

A payment may have paid several invoices, and a credit note speaks of one of them (stripe-domain §5.4, rows 10 to 12b).
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

from projections.revenue.facts import CreditNoteFact, DisputeFact, DisputeMoveFact, InvoiceFact, RefundFact
from projections.revenue.paying import Share
from projections.revenue.pots import split
from projections.revenue.schedule import half_even

Covering = tuple[CreditNoteFact, int]
"""A credit note, and how much of a refund it speaks of."""


def before_payment(note: CreditNoteFact, invoice: InvoiceFact, notes: Iterable[CreditNoteFact]) -> int:
    """Return how much of a credit note reduces what is owed; where it does not say so, the invoice decides.

    Of one made in the very second of payment it is what the invoice says of all its notes, less what came before: of
    notes of that second, those that give money back came last.
    """
    if note.pre_payment is not None:
        return min(note.pre_payment, note.amount)
    if invoice.paid_at != note.created:
        return note.amount if invoice.paid_at is None or note.created < invoice.paid_at else 0
    left = max(invoice.pre_payment_credit_notes, 0)
    for one in notes:
        if one.invoice == note.invoice and one.voided_at is None and _turn(one) < _turn(note):
            left -= min(one.amount if one.pre_payment is None else one.pre_payment, left)
    return min(left, note.amount)


def _turn(note: CreditNoteFact) -> tuple[int, bool, str]:
    return note.created, bool(note.refunds or note.out_of_band), note.key


def uncovered(refund: RefundFact, paid: Iterable[Share], covering: Sequence[Covering]) -> dict[str, int]:
    """Split what no credit note speaks of as it is given back: by what is left of what was paid of each bill."""
    whole: dict[str, int] = {}
    for bill, amount in paid:
        whole[bill] = whole.get(bill, 0) + amount
    left = dict(whole)
    for note, amount in covering:
        left[note.invoice] = max(left.get(note.invoice, 0) - amount, 0)
    rest = max(refund.amount - sum(amount for _, amount in covering), 0)
    weights = [left[bill] for bill in whole]
    return dict(zip(whole, split(rest, weights if any(weights) else list(whole.values())), strict=True))


def covered_later(note: CreditNoteFact, amount: int, taken: Mapping[str, int]) -> dict[str, int]:
    """Return what a credit note that comes later undoes of what a refund took: of its own bill's, then of others'."""
    own = min(amount, taken.get(note.invoice, 0))
    others = [bill for bill in taken if bill != note.invoice]
    rest = min(amount - own, sum(taken[bill] for bill in others))
    parts = split(rest, [taken[bill] for bill in others])
    found = {note.invoice: own, **dict(zip(others, parts, strict=True))}
    return {bill: some for bill, some in found.items() if some}


def own_amounts(dispute: DisputeFact, moves: Sequence[DisputeMoveFact]) -> dict[str, int]:
    """Return what each movement is of the dispute's amount: by what of all that was out at one time it took or gave.

    What comes back in another currency may be more there than was taken; of the dispute it is no more.
    """
    out = list(accumulate(moves, lambda held, move: max(held - move.amount, 0), initial=0))
    most = max(out)
    if most == 0:
        return {move.key: abs(move.amount) for move in moves}
    own = [half_even(dispute.amount * held, most) for held in out]
    return {move.key: abs(after - before) for move, (before, after) in zip(moves, pairwise(own), strict=True)}

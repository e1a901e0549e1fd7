"""A customer of many years: folding on from a kept state comes out as folding all of it."""

from __future__ import annotations

from projections.dunning.tables import DUNNING
from projections.folding import Folding
from tests.dunning.stories import SUBJECT, facts_of

YEARS = 6


def life() -> str:
    """Tell a life in which every month's invoice is declined twice, and then paid with or without a new card."""
    told = ["0 customer.created -", "0 customer.subscription.created sub_1 active pm=pm_0"]
    for month in range(YEARS * 12):
        day, key = 30 * month, f"in_{month}"
        told += [
            f"{day} invoice.finalized {key} open made={day} next={day + 0.05:.2f} pi=pi_{month}",
            f"{day + 1} invoice.payment_failed {key} open made={day} count=1 next={day + 4} pi=pi_{month}",
            f"{day + 1} charge.failed ch_{month}a insufficient_funds pi=pi_{month} in={key}",
            f"{day + 1} customer.subscription.updated sub_1 past_due pm=pm_{month}",
            f"{day + 4} invoice.payment_failed {key} open made={day} count=2 next={day + 9} pi=pi_{month}",
            f"{day + 4} charge.failed ch_{month}b stolen_card pi=pi_{month} in={key}",
            f"{day + 6} payment_method.attached pm_{month + 1} asked",
            f"{day + 9} invoice.paid {key} paid made={day} count=3 paid=3100 pi=pi_{month}",
            f"{day + 9} invoice_payment.paid {key} pi_{month}",
            f"{day + 9} customer.subscription.updated sub_1 active pm=pm_{month + 1}",
        ]
        if month % 7 == 0:
            told.append(f"{day + 2} credit_note.created cn_{month} {key} amount=100")
    return "\n".join(told)


def test_a_kept_state_goes_on_as_if_nothing_had_been_kept() -> None:
    facts = facts_of(life())
    whole = Folding(DUNNING, SUBJECT)
    whole.hold(facts)
    folded = whole.finish()
    assert len(folded.kept) >= 1
    by_position = {fact.position: fact for fact in facts}
    for kept in folded.kept:
        anchors = {position: by_position[position] for _, position in kept.anchors}
        on = Folding(DUNNING, SUBJECT, resume=kept, anchors=anchors)
        on.hold(fact for fact in facts if fact.created > kept.at)
        assert on.finish().rows == folded.rows

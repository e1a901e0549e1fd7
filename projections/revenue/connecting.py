"""Connect: what a platform takes of others' payments, and what it passes on to connected accounts.

The rules are Stripe's own. A fee is revenue once it is collected, and a refund where it is given back
(https://docs.stripe.com/revenue-recognition/connect/direct-charges); what is passed on is no revenue of the platform's,
and is again where it comes back (https://docs.stripe.com/revenue-recognition/connect/charges-transfers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.event import identifier
from projections.facts import Fact
from projections.revenue.entries import Journal, Posting
from projections.revenue.facts import ConnectFact, Facts
from projections.shapes.common import amount, currency, moment


def fee_changed(facts: Facts, fact: Fact) -> None:
    """Note a fee that was taken of a connected account's payment, and what of it was given back."""
    _changed(facts, fact, "application_fee", "amount_refunded")


def transfer_changed(facts: Facts, fact: Fact) -> None:
    """Note a transfer to a connected account, and what of it came back."""
    _changed(facts, fact, "transfer", "amount_reversed")


def _changed(facts: Facts, fact: Fact, kind: str, returned: str) -> None:
    source = fact.subject
    key = identifier(source)
    if key is None or source.get("object") != kind:
        return
    known = facts.connect.get(key)
    if known is None:
        at = int((moment(source.get("created")) or fact.created).timestamp())
        whole = amount(source.get("amount")) or 0
        known = facts.connect[key] = ConnectFact(key, kind, currency(source), whole, at, fact.event_id)
    back = amount(source.get(returned)) or 0
    if back > (known.back[-1][1] if known.back else 0):
        known.back.append((int(fact.created.timestamp()), back, fact.event_id))


def post_connect(facts: Facts, journal: Journal) -> None:
    """Post every fee and transfer, and what came back of each."""
    for key, one in sorted(facts.connect.items()):
        earned = one.amount if one.kind == "application_fee" else -one.amount
        postings = [Posting("stripe_balance", earned), Posting("revenue", -earned)]
        journal.post(key, one.at, one.kind, one.currency, postings, [one.because])
        before = 0
        for at, back, event in one.back:
            part, before = back - before, back
            name = f"{key}:back:{back}"
            if one.kind == "application_fee":
                postings = [Posting("refunds", part), Posting("stripe_balance", -part)]
                journal.post(name, at, "application_fee_refund", one.currency, postings, [event])
            else:
                postings = [Posting("stripe_balance", part), Posting("revenue", -part)]
                journal.post(name, at, "transfer_reversal", one.currency, postings, [event])


STEPS: Final[dict[str, Callable[[Facts, Fact], None]]] = {
    "application_fee.created": fee_changed,
    "application_fee.refunded": fee_changed,
    "transfer.created": transfer_changed,
    "transfer.updated": transfer_changed,
    "transfer.reversed": transfer_changed,
}
"""What each event type tells. A connected account's own charges are in its own book."""

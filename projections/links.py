"""Which streams belong together: pure functions of events (design decision 7).

A dispute names a charge and a payment intent but no customer; the charge, which does, may come before it or long
after. Each event links the streams of what it names: a child to one parent, the first by (created, event id). Customers
are roots: nothing links one to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.event import Json, customer_of, identifier, mapping
from projections.facts import Fact

_DEPTH: Final = 8
_KINDS: Final = ("invoice", "payment_intent", "charge")
_ROOTS_AND_KINDS: Final = ("customer", *_KINDS)  # a tuple: what is compared to these may be anything at all
BEGINS: Final = ("cus_", "acct_")
"""How customers' names begin; those of Stripe's newer accounts too."""

CUSTOMERS: Final = f"^[^/]*/({'|'.join(BEGINS)})"
"""What the names of customers' streams match, in a statement."""

TELLING: Final = frozenset(
    {
        "charge.captured",
        "charge.failed",
        "charge.pending",
        "charge.refunded",
        "charge.succeeded",
        "charge.updated",
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed",
        "invoice.finalized",
        "invoice.paid",
        "invoice_payment.paid",
        "payment_intent.amount_capturable_updated",
        "payment_intent.payment_failed",
        "payment_intent.succeeded",
        "refund.created",
    }
)
"""The types that say whose it is when money moves, or fails to.

Nothing that names no customer comes of an object before one of them has: what else is told of it (that an invoice was
drafted, that an intent was made) links nothing that these do not, and is not read for links where it is not folded.
"""


class Link(NamedTuple):
    """A child's stream and its parent's, as one event has it."""

    child: str
    parent: str
    created: datetime
    event_id: str

    @property
    def rank(self) -> tuple[datetime, str]:
        """Which of several is the first."""
        return (self.created, self.event_id)


def linking(types: frozenset[str]) -> frozenset[str]:
    """Return the types of events that a projection which folds ``types`` learns links from."""
    return types | TELLING


def links(book: str, fact: Fact) -> list[Link]:
    """Return the links an event makes: from everything it names to the highest of it, its customer if it has one."""
    return links_among(book, named(fact), fact.created, fact.event_id)


def links_among(book: str, names: Sequence[str], created: datetime, event_id: str) -> list[Link]:
    """Return the links that an event makes among what it names."""
    return [
        Link(f"{book}/{child}", f"{book}/{names[0]}", created, event_id)
        for child in names[1:]
        if not child.startswith(BEGINS)
    ]


def named(fact: Fact) -> tuple[str, ...]:
    """List the ids that an event names and streams are called by, the highest first, each once."""
    subject = fact.subject
    about, own = subject.get("object"), subject.get("id")
    found = [customer_of(subject, fact.previous)]
    payment = mapping(subject.get("payment"))
    for kind in _KINDS:
        for value in (own if about == kind else None, subject.get(kind), payment.get(kind)):
            # Most are not there at all.
            if value is not None and (name := identifier(value)):
                found.append(name)
                break
    if about == "billing.credit_balance_transaction":
        found += _credited(subject)
    if about == "payment_intent":
        found.append(identifier(subject.get("latest_charge")))
    elif about not in _ROOTS_AND_KINDS:
        found.append(identifier(own))
    return tuple(dict.fromkeys([one for one in found if one]))


def _credited(subject: Json) -> list[str | None]:
    """Name the invoice whose line billing credits were used on, and the grant they are of."""
    used = mapping(mapping(subject.get("debit")).get("credits_applied"))
    back = mapping(mapping(subject.get("credit")).get("credits_application_invoice_voided"))
    named = identifier(used.get("invoice")) or identifier(back.get("invoice"))
    return [named, identifier(subject.get("credit_grant"))]


def merged(known: Mapping[str, Link], new: Iterable[Link]) -> dict[str, Link]:
    """Return the links that stand: for each child the first one, whatever order they came in."""
    standing = dict(known)
    for link in new:
        current = standing.get(link.child)
        if current is None or link.rank < current.rank:
            standing[link.child] = link
    return standing


def losing(new: Sequence[Link], before: Mapping[str, Link], after: Mapping[str, Link]) -> list[Link]:
    """Return the links that say something else than the one that stands: new ones, and those that new ones replaced."""
    replaced = [before[link.child] for link in new if link.child in before]
    return [link for link in (*new, *replaced) if link.parent != after[link.child].parent]


def path_of(stream_id: str, links_: Mapping[str, Link]) -> list[str]:
    """Return a stream, what it is linked to, what that is linked to, and so on."""
    path = [stream_id]
    for _ in range(_DEPTH):
        link = links_.get(path[-1])
        if link is None or link.parent == path[-1]:
            break
        path.append(link.parent)
    return path


def root_of(stream_id: str, links_: Mapping[str, Link]) -> str:
    """Return the stream a stream finally belongs to; itself where nothing links it."""
    return path_of(stream_id, links_)[-1]


def is_customer(stream_id: str) -> bool:
    """Tell whether a stream is a customer's."""
    return stream_id.partition("/")[2].startswith(BEGINS)


def customers_of(book: str) -> list[str]:
    """Return what the names of a book's customers' streams begin with."""
    return [f"{book}/{begins}" for begins in BEGINS]

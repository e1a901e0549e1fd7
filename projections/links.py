"""Which streams belong together: pure functions of events (design decision 7).

A dispute names a charge and a payment intent but no customer; the charge, which names one, may arrive before it or long
after. Each event links the streams of what it names. A child has one parent: that of its first link, by (created, event
id). Customers are roots: no link joins two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.event import Json, customer_of, identifier, mapping
from projections.facts import Fact

_DEPTH: Final = 8
_KINDS: Final = ("invoice", "payment_intent", "charge")
_ROOTS_AND_KINDS: Final = ("customer", *_KINDS)  # a tuple, not a set: what is looked up may be unhashable
BEGINS: Final = ("cus_", "acct_")
"""How customers' ids begin, including Stripe's newer customer accounts."""

CUSTOMERS: Final = f"^[^/]*/({'|'.join(BEGINS)})"
"""A regular expression, for SQL, that the names of customers' streams match."""

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
"""The types of events that say whose money moved, or failed to move.

An event that names no customer never arrives for an object before one of these was created: other events about the
object (that an invoice was drafted, an intent created) add no links, so they are not read for links unless folded.
"""


class Link(NamedTuple):
    """A child's stream and its parent's, according to one event."""

    child: str
    parent: str
    created: datetime
    event_id: str

    @property
    def rank(self) -> tuple[datetime, str]:
        """The order of links: the lowest stands."""
        return (self.created, self.event_id)


def linking(types: frozenset[str]) -> frozenset[str]:
    """Return the types of events from which a projection that folds ``types`` learns links."""
    return types | TELLING


def links(book: str, fact: Fact) -> list[Link]:
    """Return the links an event makes: from everything it names to the highest of these, a customer if it names one."""
    return links_among(book, named(fact), fact.created, fact.event_id)


def links_among(book: str, names: Sequence[str], created: datetime, event_id: str) -> list[Link]:
    """Return the links that an event makes among what it names."""
    return [
        Link(f"{book}/{child}", f"{book}/{names[0]}", created, event_id)
        for child in names[1:]
        if not child.startswith(BEGINS)
    ]


def named(fact: Fact) -> tuple[str, ...]:
    """List the ids an event names that may have streams, the highest in the hierarchy first, each once."""
    subject = fact.subject
    about, own = subject.get("object"), subject.get("id")
    found = [customer_of(subject, fact.previous)]
    payment = mapping(subject.get("payment"))
    for kind in _KINDS:
        for value in (own if about == kind else None, subject.get(kind), payment.get(kind)):
            # Most of these keys are absent.
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
    """Name the invoice on whose line billing credits were used, and the grant they came from."""
    used = mapping(mapping(subject.get("debit")).get("credits_applied"))
    back = mapping(mapping(subject.get("credit")).get("credits_application_invoice_voided"))
    named = identifier(used.get("invoice")) or identifier(back.get("invoice"))
    return [named, identifier(subject.get("credit_grant"))]


def merged(known: Mapping[str, Link], new: Iterable[Link]) -> dict[str, Link]:
    """Return the links that stand: for each child the first, whatever order they arrived in."""
    standing = dict(known)
    for link in new:
        current = standing.get(link.child)
        if current is None or link.rank < current.rank:
            standing[link.child] = link
    return standing


def losing(new: Sequence[Link], before: Mapping[str, Link], after: Mapping[str, Link]) -> list[Link]:
    """Return the links that contradict the one that stands: new ones that lost, and old ones that were replaced."""
    replaced = [before[link.child] for link in new if link.child in before]
    return [link for link in (*new, *replaced) if link.parent != after[link.child].parent]


class LinkChange(NamedTuple):
    """The links that stand before some news and after them, by child."""

    before: Mapping[str, Link]
    after: Mapping[str, Link]

    @classmethod
    def of(cls, before: Mapping[str, Link], new: Iterable[Link]) -> LinkChange:
        """Add new links to those that stand."""
        return cls(before, merged(before, new))

    @property
    def written(self) -> list[Link]:
        """The links that stand now and did not before."""
        return [link for child, link in self.after.items() if link != self.before.get(child)]

    @property
    def moved(self) -> set[str]:
        """The children of new links whose root is another now."""
        return {link.child for link in self.written if len(self.roots_of([link.child])) > 1}

    def roots_of(self, children: Iterable[str]) -> set[str]:
        """Return the roots that some children had and those that they have."""
        return {root_of(child, links_) for child in children for links_ in self}

    def former_roots(self, children: Iterable[str]) -> set[str]:
        """Return the roots that some children had and that belong to another root now."""
        had = {root_of(child, self.before) for child in children}
        return {root for root in had if root_of(root, self.after) != root}


def path_of(stream_id: str, links_: Mapping[str, Link]) -> list[str]:
    """Return a stream, its parent, its parent's parent, and so on."""
    path = [stream_id]
    for _ in range(_DEPTH):
        link = links_.get(path[-1])
        if link is None or link.parent == path[-1]:
            break
        path.append(link.parent)
    return path


def root_of(stream_id: str, links_: Mapping[str, Link]) -> str:
    """Return the topmost stream that a stream is linked to; itself if it is not linked."""
    return path_of(stream_id, links_)[-1]


def is_customer(stream_id: str) -> bool:
    """Tell whether a stream is a customer's."""
    return stream_id.partition("/")[2].startswith(BEGINS)


def customers_of(book: str) -> list[str]:
    """Return the prefixes of the names of a book's customers' streams."""
    return [f"{book}/{begins}" for begins in BEGINS]

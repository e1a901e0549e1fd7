"""What is known of a subject while it is folded, and the few ways in which rows of it begin and end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ledger.times import EPOCH
from projections.contract import Subject
from projections.entitlements.rows import CUSTOMER_ITSELF, CatalogRow, EvidenceRow, OrgRow, ProductRow, SourceRow
from projections.entitlements.standing import ENDED
from projections.facts import Fact


@dataclass(slots=True)
class Held:
    """A source's open rows by item, and the event that first showed each item."""

    open: dict[str, SourceRow] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Subscription:
    """A subscription's status, since when it has it, its planned end, and whether it was ever on trial."""

    status: str
    since: datetime
    ends_at: datetime | None = None
    trialed: bool = False


@dataclass(slots=True)
class Sold:
    """Something that was bought once: what it is, as far as that is known."""

    item: str
    product: str | None = None
    price: str | None = None
    lookup_key: str | None = None
    quantity: Decimal | None = None


@dataclass(slots=True)
class Purchase:
    """A Checkout session's purchase, or what an invoice sold once. ``paid`` only ever grows (see ``purchases``)."""

    paid: int = 0
    lines: list[Sold] = field(default_factory=list)
    known: bool = False
    payment: str | None = None
    invoice: str | None = None


@dataclass(slots=True)
class Invoice:
    """A paid invoice of a subscription, for when its payment comes back: whose it is, and which time it covers."""

    subscription: str
    covers_from: datetime | None = None
    covers_to: datetime | None = None


@dataclass(slots=True)
class Payment:
    """A payment (an intent, or a charge without one): what it was for, what came back of it, who disputes it.

    ``amount`` is what it says itself it comes to, ``parts`` what was paid of which invoice. ``refunds`` are amounts by
    refund, ``failed`` those that did not arrive; ``refunded`` is what its charge says. ``captured``: it was authorised
    first, and taken later.
    """

    amount: int | None = None
    captured: bool = False
    parts: dict[str, int] = field(default_factory=dict)
    refunded: int = 0
    refunds: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    disputes: dict[str, str] = field(default_factory=dict)
    purchases: list[str] = field(default_factory=list)
    invoices: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Orgs:
    """Who says which organisation a customer's sources belong to; the first that says one is believed."""

    customer: str | None = None
    checkout: str | None = None
    own: dict[str, str] = field(default_factory=dict)
    session: dict[str, str] = field(default_factory=dict)
    began: dict[str, datetime] = field(default_factory=dict)
    said: dict[str, list[OrgRow]] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """What has been folded of one subject so far: a customer, a guest's payment, a product, an org, the catalogs.

    ``intents`` are payment intents by charge, ``paid_by`` payments by invoice, ``session_of`` Checkout sessions by
    invoice, ``free`` subscriptions whose first invoice came to nothing.
    """

    subject: Subject
    org_metadata_key: str
    deleted: bool = False
    held: dict[str, Held] = field(default_factory=dict)
    closed: list[SourceRow] = field(default_factory=list)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    purchases: dict[str, Purchase] = field(default_factory=dict)
    invoices: dict[str, Invoice] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    intents: dict[str, str] = field(default_factory=dict)
    paid_by: dict[str, list[str]] = field(default_factory=dict)
    session_of: dict[str, str] = field(default_factory=dict)
    free: list[str] = field(default_factory=list)
    evidence: dict[str, EvidenceRow] = field(default_factory=dict)
    past_evidence: list[EvidenceRow] = field(default_factory=list)
    orgs: Orgs = field(default_factory=Orgs)
    products: list[ProductRow] = field(default_factory=list)
    catalogs: dict[int, CatalogRow] = field(default_factory=dict)


def says(row: SourceRow) -> tuple[object, ...]:
    """Return what a row says beside when: one that says the same is not opened anew."""
    return row[6:13] + row[14:17]


def put(state: State, row: SourceRow) -> None:
    """Open ``row`` in place of its item's open one, unless it says the same. A deleted customer is given nothing."""
    if state.deleted and row.kind != "grant" and row.status not in ENDED:
        row = row._replace(status="canceled", ends_at=None)
    held = state.held.get(row.source)
    if held is None:
        held = state.held[row.source] = Held()
    current = held.open.get(row.item)
    origin = held.origin.setdefault(row.item, row.because[-1])
    if current is not None:
        if says(row) == says(current):
            return
        if row.status == current.status:
            row = row._replace(status_since=current.status_since)
        close(state, row.source, row.item, row.valid_from)
    unnote(state, "removed", row.item, row.valid_from)
    held.open[row.item] = row if row.because[-1] == origin else row._replace(because=(origin, row.because[-1]))


def close(state: State, source: str, item: str, at: datetime) -> None:
    """End an item's open row. What began and ended in one instant never held."""
    row = state.held[source].open.pop(item, None)
    if row is not None and row.valid_from < at:
        state.closed.append(row._replace(valid_to=at))


def remove(state: State, source: str, item: str, fact: Fact) -> None:
    """End an item's open row with nothing in its place, and note which event did so until the item is back."""
    close(state, source, item, fact.created)
    note(state, "removed", source, item, fact.created, fact)


def open_items(state: State, source: str) -> set[str]:
    """Return the items of a source that have open rows."""
    held = state.held.get(source)
    return set(held.open) if held is not None else set()


def open_rows(state: State) -> Iterator[SourceRow]:
    """Give every open row."""
    for held in state.held.values():
        yield from held.open.values()


def note(
    state: State, kind: str, source: str, key: str, at: datetime, fact: Fact, covers: Invoice | None = None
) -> None:
    """Begin a piece of evidence about a subscription at ``at``, unless it has begun already."""
    name = f"{kind}:{key}"
    if name not in state.evidence:
        state.evidence[name] = EvidenceRow(
            subject=state.subject.stream_id,
            book=state.subject.book,
            source=source,
            kind=kind,
            key=key,
            covers_from=covers.covers_from if covers else None,
            covers_to=covers.covers_to if covers else None,
            valid_from=at,
            valid_to=None,
            because=(fact.event_id,),
        )


def unnote(state: State, kind: str, key: str, at: datetime) -> None:
    """End a piece of evidence."""
    row = state.evidence.pop(f"{kind}:{key}", None)
    if row is not None and row.valid_from < at:
        state.past_evidence.append(row._replace(valid_to=at))


def belong_all(state: State, fact: Fact) -> None:
    """Note to which organisations a customer and all its sources belong from now on."""
    belong(state, fact, dict.fromkeys((CUSTOMER_ITSELF, *state.subscriptions, *state.purchases)))


def belong(state: State, fact: Fact, sources: Iterable[str]) -> None:
    """Note to which organisations sources belong from now on; the first one known holds back to their start."""
    orgs = state.orgs
    for source in sources:
        began = orgs.began.setdefault(source, fact.created if source != CUSTOMER_ITSELF else EPOCH)
        org = orgs.own.get(source) or orgs.session.get(source) or orgs.checkout or orgs.customer
        said = orgs.said.get(source)
        if said is None:
            if org is None:
                continue
            said, start = orgs.said.setdefault(source, []), began
        elif said[-1].org == org:
            continue
        else:
            start = fact.created
            last = said.pop()
            if last.valid_from < start:
                said.append(last._replace(valid_to=start))
        said.append(
            OrgRow(
                subject=state.subject.stream_id,
                book=state.subject.book,
                customer=state.subject.key,
                source=source,
                org=org,
                valid_from=start,
                valid_to=None,
                because=(fact.event_id,),
            )
        )

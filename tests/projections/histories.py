"""Simulated histories for tests of the engine: small companies, shuffled, doubled, delayed and cut into batches."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter

import orjson

from ledger.books import book_of
from ledger.event import NewEvent, Source, parse_envelope, received_event, stream_of
from ledger.simulator.company import Arguments, Company
from ledger.simulator.truth import Truth
from projections.contract import Projection, Subject
from projections.entitlements.holdings import gathered
from projections.entitlements.rows import EvidenceRow, Holdings, OrgRow, ProductRow, SourceRow
from projections.entitlements.tables import entitlements
from projections.facts import Fact, fact_of
from projections.folding import rows_of
from projections.links import Link, links, merged, root_of

PROJECTION = entitlements("org_id")
MONTHS = 8


@cache
def company(seed: int, customers: int = 4, version: str = "mixed") -> tuple[tuple[bytes, ...], dict[str, Truth]]:
    """Return a small company's events in causal order, and its truth by book."""
    made = Company(Arguments(customers=customers, months=MONTHS, seed=seed, api_version=version))
    return tuple(orjson.dumps(event) for event in made.events()), made.truth


@cache
def facts_by_subject(seed: int, customers: int = 4, version: str = "mixed") -> dict[Subject, tuple[Fact, ...]]:
    """Return the facts of each subject that the entitlement projection folds, in causal order."""
    return joined(company(seed, customers, version)[0])


def joined(bodies: Iterable[bytes]) -> dict[Subject, tuple[Fact, ...]]:
    """Return the facts that the entitlement projection folds, by the subject their stream belongs to."""
    every: list[Link] = []
    by_stream: dict[tuple[str, str], list[Fact]] = {}
    for position, body in enumerate(bodies, 1):
        envelope = parse_envelope(body)
        book = book_of(envelope.account or "self", livemode=envelope.livemode)
        fact = fact_of(envelope.event_id, envelope.type, envelope.created, position, body)
        every += links(book, fact)
        if envelope.type in PROJECTION.types:
            by_stream.setdefault((book, stream_of(book, envelope.parsed)), []).append(fact)
    standing = merged({}, every)
    found: dict[Subject, list[Fact]] = {}
    for (book, stream), facts in by_stream.items():
        found.setdefault(Subject(book, root_of(stream, standing)), []).extend(facts)
    return {subject: tuple(sorted(facts, key=attrgetter("position"))) for subject, facts in found.items()}


def new_events(bodies: Sequence[bytes]) -> list[NewEvent]:
    """Make what is appended of bodies."""
    return [
        received_event(
            parse_envelope(body),
            body,
            platform_account="self",
            source=Source.IMPORT,
            received_at=datetime(2026, 1, 15, tzinfo=UTC),
            signature=None,
        )
        for body in bodies
    ]


def disordered(bodies: Sequence[bytes], seed: int) -> list[list[bytes]]:
    """Return the same events in batches: mostly in order, some late, some twice, some runs shuffled."""
    dice = random.Random(seed)
    places = list(range(len(bodies)))
    keyed = [(place + (dice.random() < 0.2) * dice.expovariate(1 / 40), place) for place in places]
    keyed += [(place + dice.expovariate(1 / 20), place) for place in places if dice.random() < 0.1]
    order = [place for _, place in sorted(keyed)]
    if dice.random() < 0.3:
        dice.shuffle(order)
    batches: list[list[bytes]] = []
    while order:
        size = min(len(order), dice.choice((1, 2, 7, 40, 300)))
        batches.append([bodies[place] for place in order[:size]])
        order = order[size:]
    return batches


def held(
    projection: Projection, subject: Subject, facts: Iterable[Fact], products: Iterable[ProductRow] = ()
) -> Holdings:
    """Return what a customer (or another holder) has, by its facts in whatever order."""
    rows = rows_of(projection, subject, facts)
    return gathered(
        subject.book,
        {subject.key: [subject.stream_id]},
        [SourceRow(*row) for row in rows["entitlement_source"]],
        [EvidenceRow(*row) for row in rows["entitlement_evidence"]],
        [OrgRow(*row) for row in rows["entitlement_org"]],
        [row._replace(subject=f"{subject.book}/{row.product}") for row in products],
    )[subject.key]

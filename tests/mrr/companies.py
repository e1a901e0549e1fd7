"""Simulated companies folded into portfolios, in any API version."""

from __future__ import annotations

from functools import cache

import orjson

from ledger.books import book_of
from ledger.event import parse_envelope, stream_of
from ledger.simulator.company import Arguments, Company
from ledger.simulator.truth import Truth
from projections.causal import in_causal_order
from projections.contract import Subject
from projections.facts import Fact, fact_of
from projections.mrr import portfolio
from projections.mrr.portfolio import Portfolio
from projections.terms import KnownTerms


@cache
def folded(version: str, customers: int, months: int) -> tuple[dict[str, Truth], dict[Subject, Portfolio], Arguments]:
    """Return a company's truth by book, and every customer's portfolio."""
    company = Company(Arguments(customers=customers, months=months, api_version=version))
    facts: dict[Subject, list[Fact]] = {}
    references: dict[str, list[Fact]] = {}
    for position, event in enumerate(company.events(), 1):
        body = orjson.dumps(event)
        envelope = parse_envelope(body)
        book = book_of(envelope.account or "self", livemode=envelope.livemode)
        fact = fact_of(envelope.event_id, envelope.type, envelope.created, position, body)
        if envelope.type in portfolio.TYPES:
            facts.setdefault(Subject(book, stream_of(book, envelope.parsed)), []).append(fact)
        elif envelope.type in portfolio.REFERENCES:
            references.setdefault(book, []).append(fact)
    terms = {book: KnownTerms(some) for book, some in references.items()}
    found: dict[Subject, Portfolio] = {}
    for subject, some in facts.items():
        found[subject] = Portfolio()
        for fact in in_causal_order(reversed(some)):
            portfolio.step(found[subject], fact, terms[subject.book])
    return company.truth, found, company.arguments

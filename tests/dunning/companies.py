"""Simulated companies folded into dunning's rows, beside the truth of every case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from ledger.books import book_of
from ledger.event import parse_envelope, stream_of
from ledger.simulator.company import Arguments, Company
from projections.contract import Subject
from projections.dunning.rows import CaseRow, ChurnRow, WorthRow
from projections.dunning.standing import Standing, holding, standings
from projections.dunning.tables import DUNNING
from projections.facts import Fact, fact_of
from projections.folding import rows_of
from projections.links import Link, links, merged, root_of
from projections.terms import KnownTerms


@dataclass(slots=True)
class Book:
    """One book's rows."""

    cases: list[CaseRow] = field(default_factory=list)
    worth: list[WorthRow] = field(default_factory=list)
    churns: list[ChurnRow] = field(default_factory=list)

    def at(self, moment: int) -> list[Standing]:
        """Return every case as it stands at a moment."""
        when = datetime.fromtimestamp(moment, UTC)
        return standings(holding(self.cases, when), self.worth_at(moment))

    def worth_at(self, moment: int) -> list[WorthRow]:
        """Return what each subscription is worth at a moment."""
        return holding(self.worth, datetime.fromtimestamp(moment, UTC))


def folded(arguments: Arguments) -> tuple[Company, dict[str, Book]]:
    """Play a company and fold all of it."""
    made = Company(arguments)
    facts: dict[str, dict[str, list[Fact]]] = {}
    terms: dict[str, list[Fact]] = {}
    linked: dict[str, list[Link]] = {}
    for position, event in enumerate(made.events(), 1):
        body = orjson.dumps(event)
        envelope = parse_envelope(body)
        book = book_of(envelope.account or "self", livemode=envelope.livemode)
        fact = fact_of(envelope.event_id, envelope.type, envelope.created, position, body)
        linked.setdefault(book, []).extend(links(book, fact))
        if envelope.type in DUNNING.references:
            terms.setdefault(book, []).append(fact)
        if envelope.type in DUNNING.types:
            facts.setdefault(book, {}).setdefault(stream_of(book, envelope.parsed), []).append(fact)
    return made, {book: _folded(book, some, linked[book], terms[book]) for book, some in facts.items()}


def _folded(book: str, streams: dict[str, list[Fact]], linked: list[Link], terms: list[Fact]) -> Book:
    standing = merged({}, linked)
    subjects: dict[str, list[Fact]] = {}
    for stream, facts in streams.items():
        subjects.setdefault(root_of(stream, standing), []).extend(facts)
    found, known = Book(), KnownTerms(terms)
    for subject, facts in subjects.items():
        rows = rows_of(DUNNING, Subject(book, subject), facts, known)
        found.cases += [CaseRow(*row) for row in rows["dunning_case"]]
        found.worth += [WorthRow(*row) for row in rows["dunning_worth"]]
        found.churns += [ChurnRow(*row) for row in rows["dunning_churn"]]
    return found


def as_truth(standing: Standing) -> dict[str, Any]:
    """Write a case as the simulator's truth does."""
    case = standing.case
    names = ("customer", "subscription", "currency", "category", "state", "amount_due", "open_amount", "outcome",
             "stripe_attempt_count", "failures", "attempts", "decline_code", "recovered_by", "late")  # fmt: skip
    found = {name: getattr(case, name) for name in names} | {
        "case": case.case_id,
        "volume": case.opened_volume,
        "opened_at": _seconds(case.opened_at),
        "closed_at": _seconds(case.closed_at),
        "next_attempt_at": _seconds(case.next_attempt_at),
        "at_risk_mrr": standing.at_risk_mrr,
    }
    return {name: value for name, value in found.items() if name not in standing.incomplete}


def truth_of(cases: Iterable[dict[str, Any]], found: Iterable[Standing]) -> list[dict[str, Any]]:
    """Return the truth's cases without what it says in its own words, and without what was found to be incomplete."""
    unknown = {one.case.case_id: {"paid_since", "decline_class", *one.incomplete} for one in found}
    return by_case({k: v for k, v in case.items() if k not in unknown.get(case["case"], ())} for case in cases)


def by_case(cases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort cases by their ids."""
    return sorted(cases, key=lambda case: str(case["case"]))


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
